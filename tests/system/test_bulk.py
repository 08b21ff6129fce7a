"""Uploading sources on a real Airflow, and killing the worker while it does."""

from __future__ import annotations

import csv
import os
import random
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from local_airflow import LocalAirflow
from system_steps import kill_worker

# More kills show more, and take half a minute each.
KILLS = int(os.environ.get("KILLS", "1"))
ROWS = 100_000
CALLS = 101
MAX_IN_FLIGHT = 16


@pytest.fixture(scope="module")
def airflow(airflow_with_openlineage: LocalAirflow) -> LocalAirflow:
    return airflow_with_openlineage


def test_decorated_function_uploads_what_it_yields(airflow: LocalAirflow, sandbox: Sandbox) -> None:
    sandbox.reset()
    sandbox.seed(3)
    conf = {"extended_ids": "SBX00000001,SBX00000002,SBX00000003"}
    run_id = airflow.trigger("upload_yielded_rows", conf=conf)
    assert "success" == airflow.wait_for_run("upload_yielded_rows", run_id)
    assert 3 == airflow.xcom("upload_yielded_rows", run_id, "rows")["codes_affected"]
    assert 3 == sandbox.count(market="JP")


def test_killed_worker_loses_nothing_and_repeats_little(
    airflow: LocalAirflow,
    sandbox: Sandbox,
    tmp_path: Path,
    record_testsuite_property: Callable[[str, object], None],
) -> None:
    sandbox.reset()
    sandbox.seed(ROWS)
    chance = random.Random(4711)
    for kill in range(KILLS):
        sandbox.clear_transcript()
        source = tmp_path / f"bottles-{kill}.csv"
        with source.open("w", encoding="utf-8", newline="") as file:
            writer = csv.writer(file)
            writer.writerow(["extended_id", "market", "case_id"])
            writer.writerows(
                [f"SBX{number:08d}", f"K{kill}", f"C{kill}-{number}"] for number in range(1, ROWS + 1)
            )
        run_id = airflow.trigger("upload_source", conf={"source": str(source)})
        # Somewhere in the middle: by calls, which are ten a second.
        wait_for_calls(sandbox, chance.randint(1, CALLS - 10))
        kill_worker(airflow, "upload_source", run_id)
        assert "success" == airflow.wait_for_run("upload_source", run_id, timeout=180)
        report = airflow.xcom("upload_source", run_id, "task")
        sent = [
            entry for entry in sandbox.transcript() if entry["method"] == "POST" and entry["status"] != 429
        ]
        assert (ROWS, ROWS, CALLS) == (report["rows"], report["codes_affected"], report["requests"])
        assert ROWS == sandbox.count(market=f"K{kill}")
        assert CALLS <= len(sent) <= CALLS + MAX_IN_FLIGHT
        record_testsuite_property(f"sent twice after kill {kill + 1}", len(sent) - CALLS)


def wait_for_calls(sandbox: Sandbox, calls: int) -> None:
    deadline = time.monotonic() + 60
    while len(sandbox.transcript()) < calls:
        assert time.monotonic() < deadline, "the upload does not start"
        time.sleep(0.05)
