"""What the system tests share."""

from __future__ import annotations

import csv
import os
import signal
import time
from collections.abc import Callable

import requests

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT
from local_airflow import LocalAirflow, runs_task

SAMPLE_DATA = ROOT / "dags_examples" / "sample_data"
# The extended_ids of the sample data.
CODES = [
    row["extended_id"] for row in csv.DictReader((SAMPLE_DATA / "codes.csv").read_text("utf-8").splitlines())
]
# Settings: no Dag file changes while tests run, and to parse all of them twice a minute takes a tenth of two
# cores.
DAGS_STAY = {"dag_processor.min_file_process_interval": "300", "dag_processor.refresh_interval": "30"}
# OpenLineage's events, in AIRFLOW_HOME.
EVENTS = "events.jsonl"


def submit(sandbox: Sandbox) -> list[str]:
    """Submit a job as somebody else would."""
    answer = requests.post(
        f"{sandbox.url}/api/v2/scm/upload/async/",
        json={"constraints": {"lot_number": "L-2611-01"}, "scm_data": {"market": "FR"}},
        headers={"Authorization": f"UAT {sandbox.token}"},
        timeout=10,
    )
    return [str(answer.json()["task_id"])]


def wait_until(condition: Callable[[], object], seconds: float = 30) -> None:
    """Wait for something that nothing announces."""
    deadline = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.4)


def kill_worker(airflow: LocalAirflow, dag_id: str, run_id: str) -> None:
    """Kill the process that runs the only task of a run."""
    (task,) = airflow.tasks(dag_id, run_id)
    (process,) = [each for each in airflow.worker_processes() if runs_task(each, task.raw["id"])]
    os.kill(process.pid, signal.SIGKILL)
