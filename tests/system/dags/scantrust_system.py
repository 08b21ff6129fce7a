"""DAGs of the system tests: what they upload or wait for comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

# A retry would come long after the test has looked.
PATIENT = {"retries": 2, "retry_delay": timedelta(hours=1)}
IMPATIENT = timedelta(seconds=6)

WAITS: dict[str, dict[str, Any]] = {
    "wait_deferred": {"poke_interval": 1},
    "wait_poke": {"deferrable": False, "poke_interval": 1},
    "wait_reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 6},
    "wait_deferred_short": {"timeout": 3, "poke_interval": 1},
    "wait_deferred_execution_timeout": {"execution_timeout": IMPATIENT, "poke_interval": 1},
    "wait_poke_execution_timeout": {"execution_timeout": IMPATIENT, "deferrable": False, "poke_interval": 1},
}
UPLOADS: dict[str, dict[str, Any]] = {
    "upload": {},
    "upload_fail_on_unmatched": {"on_unmatched": "fail"},
    "upload_async": {"mode": "async", "poll_interval": 1},
    # No secret: the search for secrets shows by it that it sees a place.
    "marked_4713": {"mode": "async", "poll_interval": 1, "scantrust_conn_id": "marked_4713"},
    "upload_async_retried": {"mode": "async", "poll_interval": 1, "retry_delay": timedelta(seconds=1)},
    "upload_async_on_worker": {"mode": "async", "poll_interval": 1, "deferrable": False},
}

for dag_id, options in WAITS.items():
    with DAG(dag_id, schedule=None, default_args=PATIENT):
        ScantrustTaskSensor(task_id="task", scantrust_task_id="{{ dag_run.conf['task_ids'] }}", **options)

for dag_id, options in UPLOADS.items():
    with DAG(dag_id, schedule=None, default_args=PATIENT):
        ScantrustUploadOperator(task_id="task", items="{{ dag_run.conf['items'] | tojson }}", **options)
