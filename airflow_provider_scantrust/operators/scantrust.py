"""Upload SCM data to Scantrust codes: synchronously, asynchronously, or as Scantrust recommends."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from functools import cached_property
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.assets.scantrust import describe_events, scantrust_outlets
from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.links.scantrust import LINKS
from airflow_provider_scantrust.operators.parameters import UploadParameters, as_path

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context
    from airflow.providers.openlineage.extractors import OperatorLineage

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
    from airflow_provider_scantrust.uploads.options import Rows
    from airflow_provider_scantrust.uploads.report import Report
    from airflow_provider_scantrust.uploads.upload import Upload

_JOBS_LOGGED = 20
_REPORT_KEY = "report_so_far"  # the XCom for a report that is too large to be stored with a deferred task


class ScantrustUploadOperator(UploadParameters):
    """
    Set SCM data on Scantrust codes and report what happened to the rows.

    Give exactly one of ``items``, ``source``, or ``constraints`` with ``scm_data``. Rows are checked before
    the first call; a call that times out is halved or becomes an asynchronous job (``mode="auto"``). Returns
    a small report: mode and reason, rows, requests, codes_affected, unmatched, discarded_fields (None if no
    answer reported them), jobs, the first 100 task_ids, seconds, and for a source the number of rejected
    rows. The XCom ``task_ids`` has all ids, for the sensor.

    A bad row in ``items`` fails the task before anything is sent. Bad rows of a ``source``, and rows that
    Scantrust refuses, are rejected and all others are uploaded; ``rejects_path`` gets the rejected ones.

    An error that a retry cannot fix (refused data, no permission, wrong configuration) fails the task without
    using a retry. A task that fails leaves the XCom ``failure``.

    :param items: Rows, each a dict with the data key and the fields to set. Lists of lists, as mapped tasks
        return them, are flattened. (templated)
    :param source: A file of rows, also compressed (a local path or a URL of Airflow's object storage), or an
        iterable of rows, which is read once. The source is never in memory as a whole. (templated)
    :param columns: Column of the source -> SCM field, or None to leave the column out. (templated)
    :param constants: SCM field -> value, added to each row of the source, which must not have this field.
        (templated)
    :param source_format: ``csv``, ``tsv``, ``jsonl``, ``parquet``, ``xlsx``, ``xlsb``, ``ods``, ``xls``.
    :param encoding: For a text file that is not UTF-8 and has no byte order mark.
    :param delimiter: For a CSV source; by default the header shows it.
    :param quotechar: For a CSV source, if it is not ``"``; empty if nothing is quoted.
    :param skip_rows: Rows before the header.
    :param null_values: Texts that mean "no value"; the field is left unchanged.
    :param sheet: For an Excel source: the sheet's name, or its number, counted from 0.
    :param on_duplicate: For rows of a source with the same key: ``last`` merges them, ``fail`` fails if their
        data differ, and names them. ``items`` with the same key and different data always fail.
    :param max_in_flight: Maximum number of requests at the same time.
    :param max_rejected: With more rejected rows of a source than this, the upload ends early; a number below
        1 is a share of all rows. With None, the upload ends early only if Scantrust refuses a hundred rows
        and accepts none. If all rows are rejected, the task always fails.
    :param rejects_path: The file for the rows of a source that were not updated, with line and reason.
        ``auto`` then sends rows by ``extended_id`` synchronously, because only synchronous answers report on
        each row (a million rows: 1,002 calls). A file of another upload is not replaced: the new file gets a
        number in its name. Mapped tasks add their map index to the name, unless the path has a template with
        ``map_index``. (templated)
    :param dry_run: Read the source and return the plan; send nothing. Of the outlets, ``scantrust://`` assets
        get no event.
    :param constraints: Field -> value that a code must have; ``extended_id`` may have a list. (templated)
    :param scm_data: Field -> value to set on the codes that meet the constraints. (templated)
    :param data_key: Selects codes: ``extended_id``, ``serial_number`` or any SCM field. (templated)
    :param mode: ``auto`` follows Scantrust's advice; ``sync`` and ``async`` force one. With ``async``,
        unmatched rows are counted but cannot be listed, and discarded fields are not known.
    :param codes_per_key: About how many codes have the same value of the SCM key. If they are few, ``auto``
        uploads synchronously.
    :param wait_for_completion: Wait for asynchronous jobs; if False, the report has only their ids.
    :param deferrable: Wait in the triggerer instead of on the worker. The default is True and does not follow
        ``[operators] default_deferrable``: its default, False, cannot be told from a user's choice.
    :param poll_interval: Seconds between two status polls of one job.
    :param timeout: Seconds (or a timedelta) to wait for asynchronous jobs.
    :param error_budget: Seconds without a readable answer about a job after which the wait ends.
    :param ids_per_job: Maximum number of extended_ids in one asynchronous job.
    :param items_per_call: Maximum number of rows in one synchronous call, up to 999.
    :param on_unmatched: What to do if keys match no code: ``warn``, ``fail`` or ``ignore``. Without a wait for
        the jobs, their keys are not known.
    :param on_discarded: What to do if the campaign does not have a field. With ``fail``, no job is submitted
        if the first answers show this. Jobs themselves do not report fields.
    :param scantrust_conn_id: The Airflow connection. (templated)
    """

    ui_color = "#d5ecf7"
    operator_extra_links = LINKS

    _upload: Upload | None = None
    _report: Report | None = None
    _summary: dict[str, Any] | None = None

    def execute(self, context: Context) -> dict[str, Any]:
        """Check, upload, and wait if wanted."""
        from airflow_provider_scantrust.operators.tries import ending
        from airflow_provider_scantrust.uploads.report import Report

        self._report = report = Report(started_at=time.time())
        with ending(context, report), self._make_upload(context, report) as upload:
            self._upload = upload
            if self.dry_run_only:
                plan = upload.plan_rows(self._rows_to_send())
                self.log.info("A dry run sends nothing. %s", plan.describe())
                # Nothing was updated, so Dags that wait for these assets must not start.
                ours = scantrust_outlets(self.outlets, context)
                self.outlets[:] = [outlet for outlet in self.outlets if outlet not in ours]
                return plan.summary()
            self._send(context, upload)
            if self.wait_for_completion and not report.has_all_results:
                self._wait(context, upload)
            return self._finish(context, upload)

    def execute_complete(
        self,
        context: Context,
        event: Any = None,
        report: Mapping[str, Any] | None = None,
        deadline_is: str = "timeout",
        try_number: int | None = None,
    ) -> dict[str, Any]:
        """Continue after the trigger has fired."""
        from airflow_provider_scantrust.operators.tries import ending
        from airflow_provider_scantrust.triggers.deferral import TASK_IDS_KEY, starts_over
        from airflow_provider_scantrust.triggers.scantrust import read_event
        from airflow_provider_scantrust.uploads.report import Report

        if starts_over(context, event, try_number):
            return self.execute(context)

        def pull(key: str) -> Any:
            ti = context.get("ti")
            return ti and ti.xcom_pull(task_ids=ti.task_id, key=key, map_indexes=ti.map_index)

        ids = pull(TASK_IDS_KEY)
        self._report = loaded = Report.load(report or pull(_REPORT_KEY), ids if isinstance(ids, list) else [])
        with ending(context, loaded), self._make_upload(context, loaded) as upload:
            with upload.waiting():
                outcome = read_event(event, deadline_is)
            upload.end_jobs(outcome, lambda: self._rows(again=True))
            result = self._finish(context, upload)
            # In place of the report from before the wait.
            _push(context, "report", self._summary)
            return result

    def resume_execution(self, next_method: str, next_kwargs: dict[str, Any] | None, context: Context) -> Any:
        """Raise the exception of the shorter time limit; Airflow's timeout does not tell which has passed."""
        from airflow_provider_scantrust.triggers.deferral import raise_limit

        try:
            return super().resume_execution(next_method, next_kwargs, context)
        except Exception as error:
            raise_limit(error, self.timeout, self.execution_timeout)
            raise

    def on_kill(self) -> None:
        """Stop calls within a second, keep the answers so far, and log that jobs continue at Scantrust."""
        from airflow_provider_scantrust.waits.jobs import jobs_go_on

        if self._upload is not None:
            self._upload.stop()
        if self._task_ids:
            self.log.warning("The task was stopped. %s", jobs_go_on(self._task_ids))

    def get_openlineage_facets_on_complete(self, task_instance: Any) -> OperatorLineage[Any, Any]:
        """Describe the upload for OpenLineage: source, codes, fields, counts."""
        from airflow_provider_scantrust.lineage.scantrust import describe_upload

        return describe_upload(self, self._report, self._summary)

    # What was done before the task failed.
    get_openlineage_facets_on_failure = get_openlineage_facets_on_complete

    @cached_property
    def _task_ids(self) -> list[str]:
        return []

    @cached_property
    def hook(self) -> ScantrustHook:
        from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

        return ScantrustHook(self.scantrust_conn_id)

    def _make_upload(self, context: Context, report: Report) -> Upload:
        from airflow_provider_scantrust.operators.files import RejectsFile, name_with
        from airflow_provider_scantrust.operators.tries import map_index_of, store_of, try_of
        from airflow_provider_scantrust.uploads.upload import Upload

        path, store = as_path(self.rejects_path), store_of(context)
        if self.rejects_path is not None and path is None:
            raise ConfigurationError(
                f"rejects_path must be a path or URL, not {type(self.rejects_path).__name__}."
            )
        if path is not None and (index := map_index_of(context)) >= 0 and not self.names_map_index:
            path = name_with(path, index)
        return Upload(
            self.hook,
            self._submit,
            self.upload_options(),
            report,
            log=self.log,
            store=store,
            this_try=try_of(context),
            rejects=None if path is None else RejectsFile(path, self.log, store, report.rejects),
        )

    def _rows(self, *, again: bool = False) -> Rows | None:
        """Return the rows to upload; None if they cannot be read ``again``, after a deferral."""
        from airflow_provider_scantrust.operators.rows import rows_of_file, rows_of_items, rows_of_program

        if self.source is None:
            return rows_of_items(self.items, self.data_key)
        if (path := as_path(self.source)) is not None:
            return rows_of_file(path, self.data_key, self.file_options(), as_path(self.rejects_path))
        if again and not isinstance(self.source, Sequence):
            return None
        options = {
            name: value
            for name, value in self.file_options().items()
            if name in ("columns", "constants", "null_values")
        }
        return rows_of_program(self.source, "source", self.data_key, as_path(self.rejects_path), **options)

    def _rows_to_send(self) -> Rows:
        if (rows := self._rows()) is None:
            raise InvalidInput(
                "There is nothing to upload: `items`, `source` or `constraints` is None. Did the upstream task, or the "
                "decorated function, return nothing?"
            )
        return rows

    def _send(self, context: Context, upload: Upload) -> None:
        report = upload.report
        try:
            if self.constraints is not None:
                self._send_constraints(upload)
            else:
                upload.send_rows(self._rows_to_send())
        except BaseException:
            if report.requests:
                self.log.warning("The upload ended early: %s.", report.describe_so_far())
            raise
        finally:
            _push(context, "task_ids", report.task_ids)

    def _send_constraints(self, upload: Upload) -> None:
        from airflow_provider_scantrust.operators.rows import from_template, ids_from_template
        from airflow_provider_scantrust.uploads.calls import read_constraints
        from airflow_provider_scantrust.uploads.check import check_values

        scm_data = check_values(from_template(self.scm_data, "scm_data"), "scm_data", warn=self.log.warning)
        constraints = ids_from_template(from_template(self.constraints, "constraints"))
        upload.send_constraints(read_constraints(constraints), scm_data)

    def _submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        task_id = self.hook.submit(constraints, scm_data)
        self._task_ids.append(task_id)
        if len(self._task_ids) <= _JOBS_LOGGED:
            self.log.info("Job %s is submitted.", task_id)
        elif len(self._task_ids) == _JOBS_LOGGED + 1:
            self.log.info("More jobs are being submitted; all ids will be in the XCom 'task_ids'.")
        return task_id

    def _wait(self, context: Context, upload: Upload) -> None:
        from airflow_provider_scantrust.hooks.waiting import WorkerWait
        from airflow_provider_scantrust.triggers.deferral import can_resume
        from airflow_provider_scantrust.waits.jobs import Jobs

        report = upload.report
        self._task_ids[:] = report.task_ids
        self.deferrable = self.deferrable and can_resume(context, self.log)
        deadline = time.time() + self.timeout
        account = self.hook.account_digest()  # before a poll, which may look the connection up again
        with upload.waiting():
            wait = WorkerWait(
                self.hook, Jobs(report.task_ids, deadline=deadline, error_budget=self.error_budget)
            )
            outcome = wait.poll_before_deferral() if self.deferrable else wait.wait(self.poll_interval)
            if outcome is None:
                self._defer(context, report, deadline, account)
                return
        upload.end_jobs(outcome)

    def _defer(self, context: Context, report: Report, deadline: float, account: str | None) -> None:
        from airflow_provider_scantrust.triggers.deferral import defer_wait, fits_a_row

        saved = report.save()
        # Always as an XCom, too: `dag.test()` does not keep the arguments of a deferral.
        _push(context, _REPORT_KEY, saved)
        # For the page in Airflow's UI, while the task waits.
        _push(context, "report", report.summary(now=time.time()))
        defer_wait(
            self,
            context,
            report.task_ids,
            deadline=deadline,
            started=report.started_at,
            kwargs={"report": saved if fits_a_row(saved) else None},
            poll_interval=self.poll_interval,
            error_budget=self.error_budget,
            scantrust_conn_id=self.scantrust_conn_id,
            account=account,
        )

    def _finish(self, context: Context, upload: Upload) -> dict[str, Any]:
        from airflow_provider_scantrust.operators.tries import count_upload
        from airflow_provider_scantrust.uploads.kept import end_progress
        from airflow_provider_scantrust.uploads.reaction import react

        now, report = time.time(), upload.report
        self._summary = summary = report.summary(now=now)
        count_upload(self.hook.stats, report)
        key = self.data_key if self.constraints is None else None
        report.is_complete = report.has_all_results
        try:
            react(report, key, on_unmatched=self.on_unmatched, on_discarded=self.on_discarded, log=self.log)
        finally:
            self.log.info("%s", report.describe(now))
            self.log.info("Report: %s", json.dumps(summary))
            end_progress(upload.store, upload.this_try, report, self.log)
        describe_events(context, self.outlets, summary)
        # With multiple_outputs, Airflow stores each value as an XCom of its own, also over our ``task_ids``.
        return {**summary, "task_ids": report.task_ids} if self.multiple_outputs else summary


def _push(context: Context, key: str, value: Any) -> None:
    """Push an XCom, unless the context has no task instance, as in a test of a Dag."""
    if (ti := context.get("ti")) is not None:
        ti.xcom_push(key=key, value=value)
