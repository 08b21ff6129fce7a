"""
The edge between this package's errors and Airflow's.

Rule: what a retry cannot mend becomes ``AirflowFailException`` (or ``AirflowSensorTimeout``), so that no retries are
used up; what it can mend is raised as it is, with its own type. Deferred or not, the same function decides.
"""

from __future__ import annotations

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_scantrust.exceptions import ScantrustError, WaitTimedOut


def as_airflow_error(error: ScantrustError) -> Exception:
    """Return the exception to raise ``from error`` in a task."""
    if isinstance(error, WaitTimedOut):
        return AirflowSensorTimeout(str(error))
    if error.permanent:
        return AirflowFailException(f"{type(error).__name__}: {error}")
    return error
