"""Wait for asynchronous uploads, by default without holding a worker slot."""

from __future__ import annotations

import time
from collections.abc import Iterable, Iterator, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_scantrust.api.inputs import check_switch, read_seconds, read_task_ids
from airflow_provider_scantrust.exceptions import ScantrustError
from airflow_provider_scantrust.links.scantrust import LINKS
from airflow_provider_scantrust.waits.outcome import Outcome

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
    from airflow_provider_scantrust.hooks.waiting import WorkerWait

# With silent_fail, temporary errors never end the wait; the deadline does.
_NO_BUDGET = 1e9


class ScantrustTaskSensor(BaseSensorOperator):
    """
    Wait until asynchronous uploads have ended at Scantrust.

    Polls once on the worker, then waits in the triggerer. A failed job fails the task without using a retry,
    because another poll would give the same result. The XCom ``failed_jobs`` names up to 100 failed jobs; the
    XCom ``failure`` says why a try failed.

    Returns ``{"codes_affected": total, "tasks": {id: n}}``. For more than 100 jobs, ``jobs`` is their number,
    and ``tasks`` has at most 100: those that affected no code, and those for which Scantrust gives no count.

    ``soft_fail`` skips the task if a job failed, on a timeout, or after a permanent error; ``never_fail``
    skips it after any error. ``timeout``, ``poke_interval``, ``exponential_backoff``, ``max_wait`` and
    ``execution_timeout`` work the same with and without deferral.

    :param scantrust_task_id: One task_id or a list of them, also nested as mapped tasks return it.
        (templated)
    :param scantrust_conn_id: The Airflow connection. (templated)
    :param deferrable: Wait in the triggerer. If False, ``mode`` says how the worker waits.
    :param poke_interval: Seconds between two polls of one job. A deferred wait takes at least five seconds.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param start_from_trigger: Start the wait in the triggerer, without a worker (Airflow 3.3). A sensor that
        cannot start there, such as a mapped one, starts on a worker and logs why.
    :param end_from_trigger: End the task in the triggerer, too, if all jobs succeeded (Airflow 3.3).
        Otherwise a worker ends it.
    """

    template_fields: Sequence[str] = ("scantrust_task_id", "scantrust_conn_id")
    template_fields_renderers = {"scantrust_task_id": "json"}  # noqa: RUF012 - Airflow's own form
    ui_color = "#d5ecf7"
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        scantrust_task_id: str | Iterable[Any] | XComArg,
        scantrust_conn_id: str | XComArg = "scantrust_default",
        deferrable: bool = True,
        poke_interval: timedelta | float = 10,
        error_budget: timedelta | float = 600,
        start_from_trigger: bool = False,
        end_from_trigger: bool = False,
        **kwargs: Any,
    ) -> None:
        from airflow_provider_scantrust.hooks.retry_policy import use_by_default

        given = {"poke_interval": poke_interval, "error_budget": error_budget, **kwargs}
        _check(given, kwargs.get("default_args") or {})
        check_switch("deferrable", deferrable)
        check_switch("start_from_trigger", start_from_trigger)
        check_switch("end_from_trigger", end_from_trigger)
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.scantrust_task_id = scantrust_task_id
        # Airflow replaces an XComArg before the task runs.
        self.scantrust_conn_id: Any = scantrust_conn_id
        self.deferrable = deferrable
        self.error_budget = read_seconds("error_budget", error_budget)
        self._deadline = float("inf")
        self._waiting: WorkerWait | None = None
        self._task_ids: list[str] = []
        use_by_default(self)
        self.end_from_trigger = end_from_trigger
        self.start_from_trigger = False
        self._starts_on_worker = ""
        if start_from_trigger:
            self._start_from_trigger()

    def execute(self, context: Context) -> Any:
        """Poll once, then wait in the triggerer or on the worker."""
        if self._starts_on_worker:
            self.log.info(
                "start_from_trigger: the wait starts on a worker, because %s.", self._starts_on_worker
            )
        from airflow_provider_scantrust.triggers.deferral import can_resume

        now = time.time()
        self._deadline = now + self.timeout
        self.deferrable = self.deferrable and can_resume(context, self.log)
        if isinstance(self.scantrust_task_id, Iterator):
            # It is read here and again for the trigger.
            self.scantrust_task_id = list(self.scantrust_task_id)
        if not self.deferrable:
            if self.reschedule:
                self._deadline = self._started_at(context, now) + self.timeout
            return super().execute(context)
        try:
            # The account that has the jobs: the connection may change while they are polled.
            account = self._hook.account_digest()
            outcome = self._make_wait().poll_before_deferral()
            if outcome is not None:
                return self._result(outcome)
        except ScantrustError as error:
            self._end(context, error)
        return self._defer(context, now, account)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Poll every job that has not ended; :meth:`execute` calls it when not deferrable."""
        try:
            if self._waiting is None:
                self._waiting = self._make_wait()
            outcome = self._waiting.poke(self.poke_interval)
        except ScantrustError as error:
            self._end(context, error)
        return False if outcome is None else PokeReturnValue(is_done=True, xcom_value=self._result(outcome))

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        deadline_is: str = "timeout",
        try_number: int | None = None,
    ) -> Any:
        """Continue after the trigger has fired."""
        from airflow_provider_scantrust.triggers.deferral import starts_over
        from airflow_provider_scantrust.triggers.scantrust import read_event

        if starts_over(context, event, try_number):
            return self.execute(context)
        try:
            return self._result(read_event(event, deadline_is))
        except ScantrustError as error:
            self._end(context, error)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Raise the exception of the limit that has passed, also if Airflow's own came before the event."""
        from airflow_provider_scantrust.triggers.deferral import raise_limit

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except (AirflowSensorTimeout, AirflowSkipException) as error:
            is_airflows = raise_limit(error, self.timeout, self.execution_timeout)
            may_skip = self.soft_fail or self.never_fail
            if is_airflows and may_skip and isinstance(error, AirflowSensorTimeout):
                # Airflow 3.0 to 3.1.6 fails the task.
                raise AirflowSkipException(f"Skipping a wait that timed out: {error}") from error
            raise

    def on_kill(self) -> None:
        """Log that the jobs continue at Scantrust."""
        from airflow_provider_scantrust.waits.jobs import jobs_go_on

        if self._task_ids:
            self.log.warning("The wait was stopped. %s", jobs_go_on(self._task_ids))

    def _make_wait(self) -> WorkerWait:
        from airflow_provider_scantrust.hooks.waiting import WorkerWait
        from airflow_provider_scantrust.waits.jobs import Jobs

        self._task_ids = read_task_ids(self.scantrust_task_id)
        jobs = Jobs(self._task_ids, deadline=self._deadline, error_budget=self._budget)
        return WorkerWait(self._hook, jobs)

    def _defer(self, context: Context, now: float, account: str | None) -> Any:
        from airflow_provider_scantrust.triggers.deferral import defer_wait
        from airflow_provider_scantrust.triggers.start import why_end_on_worker

        if self.end_from_trigger and (reason := why_end_on_worker(self)):
            self.log.info("end_from_trigger: the wait ends on a worker, because %s.", reason)
        options = self._trigger_options()
        defer_wait(
            self, context, self._task_ids, deadline=self._deadline, started=now, account=account, **options
        )

    def _start_from_trigger(self) -> None:
        from airflow_provider_scantrust.triggers.start import StartsOnWorker, make_start

        try:
            if not self.deferrable:
                raise StartsOnWorker("it is not deferrable")
            self.start_trigger_args = make_start(
                self,
                self.scantrust_task_id,
                timeout=self.timeout,
                **self._trigger_options(),
            )
            self.start_from_trigger = True
        except StartsOnWorker as reason:
            self._starts_on_worker = str(reason)

    def _trigger_options(self) -> dict[str, Any]:
        """Return the trigger's arguments that do not depend on who starts it."""
        from airflow_provider_scantrust.triggers.start import why_end_on_worker

        longest = None
        if self.exponential_backoff:
            longest = self.max_wait.total_seconds() if self.max_wait else self.timeout
        return {
            "poll_interval": self.poke_interval,
            "longest_poll_interval": longest,
            "error_budget": self._budget,
            "scantrust_conn_id": self.scantrust_conn_id,
            "end_from_trigger": self.end_from_trigger and why_end_on_worker(self) is None,
            "do_xcom_push": self.do_xcom_push,
        }

    @property
    def _budget(self) -> float:
        return _NO_BUDGET if self.silent_fail else self.error_budget

    def _end(self, context: Context, error: ScantrustError) -> NoReturn:
        """Raise the exception that Airflow's own poke loop would raise for the error."""
        from airflow_provider_scantrust.hooks.outcome import push_failure, raise_for_airflow

        push_failure(context, error, permanent=error.permanent)
        for name, applies in (
            ("soft_fail", self.soft_fail and error.permanent),
            ("never_fail", self.never_fail),
        ):
            if applies:
                raise AirflowSkipException(f"Skipping due to {name} is set to True: {error}") from error
        raise_for_airflow(error)

    def _result(self, outcome: Outcome) -> dict[str, Any]:
        self.log.info(outcome.describe())
        return outcome.result()

    @cached_property
    def _hook(self) -> ScantrustHook:
        from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

        return ScantrustHook(self.scantrust_conn_id)

    def _started_at(self, context: Context, now: float) -> float:
        """Return the time of the first reschedule of this try."""
        ti: Any = context["ti"]
        if hasattr(ti, "get_first_reschedule_date"):
            moment = ti.get_first_reschedule_date(context)
        else:
            # On Airflow 2, only a private function of Airflow reads this from the database.
            from airflow.sensors.base import _orig_start_date  # type: ignore[import-not-found, unused-ignore]

            place = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
            moment = _orig_start_date(**place, try_number=ti.max_tries - self.retries + 1)
        return float(moment.timestamp()) if moment else now


def _check(given: dict[str, Any], default_args: dict[str, Any]) -> None:
    """
    Check arguments when the Dag is read.

    :raises ValueError: An argument is wrong; the message says if it comes from ``default_args``.
    """
    for name in ("timeout", "poke_interval", "error_budget", "max_wait", "execution_timeout", "mode"):
        value = given.get(name, default_args.get(name))
        # Airflow has already merged default_args into the arguments; only identity tells them apart.
        source = " (from default_args)" if name in default_args and default_args[name] is value else ""
        try:
            if name == "mode" and value not in (None, "poke", "reschedule"):
                raise ValueError(f"`mode` of a sensor must be poke or reschedule, not {value!r}.")
            if name != "mode" and value is not None:
                read_seconds(name, value)
        except ValueError as error:
            raise ValueError(f"ScantrustTaskSensor{source}: {error}") from None
