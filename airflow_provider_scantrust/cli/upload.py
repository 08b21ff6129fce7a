"""`plan` and `upload`: the operator's pipeline outside a Dag."""

from __future__ import annotations

import argparse
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.progress import Progress as Bars

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.cli.hook import CommandHook
from airflow_provider_scantrust.cli.output import NOT_ALL, Output, facts, rows
from airflow_provider_scantrust.cli.resume import FileStore
from airflow_provider_scantrust.cli.source import SourceFile, make_options
from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed, UploadInterrupted
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.hooks.waiting import WorkerWait
from airflow_provider_scantrust.operators.files import RejectsFile
from airflow_provider_scantrust.uploads.kept import Try
from airflow_provider_scantrust.uploads.options import Options
from airflow_provider_scantrust.uploads.plan import Plan
from airflow_provider_scantrust.uploads.reaction import react
from airflow_provider_scantrust.uploads.rejects import write_rejects
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.upload import Upload
from airflow_provider_scantrust.waits.jobs import Jobs, jobs_go_on

_SHOWN = 10


def plan(arguments: argparse.Namespace, out: Output) -> int:
    """Read and plan, and send nothing."""
    hook = CommandHook(arguments.conn_id, out)
    file = SourceFile(arguments)
    options = make_options(arguments)
    rejects = RejectsFile(arguments.rejects, out, None) if arguments.rejects else None
    report = Report("", 0, time.time())
    with _make_upload(hook, options, report, None, rejects, out) as upload:
        with out.waiting(f"Reading {file.path}"):
            made = upload.plan_rows(file.rows)
        written = None
        if rejects is not None and made.spool.rejected and file.source is not None:
            source, spool = file.source, made.spool
            written = rejects.write(lambda to: write_rejects(source, spool.rejects(), to, name=rejects.path))
        _show_plan(made, written, out)
        return NOT_ALL if made.spool.rejected else 0


def upload(arguments: argparse.Namespace, out: Output) -> int:
    """Upload a file, and wait for its jobs."""
    if not arguments.resume:
        return _upload(arguments, out, None)
    with FileStore(arguments.resume) as store:
        return _upload(arguments, out, store)


def _upload(arguments: argparse.Namespace, out: Output, store: FileStore | None) -> int:
    hook = CommandHook(arguments.conn_id, out)
    file = SourceFile(arguments)
    options = make_options(arguments)
    report = Report("", 0, time.time())

    with out.progress() as bars:
        service = _Counted(hook, report, bars)
        rejects = RejectsFile(arguments.rejects, out, store) if arguments.rejects else None
        with _make_upload(service, options, report, store, rejects, out) as running:
            try:
                with _stoppable(running, service):
                    running.send_rows(file.rows)
                _wait(running, hook, arguments, out)
            except (KeyboardInterrupt, UploadInterrupted):
                raise KeyboardInterrupt(_stopped(report, arguments, service)) from None
            except TaskFailed as error:
                failed = int(error.failed_jobs.get("failed", 0))
                _show(report, out, report.describe(time.time(), failed=failed))
                raise
            except (ScantrustError, OSError):
                if report.requests:
                    _show(report, out, f"The upload ended early: {report.describe_so_far()}.")
                raise
    return _finish(report, options, arguments, store, out)


def _make_upload(
    service: ScantrustHook | _Counted,
    options: Options,
    report: Report,
    store: FileStore | None,
    rejects: RejectsFile | None,
    out: Output,
) -> Upload:
    # All starts with one file are one series of tries, so finished calls are not repeated.
    this_try = Try((0,), store.starts if store else 1, None)
    return Upload(
        service, service.submit, options, report, log=out, store=store, this_try=this_try, rejects=rejects
    )


def _wait(running: Upload, hook: ScantrustHook, arguments: argparse.Namespace, out: Output) -> None:
    """Wait for jobs, unless ``--no-wait`` is set."""
    report = running.report
    if report.has_all_results or arguments.no_wait:
        return
    with out.waiting(f"Waiting for {plural(len(report.jobs), 'job')}"):
        jobs = Jobs(report.task_ids, deadline=time.time() + arguments.timeout)
        with running.waiting():
            outcome = WorkerWait(hook, jobs).wait(arguments.poll_interval)
    running.end_jobs(outcome)


def _finish(
    report: Report, options: Options, arguments: argparse.Namespace, store: FileStore | None, out: Output
) -> int:
    is_done = report.has_all_results
    if store is not None and is_done:
        store.remove()
    _show(report, out, report.describe(time.time()))
    if not is_done:
        shown = report.task_ids[:_SHOWN]
        which = (
            f"the first {_SHOWN}" if len(report.task_ids) > _SHOWN else "it" if len(shown) == 1 else "them"
        )
        command = f"python -m airflow_provider_scantrust task --conn-id {arguments.conn_id} {' '.join(shown)}"
        out.say(f"To look at {which}: {command}")
    react(
        report,
        options.data_key,
        on_unmatched=arguments.on_unmatched,
        on_discarded=arguments.on_discarded,
        log=out,
    )
    return NOT_ALL if report.unmatched or report.rejected or (is_done and report.updated_nothing) else 0


def _show(report: Report, out: Output, said: str) -> None:
    summary = report.summary(now=time.time())
    out.result(summary, facts(summary))
    out.say(said)


def _show_plan(made: Plan, written: str | None, out: Output) -> None:
    spool = made.spool
    examples = [
        {"line": line, "kind": kind, "reason": reason}
        for (line, kind, reason), _ in zip(spool.rejects(), range(_SHOWN), strict=False)
    ]
    found = {
        **made.summary(),
        "rejected_kinds": spool.count_kinds(),
        "first_rejects": examples,
        **({"rejects_path": written} if written else {}),
    }
    tables = [facts({name: value for name, value in found.items() if name != "first_rejects"})]
    if examples:
        tables.append(rows(("line", "kind", "reason"), [list(each.values()) for each in examples]))
    out.result(found, *tables)
    out.say(made.describe())


def _stopped(report: Report, arguments: argparse.Namespace, service: _Counted) -> str:
    """Return what was done before the stop, and what happens to the jobs."""
    if not service.has_begun:
        return "Stopped before anything was sent."
    done = f"Stopped: {report.describe_so_far()}. Calls in progress may have an effect, too."
    jobs = f" {jobs_go_on(report.task_ids)}" if report.jobs else ""
    again = (
        f" The same command continues from {arguments.resume}."
        if arguments.resume
        else " The same command starts over; setting the same values again does no harm. --resume PATH would keep progress."
    )
    return done + jobs + again


@contextmanager
def _stoppable(running: Upload, service: _Counted) -> Iterator[None]:
    """Let the first Ctrl-C or SIGTERM end the upload cleanly, and the second one end the process."""
    is_stopping = False

    def stop(*_: Any) -> None:
        nonlocal is_stopping
        if is_stopping or not service.has_begun:
            raise KeyboardInterrupt
        is_stopping = True
        running.stop()

    before = {each: signal.signal(each, stop) for each in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for each, handler in before.items():
            signal.signal(each, handler)


class _Counted:
    """
    The hook, with a progress bar that counts the rows of each call that Scantrust has answered.

    :param has_begun: A call has been made, or is in flight.
    """

    def __init__(self, hook: ScantrustHook, report: Report, bars: Bars) -> None:
        self._hook = hook
        self._report = report
        self._bars = bars
        self._bar = bars.add_task("Rows", total=None)
        self.has_begun = False
        self.pacer = hook.pacer
        self.settings = hook.settings
        self.stop_uploads: Callable[[], None] = hook.stop_uploads

    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        self._begin()
        result = self._hook.upload(items, data_key)
        self._bars.advance(self._bar, len(items))
        return result

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        self._begin()
        task_id = self._hook.submit(constraints, scm_data)
        ids = constraints.get("extended_id")
        self._bars.advance(self._bar, len(ids) if isinstance(ids, list) else 1)
        return task_id

    def _begin(self) -> None:
        if not self.has_begun:
            self.has_begun = True
            self._bars.update(self._bar, total=self._report.rows)
