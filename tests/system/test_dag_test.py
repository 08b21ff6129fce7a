"""``dag.test()`` in a test file needs what docs/sandbox.md says: a database and a Dag folder."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from doc_blocks import ROOT

DAG = """
from airflow.sdk import DAG

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

with DAG("bottling", schedule=None) as dag:
    ScantrustUploadOperator(task_id="upload", items=[{"extended_id": "SBX00000001", "market": "FR"}])
"""
TEST = """
from airflow_provider_scantrust.sandbox import Sandbox
from bottling import dag


def test_bottling(monkeypatch):
    with Sandbox(seed=10) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", sandbox.connection_uri)
        assert dag.test().state == "success"
        assert sandbox.code("SBX00000001")["market"] == "FR"
"""


def test_dag_test_works_with_a_database_and_a_dag_folder(tmp_path: Path) -> None:
    dags = tmp_path / "dags"
    dags.mkdir()
    (dags / "bottling.py").write_text(DAG, encoding="utf-8")
    (tmp_path / "test_bottling.py").write_text(TEST, encoding="utf-8")
    env = {name: value for name, value in os.environ.items() if not name.startswith("AIRFLOW_")}
    env |= {
        "AIRFLOW_HOME": str(tmp_path / "home"),
        "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
        "AIRFLOW__CORE__DAGS_FOLDER": str(dags),
        "PYTHONPATH": f"{dags}:{ROOT}",
    }

    def run(*command: str) -> str:
        ran = subprocess.run(
            [sys.executable, "-m", *command], cwd=tmp_path, env=env, capture_output=True, text=True
        )
        return ran.stdout

    run("airflow", "db", "migrate")
    said = run("pytest", "-q")
    assert "1 passed in" in said, said
