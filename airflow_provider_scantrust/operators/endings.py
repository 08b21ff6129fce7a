"""What a task stores when it ends, successfully or not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_scantrust.exceptions import NotFound, ScantrustError, TaskFailed
from airflow_provider_scantrust.hooks.outcome import (
    push_beside_error,
    push_failed_jobs,
    push_failure,
    raise_for_airflow,
)
from airflow_provider_scantrust.operators.tries import is_of_another_account, store_of
from airflow_provider_scantrust.uploads.kept import Log, forget_jobs

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook, WorkerStats
    from airflow_provider_scantrust.uploads.report import Report


@contextmanager
def reacting_to_jobs(context: Context, hook: ScantrustHook, log: Log) -> Iterator[None]:
    """Forget failed jobs, so that a retry submits these again and no others."""
    try:
        yield
    except ScantrustError as error:
        push_failed_jobs(context, error)
        if isinstance(error, TaskFailed):
            forget_jobs(store_of(context), error.failed_jobs, log)
        elif isinstance(error, NotFound):
            if is_of_another_account(context, hook):
                log.warning(
                    "The connection now has another account than the jobs. The jobs' task_ids are kept."
                )
            else:
                forget_jobs(store_of(context), {}, log)
                log.warning(
                    "Scantrust does not know a job of this upload, so the wait for it cannot end. When this task is cleared, "
                    "everything is uploaded again."
                )
        raise


@contextmanager
def ending(context: Context, report: Report) -> Iterator[None]:
    """
    On an error, push the XCom ``failure`` and raise the exception that tells Airflow whether to retry.

    Also push the XCom ``report`` of what was done so far, if the upload had a plan.
    """

    def push(error: BaseException, *, permanent: bool) -> None:
        path = report.rejects["path"] if report.rejects else None
        push_failure(context, error, permanent=permanent, rejects_path=path)
        if not report.mode:
            # Nothing is known yet, not even how many rows there are.
            return
        summary = report.summary(now=time.time(), ended=report.is_complete)
        if not report.is_complete:
            # Calls without an answer may have updated codes, too, or matched none.
            summary["codes_affected"] = summary["unmatched"]["count"] = None
        push_beside_error(context, "report", summary)

    try:
        yield
    except TaskFailed as error:
        # A retry submits the jobs again.
        push(error, permanent=False)
        raise
    except ScantrustError as error:
        push(error, permanent=error.permanent)
        raise_for_airflow(error)
    except (Exception, AirflowTaskTimeout) as error:
        push(error, permanent=False)
        raise


def count_upload(stats: WorkerStats, report: Report) -> None:
    """Add an upload to Airflow's metrics."""
    stats.count("rows", report.rows, mode=report.mode)
    stats.count("rows_rejected", sum(report.rejected.values()), mode=report.mode)
    stats.count("keys_unmatched", report.unmatched, mode=report.mode)
    stats.count("codes_affected", report.codes_affected, mode=report.mode)
