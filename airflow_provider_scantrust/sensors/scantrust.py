"""Wait for asynchronous uploads, by default without holding a worker slot."""

from __future__ import annotations

import ast
import time
from collections.abc import Iterable, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import (
    AirflowFailException,
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseSensorOperator,
    PokeReturnValue,
)

from airflow_provider_scantrust.exceptions import InvalidInput, ScantrustError

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_scantrust.api.waiting import Watch
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

# With silent_fail, errors that may pass never end the wait; the deadline does.
_NO_BUDGET = 1e9


class ScantrustTaskSensor(BaseSensorOperator):
    """
    Wait until asynchronous uploads have ended at Scantrust.

    Asks once on the worker; what has not ended then is waited for in the triggerer. A job that failed fails the
    task at once: a retry of the sensor could not mend it. Returns ``{"codes_affected": total, "tasks": {id: n}}``.

    ``soft_fail`` skips the task when a job failed, when time is up, or after a permanent error; ``never_fail`` after
    any error. ``timeout``, ``poke_interval``, ``exponential_backoff``, ``max_wait`` and ``execution_timeout`` mean
    the same deferred and not.

    :param scantrust_task_id: One task_id or a list of them, also nested as mapped tasks return it. (templated)
    :param scantrust_conn_id: The Airflow connection. (templated)
    :param deferrable: Wait in the triggerer. When False, ``mode`` says how the worker waits.
    :param poke_interval: Seconds between two questions for one job.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    """

    template_fields: Sequence[str] = ("scantrust_task_id", "scantrust_conn_id")
    template_fields_renderers = {"scantrust_task_id": "json"}  # noqa: RUF012 - Airflow's own form
    ui_color = "#d5ecf7"

    def __init__(
        self,
        *,
        scantrust_task_id: str | Iterable[Any] | XComArg,
        scantrust_conn_id: str = "scantrust_default",
        deferrable: bool = True,
        poke_interval: timedelta | float = 10,
        error_budget: float = 600,
        **kwargs: Any,
    ) -> None:
        super().__init__(poke_interval=poke_interval, **kwargs)
        self.scantrust_task_id = scantrust_task_id
        self.scantrust_conn_id = scantrust_conn_id
        self.deferrable = deferrable
        self.error_budget = error_budget
        self._deadline = float("inf")
        self._watch: Watch | None = None

    def execute(self, context: Context) -> Any:
        """Ask once, then wait as told."""
        now = time.time()
        self._deadline = now + self.timeout
        if not self.deferrable:
            if self.reschedule:
                self._deadline = self._started_at(context, now) + self.timeout
            return super().execute(context)
        try:
            if (result := self._ask()) is not None:
                return result
        except ScantrustError as error:
            if error.permanent or not self.silent_fail:
                self._end(error)
            self.log.error("Asking failed, and silent_fail is set: %s", error)
        return self._defer(now)

    def poke(self, context: Context) -> bool | PokeReturnValue:
        """Ask about every job that has not ended; what :meth:`execute` calls when not deferrable."""
        from airflow_provider_scantrust.hooks.outcome import as_airflow_error

        try:
            result = self._ask()
        except ScantrustError as error:
            raise as_airflow_error(error) from error
        return False if result is None else PokeReturnValue(is_done=True, xcom_value=result)

    def execute_complete(
        self, context: Context, event: Any = None, deadline_is: str = "timeout"
    ) -> dict[str, Any]:
        """Go on after the trigger has fired."""
        from airflow_provider_scantrust.triggers.deferral import read_end_of_wait

        try:
            return self._result(read_end_of_wait(event, deadline_is))
        except ScantrustError as error:
            self._end(error)

    def on_kill(self) -> None:
        """Say that the jobs go on at Scantrust."""
        from airflow_provider_scantrust.api.waiting import jobs_go_on

        if self._watch is not None:
            self.log.warning("The wait was ended by hand. %s", jobs_go_on(self._watch.open))

    def _ask(self) -> dict[str, Any] | None:
        """Return the result when all jobs have ended well, None while one is open."""
        if self._watch is None:
            self._watch = self._hook.watch(
                read_task_ids(self.scantrust_task_id), deadline=self._deadline, error_budget=self.error_budget
            )
        if self._hook.perform(self._watch.ask()):
            return self._result(self._watch.outcome())
        if not self.deferrable:
            self._watch.check_deadline()
        return None

    def _defer(self, now: float) -> Any:
        from airflow_provider_scantrust.triggers.deferral import make_deferral

        longest = None
        if self.exponential_backoff:
            longest = self.max_wait.total_seconds() if self.max_wait else self.timeout
        task_ids = read_task_ids(self.scantrust_task_id)
        self.log.info("Waiting in the triggerer for %s asynchronous uploads.", len(task_ids))
        deferral = make_deferral(
            task_ids,
            deadline=self._deadline,
            started=now,
            execution_timeout=self.execution_timeout,
            poll_interval=self.poke_interval,
            longest_poll_interval=longest,
            error_budget=_NO_BUDGET if self.silent_fail else self.error_budget,
            scantrust_conn_id=self.scantrust_conn_id,
        )
        self.defer(
            trigger=deferral.trigger,
            method_name="execute_complete",
            kwargs={"deadline_is": deferral.deadline_is},
            timeout=deferral.timeout,
        )

    def _end(self, error: ScantrustError) -> NoReturn:
        """Raise what Airflow's own poke loop would make of the error."""
        from airflow_provider_scantrust.hooks.outcome import as_airflow_error

        raised = as_airflow_error(error)
        final = isinstance(raised, AirflowFailException | AirflowSensorTimeout)
        for name, applies in (("soft_fail", self.soft_fail and final), ("never_fail", self.never_fail)):
            if applies:
                raise AirflowSkipException(f"Skipping due to {name} is set to True: {error}") from error
        raise raised from error

    def _result(self, codes: dict[str, int | None]) -> dict[str, Any]:
        total = sum(count or 0 for count in codes.values())
        self.log.info("All %s asynchronous uploads are complete: %s codes affected.", len(codes), total)
        return {"codes_affected": total, "tasks": codes}

    @cached_property
    def _hook(self) -> ScantrustHook:
        from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

        return ScantrustHook(self.scantrust_conn_id)

    def _started_at(self, context: Context, now: float) -> float:
        """Return when the first of this try's reschedules was; Airflow 2 keeps the count by itself."""
        first = getattr(context["ti"], "get_first_reschedule_date", None)
        moment = first(context) if first else None
        return moment.timestamp() if moment else now


def read_task_ids(value: Any) -> list[str]:
    """
    Return the ids in what a template or an upstream task gave: one id, a list, lists in a list, or a list as text.

    :raises InvalidInput: There is something else in it, or nothing at all where an id should be.
    """
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                return read_task_ids(ast.literal_eval(text))
            except (ValueError, SyntaxError, MemoryError, RecursionError) as error:
                raise InvalidInput(f"scantrust_task_id is no list of ids: {text!r:.200}.") from error
        if text in ("", "None"):
            raise InvalidInput("scantrust_task_id is empty: the upstream task has pushed no task_id.")
        return [text]
    if isinstance(value, Iterable) and not isinstance(value, bytes | dict):
        return [task_id for entry in value for task_id in read_task_ids(entry)]
    raise InvalidInput(
        f"scantrust_task_id must be a task_id or a list of them, not {type(value).__name__}: has the upstream task "
        "pushed none?"
    )
