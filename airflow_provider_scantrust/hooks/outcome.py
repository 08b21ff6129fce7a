"""
The edge between this package's errors and Airflow's.

Rule: what a retry cannot mend becomes ``AirflowFailException`` (or ``AirflowSensorTimeout``), so that no retries are
used up; what it can mend is raised as it is, with its own type. Deferred or not, the same function decides.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed, WaitTimedOut

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context


def raise_for_airflow(error: ScantrustError) -> NoReturn:
    """Raise what ends a task that met this error."""
    raised = as_airflow_error(error)
    # An exception that is its own cause has no end for those who follow the causes.
    raise raised from error.__cause__ if raised is error else error


def as_airflow_error(error: ScantrustError) -> Exception:
    """Return the exception that :func:`raise_for_airflow` raises."""
    if isinstance(error, WaitTimedOut):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(f"{type(error).__name__}: {error}")
    return error


def push_failed_jobs(context: Context, error: ScantrustError) -> None:
    """Leave the XCom ``failed_jobs`` to whoever handles jobs that failed: a task that fails returns nothing."""
    # A context made by hand, as in the test of a Dag, may have no task instance to push it with.
    if isinstance(error, TaskFailed) and error.failed_jobs and (ti := context.get("ti")) is not None:
        ti.xcom_push(key="failed_jobs", value=error.failed_jobs)
