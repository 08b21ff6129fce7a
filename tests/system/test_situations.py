"""Situations of public bug reports about deferrable operators, on a real Airflow; the Dags say what each is about."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from airflow_client import TaskInstance
from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT
from local_airflow import LocalAirflow
from system_steps import CODES

Run = Callable[[str], list[TaskInstance]]
DAGS = {
    "native_rendering": "success",
    "short_deferrals": "success",
    "mapped_group": "success",
    "callback_raises": "success",
    "upstream_is_skipped": "failed",
    "setup_and_teardown": "success",
    "no_xcom": "success",
    "operator_in_a_task": "success",
    "empty_map": "success",
    "one_slot": "success",
    "asset_by_name": "success",
}
MANY = 4


def codes_of(dag_id: str) -> list[str]:
    """Return the codes that a Dag updates; no two update the same."""
    start = MANY * list(DAGS).index(dag_id)
    return CODES[start : start + MANY]


@pytest.fixture(scope="module")
def airflow(airflow_with_openlineage: LocalAirflow) -> LocalAirflow:
    return airflow_with_openlineage


@pytest.fixture(scope="module", autouse=True)
def runs(airflow: LocalAirflow, running_sandbox: Sandbox) -> None:
    """Start all Dags at once, since most of their time is waiting."""
    running_sandbox.reset()
    running_sandbox.seed_csv(ROOT / "dags_examples" / "sample_data" / "codes.csv")
    airflow.api("POST", "pools", {"name": "one_slot", "slots": 1, "include_deferred": True})
    for dag_id in DAGS:
        many = [[{"extended_id": code, "market": f"M{place}"}] for place, code in enumerate(codes_of(dag_id))]
        if dag_id == "one_slot":
            many = many[:2]
        airflow.trigger(dag_id, conf={"many": many, "nothing": []}, run_id="situation")


@pytest.fixture
def run(airflow: LocalAirflow) -> Run:
    """Wait for the end of a Dag's run, and return its tasks."""

    def wait(dag_id: str) -> list[TaskInstance]:
        assert DAGS[dag_id] == airflow.wait_for_run(dag_id, "situation")
        return airflow.tasks(dag_id, "situation")

    return wait


def markets(sandbox: Sandbox, dag_id: str, number: int) -> list[str]:
    """Return what stands on the first codes of a Dag."""
    found = [sandbox.code(code) for code in codes_of(dag_id)[:number]]
    return [str(code and code["market"]) for code in found]


def test_very_short_deferrals_all_end_well(airflow: LocalAirflow, running_sandbox: Sandbox, run: Run) -> None:
    uploads = [each for each in run("short_deferrals") if each.task_id == "upload"]
    assert ["success"] * MANY == [each.state for each in uploads]
    codes = set(codes_of("short_deferrals"))
    jobs = [job for job in running_sandbox.tasks() if codes.issuperset(job["constraints"]["extended_id"])]
    assert MANY == len(jobs), "a retry submits nothing again"
    reports = airflow.xcom("short_deferrals", "situation", "look_at")
    assert [1] * MANY == [report["codes_affected"] for report in reports]
    assert [f"M{number}" for number in range(MANY)] == markets(running_sandbox, "short_deferrals", MANY)


def test_each_sensor_of_a_mapped_group_waits_for_the_upload_of_its_own_group(
    airflow: LocalAirflow, run: Run
) -> None:
    run("mapped_group")
    for number in range(MANY):
        ids = airflow.xcom("mapped_group", "situation", "market.upload", map_index=number)["task_ids"]
        waited = airflow.xcom("mapped_group", "situation", "market.sensor", map_index=number)
        assert dict.fromkeys(ids, 1) == waited["tasks"]


def test_callback_that_raises_changes_nothing(
    airflow: LocalAirflow, running_sandbox: Sandbox, run: Run
) -> None:
    (upload,) = run("callback_raises")
    assert ("success", 1) == (upload.state, upload.try_number)
    assert ["M0"] == markets(running_sandbox, "callback_raises", 1)
    assert "a callback that is broken" in airflow.logs("callback_raises", "situation", "upload")


def test_rows_of_a_skipped_task_fail_without_a_retry_and_are_named(airflow: LocalAirflow, run: Run) -> None:
    states = {each.task_id: (each.state, each.try_number) for each in run("upstream_is_skipped")}
    assert {"skip": ("skipped", 1), "upload": ("failed", 1)} == states
    assert "skip" in airflow.logs("upstream_is_skipped", "situation", "upload")


def test_wait_can_be_the_teardown_of_its_upload(airflow: LocalAirflow, run: Run) -> None:
    assert {"success"} == {each.state for each in run("setup_and_teardown")}
    assert 1 == airflow.xcom("setup_and_teardown", "situation", "sensor")["codes_affected"]


def test_native_rendering_leaves_plain_text_alone(running_sandbox: Sandbox, run: Run) -> None:
    run("native_rendering")
    assert ["1_000", "+41", "1e5"] == markets(running_sandbox, "native_rendering", 3)


def test_upload_without_xcom_defers_and_ends(running_sandbox: Sandbox, run: Run) -> None:
    (upload,) = run("no_xcom")
    assert (1, ["M0"]) == (upload.try_number, markets(running_sandbox, "no_xcom", 1))


def test_operator_in_the_code_of_another_task_waits_there(
    airflow: LocalAirflow, running_sandbox: Sandbox, run: Run
) -> None:
    (task,) = run("operator_in_a_task")
    assert 1 == task.try_number
    assert [1, 1] == airflow.xcom("operator_in_a_task", "situation", "call_operators")
    assert ["M0", "M1"] == markets(running_sandbox, "operator_in_a_task", 2)
    assert "The wait stays on the worker" in airflow.logs("operator_in_a_task", "situation", "call_operators")


def test_behind_an_empty_map_there_is_nothing_to_do_and_nothing_fails(
    airflow: LocalAirflow, run: Run
) -> None:
    states = {each.task_id: each.state for each in run("empty_map")}
    assert {"give": "success", "mapped": "skipped", "upload": "success", "sensor": "success"} == states
    report = airflow.xcom("empty_map", "situation", "upload")
    assert (0, 0) == (report["rows"], report["requests"])
    assert {} == airflow.xcom("empty_map", "situation", "sensor")["tasks"]


def test_uploads_in_a_pool_that_counts_deferred_tasks_take_turns(
    airflow: LocalAirflow, running_sandbox: Sandbox, run: Run
) -> None:
    tasks = [each for each in run("one_slot") if each.task_id == "upload"]
    assert [("success", 1)] * 2 == [(each.state, each.try_number) for each in tasks]
    assert ["M0", "M1"] == markets(running_sandbox, "one_slot", 2)


def test_outlet_that_is_given_by_its_name_gets_the_report_and_no_event_of_a_dry_run(
    airflow: LocalAirflow, run: Run
) -> None:
    run("asset_by_name")
    events = airflow.api("GET", "assets/events", params={"source_dag_id": "asset_by_name"})["asset_events"]
    assert [("upload", 1)] == [
        (event["source_task_id"], event["extra"]["codes_affected"]) for event in events
    ]
