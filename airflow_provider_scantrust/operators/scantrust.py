"""Upload SCM data to Scantrust codes: synchronously, asynchronously, or as Scantrust recommends."""

from __future__ import annotations

import json
import time
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from functools import cached_property
from os import PathLike
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import AirflowTaskTimeout, BaseOperator

from airflow_provider_scantrust.api.seconds import read_seconds
from airflow_provider_scantrust.assets.scantrust import describe_events, scantrust_outlets
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    InvalidInput,
    NotFound,
    ScantrustError,
    TaskFailed,
)
from airflow_provider_scantrust.links.scantrust import ScantrustPortalLink
from airflow_provider_scantrust.operators.arguments import (
    as_path,
    check_choice,
    check_number,
    check_what_is_given,
    flatten_rows,
    from_template,
    is_template,
    name_default_args,
    refuse_iterator,
    refuse_options_of_source,
)

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, XComArg
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
    from airflow_provider_scantrust.uploads.options import Options, Rows
    from airflow_provider_scantrust.uploads.report import Report
    from airflow_provider_scantrust.uploads.upload import Upload
    from airflow_provider_scantrust.waits.outcome import Outcome

Reaction = Literal["warn", "fail", "ignore"]

_JOBS_LOGGED = 20
# XCom of a report that is too large to be kept with a deferred task.
_REPORT_KEY = "report_so_far"
# Options of a file that are handed to its reader as they are.
_FILE_OPTIONS = (
    "columns",
    "constants",
    "encoding",
    "delimiter",
    "quotechar",
    "skip_rows",
    "null_values",
    "sheet",
)


class ScantrustUploadOperator(BaseOperator):
    """
    Set SCM data on Scantrust codes and report what became of every row.

    Give exactly one of ``items``, ``source``, or ``constraints`` with ``scm_data``. Rows are checked before the first
    call; a call that times out is halved or becomes an asynchronous job (``mode="auto"``). Returns a small report: mode and
    reason, rows, requests, codes_affected, unmatched, discarded_fields (None where no answer told), jobs, the first 100
    task_ids, seconds, and of a source the rejected rows. The XCom ``task_ids`` has all ids, for
    :class:`~airflow_provider_scantrust.sensors.scantrust.ScantrustTaskSensor`.

    A bad row in ``items`` fails the task before anything is sent. Bad rows of a ``source``, and rows that Scantrust refuses,
    are rejected and all others are uploaded; ``rejects_path`` gets the rejected ones.

    An error that a retry cannot fix (refused data, no permission, wrong configuration) fails the task without using a retry.
    A task that fails leaves the XCom ``failure``.

    :param items: Rows, each a dict with the data key and the fields to set; lists of lists are flattened, as mapped tasks
        return them. (templated)
    :param source: A file of rows: a local path or a URL of Airflow's object storage, also compressed; or rows, as an iterable
        that is read once. It is never held in memory. (templated)
    :param columns: Column of the source -> SCM field, or None to leave it out. (templated)
    :param constants: SCM field -> value, added to each row of the source. (templated)
    :param source_format: Where the name does not tell: ``csv``, ``tsv``, ``jsonl``, ``parquet``, ``xlsx``, ``xlsb``, ``ods``
        or ``xls``.
    :param encoding: Of a text file that is not UTF-8 and has no byte order mark.
    :param delimiter: Of a CSV source, where the header does not tell.
    :param quotechar: Of a CSV source, where it is not ``"``; empty when nothing is quoted.
    :param skip_rows: Rows before the header.
    :param null_values: Texts that stand for no value.
    :param sheet: Of an Excel source: its name, or its number from 0 on.
    :param on_duplicate: Rows of a source with the same key: ``last`` merges them, the last value of each field winning;
        ``fail`` names them.
    :param max_in_flight: Requests at the same time.
    :param max_rejected: Rows of a source that may be rejected before the upload ends early; below 1, a share of all. None to
        end it only when Scantrust has refused the first hundred and accepted none. All rows rejected is always a failure.
    :param rejects_path: Where to write the rows of a source that were not updated, with line and reason. ``auto`` then sends
        rows by ``extended_id`` synchronously, since only those answers tell the fate of each row (a million rows: 1,002
        calls). A file of another upload is not replaced: the name gets a number. Mapped tasks add their map index to the
        name, unless the path has a template with ``map_index``. (templated)
    :param dry_run: Read and plan the source, and return the plan instead of carrying it out.
    :param constraints: Field -> value that a code must have, all of them; a list for ``extended_id``. (templated)
    :param scm_data: Field -> value to set on the codes that meet the constraints. (templated)
    :param data_key: The field that selects codes: ``extended_id``, ``serial_number``, any SCM field. (templated)
    :param mode: ``auto`` follows Scantrust's advice; ``sync`` and ``async`` force one. With ``async``, unmatched rows are counted
        but cannot be listed, and discarded fields are not known.
    :param codes_per_key: About how many codes one value of the key has; lets ``auto`` choose sync for SCM keys.
    :param wait_for_completion: Wait for asynchronous jobs; without it only their ids are known.
    :param deferrable: Wait in the triggerer instead of on the worker. The default is True, whatever
        ``[operators] default_deferrable`` says: its own default, False, cannot be told from a choice.
    :param poll_interval: Seconds between two status polls of one job.
    :param timeout: Seconds (or a timedelta) to wait for asynchronous jobs.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param ids_per_job: The most extended_ids that one asynchronous job may carry.
    :param items_per_call: The most rows that one synchronous call may carry, up to 999.
    :param on_unmatched: What to do about keys that no code has.
    :param on_discarded: What to do about fields that the campaign does not have. With ``fail``, no job is submitted after the
        first answers have shown one.
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
    operator_extra_links = (ScantrustPortalLink(),)

    def __init__(
        self,
        *,
        items: Iterable[Mapping[str, Any]] | XComArg | str | None = None,
        source: str | PathLike[str] | Iterable[Mapping[str, Any]] | XComArg | None = None,
        columns: Mapping[str, str | None] | None = None,
        constants: Mapping[str, Any] | None = None,
        source_format: Literal["csv", "tsv", "jsonl", "parquet", "xlsx", "xlsb", "ods", "xls"] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quotechar: str | None = None,
        skip_rows: int | None = None,
        null_values: Sequence[str] | None = None,
        sheet: str | int | None = None,
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
        items_per_call: int = 999,
        on_unmatched: Reaction = "warn",
        on_discarded: Reaction = "warn",
        scantrust_conn_id: str = "scantrust_default",
        **kwargs: Any,
    ) -> None:
        from airflow_provider_scantrust.hooks.retry_policy import use_by_default

        super().__init__(**kwargs)
        with name_default_args(kwargs.get("default_args")):
            check_what_is_given(items, source, constraints, scm_data, mode)
            refuse_iterator("items", items)
            refuse_iterator("source", source)
            if source is None:
                refuse_options_of_source(
                    columns=columns,
                    constants=constants,
                    source_format=source_format,
                    encoding=encoding,
                    delimiter=delimiter,
                    quotechar=quotechar,
                    skip_rows=skip_rows,
                    null_values=null_values,
                    sheet=sheet,
                    max_rejected=max_rejected,
                    rejects_path=rejects_path,
                    dry_run=dry_run or None,
                )
            check_choice("mode", mode, ("auto", "sync", "async"))
            check_choice("on_unmatched", on_unmatched, ("warn", "fail", "ignore"))
            check_choice("on_discarded", on_discarded, ("warn", "fail", "ignore"))
            check_choice("on_duplicate", on_duplicate, ("last", "fail"))
            check_number("ids_per_job", ids_per_job, 1)
            check_number("items_per_call", items_per_call, 1, 999)
            check_number("max_in_flight", max_in_flight, 1)
            if codes_per_key is not None and not codes_per_key > 0:
                raise ValueError(f"`codes_per_key` must be above 0, not {codes_per_key!r}.")
            self.poll_interval = read_seconds("poll_interval", poll_interval)
            self.timeout = read_seconds("timeout", timeout)
            self.error_budget = read_seconds("error_budget", error_budget)
        self.items = items
        self.source = as_path(source) or source
        self.columns = columns
        self.constants = constants
        self.source_format = source_format
        self.encoding = encoding
        self.delimiter = delimiter
        self.quotechar = quotechar
        self.skip_rows = skip_rows
        self.null_values = null_values
        self.sheet = sheet
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
        self.ids_per_job = ids_per_job
        self.items_per_call = items_per_call
        self.on_unmatched = on_unmatched
        self.on_discarded = on_discarded
        self.scantrust_conn_id = scantrust_conn_id
        self._names_map_index = "map_index" in str(rejects_path)
        self._task_ids: list[str] = []
        self._upload: Upload | None = None
        self._report: Report | None = None
        self._summary: dict[str, Any] | None = None
        use_by_default(self)

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render templates; text without one stays as it was written, since native rendering would turn "007" into 7."""
        if isinstance(content, str) and not is_template(content):
            return content
        return super().render_template(content, *args, **kwargs)

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, upload, and wait if wanted."""
        from airflow_provider_scantrust.uploads.report import Report

        started = time.time()
        self._report = report = Report(mode="", rows=0, started_at=started)
        with self._ending(context), self._make_upload(context, report) as upload:
            self._upload = upload
            plan = self._send(context, upload)
            if plan is not None and self.dry_run_only:
                # Nothing was updated, so what waits for that must not start.
                ours = scantrust_outlets(self.outlets)
                self.outlets[:] = [outlet for outlet in self.outlets if outlet not in ours]
                return plan
            ended = not report.jobs or report.jobs_ended
            if not ended and self.wait_for_completion:
                self._wait(context, upload, started)
                ended = True
            return self._finish(context, report, ended=ended)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        report: Mapping[str, Any] | None = None,
        deadline_is: str = "timeout",
    ) -> dict[str, Any]:
        """Continue after the trigger has fired."""
        from airflow_provider_scantrust.triggers.deferral import TASK_IDS_KEY, read_end_of_wait
        from airflow_provider_scantrust.uploads.report import Report

        def pull(key: str) -> Any:
            ti = context.get("ti")
            return ti and ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)

        ids = pull(TASK_IDS_KEY)
        self._report = loaded = Report.load(report or pull(_REPORT_KEY), ids if isinstance(ids, list) else [])
        with self._ending(context), self._make_upload(context, loaded) as upload:
            with self._reacting_to_jobs(context):
                outcome = read_end_of_wait(event, deadline_is)
            self.log.info("%s", outcome.describe())
            upload.end_jobs_after_deferral(outcome, self._rows(again=True))
            return self._finish(context, loaded)

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Give Airflow's own defer timeout the class of the shorter limit; Airflow does not tell which one has passed."""
        from airflow_provider_scantrust.triggers.deferral import is_deferral_timeout, raise_deferral_timeout

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            if not is_deferral_timeout(error):
                raise
            raise_deferral_timeout(error, self.timeout, self.execution_timeout)

    def on_kill(self) -> None:
        """Stop calls within a second, keep what was answered, and say that submitted jobs continue at Scantrust."""
        from airflow_provider_scantrust.waits.jobs import jobs_go_on

        if self._upload is not None:
            self._upload.stop()
        if self._task_ids:
            self.log.warning("The task was stopped. %s", jobs_go_on(self._task_ids))

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

    def _make_upload(self, context: Context, report: Report) -> Upload:
        from airflow_provider_scantrust.operators.files import RejectsFile, name_with
        from airflow_provider_scantrust.operators.tries import map_index_of, progress_of
        from airflow_provider_scantrust.uploads.upload import Upload

        options = self._options()
        source = as_path(self.source)
        path = as_path(self.rejects_path)
        if self.rejects_path is not None and path is None:
            raise ConfigurationError(
                f"rejects_path must be a path or URL, not {type(self.rejects_path).__name__}."
            )
        if path is not None and (index := map_index_of(context)) >= 0 and not self._names_map_index:
            path = name_with(path, index)
        return Upload(
            self.hook,
            self._submit,
            options,
            report,
            make_progress=progress_of(context, self.hook, options, source, self._file_options(), self.log),
            log=self.log,
            rejects=None if path is None else RejectsFile(path, self.log),
        )

    def _options(self) -> Options:
        from airflow_provider_scantrust.uploads.options import Options

        return Options(
            data_key="extended_id" if self.constraints is not None else self.data_key,
            mode=self.mode,
            codes_per_key=self.codes_per_key,
            ids_per_job=self.ids_per_job,
            items_per_call=self.items_per_call,
            max_in_flight=self.max_in_flight,
            on_duplicate=self.on_duplicate,
            max_rejected=self.max_rejected,
            is_strict=self.source is None,
            stop_on_discarded=self.on_discarded == "fail",
            dry_run=self.dry_run_only,
        )

    def _file_options(self) -> dict[str, Any]:
        given = {name: getattr(self, name) for name in _FILE_OPTIONS}
        given["format"] = self.source_format
        return {name: value for name, value in given.items() if value is not None}

    def _rows(self, *, again: bool = False) -> Rows | None:
        """
        Return the rows to upload.

        :param again: After a deferral; None where they cannot be read again.
        """
        from airflow_provider_scantrust.operators.rows import rows_of_file, rows_of_program

        if self.source is None:
            return (
                None
                if self.items is None
                else rows_of_program(flatten_rows(from_template(self.items, "items")), "items")
            )
        if (path := as_path(self.source)) is not None:
            return rows_of_file(path, self._file_options(), as_path(self.rejects_path))
        if again and not isinstance(self.source, Sequence):
            return None
        options = {name: getattr(self, name) for name in ("columns", "constants")}
        return rows_of_program(self.source, "source", as_path(self.rejects_path), **options)

    def _send(self, context: Context, upload: Upload) -> dict[str, Any] | None:
        """Upload, and return the plan."""
        report = upload.report
        try:
            if self.constraints is not None:
                self._send_constraints(upload)
                return None
            rows = self._rows()
            if rows is None:
                raise InvalidInput(
                    "There is nothing to upload: the value that this task was given is None. Has the upstream task, or the "
                    "function, returned nothing?"
                )
            plan = upload.send_rows(rows)
            return None if plan is None else plan.summary()
        except BaseException:
            if report.requests:
                summary = json.dumps(report.summary(now=time.time(), ended=False))
                self.log.warning("The upload ended early. So far: %s", summary)
            raise
        finally:
            if not self.dry_run_only:
                _push(context, "task_ids", report.task_ids)

    def _send_constraints(self, upload: Upload) -> None:
        from airflow_provider_scantrust.uploads.check import check_values
        from airflow_provider_scantrust.uploads.constraints import read_constraints

        scm_data = check_values(from_template(self.scm_data, "scm_data"), "scm_data", warn=self.log.warning)
        upload.send_constraints(read_constraints(from_template(self.constraints, "constraints")), scm_data)

    def _submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        task_id = self.hook.submit(constraints, scm_data)
        self._task_ids.append(task_id)
        if len(self._task_ids) <= _JOBS_LOGGED:
            self.log.info("The asynchronous upload %s is submitted.", task_id)
        elif len(self._task_ids) == _JOBS_LOGGED + 1:
            self.log.info("More are being submitted; all ids will be in the XCom task_ids.")
        return task_id

    def _wait(self, context: Context, upload: Upload, started: float) -> None:
        report = upload.report
        self._task_ids = report.task_ids
        deadline = time.time() + self.timeout
        with self._reacting_to_jobs(context):
            outcome = self._poll(report, deadline)
            if outcome is None:
                self._defer(context, report, deadline, started)
                return
        self.log.info("%s", outcome.describe())
        upload.end_jobs(outcome)

    def _poll(self, report: Report, deadline: float) -> Outcome | None:
        """Wait on the worker; or, deferrable, poll once and return None when there is more to wait for."""
        if self.deferrable:
            return self.hook.poll_jobs(report.task_ids, deadline=deadline, error_budget=self.error_budget)
        return self.hook.wait_for_jobs(
            report.task_ids,
            deadline=deadline,
            poll_interval=self.poll_interval,
            error_budget=self.error_budget,
        )

    def _defer(self, context: Context, report: Report, deadline: float, started: float) -> None:
        from airflow_provider_scantrust.api.texts import plural
        from airflow_provider_scantrust.triggers.deferral import fits_a_row, make_deferral

        self.log.info("Waiting in the triggerer for %s.", plural(len(report.jobs), "job"))
        deferral = make_deferral(
            context.get("ti"),
            report.task_ids,
            deadline=deadline,
            started=started,
            execution_timeout=self.execution_timeout,
            poll_interval=self.poll_interval,
            error_budget=self.error_budget,
            scantrust_conn_id=self.scantrust_conn_id,
            account=self.hook.account_digest(),
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

    def _finish(self, context: Context, report: Report, *, ended: bool = True) -> dict[str, Any]:
        from airflow_provider_scantrust.operators.tries import store_of, try_of
        from airflow_provider_scantrust.uploads.kept import end_progress

        now = time.time()
        self._summary = summary = report.summary(now=now, ended=ended)
        stats = self.hook.stats
        stats.count("rows", report.rows, mode=report.mode)
        stats.count("rows_rejected", sum(report.rejected.values()), mode=report.mode)
        stats.count("keys_unmatched", report.unmatched, mode=report.mode)
        stats.count("codes_affected", report.codes_affected, mode=report.mode)
        try:
            self._react(report)
        except ScantrustError:
            _push(context, "report", summary)
            raise
        finally:
            if not ended:
                self.log.info("A ScantrustTaskSensor on the XCom task_ids can wait for the jobs.")
            self.log.info("%s", report.describe(now - report.started_at, ended=ended))
            self.log.info("Uploaded: %s", json.dumps(summary))
            end_progress(store_of(context), try_of(context), report, self.log)
        describe_events(context, self.outlets, summary)
        return summary

    def _react(self, report: Report) -> None:
        """Warn or fail, as wanted, of keys that no code has and fields that were discarded."""
        from airflow_provider_scantrust.uploads.reaction import react

        key = f"key ({self.data_key})" if self.constraints is None else "value in `constraints`"
        react(report, key, on_unmatched=self.on_unmatched, on_discarded=self.on_discarded, log=self.log)

    @contextmanager
    def _reacting_to_jobs(self, context: Context) -> Iterator[None]:
        """Let a retry submit jobs again that have failed, and only those."""
        from airflow_provider_scantrust.hooks.outcome import push_failed_jobs
        from airflow_provider_scantrust.operators.tries import is_of_another_account, store_of
        from airflow_provider_scantrust.uploads.kept import forget_jobs

        try:
            yield
        except ScantrustError as error:
            push_failed_jobs(context, error)
            if isinstance(error, TaskFailed):
                forget_jobs(store_of(context), error.failed_jobs, self.log)
            elif isinstance(error, NotFound):
                if is_of_another_account(context, self.hook):
                    self.log.warning(
                        "The connection now leads to another account than the jobs. Their ids are kept."
                    )
                else:
                    forget_jobs(store_of(context), {}, self.log)
                    self.log.warning(
                        "Scantrust does not know a job of this upload, so a wait for it could never end: when this task is "
                        "cleared, everything is uploaded again."
                    )
            raise

    @contextmanager
    def _ending(self, context: Context) -> Iterator[None]:
        """Leave the XCom ``failure``, and tell Airflow whether a retry can help."""
        from airflow_provider_scantrust.hooks.outcome import push_failure, raise_for_airflow

        try:
            yield
        except TaskFailed as error:
            # A retry submits the jobs again.
            push_failure(context, error, permanent=False)
            raise
        except ScantrustError as error:
            push_failure(context, error, permanent=error.permanent)
            raise_for_airflow(error)
        except (Exception, AirflowTaskTimeout) as error:
            push_failure(context, error, permanent=False)
            raise


def _push(context: Context, key: str, value: Any) -> None:
    """Push an XCom; a context made by hand, as in the test of a Dag, may have no task instance to push it with."""
    if (ti := context.get("ti")) is not None:
        ti.xcom_push(key=key, value=value)
