"""DAGs of the system tests: what they upload or wait for comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task

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

# Started, ended, or both in the triggerer.
NO_WORKER: dict[str, Any] = {"start_from_trigger": True, "end_from_trigger": True}
TRIGGERER: dict[str, dict[str, Any]] = {
    "start_and_end": NO_WORKER,
    "start_there": {"start_from_trigger": True},
    "end_there": {"end_from_trigger": True},
    "start_and_end_short": {**NO_WORKER, "timeout": 3},
    "start_and_end_execution_timeout": {**NO_WORKER, "execution_timeout": timedelta(seconds=12)},
    "start_and_end_asset": {**NO_WORKER, "outlets": [Asset("scantrust_market")]},
}
IDS = "{{ dag_run.conf['task_ids'] }}"

for dag_id, options in TRIGGERER.items():
    with DAG(dag_id, schedule=None, default_args={**PATIENT, "poke_interval": 1}):
        ScantrustTaskSensor(task_id="task", scantrust_task_id=IDS, **options)

with DAG("start_retries", schedule=None):
    ScantrustTaskSensor(
        task_id="task",
        scantrust_task_id=IDS,
        poke_interval=1,
        error_budget=4,
        retries=1,
        retry_delay=timedelta(seconds=1),
        **NO_WORKER,
    )

with DAG("start_hanging_template", schedule=None):
    ScantrustTaskSensor(task_id="task", scantrust_task_id="{{ prev_start_date_success }}", **NO_WORKER)


@task
def give_ids(**context: Any) -> list[str]:
    return list(context["dag_run"].conf["task_ids"])


@task
def pull(result: Any) -> str:
    return f"{type(result).__name__} {result['codes_affected']} {len(result['tasks'])}"


def compare(dag_id: str, **options: Any) -> None:
    with DAG(dag_id, schedule=None):
        ids = give_ids()
        sensor = ScantrustTaskSensor(task_id="task", scantrust_task_id=ids, poke_interval=2, **options)
        pull(sensor.output)


compare("ids_from_a_task_without_worker", **NO_WORKER)
compare("ids_from_a_task", start_from_trigger=False)

with DAG("mapped", schedule=None):
    ScantrustTaskSensor.partial(task_id="task", poke_interval=1, **NO_WORKER).expand(
        scantrust_task_id=give_ids()
    )

with DAG("mapped_at_scale", schedule=None):
    ScantrustTaskSensor.partial(task_id="task").expand(scantrust_task_id=give_ids())
