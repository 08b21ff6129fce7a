"""
One upload: check, spool, plan, load earlier progress, run, and write the rejects.

Rule: the source is read once. Rejects come from the copy that was made while reading. Only after a deferral
is the source read again. Then rows are matched by key, and no error in this step fails the upload.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import KW_ONLY, asdict, dataclass
from functools import partial
from math import inf
from typing import Any

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.exceptions import (
    InvalidInput,
    NotFound,
    SourceNotFound,
    TaskFailed,
    TooManyRejected,
    UploadInterrupted,
)
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.calls import ConstraintsPlan, plan_constraints
from airflow_provider_scantrust.uploads.kept import Store, Try, fingerprint, forget_jobs, read_saved
from airflow_provider_scantrust.uploads.options import Options, RejectsFile, Rows, Service
from airflow_provider_scantrust.uploads.plan import Plan, make_plan
from airflow_provider_scantrust.uploads.progress import Progress
from airflow_provider_scantrust.uploads.progress_log import ProgressLog
from airflow_provider_scantrust.uploads.rejects import add_late_rejects, write_rejects
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.requests import Submit
from airflow_provider_scantrust.uploads.run import Runner
from airflow_provider_scantrust.uploads.spool import Spool, name_problems
from airflow_provider_scantrust.waits.outcome import Outcome


@dataclass(eq=False, repr=False)
class Upload:
    """
    A context manager that carries out one upload.

    It keeps the rows until it is closed: after a wait in this process, the rows of each job are still known.

    :param store: What earlier tries have done is kept there, and read by all but :meth:`plan_rows`.
    :param rejects: None if rows that were not updated are only counted.
    """

    service: Service
    submit: Submit
    options: Options
    report: Report
    _: KW_ONLY
    log: Log
    store: Store | None
    this_try: Try
    rejects: RejectsFile | None = None

    def __post_init__(self) -> None:
        self._stack = ExitStack()
        self._read: tuple[Source, Plan] | None = None
        # Not a threading.Event: the signal handler that sets it runs in the thread that would wait for it.
        self._is_stopped = False

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()

    def stop(self) -> None:
        """End the upload within a second; safe in a signal handler."""
        self._is_stopped = True

    def send_constraints(self, constraints: Mapping[str, Any], scm_data: dict[str, Any]) -> None:
        """Submit jobs for checked constraints."""
        self._carry_out(plan_constraints(constraints, scm_data, self.options.ids_per_job))

    def plan_rows(self, rows: Rows) -> Plan:
        """Return the plan that :meth:`send_rows` would carry out; send nothing."""
        _, plan = self._read_rows(rows, needs_connection=False)
        return plan

    def send_rows(self, rows: Rows) -> None:
        """
        Upload rows.

        :raises SourceNotFound: The file does not exist, and some calls must still be made.
        :raises InvalidInput: A row cannot be sent, and the upload is strict.
        :raises TooManyRejected: More rows are invalid or refused than ``max_rejected`` allows; or all rows
            are; or Scantrust refused a hundred rows and accepted none.
        """
        try:
            _, plan = self._read_rows(rows)
        except SourceNotFound as error:
            known = self.make_progress(rows).take_up_without_source()
            if known is None:
                raise
            self.log.warning("%s The last try made every call, so this try only waits for its jobs.", error)
            self._take_over(known)
        else:
            self._carry_out(plan, rows)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Forget jobs that fail during a wait, so that a retry submits these again and no others."""
        try:
            yield
        except TaskFailed as error:
            forget_jobs(self.store, error.failed_jobs, self.log)
            raise
        except NotFound:
            account = (read_saved(self.store) or {}).get("account")
            if account is not None and account != self.service.settings.account_digest:
                self.log.warning(
                    "The connection now has another account than the jobs. The jobs' task_ids are kept."
                )
            else:
                forget_jobs(self.store, {}, self.log)
                self.log.warning(
                    "Scantrust does not know a job of this upload, so the wait for it cannot end. When this upload is started "
                    "again (a task: when it is cleared), everything is uploaded again."
                )
            raise

    def end_jobs(self, outcome: Outcome, rows: Callable[[], Rows | None] = lambda: None) -> None:
        """Count the results of jobs; after a deferral, ``rows`` returns the rows again, or None if they are gone."""
        report, rejects = self.report, self.rejects
        report.end_jobs(outcome)
        if rejects is None:
            return
        if report.job_keys is not None and outcome.nothing:
            self.log.warning(
                "Rows of jobs that matched no code are counted and not listed: too many jobs of different sizes."
            )
        nothing = report.jobs_without_code(outcome)
        if nothing:
            add_late_rejects(
                rejects,
                nothing,
                read=lambda: self._read or self._read_again(rows()),
                data_key=self.options.data_key,
                log=self.log,
            )
            report.rejects = rejects.mine

    def _items_per_call(self, *, needs_connection: bool = True) -> int:
        most = self.options.items_per_call
        try:
            return min(most, self.service.settings.items_per_call)
        except Exception:
            if needs_connection:
                raise
            return most

    def make_progress(self, rows: Rows | None) -> Progress:
        """Return the progress of an upload of rows, or of constraints; this looks up the connection."""
        source = (rows.name, dict(rows.options)) if rows is not None else (None, {})
        return Progress(
            self.store,
            self.this_try,
            account=self.service.settings.account_digest,
            options=fingerprint([asdict(self.options), *source]),
            max_in_flight=self.options.max_in_flight,
            log=self.log,
        )

    def _read_again(self, rows: Rows | None) -> tuple[Source, Plan]:
        if rows is None:
            raise SourceNotFound("its rows are not there any more")
        source, plan = self._read_rows(rows)
        if fingerprint(plan.contents) != self.report.fingerprint:
            raise InvalidInput("it has changed")
        return source, plan

    def _read_rows(self, rows: Rows, *, needs_connection: bool = True) -> tuple[Source, Plan]:
        options = self.options
        try:
            source = self._stack.enter_context(rows.open())
            spool = self._stack.enter_context(
                Spool(options.data_key, on_duplicate="fail" if options.is_strict else options.on_duplicate)
            )
            spool.fill(source, warn=partial(self.log.warning, "%s"))
        except FileNotFoundError as error:
            if rows.name is None:
                raise
            raise SourceNotFound(
                f"There is no source {rows.name!r} (yet): {error.strerror or error}."
            ) from error
        if options.is_strict and spool.rejected:
            raise InvalidInput(name_problems(spool))
        plan = make_plan(
            spool,
            mode=options.mode,
            codes_per_key=options.codes_per_key,
            items_per_call=self._items_per_call(needs_connection=needs_connection),
            ids_per_job=options.ids_per_job,
            answer_for_each_row=self.rejects is not None,
        )
        self._read = source, plan
        return self._read

    def _carry_out(self, plan: Plan | ConstraintsPlan, rows: Rows | None = None) -> None:
        report = self.report
        report.mode, report.rows, report.reason = plan.mode, plan.rows, plan.reason
        report.fingerprint = fingerprint(plan.contents)
        self.log.info("%s", plan.describe())
        progress = self.make_progress(rows)
        jobs = range(plan.sync_calls, plan.sync_calls + plan.jobs)
        if (known := progress.take_up(report.fingerprint, jobs)) is not None:
            self._take_over(known)
            return
        report.add(progress.report)
        spool = plan.spool
        if spool is None:
            self._run(plan, progress)
            return
        report.add_rejected(spool.count_kinds())
        if self.rejects is not None and plan.jobs and self.options.data_key == "extended_id":
            self.log.warning(
                "Jobs do not report which keys match no code: such rows are counted, but are not in the rejects file."
            )
        try:
            self._check_rejected(spool)
            self._run(plan, progress)
        except UploadInterrupted:
            # There is no time to write the rejects, and the next try has the same.
            raise
        except BaseException:
            try:
                self._write_rejects()
            except Exception as error:  # any storage, any exception
                self.log.warning("The rejects file cannot be written (%.200s).", error)
            raise
        self._write_rejects()

    def _take_over(self, known: Report) -> None:
        """Report what earlier tries have done."""
        known.started_at = self.report.started_at
        known.rejects = self.rejects.mine if self.rejects is not None else None
        vars(self.report).update(vars(known))

    def _run(self, plan: Plan | ConstraintsPlan, progress: Progress) -> None:
        report, spool, pacer = self.report, plan.spool, self.service.pacer
        left = max(0, plan.keys - progress.keys_done(plan.items_per_call))
        calls = plan.sync_calls + plan.jobs - len(progress.done)
        runner = Runner(
            options=self.options,
            service=self.service,
            submit=self.submit,
            report=report,
            progress=progress,
            lines=ProgressLog(self.log, pacer, rows=left, calls=calls),
            log=self.log,
            items_per_call=self._items_per_call(),
            is_stopped=lambda: self._is_stopped,
            reject=None if spool is None or self.options.is_strict else spool.reject,
            max_rejected=self._allowed(spool) - spool.rejected if spool is not None else inf,
        )
        try:
            runner.run(plan.steps(progress.done))
        finally:
            progress.close()
            report.throttled = pacer.throttled
        if spool is not None and 0 < plan.rows - spool.rejected == report.rejected.get("refused"):
            raise runner.none_taken()
        progress.all_calls_made(report)

    def _allowed(self, spool: Spool) -> float:
        """Return how many rows may be rejected; a number below 1 is a share of all rows."""
        limit = inf if self.options.max_rejected is None else self.options.max_rejected
        return limit * spool.rows if 0 < limit < 1 else limit

    def _check_rejected(self, spool: Spool) -> None:
        if not spool.rejected:
            return
        line, kind, reason = next(iter(spool.rejects()))
        found = f"{spool.rejected} of {plural(spool.rows, 'row')} cannot be sent, first in line {line} ({kind}): {reason}"
        if spool.rejected > self._allowed(spool):
            raise TooManyRejected(f"Nothing was sent (max_rejected={self.options.max_rejected}): {found}.")
        if spool.rejected == spool.rows:
            raise TooManyRejected(f"Nothing was sent: {found}.")
        self.log.warning("%s. The other rows are sent.", found)

    def _write_rejects(self) -> None:
        """Write the rejects file, or remove what an earlier try of this task instance wrote."""
        rejects = self.rejects
        if rejects is None or self._read is None:
            return
        source, plan = self._read
        if count := sum(plan.spool.count_kinds().values()):
            path = rejects.write(
                lambda out: write_rejects(source, plan.spool.rejects(), out, name=rejects.path)
            )
            self.log.warning(
                "%s not updated: see %s. Fix the rows there and upload that file.",
                f"{plural(count, 'row')} {'was' if count == 1 else 'were'}",
                path,
            )
        else:
            rejects.remove()
        self.report.rejects = rejects.mine
