"""
The edge between this package's errors and Airflow's.

Rule: an error that a retry cannot fix becomes ``AirflowFailException`` (or ``AirflowSensorTimeout``), so that no retry is
used; a temporary error is raised as it is. Deferred or not, the same function decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed, WaitTimedOut

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def raise_for_airflow(error: ScantrustError) -> NoReturn:
    """Raise the exception that ends the task."""
    raised = as_airflow_error(error)
    # An exception that is its own cause would send loggers that follow causes into an endless loop.
    raise raised from error.__cause__ if raised is error else error


def as_airflow_error(error: ScantrustError) -> Exception:
    """Return the exception that :func:`raise_for_airflow` raises."""
    if isinstance(error, WaitTimedOut):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(f"{type(error).__name__}: {error}")
    return error


def push_failed_jobs(context: Context, error: ScantrustError) -> None:
    """Push the XCom ``failed_jobs`` for tasks that handle failed jobs: a task that fails returns nothing."""
    # A context made by hand, as in the test of a Dag, may have no task instance to push it with.
    if isinstance(error, TaskFailed) and error.failed_jobs and (ti := context.get("ti")) is not None:
        ti.xcom_push(key="failed_jobs", value=error.failed_jobs)
