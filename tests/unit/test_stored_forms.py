"""
What a release has stored, its successors must read: ``tests/contract/stored.json`` outlives changes of the code.

Rule: forms are only ever added to that file. A task that was deferred by one version is taken up by another.
"""

from __future__ import annotations

import importlib
import inspect
import json
import logging
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout, AirflowTaskTimeout

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.operators.resume import STORE_KEY, Progress, forget_jobs
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.waits.outcome import Outcome
from steps import CONTRACT
from tasks import Store, TaskInstance

STORED = json.loads((CONTRACT / "stored.json").read_text(encoding="utf-8"))
EVENTS = STORED["events"]
FIRST, SECOND = EVENTS["complete"]["codes_affected"]


def resume(event: str, kwargs: dict[str, Any] | None = None, store: Store | None = None) -> Any:
    """Take up an operator that another version has deferred."""
    operator = ScantrustUploadOperator(task_id="upload", items=[])
    kwargs = kwargs or STORED["next_kwargs"]["operator"][0]
    ti = TaskInstance()
    ti.xcoms |= STORED["xcoms"]
    context: Any = {"ti": ti, "task_state_store": store}
    return operator.resume_execution("execute_complete", {**kwargs, "event": EVENTS[event]}, context)


def resume_sensor(event: str) -> Any:
    sensor = ScantrustTaskSensor(task_id="wait", scantrust_task_id=[FIRST, SECOND])
    kwargs = {**STORED["next_kwargs"]["sensor"], "event": EVENTS[event]}
    context: Any = {"ti": TaskInstance()}
    return sensor.resume_execution("execute_complete", kwargs, context)


@pytest.mark.parametrize("whose", STORED["triggers"])
def test_stored_trigger_is_made_again_with_all_that_it_was_told(whose: str) -> None:
    path, arguments = STORED["triggers"][whose]
    module, _, name = path.rpartition(".")
    trigger = getattr(importlib.import_module(module), name)(**arguments)
    path_now, arguments_now = trigger.serialize()
    assert path == path_now
    assert arguments == {name: arguments_now[name] for name in arguments}


@pytest.mark.parametrize("event", ["complete", "complete_in_all"])
@pytest.mark.parametrize("kwargs", STORED["next_kwargs"]["operator"])
def test_stored_end_of_a_wait_completes_the_upload(kwargs: dict[str, Any], event: str) -> None:
    report = resume(event, kwargs)
    before = kwargs["report"] or STORED["xcoms"]["report_so_far"]
    assert before["codes_affected"] + 3 == report["codes_affected"]
    for name in ("mode", "rows", "requests", "rejected"):
        assert before[name] == report[name]
    assert ([FIRST, SECOND], ["lot"]) == (report["task_ids"], report["discarded_fields"])
    assert {"count": 1, "examples": ["B"]} == report["unmatched"]


@pytest.mark.parametrize("event", ["complete_without_counts", "complete_in_all_without_counts"])
def test_stored_end_without_counts_adds_none(event: str) -> None:
    assert 1 == resume(event)["codes_affected"]


@pytest.mark.parametrize("event", ["complete", "complete_in_all"])
def test_stored_end_completes_the_sensor(event: str) -> None:
    assert {"codes_affected": 3, "tasks": {FIRST: 2, SECOND: 1}} == resume_sensor(event)


@pytest.mark.parametrize(
    ("event", "of_operator", "of_sensor"),
    [
        ("failed", exc.TaskFailed, AirflowFailException),
        ("failed_and_named", exc.TaskFailed, AirflowFailException),
        ("timed_out", AirflowSensorTimeout, AirflowTaskTimeout),
        ("no_connection", exc.ConnectionFailed, exc.ConnectionFailed),
        ("refused", AirflowFailException, AirflowFailException),
    ],
)
def test_stored_error_ends_the_task_as_it_should(event: str, of_operator: type, of_sensor: type) -> None:
    message = EVENTS[event]["error"]["message"]
    with pytest.raises(of_operator, match=message):
        resume(event)
    with pytest.raises(of_sensor, match=message):
        resume_sensor(event)


@pytest.mark.parametrize("stored", STORED["errors"], ids=lambda stored: stored["type"])
def test_stored_error_is_made_again_with_all_that_it_knew(stored: dict[str, Any]) -> None:
    error = exc.from_dict(stored)
    assert stored["type"] == type(error).__name__
    assert stored["permanent"] is error.permanent
    now = error.as_dict()
    assert {name: value for name, value in stored.items() if name != "permanent"} == {
        name: now[name] for name in stored if name != "permanent"
    }


def test_every_error_of_today_is_stored() -> None:
    today = {
        name
        for name, cls in vars(exc).items()
        if inspect.isclass(cls) and issubclass(cls, exc.ScantrustError)
    }
    assert today <= {stored["type"] for stored in STORED["errors"]}


@pytest.mark.parametrize("stored", STORED["task_state_store"])
def test_stored_progress_is_gone_on_from(stored: dict[str, Any]) -> None:
    assert STORE_KEY == stored["key"]
    value, entries = stored["value"], stored.get("entries", {})
    ti = TaskInstance()
    if "ended_in" in value:
        ti.max_tries, ti.task.retries = value["ended_in"]
    context: Any = {"ti": ti, "task_state_store": Store({stored["key"]: value, **entries})}
    progress = Progress(
        context, value["fingerprint"], jobs=4, max_in_flight=16, log=logging.getLogger(__name__)
    )
    assert {0, 1, 2, 5} == progress.done
    jobs = {task_id: job for entry in entries.values() for task_id, job in entry["jobs"].items()}
    assert ({**jobs, **value["report"]["jobs"]}, 7, 4) == (
        progress.report.jobs,
        progress.report.codes_affected,
        progress.report.requests,
    )
    # What was being submitted and has no id is not done: it is submitted, and said to be there twice perhaps. So is what
    # has left a job and is made again.
    twice = len(value.get("submitting", "") + value.get("left", ""))
    assert twice == progress.report.possibly_twice


@pytest.mark.parametrize("stored", STORED["task_state_store"])
@pytest.mark.parametrize("failed", [FIRST, SECOND])
def test_job_that_failed_is_taken_out_of_stored_progress(stored: dict[str, Any], failed: str) -> None:
    value, entries = stored["value"], stored.get("entries", {})
    context: Any = {"ti": TaskInstance(), "task_state_store": Store({stored["key"]: value, **entries})}
    jobs = {task_id: job for entry in entries.values() for task_id, job in entry["jobs"].items()}
    jobs |= value["report"]["jobs"]
    forget_jobs(context, {"failed": 1, "task_ids": [failed]})
    progress = Progress(
        context, value["fingerprint"], jobs=4, max_in_flight=16, log=logging.getLogger(__name__)
    )
    # Its call's number has to be known, and that nothing else became of this call.
    _, _, *number = jobs.get(failed, (0, ""))
    if number and str(number[0]) not in value.get("cut", ""):
        assert {0, 1, 2, 5} - {number[0]} == progress.done
        assert jobs.keys() - {failed} == progress.report.jobs.keys()
    else:
        assert (set(), {}) == (progress.done, progress.report.jobs)
    assert not progress.ended


@pytest.mark.parametrize("kwargs", STORED["next_kwargs"]["operator"])
def test_rows_of_a_stored_job_are_sent_again_when_its_call_is_known(kwargs: dict[str, Any]) -> None:
    report = Report.load(kwargs["report"] or STORED["xcoms"]["report_so_far"])
    numbers = {task_id: number[0] for task_id, (_, _, *number) in report.jobs.items() if number}
    assert numbers == report.short_jobs(Outcome.of({FIRST: 1, SECOND: 0}))


def test_what_is_stored_today_has_all_names_that_were_ever_stored() -> None:
    now = Report("sync", 0, 0.0).save()
    for kwargs in STORED["next_kwargs"]["operator"]:
        assert set(kwargs["report"] or {}) <= set(now)
