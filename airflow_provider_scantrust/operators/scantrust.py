"""Upload SCM data to Scantrust codes: synchronously, asynchronously, or as Scantrust advises."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout, BaseOperator

from airflow_provider_scantrust.exceptions import (
    DiscardedFields,
    InvalidInput,
    ScantrustError,
    TaskFailed,
    UnmatchedKeys,
    WaitTimedOut,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
    from airflow_provider_scantrust.uploads.report import Report

Reaction = Literal["warn", "fail", "ignore"]

# Airflow's own defer timeout ends a task without a word from the trigger; it is only a backstop.
BACKSTOP = 300.0


class ScantrustUploadOperator(BaseOperator):
    """
    Set SCM data on Scantrust codes and say what became of every row.

    Give exactly one of ``items`` or ``constraints`` with ``scm_data``. Rows are checked before the first call; a call
    that times out is halved or handed to an asynchronous job (``mode="auto"``). Returns a small report: mode, rows,
    requests, codes_affected, unmatched, discarded_fields, task_ids, seconds. The task_ids are also pushed as the
    XCom ``task_ids``, for :class:`~airflow_provider_scantrust.sensors.scantrust.ScantrustTaskSensor`.

    Errors that a retry cannot mend (refused data, no permission, wrong configuration) fail the task at once.

    :param items: Rows, each a dict with the data key and the fields to set. (templated)
    :param constraints: Field -> value that a code must have, all of them; a list for ``extended_id``. (templated)
    :param scm_data: Field -> value to set on the codes that meet the constraints. (templated)
    :param data_key: The field that selects codes: ``extended_id``, ``serial_number``, any SCM field. (templated)
    :param mode: ``auto`` follows Scantrust's advice; ``sync`` and ``async`` insist.
    :param codes_per_key: About how many codes one value of the key is on; lets ``auto`` choose sync for SCM keys.
    :param wait_for_completion: Wait for asynchronous jobs; without it only their ids are known.
    :param deferrable: Wait in the triggerer instead of on the worker.
    :param poll_interval: Seconds between two questions for one job.
    :param timeout: Seconds (or a timedelta) to wait for asynchronous jobs.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param ids_per_job: The most extended_ids that one asynchronous job may carry.
    :param on_unmatched: What to do about keys that are on no code.
    :param on_discarded: What to do about fields that the campaign does not have. Asynchronous jobs do not tell.
    :param scantrust_conn_id: The Airflow connection. (templated)
    """

    template_fields: Sequence[str] = ("items", "constraints", "scm_data", "data_key", "scantrust_conn_id")
    template_fields_renderers = {"items": "json", "constraints": "json", "scm_data": "json"}  # noqa: RUF012
    ui_color = "#d5ecf7"

    def __init__(
        self,
        *,
        items: Iterable[Mapping[str, Any]] | XComArg | str | None = None,
        constraints: Mapping[str, Any] | XComArg | str | None = None,
        scm_data: Mapping[str, Any] | XComArg | str | None = None,
        data_key: str = "extended_id",
        mode: Literal["auto", "sync", "async"] = "auto",
        codes_per_key: float | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 24 * 60 * 60,
        error_budget: float = 600,
        ids_per_job: int = 20_000,
        on_unmatched: Reaction = "warn",
        on_discarded: Reaction = "warn",
        scantrust_conn_id: str = "scantrust_default",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        if (items is None) == (constraints is None):
            raise ValueError("Give exactly one of `items` or `constraints` (with `scm_data`).")
        if (constraints is None) != (scm_data is None):
            raise ValueError("`constraints` and `scm_data` go together.")
        if constraints is not None and mode == "sync":
            raise ValueError(
                "`constraints` can only be submitted asynchronously; use `items` for mode='sync'."
            )
        for name, value, allowed in (
            ("mode", mode, ("auto", "sync", "async")),
            ("on_unmatched", on_unmatched, ("warn", "fail", "ignore")),
            ("on_discarded", on_discarded, ("warn", "fail", "ignore")),
        ):
            if value not in allowed:
                raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, not {value!r}.")
        self.items = items
        self.constraints = constraints
        self.scm_data = scm_data
        self.data_key = data_key
        self.mode = mode
        self.codes_per_key = codes_per_key
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = _positive_seconds("poll_interval", poll_interval)
        self.timeout = _positive_seconds("timeout", timeout)
        self.error_budget = _positive_seconds("error_budget", error_budget)
        self.ids_per_job = ids_per_job
        self.on_unmatched = on_unmatched
        self.on_discarded = on_discarded
        self.scantrust_conn_id = scantrust_conn_id
        if ids_per_job < 1:
            raise ValueError(f"`ids_per_job` must be at least 1, not {ids_per_job!r}.")
        if codes_per_key is not None and not codes_per_key > 0:
            raise ValueError(f"`codes_per_key` must be above 0, not {codes_per_key!r}.")
        self._task_ids: list[str] = []

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, upload, and wait as told."""
        started = time.time()
        try:
            report = self._upload(context, started)
        except ScantrustError as error:
            self._fail(error)
        if not report.jobs or not self.wait_for_completion:
            return self._finish(context, report, ended=not report.jobs)
        return self._wait(context, report, started)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        report: Mapping[str, Any] | None = None,
        deadline_is: str = "timeout",
    ) -> dict[str, Any]:
        """Go on after the trigger has fired."""
        from airflow_provider_scantrust.triggers.scantrust import read_event
        from airflow_provider_scantrust.uploads.report import Report

        loaded = Report.load(report or {})
        try:
            loaded.end_jobs(read_event(event))
        except ScantrustError as error:
            if isinstance(error, WaitTimedOut) and deadline_is == "execution_timeout":
                raise AirflowTaskTimeout(f"execution_timeout has passed. {error}") from error
            self._fail(error)
        return self._finish(context, loaded)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give Airflow's own defer timeout the same class as the trigger's deadline."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            if type(error).__name__ == "TaskDeferralTimeout":
                raise AirflowSensorTimeout(*error.args) from error
            raise

    def on_kill(self) -> None:
        """Say that jobs which were submitted go on at Scantrust."""
        from airflow_provider_scantrust.api.waiting import jobs_go_on

        if self._task_ids:
            self.log.warning("The upload was ended by hand. %s", jobs_go_on(self._task_ids))

    @cached_property
    def hook(self) -> ScantrustHook:
        """The hook that makes the calls."""
        from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

        return ScantrustHook(self.scantrust_conn_id)

    def _upload(self, context: Context, started: float) -> Report:
        from airflow_provider_scantrust.uploads.report import Report
        from airflow_provider_scantrust.uploads.run import run_async

        report = Report(mode="async", rows=1, started_at=started)
        try:
            if self.constraints is not None:
                run_async(self._constrained_jobs(), report, submit=self._submit)
            else:
                self._upload_items(report)
        except ScantrustError:
            if report.requests:
                self.log.error(
                    "The upload ended early. So far: %s", json.dumps(report.summary(now=time.time()))
                )
            raise
        finally:
            context["ti"].xcom_push(key="task_ids", value=list(report.jobs))
        return report

    def _upload_items(self, report: Report) -> None:
        from airflow_provider_scantrust.uploads.calls import cut, make_jobs
        from airflow_provider_scantrust.uploads.mode import Choice, choose_mode
        from airflow_provider_scantrust.uploads.rows import check_rows
        from airflow_provider_scantrust.uploads.run import run_async, run_sync

        rows, report.rows = check_rows(
            _from_template(self.items, "items"), self.data_key, warn=self.log.warning
        )
        choice = choose_mode(self.data_key, len(rows), self.codes_per_key)
        if self.mode != "auto":
            choice = Choice(self.mode, f"mode={self.mode!r} was asked for", choice.keys_per_call)
        report.mode = choice.mode
        self.log.info(
            "%s rows with %s keys (%s) go %s, because %s.",
            report.rows,
            len(rows),
            self.data_key,
            choice.mode,
            choice.reason,
        )
        if choice.mode == "async":
            run_async(make_jobs(rows, self.data_key, self.ids_per_job), report, submit=self._submit)
        else:
            run_sync(
                cut(rows, choice.keys_per_call),
                self.data_key,
                report,
                upload=self.hook.upload,
                submit=self._submit,
                warn=self.log.warning,
                split=self.mode == "auto",
            )

    def _constrained_jobs(self) -> Any:
        from airflow_provider_scantrust.uploads.calls import make_constrained_jobs
        from airflow_provider_scantrust.uploads.rows import check_values

        scm_data = check_values(_from_template(self.scm_data, "scm_data"), "scm_data", warn=self.log.warning)
        constraints = _from_template(self.constraints, "constraints")
        return make_constrained_jobs(constraints, scm_data, self.ids_per_job)

    def _submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        task_id = self.hook.submit(constraints, scm_data)
        self._task_ids.append(task_id)
        self.log.info("Submitted the asynchronous upload %s.", task_id)
        return task_id

    def _wait(self, context: Context, report: Report, started: float) -> dict[str, Any]:
        now = time.time()
        watch = self.hook.watch(report.jobs, deadline=now + self.timeout, error_budget=self.error_budget)
        try:
            if not self.deferrable:
                report.end_jobs(self.hook.perform(watch.wait(self.poll_interval)))
            elif self.hook.perform(watch.ask()):
                report.end_jobs(watch.outcome())
            else:
                self._defer(report, now + self.timeout, started)
        except ScantrustError as error:
            self._fail(error)
        return self._finish(context, report)

    def _defer(self, report: Report, deadline: float, started: float) -> None:
        from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger

        deadline_is = "timeout"
        if self.execution_timeout is not None:
            limit = started + self.execution_timeout.total_seconds()
            if limit < deadline:
                deadline, deadline_is = limit, "execution_timeout"
        self.log.info("Waiting in the triggerer for %s asynchronous uploads.", len(report.jobs))
        self.defer(
            trigger=ScantrustTaskTrigger(
                task_ids=list(report.jobs),
                deadline=deadline,
                poll_interval=self.poll_interval,
                error_budget=self.error_budget,
                scantrust_conn_id=self.scantrust_conn_id,
            ),
            method_name="execute_complete",
            kwargs={"report": report.save(), "deadline_is": deadline_is},
            timeout=timedelta(seconds=max(0.0, deadline - time.time()) + BACKSTOP),
        )

    def _finish(self, context: Context, report: Report, *, ended: bool = True) -> dict[str, Any]:
        summary = report.summary(now=time.time(), ended=ended)
        self.log.info("Uploaded: %s", json.dumps(summary))
        if not ended:
            self.log.info(
                "The jobs are not waited for, so what they match is not known yet; a ScantrustTaskSensor on the XCom "
                "task_ids waits for them."
            )
        unmatched = (
            f"{report.unmatched} keys ({self.data_key}) are on no code that this token sees, such as "
            f"{', '.join(report.examples) or 'some of an asynchronous job'}."
        )
        discarded = "Scantrust discarded fields that the codes' campaign does not have: " + ", ".join(
            f"{name} (in {count} rows)" for name, count in sorted(report.discarded.items())
        )
        try:
            if report.unmatched:
                self._react(self.on_unmatched, UnmatchedKeys(unmatched))
            if report.discarded:
                self._react(self.on_discarded, DiscardedFields(discarded + "."))
        except ScantrustError as error:
            context["ti"].xcom_push(key="report", value=summary)
            self._fail(error)
        return summary

    def _react(self, reaction: Reaction, error: ScantrustError) -> None:
        if reaction == "fail":
            raise error
        if reaction == "warn":
            self.log.warning("%s", error)

    def _fail(self, error: ScantrustError) -> NoReturn:
        """Raise what Airflow should see; a job that failed may be mended by a retry, which submits it anew."""
        from airflow_provider_scantrust.hooks.outcome import as_airflow_error

        if isinstance(error, TaskFailed):
            raise error
        raise as_airflow_error(error) from error


def _from_template(value: Any, name: str) -> Any:
    """Return a value that a Jinja template may have rendered as JSON text."""
    if not isinstance(value, str):
        return value
    try:
        return json.loads(value)
    except ValueError as error:
        raise InvalidInput(
            f"{name} was rendered to text that is no JSON: {value!r:.200}. Use `| tojson` in the template, or pass the "
            "upstream task's output."
        ) from error


def _positive_seconds(name: str, value: timedelta | float) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not seconds > 0:
        raise ValueError(f"`{name}` must be above 0 seconds, not {value!r}.")
    return seconds
