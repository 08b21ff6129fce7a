"""The example Dags on a real Airflow, each on its sample data."""

from __future__ import annotations

import csv
from datetime import UTC, datetime
from pathlib import Path

from airflow_client import TaskInstance
from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow
from system_steps import CODES, SAMPLE_DATA

RUN = "sample_day"


def start_example(airflow: LocalAirflow, dag_id: str) -> None:
    """Run an example for the day of the sample data; its schedule's last full day before the logical date."""
    airflow.trigger(dag_id, logical_date=datetime(2026, 11, 2, 7, tzinfo=UTC), run_id=RUN)


def end_example(airflow: LocalAirflow, dag_id: str) -> list[TaskInstance]:
    assert "success" == airflow.wait_for_run(dag_id, RUN)
    return airflow.tasks(dag_id, RUN)


def run_example(airflow: LocalAirflow, dag_id: str) -> list[TaskInstance]:
    start_example(airflow, dag_id)
    return end_example(airflow, dag_id)


def test_sync_example_updates_every_bottle(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    run_example(airflow, "scantrust_sync_upload")
    report = airflow.xcom("scantrust_sync_upload", RUN, "upload")
    assert (
        "sync",
        360,
        360,
        1,
    ) == tuple(report[name] for name in ("mode", "rows", "codes_affected", "requests"))
    with (SAMPLE_DATA / "bottling-2026-11-01.csv").open(encoding="utf-8") as file:
        for row in csv.DictReader(file):
            code = sandbox.code(row["extended_id"])
            assert code is not None
            assert row["bottling_date"] == code["bottling_date"]
            assert row["case_id"] == code["case_id"]


def test_examples_with_jobs_update_every_lot(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    dags = ("scantrust_async_upload", "scantrust_upload_and_wait", "scantrust_mapped_uploads")
    for dag_id in dags:
        start_example(airflow, dag_id)
    *_, mapped = [end_example(airflow, dag_id) for dag_id in dags]

    (task_id,) = airflow.xcom(dags[0], RUN, "submit", key="task_ids")
    assert {"codes_affected": 150, "tasks": {task_id: 150}} == airflow.xcom(dags[0], RUN, "wait")
    (job,) = [job for job in sandbox.tasks() if job["id"] == task_id]
    assert {"market": "FR", "bottling_date": "2026-11-01"} == job["scm_data"]

    report = airflow.xcom(dags[1], RUN, "upload")
    assert ("async", 3, 360) == tuple(report[name] for name in ("mode", "rows", "codes_affected"))
    assert [150, 120, 90] == [sandbox.count(market=market) for market in ("FR", "DE", "JP")]

    assert [0, 1, 2] == [task.map_index for task in mapped if task.task_id == "submit"]
    result = airflow.xcom(dags[2], RUN, "wait")
    assert (360, 3) == (result["codes_affected"], len(result["tasks"]))


def test_file_example_uploads_from_object_storage_and_writes_rejects(
    airflow: LocalAirflow, sandbox: Sandbox, rejects: Path
) -> None:
    missing = CODES[7]
    sandbox.reset()
    sandbox.add_codes({"extended_id": code} for code in CODES if code != missing)
    run_example(airflow, "scantrust_file_upload")
    report = airflow.xcom("scantrust_file_upload", RUN, "upload")
    assert (360, 359, 1) == (report["rows"], report["codes_affected"], report["unmatched"]["count"])
    (row,) = csv.DictReader((rejects / "bottling-2026-11-01.csv").read_text("utf-8").splitlines())
    assert (missing, "unmatched", "9") == (row["extended_id"], row["rejected_kind"], row["rejected_line"])


def test_excel_example_uploads_the_columns_that_it_names(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    run_example(airflow, "scantrust_from_excel")
    report = airflow.xcom("scantrust_from_excel", RUN, "upload")
    assert (360, 360, {}) == (report["rows"], report["codes_affected"], report.get("rejected", {}))
    code = sandbox.code(CODES[0])
    assert code is not None
    assert ("2026-11-01", "2026", "CASE-2611-0001", "") == tuple(
        code[name] for name in ("bottling_date", "vintage", "case_id", "grape")
    )


def test_many_files_example_uploads_each_in_its_own_task(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    airflow.api("POST", "pools", {"name": "scantrust_uploads", "slots": 3})
    tasks = run_example(airflow, "scantrust_many_files")
    assert [0, 1, 2] == [task.map_index for task in tasks if task.task_id == "upload"]
    assert 360 == sandbox.count(bottling_date="2026-11-01")
