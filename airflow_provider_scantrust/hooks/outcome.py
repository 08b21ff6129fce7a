"""
Turn this package's errors into Airflow's.

Rule: an error that a retry cannot fix becomes ``AirflowFailException`` (or ``AirflowSensorTimeout``), so
that Airflow does not retry; a temporary error is raised unchanged. Deferred and other tasks use the same
function.
"""

from __future__ import annotations

import re
from contextlib import suppress
from typing import TYPE_CHECKING, Any, NoReturn

from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout

from airflow_provider_scantrust.api.texts import one_line
from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed, WaitTimedOut

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

_LONGEST_MESSAGE = 300


def raise_for_airflow(error: ScantrustError) -> NoReturn:
    if isinstance(error, WaitTimedOut):
        raise AirflowSensorTimeout(str(error)) from None
    if error.permanent:
        raise AirflowFailException(f"{type(error).__name__}: {error}") from None
    # An exception must not be its own cause: loggers that follow causes would loop forever.
    raise error from error.__cause__


def push_failure(
    context: Context, error: BaseException, *, permanent: bool, rejects_path: str | None = None
) -> None:
    """
    Push the XCom ``failure``: why this try failed, in one sentence, and where its rejects are.

    Push ``failed_jobs``, too, for tasks that handle failed jobs: a failed task has no return value.
    """
    if isinstance(error, TaskFailed) and error.failed_jobs:
        push_beside_error(context, "failed_jobs", error.failed_jobs)
    first = re.split(r"(?<=[.!?])\s", one_line(str(error), _LONGEST_MESSAGE), maxsplit=1)[0]
    number = getattr(context.get("ti"), "try_number", None)
    failure = {
        "error": type(error).__name__,
        "message": first,
        "try_number": number if isinstance(number, int) else 0,
        "permanent": permanent,
        **({"rejects_path": rejects_path} if rejects_path else {}),
    }
    push_beside_error(context, "failure", failure)


def push_beside_error(context: Context, key: str, value: Any) -> None:
    """Push an XCom of a task that fails; an error in this push must not hide the task's error."""
    # In a test of a Dag, the context may have no task instance.
    if (ti := context.get("ti")) is not None:
        with suppress(Exception):
            ti.xcom_push(key=key, value=value)
