"""What operator and sensor pass to the triggerer, and how they read its event."""

from __future__ import annotations

import json
import time
from collections.abc import Mapping, Sequence
from datetime import timedelta
from typing import Any

from airflow.providers.common.compat.sdk import AirflowSensorTimeout, AirflowTaskTimeout, BaseOperator

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger

# Seconds after the trigger's deadline. Airflow's own defer timeout gives no reason, so it is only a backstop.
BACKSTOP = 300.0
# Airflow stores a trigger's arguments in a column that holds 65,535 bytes on MySQL. Some versions encrypt
# them, which makes them a third longer: 32 KB of ids become 44 KB.
ROW_BYTES = 32 * 1024
TASK_IDS_KEY = "task_ids"


def defer_wait(
    task: BaseOperator,
    context: Any,
    task_ids: Sequence[str],
    *,
    deadline: float,
    started: float,
    kwargs: Mapping[str, Any] | None = None,
    **options: Any,
) -> None:
    """
    Defer a task until its jobs have ended; it continues in ``execute_complete``.

    ``execution_timeout`` becomes the trigger's deadline if it comes first, because Airflow 3 does not enforce
    it while a task is deferred. If there are too many ids for the trigger's row, they are in the XCom
    ``task_ids`` of this task, which Airflow does not clear when a deferred task continues.

    :param deadline: Seconds since the epoch at which the user's ``timeout`` has passed.
    :param started: Seconds since the epoch at which the task started.
    :param kwargs: Further arguments of ``execute_complete``.
    :param options: Further arguments of :class:`ScantrustTaskTrigger`.
    """
    task.log.info("Waiting in the triggerer for %s.", plural(len(task_ids), "job"))
    limit, deadline_is = task.execution_timeout, "timeout"
    if limit is not None and started + limit.total_seconds() < deadline:
        deadline, deadline_is = started + limit.total_seconds(), "execution_timeout"
    if fits_a_row(task_ids):
        options["task_ids"] = list(task_ids)
    else:
        ti = context["ti"]
        ti.xcom_push(key=TASK_IDS_KEY, value=list(task_ids))
        place = {name: getattr(ti, name) for name in ("dag_id", "run_id", "task_id", "map_index")}
        options["stored_at"] = {"key": TASK_IDS_KEY, **place}
    task.defer(
        trigger=ScantrustTaskTrigger(deadline=deadline, **options),
        method_name="execute_complete",
        kwargs={**(kwargs or {}), "deadline_is": deadline_is, "try_number": _try_number(context)},
        timeout=timedelta(seconds=max(0.0, deadline - time.time()) + BACKSTOP),
    )


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


def starts_over(context: Any, event: Any, try_number: int | None) -> bool:
    """
    Whether a task that continues after a deferral must start over: it is a retry, and the event is the last try's error.

    Airflow 3.0 to 3.1.0 continues a retry where the last try failed, with the event of that try. Newer ones
    start it with ``execute``. If the jobs have ended well, their event is as good as a new one.

    :param try_number: The try that was deferred, if it is known.
    """
    number = _try_number(context)
    if number is None or try_number is None or number <= try_number:
        return False
    return isinstance(event, Mapping) and event.get("status") == "error"


def fits_a_row(value: Any) -> bool:
    """Whether a value is small enough to be stored in the row of a trigger, or with a deferred task."""
    return len(json.dumps(value)) <= ROW_BYTES


def raise_limit(error: BaseException, timeout: float, execution_timeout: timedelta | None) -> bool:
    """
    Raise the error of the shorter limit if Airflow ended a deferral: it does not tell which limit has passed.

    It ends a deferral whose trigger sent no event. From 2.11 to 3.3, it has no common public class for this
    error, so this compares the name of the class. Return whether Airflow ended the deferral.

    :param error: An error of a task that continues; a sensor's own error has Airflow's as its cause.
    :raises AirflowTaskTimeout: ``execution_timeout`` is shorter.
    :raises AirflowSensorTimeout: ``timeout`` is shorter, and the error is Airflow's own.
    """
    ended: BaseException | None = error
    while ended is not None and type(ended).__name__ != "TaskDeferralTimeout":
        ended = ended.__cause__
    if ended is None:
        return False
    if execution_timeout is not None and execution_timeout.total_seconds() < timeout:
        raise AirflowTaskTimeout("execution_timeout has passed, and the triggerer sent no event.") from ended
    if ended is error:
        raise AirflowSensorTimeout(*error.args) from error
    return True


def _try_number(context: Any) -> int | None:
    number = getattr(context.get("ti"), "try_number", None)
    return number if isinstance(number, int) else None
