"""
The deferred path across an upgrade of this package: what another version has stored is run, fired and taken up by this one.

Rule: all that is stored today is in ``tests/contract/stored.json``, beside all that ever was. What a test
here misses there is a form that is new: add a case, never change one.
"""

from __future__ import annotations

import asyncio
import json
import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger
from airflow_provider_scantrust.triggers.start import has_start
from steps import CONTRACT
from tasks import Store, TaskInstance, bottles, fire

STORED = (CONTRACT / "stored.json").read_text(encoding="utf-8")
GOLDEN = json.loads(STORED)
TRIGGERS: dict[str, list[Any]] = GOLDEN["triggers"]
# Below these names, the names of what is stored are data.
KEYED_BY_DATA = {"codes_affected", "counts", "discarded", "fields", "jobs", "rejected"}


def submit(sandbox: Sandbox) -> dict[str, int]:
    """Submit a job of two codes and one of one; return task_id -> codes."""
    jobs = {}
    for codes in (["SBX00000001", "SBX00000002"], ["SBX00000003"]):
        operator = ScantrustUploadOperator(
            task_id="submit",
            constraints={"extended_id": codes},
            scm_data={"market": "FR"},
            wait_for_completion=False,
        )
        context: Any = {"ti": TaskInstance()}
        (task_id,) = operator.execute(context)["task_ids"]
        jobs[task_id] = len(codes)
    return jobs


def stored_now(jobs: dict[str, int]) -> Any:
    """Return the golden file, as it would be had these jobs just been deferred for."""
    text = STORED
    for stored, task_id in zip(GOLDEN["events"]["complete"]["codes_affected"], jobs, strict=True):
        text = text.replace(stored, task_id)
    stored = json.loads(text)
    for _, arguments in stored["triggers"].values():
        arguments["poll_interval"] = 0.05
        if arguments["deadline"] is not None:
            arguments["deadline"] = time.time() + 30
    return stored


def fire_stored(stored: Any, whose: str, ti: TaskInstance) -> Any:
    """Run a stored trigger as a triggerer would, and return its event as it comes back from the database."""
    trigger = ScantrustTaskTrigger(**stored["triggers"][whose][1])
    trigger.timeout_after = datetime.now(UTC) + timedelta(seconds=trigger.spare_seconds + 30)
    event = asyncio.run(fire(trigger, ti))
    return event if isinstance(event, TaskSuccessEvent) else json.loads(json.dumps(event.payload))


@pytest.fixture(autouse=True)
def other_connection(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AIRFLOW_CONN_OTHER", sandbox.connection_json)


@pytest.mark.parametrize("whose", [each for each in TRIGGERS if each.startswith("operator")])
@pytest.mark.parametrize("number", range(len(GOLDEN["next_kwargs"]["operator"])))
def test_stored_wait_of_an_upload_is_taken_up(sandbox: Sandbox, whose: str, number: int) -> None:
    jobs = submit(sandbox)
    stored = stored_now(jobs)
    ti = TaskInstance()
    ti.xcoms |= stored["xcoms"]
    kwargs = stored["next_kwargs"]["operator"][number]
    event = fire_stored(stored, whose, ti)
    operator = ScantrustUploadOperator(task_id="upload", items=[])
    context: Any = {"ti": ti, "task_state_store": Store()}
    report = operator.resume_execution("execute_complete", {**kwargs, "event": event}, context)
    before = kwargs["report"] or stored["xcoms"]["report_so_far"]
    assert before["codes_affected"] + 3 == report["codes_affected"]
    assert (list(jobs), before["rows"]) == (report["task_ids"], report["rows"])


@pytest.mark.parametrize("whose", [each for each in TRIGGERS if each.startswith("sensor")])
def test_stored_wait_of_a_sensor_is_taken_up(sandbox: Sandbox, whose: str) -> None:
    jobs = submit(sandbox)
    stored = stored_now(jobs)
    arguments = stored["triggers"][whose][1]
    if arguments.get("end_from_trigger") and not has_start():
        pytest.skip("no Airflow before 3.3 has stored it")
    ti = TaskInstance()
    event = fire_stored(stored, whose, ti)
    if isinstance(event, TaskSuccessEvent):
        assert arguments["end_from_trigger"]
        result = ti.xcoms.get("return_value")
        assert arguments["do_xcom_push"] == (result is not None)
    else:
        sensor = ScantrustTaskSensor(task_id="wait", scantrust_task_id=list(jobs))
        context: Any = {"ti": ti}
        kwargs = {**stored["next_kwargs"]["sensor"], "event": event}
        result = sensor.resume_execution("execute_complete", kwargs, context)
    waited_for = arguments["task_ids"] or arguments["scantrust_task_id"]
    waited_for = [waited_for] if isinstance(waited_for, str) else waited_for
    expected = {task_id: codes for task_id, codes in jobs.items() if task_id in waited_for}
    assert result in (None, {"codes_affected": sum(expected.values()), "tasks": expected})


def forms(value: Any, path: str) -> set[str]:
    """Return every place in a stored value with what kind of thing is there."""
    found = {f"{path}: {_kind(value)}"}
    if isinstance(value, dict):
        by_data = path.rpartition(".")[2] in KEYED_BY_DATA
        for name, each in value.items():
            found |= forms(each, f"{path}.{'*' if by_data else name}")
    elif isinstance(value, list):
        # Of a list of different kinds, the place says what is meant.
        is_tuple = len({_kind(each) for each in value}) > 1
        for place, each in enumerate(value):
            found |= forms(each, f"{path}[{place if is_tuple else ''}]")
    return found


def _kind(value: Any) -> str:
    return "number" if type(value) in (int, float) else type(value).__name__


def golden_forms() -> set[str]:
    found = set()
    for _, arguments in TRIGGERS.values():
        found |= forms(arguments, "trigger")
    for kwargs in [*GOLDEN["next_kwargs"]["operator"], GOLDEN["next_kwargs"]["sensor"]]:
        found |= forms(kwargs, "next_kwargs")
    for event in GOLDEN["events"].values():
        found |= forms(event, "event")
    for stored in GOLDEN["task_state_store"]:
        found |= forms(stored["value"], "task_state_store")
    for value in GOLDEN["today"]["task_state_store"]:
        found |= forms(value, "task_state_store")
    for kwargs in GOLDEN["today"]["next_kwargs"]:
        found |= forms(kwargs, "next_kwargs")
    return found | xcom_forms(GOLDEN["xcoms"])


def xcom_forms(xcoms: dict[str, Any]) -> set[str]:
    """Return the forms of the XComs that are read again; the report is the same as with a deferred task."""
    paths = {"task_ids": "xcom", "report_so_far": "next_kwargs.report"}
    return {form for key in paths.keys() & xcoms.keys() for form in forms(xcoms[key], paths[key])}


def stored_today(task: Any) -> set[str]:
    """Run a task to its end and return the forms of all that is stored for it on the way."""
    ti, store = TaskInstance(), Store()
    context: Any = {"ti": ti, "task_state_store": store}
    found: set[str] = set()
    if task.start_from_trigger:
        start = task.start_trigger_args
        trigger, kwargs = ScantrustTaskTrigger(**start.trigger_kwargs), start.next_kwargs
        trigger.timeout_after = datetime.now(UTC) + start.timeout
    else:
        with pytest.raises(TaskDeferred) as deferred:
            task.execute(context)
        trigger, kwargs = deferred.value.trigger, deferred.value.kwargs
    found |= forms(trigger.serialize()[1], "trigger") | forms(kwargs, "next_kwargs")
    event = asyncio.run(fire(trigger, ti))
    if not isinstance(event, TaskSuccessEvent):
        found |= forms(event.payload, "event")
        if event.payload["status"] == "complete":
            task.resume_execution("execute_complete", {**kwargs, "event": event.payload}, context)
    for value in store.seen:
        found |= forms(value, "task_state_store")
    return found | xcom_forms(ti.xcoms)


ITEMS = [*bottles(1, 2), *bottles(3, market="DE"), *bottles(99)]
BAD = {"extended_id": "SBX00000004", "activation_status": 7}
ONCE: dict[str, Any] = {"task_id": "task", "poll_interval": 0.05}
WAIT: dict[str, Any] = {"task_id": "task", "poke_interval": 0.05, "timeout": 60}
NO_WORKER: dict[str, Any] = {"start_from_trigger": True, "end_from_trigger": True}
TODAY: dict[str, Any] = {
    "items": lambda jobs: ScantrustUploadOperator(items=ITEMS, mode="async", **ONCE),
    "source": lambda jobs: ScantrustUploadOperator(source=[*ITEMS, BAD], mode="async", **ONCE),
    "lot": lambda jobs: ScantrustUploadOperator(
        constraints={"lot_number": "L-000001"}, scm_data={"market": "FR", "nobodys": "1"}, **ONCE
    ),
    "sensor": lambda jobs: ScantrustTaskSensor(scantrust_task_id=jobs, **WAIT),
    "sensor that asks less and less often": lambda jobs: ScantrustTaskSensor(
        scantrust_task_id=jobs, exponential_backoff=True, **WAIT
    ),
    "sensor without a worker": lambda jobs: ScantrustTaskSensor(scantrust_task_id=jobs, **NO_WORKER, **WAIT),
    "sensor on one id without a worker": lambda jobs: ScantrustTaskSensor(
        scantrust_task_id=jobs[0], start_from_trigger=True, **WAIT
    ),
}


@pytest.mark.parametrize("row", ["large row", "small row"])
@pytest.mark.parametrize("end", ["complete", "failed"])
@pytest.mark.parametrize("what", TODAY)
def test_all_that_is_stored_today_is_in_the_golden_file(
    sandbox: Sandbox, what: str, end: str, row: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if row == "small row":
        monkeypatch.setattr("airflow_provider_scantrust.triggers.deferral.ROW_BYTES", 20)
    # Each has ended when it is asked for the second time: not before the task has deferred.
    sandbox.jobs(times=None, polls=2, fail=end == "failed")
    found = stored_today(TODAY[what](list(submit(sandbox))))
    assert set() == found - golden_forms()
