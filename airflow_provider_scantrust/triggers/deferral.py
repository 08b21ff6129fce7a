"""What operator and sensor hand to the triggerer, and what they make of its answer."""

from __future__ import annotations

import time
from collections.abc import Sequence
from datetime import timedelta
from typing import Any, NamedTuple

from airflow.providers.common.compat.sdk import AirflowTaskTimeout

from airflow_provider_scantrust.exceptions import WaitTimedOut
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event

# Airflow's own defer timeout ends a task without a word from the trigger; it is only a backstop.
_BACKSTOP = 300.0


class Deferral(NamedTuple):
    """
    The arguments of ``defer``.

    :param deadline_is: What has passed when the trigger's deadline has: ``timeout`` or ``execution_timeout``.
    """

    trigger: ScantrustTaskTrigger
    deadline_is: str
    timeout: timedelta


def make_deferral(
    task_ids: Sequence[str],
    *,
    deadline: float,
    started: float,
    execution_timeout: timedelta | None,
    **options: Any,
) -> Deferral:
    """
    Return what to defer with.

    ``execution_timeout`` becomes the trigger's deadline where it comes first: Airflow 3 does not enforce it while a task
    is deferred.

    :param deadline: Seconds since the epoch at which the user's ``timeout`` has passed.
    :param started: Seconds since the epoch at which the task has started.
    :param options: Further arguments of :class:`ScantrustTaskTrigger`.
    """
    deadline_is = "timeout"
    if execution_timeout is not None and started + execution_timeout.total_seconds() < deadline:
        deadline, deadline_is = started + execution_timeout.total_seconds(), "execution_timeout"
    trigger = ScantrustTaskTrigger(list(task_ids), deadline, **options)
    return Deferral(trigger, deadline_is, timedelta(seconds=max(0.0, deadline - time.time()) + _BACKSTOP))


def read_end_of_wait(event: Any, deadline_is: str) -> dict[str, int | None]:
    """
    Return the codes affected by each job.

    :raises AirflowTaskTimeout: The task's ``execution_timeout`` has passed.
    :raises ScantrustError: As :func:`read_event`.
    """
    try:
        return read_event(event)
    except WaitTimedOut as error:
        if deadline_is != "execution_timeout":
            raise
        raise AirflowTaskTimeout(f"execution_timeout has passed. {error}") from error
