"""Upload SCM data to Scantrust codes: synchronously, asynchronously, or as Scantrust advises."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Mapping, Sequence
from datetime import timedelta
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout, BaseOperator

from airflow_provider_scantrust.assets.scantrust import describe_events, scantrust_outlets
from airflow_provider_scantrust.exceptions import (
    DiscardedFields,
    InvalidInput,
    NotFound,
    ScantrustError,
    TaskFailed,
    UnmatchedKeys,
)
from airflow_provider_scantrust.links.scantrust import LINKS
from airflow_provider_scantrust.operators.arguments import (
    as_path,
    check_at_least_one,
    check_choice,
    check_what_is_given,
    from_template,
    positive_seconds,
    refuse_options_of_source,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
    from airflow_provider_scantrust.uploads.calls import Job
    from airflow_provider_scantrust.uploads.plan import Plan
    from airflow_provider_scantrust.uploads.report import Report
    from airflow_provider_scantrust.waits.outcome import Outcome

Reaction = Literal["warn", "fail", "ignore"]

_JOBS_LOGGED = 20
# XCom of a report that is too large to be kept with a deferred task.
_REPORT_KEY = "report_so_far"


class ScantrustUploadOperator(BaseOperator):
    """
    Set SCM data on Scantrust codes and say what became of every row.

    Give exactly one of ``items``, ``source``, or ``constraints`` with ``scm_data``. Rows are checked before the first
    call; a call that times out is halved or handed to an asynchronous job (``mode="auto"``). Returns a small report:
    mode, rows, requests, codes_affected, unmatched, discarded_fields, task_ids, seconds, and for a source what was
    rejected. The task_ids are also pushed as the XCom ``task_ids``, for
    :class:`~airflow_provider_scantrust.sensors.scantrust.ScantrustTaskSensor`.

    Bad rows in ``items`` fail the task before anything is sent. In a ``source`` they are set apart, as are rows that
    Scantrust refuses, and all others arrive; ``rejects_path`` gets what did not.

    Errors that a retry cannot mend (refused data, no permission, wrong configuration) fail the task at once.

    :param items: Rows, each a dict with the data key and the fields to set. (templated)
    :param source: A file of rows: a local path or a URL of Airflow's object storage, CSV, TSV, JSON lines or Parquet,
        also compressed; or rows, as an iterable that is read once. It is never held in memory. (templated)
    :param columns: Column of the source -> SCM field, or None to leave it out. (templated)
    :param constants: SCM field -> value, added to each row of the source. (templated)
    :param source_format: ``csv``, ``tsv``, ``jsonl`` or ``parquet``, where the name does not tell.
    :param encoding: Of the source, where neither UTF-8 nor told by its first bytes.
    :param delimiter: Of a CSV source, where the header does not tell.
    :param quotechar: Of a CSV source, where it is not ``"``; empty when nothing is quoted.
    :param on_duplicate: Rows of a source with the same key: ``last`` merges them, the last value of each field winning;
        ``fail`` names them.
    :param max_in_flight: Requests at once.
    :param max_rejected: Rows of a source that may be rejected before the upload ends early; below 1, a share of all. None to
        end it only when Scantrust has refused the first hundred and taken none. All rejected is always a failure.
    :param rejects_path: Where to write the rows of a source that did not arrive, in its own format, with line and
        reason. Rows of a job that updated too few codes are sent once more to find those that match nothing. (templated)
    :param dry_run: Read and plan the source, and return the plan instead of carrying it out.
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

    template_fields: Sequence[str] = (
        "items",
        "source",
        "columns",
        "constants",
        "rejects_path",
        "constraints",
        "scm_data",
        "data_key",
        "scantrust_conn_id",
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own form
        "items": "json",
        "columns": "json",
        "constants": "json",
        "constraints": "json",
        "scm_data": "json",
    }
    ui_color = "#d5ecf7"
    operator_extra_links = LINKS

    def __init__(
        self,
        *,
        items: Iterable[Mapping[str, Any]] | XComArg | str | None = None,
        source: str | PathLike[str] | Iterable[Mapping[str, Any]] | XComArg | None = None,
        columns: Mapping[str, str | None] | None = None,
        constants: Mapping[str, Any] | None = None,
        source_format: Literal["csv", "tsv", "jsonl", "parquet"] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quotechar: str | None = None,
        on_duplicate: Literal["last", "fail"] = "last",
        max_in_flight: int = 16,
        max_rejected: float | None = None,
        rejects_path: str | PathLike[str] | None = None,
        dry_run: bool = False,
        constraints: Mapping[str, Any] | XComArg | str | None = None,
        scm_data: Mapping[str, Any] | XComArg | str | None = None,
        data_key: str = "extended_id",
        mode: Literal["auto", "sync", "async"] = "auto",
        codes_per_key: float | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 24 * 60 * 60,
        error_budget: timedelta | float = 600,
        ids_per_job: int = 20_000,
        on_unmatched: Reaction = "warn",
        on_discarded: Reaction = "warn",
        scantrust_conn_id: str = "scantrust_default",
        **kwargs: Any,
    ) -> None:
        from airflow_provider_scantrust.hooks.retry_policy import use_by_default

        super().__init__(**kwargs)
        check_what_is_given(items, source, constraints, scm_data, mode)
        if source is None:
            refuse_options_of_source(
                columns=columns,
                constants=constants,
                source_format=source_format,
                encoding=encoding,
                delimiter=delimiter,
                quotechar=quotechar,
                max_rejected=max_rejected,
                rejects_path=rejects_path,
                dry_run=dry_run or None,
            )
        check_choice("mode", mode, ("auto", "sync", "async"))
        check_choice("on_unmatched", on_unmatched, ("warn", "fail", "ignore"))
        check_choice("on_discarded", on_discarded, ("warn", "fail", "ignore"))
        check_choice("on_duplicate", on_duplicate, ("last", "fail"))
        check_at_least_one("ids_per_job", ids_per_job)
        check_at_least_one("max_in_flight", max_in_flight)
        if codes_per_key is not None and not codes_per_key > 0:
            raise ValueError(f"`codes_per_key` must be above 0, not {codes_per_key!r}.")
        self.items = items
        self.source = as_path(source) or source
        self.columns = columns
        self.constants = constants
        self.source_format = source_format
        self.encoding = encoding
        self.delimiter = delimiter
        self.quotechar = quotechar
        self.on_duplicate = on_duplicate
        self.max_in_flight = max_in_flight
        self.max_rejected = max_rejected
        self.rejects_path = as_path(rejects_path) or rejects_path
        self.dry_run_only = dry_run
        self.constraints = constraints
        self.scm_data = scm_data
        self.data_key = data_key
        self.mode = mode
        self.codes_per_key = codes_per_key
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.poll_interval = positive_seconds("poll_interval", poll_interval)
        self.timeout = positive_seconds("timeout", timeout)
        self.error_budget = positive_seconds("error_budget", error_budget)
        self.ids_per_job = ids_per_job
        self.on_unmatched = on_unmatched
        self.on_discarded = on_discarded
        self.scantrust_conn_id = scantrust_conn_id
        self._task_ids: list[str] = []
        self._report: Report | None = None
        self._summary: dict[str, Any] | None = None
        use_by_default(self)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, upload, and wait as told."""
        from airflow_provider_scantrust.uploads.report import Report

        started = time.time()
        self._report = report = Report(mode="async", rows=0, started_at=started)
        try:
            plan = self._upload(context, report)
        except ScantrustError as error:
            self._fail(error)
        if plan is not None and self.dry_run_only:
            # Nothing was updated, so whoever waits for that is not to be woken.
            ours = scantrust_outlets(self.outlets)
            self.outlets[:] = [outlet for outlet in self.outlets if outlet not in ours]
            return plan.summary()
        ended = not report.jobs or report.jobs_ended
        if ended or not self.wait_for_completion:
            return self._finish(context, report, ended=ended)
        return self._wait(context, report, started)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        report: Mapping[str, Any] | None = None,
        deadline_is: str = "timeout",
    ) -> dict[str, Any]:
        """Go on after the trigger has fired."""
        from airflow_provider_scantrust.triggers.deferral import read_end_of_wait
        from airflow_provider_scantrust.uploads.report import Report

        if report is None:
            ti = context["ti"]
            report = ti.xcom_pull(task_ids=ti.task_id, key=_REPORT_KEY, map_indexes=ti.map_index)
        self._report = loaded = Report.load(report)
        try:
            self._end_jobs(context, loaded, read_end_of_wait(event, deadline_is))
        except ScantrustError as error:
            self._end_wait(context, error)
        return self._finish(context, loaded)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give Airflow's own defer timeout the class of the shorter limit; which one has passed, Airflow does not tell."""
        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            if type(error).__name__ != "TaskDeferralTimeout":
                raise
            if self.execution_timeout is not None and self.execution_timeout.total_seconds() < self.timeout:
                raise AirflowTaskTimeout(
                    "execution_timeout has passed, and the triggerer sent no word."
                ) from error
            raise AirflowSensorTimeout(*error.args) from error

    def on_kill(self) -> None:
        """Say that jobs which were submitted go on at Scantrust."""
        from airflow_provider_scantrust.waits.jobs import jobs_go_on

        if self._task_ids:
            self.log.warning("The upload was ended by hand. %s", jobs_go_on(self._task_ids))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Describe the upload for OpenLineage: source, codes, fields, counts."""
        from airflow_provider_scantrust.lineage.scantrust import describe_upload

        return describe_upload(self, self._report, self._summary)

    def get_openlineage_facets_on_failure(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Describe what was done before the task failed."""
        return self.get_openlineage_facets_on_complete(task_instance)

    @cached_property
    def hook(self) -> ScantrustHook:
        """The hook that makes the calls."""
        from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

        return ScantrustHook(self.scantrust_conn_id)

    def _upload(self, context: Context, report: Report) -> Plan | None:
        try:
            if self.source is None and self.constraints is None and self.items is None:
                raise InvalidInput(
                    "There is nothing to upload: what this task was given came out as None. Has the upstream task, or the "
                    "function, returned nothing?"
                )
            if self.source is not None:
                self.source = as_path(self.source) or self.source
                return self._upload_source(context, report)
            if self.constraints is not None:
                report.rows = 1
                self._run(context, report, "extended_id", jobs=self._constrained_jobs())
            else:
                self._upload_items(context, report)
        except ScantrustError:
            if report.requests:
                self.log.error(
                    "The upload ended early. So far: %s", json.dumps(report.summary(now=time.time()))
                )
            raise
        finally:
            _push(context, "task_ids", list(report.jobs))
        return None

    def _upload_source(self, context: Context, report: Report) -> Plan:
        from airflow_provider_scantrust.operators.source import SourceUpload

        return SourceUpload(self, report).run(self.source, context)

    def _upload_items(self, context: Context, report: Report) -> None:
        from airflow_provider_scantrust.uploads.calls import cut, make_jobs
        from airflow_provider_scantrust.uploads.check import check_rows
        from airflow_provider_scantrust.uploads.mode import Choice, choose_mode

        rows, report.rows = check_rows(
            from_template(self.items, "items"), self.data_key, warn=self.log.warning
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
            self._run(context, report, self.data_key, jobs=make_jobs(rows, self.data_key, self.ids_per_job))
        else:
            self._run(context, report, self.data_key, calls=cut(rows, choice.keys_per_call))

    def _run(
        self,
        context: Context,
        report: Report,
        data_key: str,
        *,
        calls: Iterable[Sequence[Any]] = (),
        jobs: Sequence[Job] = (),
    ) -> None:
        from airflow_provider_scantrust.operators.resume import Progress, fingerprint_of
        from airflow_provider_scantrust.uploads.run import Piece, Runner

        pieces = [Piece(number, job=job) for number, job in enumerate(jobs)]
        pieces += [Piece(number, rows=rows) for number, rows in enumerate(calls, start=len(pieces))]
        progress = Progress(
            context,
            fingerprint_of(pieces, data_key, self.scantrust_conn_id),
            jobs=len(jobs),
            max_in_flight=self.max_in_flight,
            log=self.log,
        )
        self.note_jobs(progress.report.jobs)
        if progress.ended:
            report.take_over(progress.report)
            return
        report.add(progress.report)
        runner = Runner(
            data_key,
            report,
            upload=self.hook.upload,
            submit=self.submit,
            warn=self.log.warning,
            max_in_flight=self.max_in_flight,
            split=self.mode == "auto",
            before_call=progress.before_call,
            call_done=progress.call_done,
            stop=self.hook.stop_uploads,
        )
        with progress.kept():
            runner.run(piece for piece in pieces if piece.number not in progress.done)

    def _constrained_jobs(self) -> Any:
        from airflow_provider_scantrust.uploads.calls import make_constrained_jobs
        from airflow_provider_scantrust.uploads.check import check_values

        scm_data = check_values(from_template(self.scm_data, "scm_data"), "scm_data", warn=self.log.warning)
        constraints = from_template(self.constraints, "constraints")
        return make_constrained_jobs(constraints, scm_data, self.ids_per_job)

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        """Submit one asynchronous job and return its task_id."""
        task_id = self.hook.submit(constraints, scm_data)
        self.note_jobs([task_id])
        if len(self._task_ids) <= _JOBS_LOGGED:
            self.log.info("The asynchronous upload %s is submitted.", task_id)
        elif len(self._task_ids) == _JOBS_LOGGED + 1:
            self.log.info("More are being submitted; all ids will be in the XCom task_ids.")
        return task_id

    def note_jobs(self, task_ids: Iterable[str]) -> None:
        """Keep the ids of jobs that are under way, for :meth:`on_kill`."""
        self._task_ids += task_ids

    def _wait(self, context: Context, report: Report, started: float) -> dict[str, Any]:
        from airflow_provider_scantrust.waits.outcome import Outcome

        now = time.time()
        watch = self.hook.watch(report.jobs, deadline=now + self.timeout, error_budget=self.error_budget)
        try:
            if not self.deferrable:
                outcome = Outcome.of(self.hook.perform(watch.wait(self.poll_interval)))
                self._end_jobs(context, report, outcome)
            elif self.hook.perform(watch.ask()):
                self._end_jobs(context, report, Outcome.of(watch.outcome()))
            else:
                self._defer(context, report, now + self.timeout, started)
        except ScantrustError as error:
            self._end_wait(context, error)
        return self._finish(context, report)

    def _defer(self, context: Context, report: Report, deadline: float, started: float) -> None:
        from airflow_provider_scantrust.triggers.deferral import fits_a_row, make_deferral

        self.log.info("Waiting in the triggerer for %s asynchronous uploads.", len(report.jobs))
        deferral = make_deferral(
            context.get("ti"),
            list(report.jobs),
            deadline=deadline,
            started=started,
            execution_timeout=self.execution_timeout,
            poll_interval=self.poll_interval,
            error_budget=self.error_budget,
            scantrust_conn_id=self.scantrust_conn_id,
        )
        saved: dict[str, Any] | None = report.save()
        # Also for `dag.test()`, which forgets what a task defers with.
        _push(context, _REPORT_KEY, saved)
        if not fits_a_row(saved):
            saved = None
        self.defer(
            trigger=deferral.trigger,
            method_name="execute_complete",
            kwargs={"report": saved, "deadline_is": deferral.deadline_is},
            timeout=deferral.timeout,
        )

    def _end_jobs(self, context: Context, report: Report, outcome: Outcome) -> None:
        self.log.info("%s", outcome.describe())
        report.end_jobs(outcome)
        if self.rejects_path is not None and report.fingerprint is not None:
            from airflow_provider_scantrust.operators.source import SourceUpload

            SourceUpload(self, report).find_unmatched(self.source_again(context), outcome)

    def source_again(self, context: Context) -> Any:
        """Return the source once more, after its jobs have ended."""
        return self.source

    def _finish(self, context: Context, report: Report, *, ended: bool = True) -> dict[str, Any]:
        from airflow_provider_scantrust.operators.resume import end_progress

        self._summary = summary = report.summary(now=time.time(), ended=ended)
        self._count(report)
        self.log.info("Uploaded: %s", json.dumps(summary))
        if not ended:
            self.log.info(
                "The jobs are not waited for, so what they match is not known yet; a ScantrustTaskSensor on the XCom "
                "task_ids waits for them."
            )
        what = f"keys ({self.data_key})" if self.constraints is None else "values in `constraints`"
        unmatched = (
            f"{report.unmatched} {what} are on no code that this token sees, such as "
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
            _push(context, "report", summary)
            self._fail(error)
        finally:
            end_progress(context, report)
        describe_events(context, self.outlets, summary)
        return summary

    def _count(self, report: Report) -> None:
        stats = self.hook.stats
        stats.count("rows", report.rows, mode=report.mode)
        stats.count("rows_rejected", sum(report.rejected.values()), mode=report.mode)
        stats.count("keys_unmatched", report.unmatched, mode=report.mode)
        stats.count("codes_affected", report.codes_affected, mode=report.mode)

    def _react(self, reaction: Reaction, error: ScantrustError) -> None:
        if reaction == "fail":
            raise error
        if reaction == "warn":
            self.log.warning("%s", error)

    def _end_wait(self, context: Context, error: ScantrustError) -> NoReturn:
        """A job that failed may be mended by a retry, which submits it anew, and it alone."""
        from airflow_provider_scantrust.hooks.outcome import push_failed_jobs
        from airflow_provider_scantrust.operators.resume import forget_jobs

        push_failed_jobs(context, error)
        if isinstance(error, TaskFailed):
            forget_jobs(context, error.failed_jobs)
            raise error
        if isinstance(error, NotFound):
            forget_jobs(context, {})
            self.log.warning(
                "A job of this upload is not known to Scantrust, so a wait for it could never end: when this task is "
                "cleared, everything is uploaded anew."
            )
        self._fail(error)

    def _fail(self, error: ScantrustError) -> NoReturn:
        from airflow_provider_scantrust.hooks.outcome import raise_for_airflow

        raise_for_airflow(error)


def _push(context: Context, key: str, value: Any) -> None:
    """Push an XCom; a context made by hand, as in the test of a Dag, may have no task instance to push it with."""
    if (ti := context.get("ti")) is not None:
        ti.xcom_push(key=key, value=value)
