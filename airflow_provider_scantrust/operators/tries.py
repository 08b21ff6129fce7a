"""A try of an upload task: which one it is, what earlier tries have done, and what is stored when it ends."""

from __future__ import annotations

import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed
from airflow_provider_scantrust.hooks.outcome import push_beside_error, push_failure, raise_for_airflow
from airflow_provider_scantrust.uploads.kept import Store, Try
from airflow_provider_scantrust.uploads.report import Report

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.hooks.scantrust import WorkerStats


def store_of(context: Context) -> Store | None:
    """Return Airflow's task state store; None before Airflow 3.3, and in a test's own context."""
    return cast("Store | None", cast("Any", context).get("task_state_store"))


def try_of(context: Context) -> Try:
    """Return which try this is."""
    ti: Any = context.get("ti")
    # A clear sets max_tries to the tries that were made plus the task's retries. The retries are in the
    # series, too: if the Dag has fewer retries now, the sum could be the same as before.
    series = (_number(ti, "max_tries"), _number(getattr(ti, "task", None), "retries"))
    try_id = getattr(ti, "id", None)
    # `airflow tasks test` is not a retry.
    number = 0 if os.environ.get("AIRFLOW_TEST_MODE") else _number(ti, "try_number")
    return Try(series, number, str(try_id) if isinstance(try_id, str | UUID) else None)


def map_index_of(context: Context) -> int:
    """Return the map index of a task; -1 for a task that is not mapped."""
    return _number(context.get("ti"), "map_index", -1)


@contextmanager
def ending(context: Context, report: Report) -> Iterator[None]:
    """
    On an error, push the XCom ``failure`` and raise the exception that tells Airflow whether to retry.

    Also push the XCom ``report`` of what was done so far, if the upload had a plan.
    """
    try:
        yield
    except (Exception, AirflowTaskTimeout) as error:
        # A retry submits failed jobs again.
        ours = error if isinstance(error, ScantrustError) and not isinstance(error, TaskFailed) else None
        path = report.rejects["path"] if report.rejects else None
        push_failure(context, error, permanent=ours is not None and ours.permanent, rejects_path=path)
        # Without a mode, nothing is known yet, not even how many rows there are.
        if report.mode:
            summary = report.summary(now=time.time())
            if not report.is_complete:
                # Calls without an answer may have updated codes, too, or matched none.
                summary["codes_affected"] = summary["unmatched"]["count"] = None
            push_beside_error(context, "report", summary)
        if ours is not None:
            raise_for_airflow(ours)
        raise


def count_upload(stats: WorkerStats, report: Report) -> None:
    """Add an upload to Airflow's metrics."""
    stats.count("rows", report.rows, mode=report.mode)
    stats.count("rows_rejected", sum(report.rejected.values()), mode=report.mode)
    stats.count("keys_unmatched", report.unmatched, mode=report.mode)
    stats.count("codes_affected", report.codes_affected, mode=report.mode)


def _number(thing: Any, name: str, otherwise: int = 0) -> int:
    """Return a number that Airflow keeps; another if there is none, as in a test's own context."""
    number = getattr(thing, name, None)
    return number if isinstance(number, int) else otherwise
