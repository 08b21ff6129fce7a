"""Run operators and sensors as a worker and a triggerer would, without a scheduler in between."""

from __future__ import annotations

import asyncio
import copy
import importlib
import json
import time
from collections.abc import Callable, Mapping
from contextvars import ContextVar
from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any
from unittest import mock

from airflow import __version__ as release
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import TaskSuccessEvent, TriggerEvent

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.triggers import scantrust as triggers
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger
from stores import Died as Died
from stores import Store as Store

try:
    from airflow.sdk.exceptions import AirflowRescheduleException as AirflowRescheduleException
except ImportError:
    from airflow.exceptions import AirflowRescheduleException as AirflowRescheduleException

# There is no scheduler here that an early event could confuse.
FIRST_EVENT, triggers.FIRST_EVENT = triggers.FIRST_EVENT, 0.0
AIRFLOW_2 = release.startswith("2.")


class TaskInstance:
    """What operators use of a task instance."""

    def __init__(self, task: Any = None, try_number: int = 1) -> None:
        self.xcoms: dict[str, Any] = {}
        self.started_at = datetime.now(UTC)
        self.try_number = try_number
        self.id: str | None = None
        self.task = task or SimpleNamespace(retries=2)
        self.max_tries = self.task.retries
        self.dag_id, self.run_id, self.task_id, self.map_index = "dag", "run", "task", -1
        if AIRFLOW_2:
            self.max_tries = 0
        else:
            self.get_first_reschedule_date = lambda context: self.started_at

    def xcom_push(self, key: str, value: Any) -> None:
        self.xcoms[key] = json.loads(json.dumps(value))

    def xcom_pull(self, *, task_ids: str, key: str, map_indexes: int) -> Any:
        assert (self.task_id, self.map_index) == (task_ids, map_indexes)
        return self.xcoms.get(key)


class XCom:
    """What triggers use of Airflow's XCom: those of the task instance whose trigger runs here."""

    def get_one(self, *, key: str, **place: Any) -> Any:
        assert self._place == place
        return _deferred.get().xcoms.get(key)

    def set(self, key: str, value: Any, **place: Any) -> None:
        assert self._place == place
        _deferred.get().xcom_push(key, value)

    @property
    def _place(self) -> dict[str, Any]:
        names = ("dag_id", "run_id", "task_id", "map_index")
        return {name: getattr(_deferred.get(), name) for name in names}


_deferred: ContextVar[TaskInstance] = ContextVar("_deferred")
_XCOM = XCom()


def with_xcom() -> Any:
    """Let triggers see the XCom above; around tasks that run at once, or else the first end ends it for all."""
    return mock.patch("airflow.providers.common.compat.sdk.XCom", _XCOM, create=True)


def attempt(
    store: Store | None,
    payload: Mapping[str, Any] | None = None,
    try_number: int = 1,
    cleared: bool = False,
    **options: Any,
) -> dict[str, Any]:
    """
    Run one try of an upload that waits on the worker, and return its report.

    :param store: None before Airflow 3.3.
    :param payload: Arguments of the operator, which ``options`` may replace.
    """
    ti = TaskInstance()
    ti.try_number = try_number
    if cleared:
        ti.max_tries = try_number - 1 + ti.task.retries
    ti.id = f"try {try_number}"
    context: Any = {"ti": ti} if store is None else {"ti": ti, "task_state_store": store}
    options = {"deferrable": False, "poll_interval": 0.05, **(payload or {}), **options}
    return dict(ScantrustUploadOperator(task_id="upload", **options).execute(context))


def run(
    make: Callable[[], Any], *, most_steps: int = 200, ti: TaskInstance | None = None
) -> tuple[Any, TaskInstance, list[str]]:
    """
    Run a task to its end and return its result, its task instance and the states it went through.

    Each leg gets a new operator object, and what goes to the triggerer and back goes as JSON, as in Airflow.
    A task with ``start_from_trigger`` starts there; of one that ends there the result is what is stored.
    """
    ti = ti or TaskInstance()
    context: Any = {"ti": ti}
    if AIRFLOW_2:
        # It looks this up in its metadata database, which there is none of here.
        sensors: Any = importlib.import_module("airflow.sensors.base")
        sensors._orig_start_date = lambda **_: ti.started_at
        # It makes this only in the thread that imports it.
        importlib.import_module("airflow.models.baseoperator").ExecutorSafeguard._sentinel.callers = {}
    states = []
    method, kwargs = "execute", None
    task = make()
    if task.start_from_trigger:
        states.append("deferred")
        start = copy.deepcopy(task.start_trigger_args)
        trigger = ScantrustTaskTrigger(**_as_stored(start.trigger_kwargs))
        trigger.timeout_after = datetime.now(UTC) + start.timeout
        event = asyncio.run(fire(trigger, ti))
        if isinstance(event, TaskSuccessEvent):
            return ti.xcoms.get("return_value"), ti, states
        method, kwargs = start.next_method, {**start.next_kwargs, "event": _as_stored(event.payload)}
    for _ in range(most_steps):
        task = copy.deepcopy(make())
        states.append("running")
        try:
            if method == "execute":
                return task.execute(context), ti, states
            return task.resume_execution(method, kwargs, context), ti, states
        except AirflowRescheduleException as rescheduled:
            states.append("up_for_reschedule")
            time.sleep(max(0.0, (rescheduled.reschedule_date - datetime.now(UTC)).total_seconds()))
        except TaskDeferred as deferred:
            states.append("deferred")
            _, arguments = deferred.trigger.serialize()
            event = asyncio.run(fire(ScantrustTaskTrigger(**_as_stored(arguments)), ti))
            if isinstance(event, TaskSuccessEvent):
                return ti.xcoms.get("return_value"), ti, states
            method = deferred.method_name
            kwargs = {**_as_stored(deferred.kwargs or {}), "event": _as_stored(event.payload)}
    raise AssertionError("the task does not end")


def _as_stored(value: Any) -> Any:
    return json.loads(json.dumps(value))


async def fire(trigger: ScantrustTaskTrigger, ti: TaskInstance | None = None) -> TriggerEvent:
    """Run a trigger until its first event."""
    ti = ti or TaskInstance()
    trigger._task_instance = ti
    _deferred.set(ti)
    with with_xcom():
        async for event in trigger.run():
            return event
    raise AssertionError("the trigger ended without an event")


def bottles(*numbers: int, **fields: Any) -> list[dict[str, Any]]:
    """Return rows for seeded codes."""
    return [{"extended_id": f"SBX{number:08d}", **(fields or {"market": "FR"})} for number in numbers]
