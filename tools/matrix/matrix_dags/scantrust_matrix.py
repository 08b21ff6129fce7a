"""One job, submitted on a worker and waited for in the triggerer: what every Airflow of the matrix must run."""

from __future__ import annotations

from datetime import datetime

from airflow.providers.common.compat.sdk import DAG, XComArg

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

with DAG("scantrust_matrix", schedule=None, start_date=datetime(2026, 1, 1), catchup=False):
    submit = ScantrustUploadOperator(
        task_id="submit",
        items=[{"extended_id": f"SBX{number:08}", "lot_number": "L-2026-11"} for number in range(1, 4)],
        mode="async",
        wait_for_completion=False,
    )
    ScantrustTaskSensor(
        task_id="wait",
        scantrust_task_id=XComArg(submit, key="task_ids"),
        poke_interval=1,
        timeout=120,
    )
