"""Every Dag of README and docs, and every operator and sensor in them, on a real Airflow."""

from __future__ import annotations

import csv
import json
from collections.abc import Callable
from datetime import datetime
from functools import cache
from typing import Any

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT, indented_blocks, python_blocks
from documented import DAY
from local_airflow import LocalAirflow
from system_steps import submit

# Dag -> its last task, and the codes that it affects.
EXPECTED = {
    "bottling": ("upload", 2),
    "market": ("wait", 150),
    "first_upload": ("upload", 2),
    "update_campaign": ("upload", 3),
    "docs_scale_md_0": ("upload_line_7", 3),
    "docs_upload_a_file_md_0": ("upload", 5),
    "docs_upload_a_file_md_1": ("bottles", 3),
    "docs_upload_rows_md_0": ("upload", 2),
    "docs_upload_rows_md_1": ("bottles", 2),
    "docs_upload_rows_md_2": ("release_lot", 150),
    "docs_wait_md_0": ("wait", 150),
    "docs_wait_md_1": ("wait_without_worker", 150),
}
# In test_lineage_events.py, since an asset starts it.
ELSEWHERE = "after_the_update"
RUN = "documented"


@pytest.fixture(scope="module")
def run(airflow: LocalAirflow, running_sandbox: Sandbox) -> Callable[[str], dict[str, Any]]:
    """Run a Dag, once for all tests, and return what its last task did."""
    sandbox = running_sandbox
    sandbox.reset()
    sandbox.seed(2)
    with (ROOT / "dags_examples" / "sample_data" / "codes.csv").open(encoding="utf-8") as file:
        sandbox.add_codes({**row, "bottling_date": DAY} for row in csv.DictReader(file))
    sandbox.add_codes({"extended_id": f"WINE{number:08d}"} for number in range(1, 4))
    sandbox.jobs(polls=1, times=None)
    airflow.api("POST", "pools", {"name": "scantrust", "slots": 2})
    conf = {"task_ids": submit(sandbox)}
    day = datetime.fromisoformat(f"{DAY}T07:00Z")

    # One after the other: SQLite refuses a writer now and then when many tasks run.
    @cache
    def run(dag_id: str) -> dict[str, Any]:
        task_id, _ = EXPECTED[dag_id]
        airflow.trigger(dag_id, conf=conf, logical_date=day, run_id=RUN)
        assert "success" == airflow.wait_for_run(dag_id, RUN), airflow.logs(dag_id, RUN, task_id)
        result: dict[str, Any] = airflow.xcom(dag_id, RUN, task_id)
        return result

    return run


def test_each_dag_of_the_docs_is_run_here() -> None:
    dags = [dag_id for block in python_blocks() if block.kind in ("dag", "tasks") for dag_id in block.dag_ids]
    assert sorted([*EXPECTED, ELSEWHERE]) == sorted(dags)


@pytest.mark.parametrize("dag_id", EXPECTED)
def test_dag_of_the_docs_runs(run: Callable[[str], dict[str, Any]], dag_id: str) -> None:
    assert EXPECTED[dag_id][1] == run(dag_id)["codes_affected"]


def test_report_in_the_docs_is_the_one_of_its_dag(run: Callable[[str], dict[str, Any]]) -> None:
    pages = [ROOT / "docs" / "index.md"]
    (shown,) = [json.loads(text) for _, text in indented_blocks(pages) if text.startswith("{")]
    assert shown == {**run("first_upload"), "seconds": shown["seconds"]}


def test_row_that_did_not_arrive_is_where_the_docs_say(
    airflow: LocalAirflow, run: Callable[[str], dict[str, Any]]
) -> None:
    run("docs_upload_a_file_md_0")
    (row,) = csv.DictReader(
        (airflow.home / "bottling" / "rejects" / f"{DAY}.csv").read_text("utf-8").splitlines()
    )
    assert ("NOWHERE", "unmatched") == (row["extended_id"], row["rejected_kind"])
