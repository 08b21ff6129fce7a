"""Run operators and sensors as a worker and a triggerer would, without a scheduler in between."""

from __future__ import annotations

import asyncio
import copy
import json
from collections.abc import Callable
from datetime import UTC, datetime
from typing import Any

from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk.exceptions import AirflowRescheduleException
from airflow.triggers.base import TriggerEvent

from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger


class TaskInstance:
    """What operators use of a task instance."""

    def __init__(self) -> None:
        self.xcoms: dict[str, Any] = {}
        self.started_at = datetime.now(UTC)
        self.try_number = 1

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def get_first_reschedule_date(self, context: Any) -> datetime:
        return self.started_at


def run(make: Callable[[], Any], *, most_steps: int = 200) -> tuple[Any, TaskInstance, list[str]]:
    """
    Run a task to its end and return its result, its task instance and the states it went through.

    Each leg gets a new operator object, and what goes to the triggerer and back goes as JSON, as in Airflow.
    """
    ti = TaskInstance()
    context: Any = {"ti": ti}
    states = []
    method, kwargs = "execute", None
    for _ in range(most_steps):
        task = copy.deepcopy(make())
        states.append("running")
        try:
            if method == "execute":
                return task.execute(context), ti, states
            return task.resume_execution(method, kwargs, context), ti, states
        except AirflowRescheduleException:
            states.append("up_for_reschedule")
        except TaskDeferred as deferred:
            states.append("deferred")
            _, arguments = deferred.trigger.serialize()
            trigger = ScantrustTaskTrigger(**json.loads(json.dumps(arguments)))
            event = asyncio.run(fire(trigger))
            method = deferred.method_name
            kwargs = {
                **json.loads(json.dumps(deferred.kwargs or {})),
                "event": json.loads(json.dumps(event.payload)),
            }
    raise AssertionError("the task does not end")


async def fire(trigger: ScantrustTaskTrigger) -> TriggerEvent:
    """Run a trigger until its first event."""
    async for event in trigger.run():
        return event
    raise AssertionError("the trigger ended without an event")


def bottles(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    """Return rows for seeded codes."""
    return [{"extended_id": f"SBX{number:08d}", **(fields or {"market": "FR"})} for number in numbers]
