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
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.uploads.kept import STORE_KEY, Try, forget_jobs
from airflow_provider_scantrust.uploads.progress import Progress
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
def test_progress_of_the_last_release_starts_over_and_says_so(
    stored: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    assert STORE_KEY == stored["key"]
    value = stored["value"]
    store = Store({stored["key"]: value, **stored.get("entries", {})})
    this_try = Try(tuple(value.get("ended_in", (2, 2))), 2, "try 2")
    log = logging.getLogger(__name__)
    progress = Progress(store, this_try, account="a", options="o", max_in_flight=16, log=log)
    assert not progress.take_up(value["fingerprint"], range(4))
    assert (set(), {}) == (progress.done, progress.report.jobs)
    assert "made by another release of this package, so the upload starts over" in caplog.text
    assert progress.take_up_without_source() is None


@pytest.mark.parametrize("stored", STORED["task_state_store"])
def test_failed_job_of_the_last_release_is_forgotten_with_all_others(stored: dict[str, Any]) -> None:
    store = Store({stored["key"]: stored["value"], **stored.get("entries", {})})
    forget_jobs(store, {"failed": 1, "task_ids": [FIRST]}, logging.getLogger(__name__))
    assert STORE_KEY not in store


@pytest.mark.parametrize("kwargs", STORED["next_kwargs"]["operator"])
def test_rows_of_a_stored_job_are_found_when_its_call_is_known(kwargs: dict[str, Any]) -> None:
    report = Report.load(kwargs["report"] or STORED["xcoms"]["report_so_far"])
    keys, example, *number = report.jobs[SECOND]
    expected = {number[0]: [example]} if keys == 1 and number else {}
    assert expected == report.jobs_without_code(Outcome.of({FIRST: 1, SECOND: 0}))


def test_what_is_stored_today_has_all_names_that_were_ever_stored() -> None:
    now = Report("sync", 0, 0.0).save()
    for kwargs in STORED["next_kwargs"]["operator"]:
        assert set(kwargs["report"] or {}) <= set(now)
