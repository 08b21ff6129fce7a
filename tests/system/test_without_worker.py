"""Waits that start and end in the triggerer."""

from __future__ import annotations

import time

import pytest
import requests

from airflow_client import ApiError, TaskInstance
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow, runs_task
from system_steps import CODES, wait_until

ENDED = {"success", "failed", "skipped", "up_for_retry"}


# It takes a minute, in which the tests before the one that needs it run.
@pytest.fixture(scope="module", autouse=True)
def hanging_run(airflow: LocalAirflow) -> str:
    return airflow.trigger("start_hanging_template")


def submit(sandbox: Sandbox, number: int = 1) -> list[str]:
    """Submit jobs for one code each, as somebody else would."""
    with requests.Session() as session:
        session.headers["Authorization"] = f"UAT {sandbox.token}"
        return [
            str(
                session.post(
                    f"{sandbox.url}/api/v2/scm/upload/async/",
                    json={"constraints": {"extended_id": [CODES[0]]}, "scm_data": {"market": "FR"}},
                    timeout=10,
                ).json()["task_id"]
            )
            for _ in range(number)
        ]


def end_of_task(airflow: LocalAirflow, dag_id: str, run_id: str) -> tuple[TaskInstance, str]:
    """Wait for the end of a run's task, and return it with its log."""
    task = airflow.wait_for_task(dag_id, run_id, "task", states=ENDED, timeout=90)
    return task, airflow.logs(dag_id, run_id, "task")


def run_task(airflow: LocalAirflow, dag_id: str, task_ids: list[str]) -> tuple[TaskInstance, str, str]:
    """Run a Dag and return the task's end, its log and the run's id."""
    run_id = airflow.trigger(dag_id, conf={"task_ids": task_ids})
    return *end_of_task(airflow, dag_id, run_id), run_id


def test_wait_that_succeeds_starts_no_worker(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.jobs(polls=5)
    (task_id,) = submit(sandbox)
    run_id = airflow.trigger("start_and_end", conf={"task_ids": [task_id]})
    seen = 0
    deadline = time.monotonic() + 90
    while (task := airflow.tasks("start_and_end", run_id)[0]).state not in ENDED:
        seen += any(runs_task(each, task.raw["id"]) for each in airflow.worker_processes())
        assert time.monotonic() < deadline
        # A worker takes longer than this to start.
        time.sleep(0.2)
    assert ("success", 1, None, None, 0) == (task.state, task.try_number, task.pid, task.hostname, seen)
    log = airflow.logs("start_and_end", run_id, "task")
    assert "The job is complete: 1 code affected." in log
    assert "::group::Pre Execute" not in log  # what a worker writes first
    expected = {"codes_affected": 1, "tasks": {task_id: 1}}
    assert expected == airflow.xcom("start_and_end", run_id, "task")


def test_either_end_can_be_on_a_worker(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.jobs(polls=3, times=2)
    ids = dict(zip(("start_there", "end_there"), submit(sandbox, 2), strict=True))
    runs = {dag_id: airflow.trigger(dag_id, conf={"task_ids": [task_id]}) for dag_id, task_id in ids.items()}
    for dag_id, run_id in runs.items():
        task, log = end_of_task(airflow, dag_id, run_id)
        assert ("success", 1) == (task.state, task.try_number)
        assert 1 == log.count("::group::Pre Execute")
        assert {"codes_affected": 1, "tasks": {ids[dag_id]: 1}} == airflow.xcom(dag_id, run_id, "task")


def test_unmapped_upstream_result_is_read_and_the_next_task_pulls_the_same(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    pulled = []
    dags = ("ids_from_a_task_without_worker", "ids_from_a_task")
    sandbox.jobs(polls=2, times=2)
    runs = {dag_id: airflow.trigger(dag_id, conf={"task_ids": submit(sandbox)}) for dag_id in dags}
    for dag_id, run_id in runs.items():
        assert "success" == airflow.wait_for_run(dag_id, run_id)
        pulled.append(airflow.xcom(dag_id, run_id, "pull"))
        (task,) = (task for task in airflow.tasks(dag_id, run_id) if task.task_id == "task")
        assert (task.hostname is None) == (dag_id == "ids_from_a_task_without_worker")
    assert ["dict 1 1"] * 2 == pulled


def test_mapped_sensor_starts_on_a_worker_and_ends_without_one(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    sandbox.jobs(polls=3)
    run_id = airflow.trigger("mapped", conf={"task_ids": submit(sandbox)})
    assert "success" == airflow.wait_for_run("mapped", run_id)
    log = airflow.logs("mapped", run_id, "task", map_index=0)
    assert 1 == log.count("::group::Pre Execute")
    assert 1 == airflow.xcom("mapped", run_id, "task", map_index=0)["codes_affected"]


def test_failed_job_comes_back_to_a_worker_and_is_named(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.jobs(polls=3, fail=True)
    (task_id,) = submit(sandbox)
    task, log, run_id = run_task(airflow, "start_and_end", [task_id])
    assert ("failed", 1) == (task.state, task.try_number)
    assert f"TaskFailed: 1 of 1 job failed at Scantrust. Failed: (task_id {task_id}" in log
    with pytest.raises(ApiError):
        airflow.xcom("start_and_end", run_id, "task")


def test_what_may_pass_is_retried_from_the_triggerer(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.jobs(hang=True)
    task_ids = submit(sandbox)
    sandbox.fault(method="GET", path="/api/v2/scm/tasks/*", status=503, times=None)
    run_id = airflow.trigger("start_retries", conf={"task_ids": task_ids})
    task = airflow.wait_for_task("start_retries", run_id, "task", states={"failed"}, timeout=120)
    assert 2 == task.try_number
    for try_number in (1, 2):
        log = airflow.logs("start_retries", run_id, "task", try_number=try_number)
        assert "ServiceUnavailable" in log
        assert 1 == log.count("::group::Pre Execute")


def test_template_that_gets_no_answer_in_the_triggerer_fails_and_says_so(
    airflow: LocalAirflow, hanging_run: str
) -> None:
    task = airflow.wait_for_task("start_hanging_template", hanging_run, "task", states=ENDED, timeout=90)
    assert "failed" == task.state
    log = airflow.logs("start_hanging_template", hanging_run, "task")
    assert "A template got no answer in the triggerer" in log


def test_time_limits_hold_without_a_worker_and_over_a_restart(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    expected = {
        "start_and_end_short": ("failed", "AirflowSensorTimeout"),
        "start_and_end_execution_timeout": ("up_for_retry", "AirflowTaskTimeout"),
    }
    sandbox.jobs(hang=True)
    conf = {"task_ids": submit(sandbox)}
    runs = {dag_id: airflow.trigger(dag_id, conf=conf) for dag_id in expected}
    for dag_id, run_id in runs.items():
        airflow.wait_for_task(dag_id, run_id, "task", states={"deferred", *ENDED})
    airflow.kill("triggerer")
    airflow.start_part("triggerer")
    for dag_id, run_id in runs.items():
        state, error = expected[dag_id]
        task, log = end_of_task(airflow, dag_id, run_id)
        assert (state, 1) == (task.state, task.try_number), log
        assert error in log


def test_asset_of_a_sensor_is_still_told(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    task, _, run_id = run_task(airflow, "start_and_end_asset", submit(sandbox))
    assert "success" == task.state
    events = airflow.api("GET", "assets/events", params={"source_run_id": run_id})["asset_events"]
    assert ["scantrust_market"] == [event["name"] for event in events]


def test_callback_of_success_runs(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    task, _, run_id = run_task(airflow, "success_callback", submit(sandbox))
    assert "success" == task.state
    wait_until(lambda: "a callback that is broken" in airflow.logs("success_callback", run_id, "task"))


def test_clearing_and_failing_by_hand_say_that_the_job_goes_on(
    airflow: LocalAirflow, sandbox: Sandbox
) -> None:
    sandbox.jobs(hang=True)
    (task_id,) = submit(sandbox)
    run_id = airflow.trigger("start_and_end", conf={"task_ids": [task_id]})
    said = f"was stopped. Scantrust has no call that cancels a job, so this job continues: {task_id}"
    for number, act in enumerate(("clear", "fail"), start=1):
        deadline = time.monotonic() + 60
        while "in-progress" not in airflow_log(airflow, run_id, number):
            assert time.monotonic() < deadline
            time.sleep(0.5)
        if act == "clear":
            airflow.clear("start_and_end", run_id, ["task"])
        else:
            airflow.set_state("start_and_end", run_id, "task", "failed")
        while said not in airflow_log(airflow, run_id, number):
            assert time.monotonic() < deadline, airflow_log(airflow, run_id, number)
            time.sleep(0.5)


def airflow_log(airflow: LocalAirflow, run_id: str, try_number: int) -> str:
    try:
        return airflow.logs("start_and_end", run_id, "task", try_number=try_number)
    except ApiError:
        return ""
