"""What operator and sensor pass to the triggerer, and how they read its event."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any, NamedTuple, NoReturn

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout, BaseOperator

from airflow_provider_scantrust.exceptions import WaitTimedOut
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event
from airflow_provider_scantrust.waits.outcome import Outcome

# Seconds after the trigger's deadline. Airflow's own defer timeout gives no reason, so it is only a backstop.
BACKSTOP = 300.0
# Airflow stores a trigger's arguments in a column that holds 65,535 bytes on MySQL. Some versions encrypt
# them, which makes them a third longer: 32 KB of ids become 44 KB.
ROW_BYTES = 32 * 1024
TASK_IDS_KEY = "task_ids"


class Deferral(NamedTuple):
    """
    The arguments of ``defer``.

    :param deadline_is: Which limit the trigger's deadline is: ``timeout`` or ``execution_timeout``.
    """

    trigger: ScantrustTaskTrigger
    deadline_is: str
    timeout: timedelta


def make_deferral(
    ti: Any,
    task_ids: Sequence[str],
    *,
    deadline: float,
    started: float,
    execution_timeout: timedelta | None,
    **options: Any,
) -> Deferral:
    """
    Return the arguments of ``defer``.

    ``execution_timeout`` becomes the trigger's deadline if it comes first, because Airflow 3 does not enforce
    it while a task is deferred. If there are too many ids for the trigger's row, they are in the XCom
    ``task_ids`` of this task, which Airflow does not clear when a deferred task continues.

    :param ti: The task instance.
    :param deadline: Seconds since the epoch at which the user's ``timeout`` has passed.
    :param started: Seconds since the epoch at which the task started.
    :param options: Further arguments of :class:`ScantrustTaskTrigger`.
    """
    deadline_is = "timeout"
    if execution_timeout is not None and started + execution_timeout.total_seconds() < deadline:
        deadline, deadline_is = started + execution_timeout.total_seconds(), "execution_timeout"
    if fits_a_row(task_ids):
        options["task_ids"] = list(task_ids)
    else:
        ti.xcom_push(key=TASK_IDS_KEY, value=list(task_ids))
        place = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        options["stored_at"] = {"key": TASK_IDS_KEY, **place}
    trigger = ScantrustTaskTrigger(deadline=deadline, **options)
    return Deferral(trigger, deadline_is, timedelta(seconds=max(0.0, deadline - time.time()) + BACKSTOP))


def can_resume(context: Any, log: Any) -> bool:
    """
    Whether Airflow can continue the task after a deferral.

    It cannot if the task is another operator's, whose code calls ``execute``: Airflow would look for
    ``execute_complete`` there.
    """
    task = getattr(context.get("ti"), "task", None)
    if not isinstance(task, BaseOperator) or hasattr(task, "execute_complete"):
        return True
    log.info(
        "The wait stays on the worker, because %s cannot continue after a deferral.", type(task).__name__
    )
    return False


def try_number_of(context: Any) -> int | None:
    number = getattr(context.get("ti"), "try_number", None)
    return number if isinstance(number, int) else None


def starts_over(context: Any, event: Any, try_number: int | None) -> bool:
    """
    Whether a task that continues after a deferral must start over: it is a retry, and the event is the last try's error.

    Airflow 3.0 to 3.1.0 continues a retry where the last try failed, with the event of that try. Newer ones
    start it with ``execute``. If the jobs have ended well, their event is as good as a new one.

    :param try_number: The try that was deferred, if it is known.
    """
    number = try_number_of(context)
    if number is None or try_number is None or number <= try_number:
        return False
    return isinstance(event, Mapping) and event.get("status") == "error"


def fits_a_row(value: Any) -> bool:
    """Whether a value is small enough to be stored in the row of a trigger, or with a deferred task."""
    return len(json.dumps(value)) <= ROW_BYTES


def read_end_of_wait(event: Any, deadline_is: str) -> Outcome:
    """
    Return the result of the wait.

    :raises AirflowTaskTimeout: The task's ``execution_timeout`` has passed.
    :raises ScantrustError: As for :func:`read_event`.
    """
    try:
        return read_event(event)
    except WaitTimedOut as error:
        if deadline_is != "execution_timeout":
            raise
        raise AirflowTaskTimeout(f"execution_timeout has passed. {error}") from error


def is_deferral_timeout(error: BaseException | None) -> bool:
    """
    Whether an error is Airflow's own timeout of a deferral, raised because the trigger sent no event.

    From 2.11 to 3.3, Airflow has no common public class for it, so this compares the name of the class.
    """
    return type(error).__name__ == "TaskDeferralTimeout"


def raise_deferral_timeout(
    error: BaseException, timeout: float, execution_timeout: timedelta | None
) -> NoReturn:
    """
    Raise the error of the shorter limit: Airflow does not tell which of the two has passed.

    :param error: An error for which :func:`is_deferral_timeout` is true.
    :raises AirflowTaskTimeout: ``execution_timeout`` is shorter.
    :raises AirflowSensorTimeout: ``timeout`` is shorter.
    """
    if execution_timeout is not None and execution_timeout.total_seconds() < timeout:
        raise AirflowTaskTimeout("execution_timeout has passed, and the triggerer sent no event.") from error
    raise AirflowSensorTimeout(*error.args) from error
