"""Dags of sensors that start, end, or both in the triggerer; the jobs come with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, Asset, task

from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

# A retry would come long after the test has looked.
PATIENT = {"retries": 2, "retry_delay": timedelta(hours=1)}
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
    ScantrustTaskSensor(task_id="task", scantrust_task_id="{{ ti.get_previous_dagrun() }}", **NO_WORKER)


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


def fail(context: Any) -> None:
    raise RuntimeError("a callback that is broken")


# Airflow does not run this callback of a task that ends in the triggerer.
with DAG("success_callback", schedule=None):
    ScantrustTaskSensor(
        task_id="task", scantrust_task_id=IDS, poke_interval=1, on_success_callback=fail, **NO_WORKER
    )
