"""DAGs of the chaos runs: uploads of every kind; what they upload comes with the run's conf."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.sdk import DAG, get_current_context, task

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

# A kill costs a try, and the point is what a try does, not how many there are.
ARGS: dict[str, Any] = {"retries": 50, "retry_delay": timedelta(seconds=1)}
# Seconds without an answer after which a wait may fail: longer than anything that is done to the sandbox.
WAITING: dict[str, Any] = {"error_budget": 150}
POLL = 2

with DAG("scantrust_chaos", schedule=None, default_args=ARGS, max_active_runs=100, max_active_tasks=100):
    ScantrustUploadOperator(
        task_id="items_sync", items="{{ dag_run.conf['items_sync'] | tojson }}", mode="sync"
    )
    for task_id, deferrable in (("items_async", True), ("items_async_worker", False)):
        ScantrustUploadOperator(
            task_id=task_id,
            items="{{ dag_run.conf['" + task_id + "'] | tojson }}",
            mode="async",
            deferrable=deferrable,
            poll_interval=POLL,
            **WAITING,
        )
    for task_id, deferrable in (("lot", True), ("lot_worker", False)):
        ScantrustUploadOperator(
            task_id=task_id,
            constraints="{{ dag_run.conf['" + task_id + "']['constraints'] | tojson }}",
            scm_data="{{ dag_run.conf['" + task_id + "']['scm_data'] | tojson }}",
            deferrable=deferrable,
            poll_interval=POLL,
            **WAITING,
        )
    ScantrustUploadOperator(
        task_id="source_mixed",
        source="{{ dag_run.conf['source_mixed'] }}",
        poll_interval=POLL,
        **WAITING,
    )
    ScantrustUploadOperator(
        task_id="source_jobs",
        source="{{ dag_run.conf['source_jobs'] }}",
        mode="async",
        ids_per_job=50,
        deferrable=False,
        poll_interval=POLL,
        **WAITING,
    )

    @task
    def blocks() -> list[list[dict[str, str]]]:
        """Return the rows of each mapped upload."""
        found: list[list[dict[str, str]]] = get_current_context()["dag_run"].conf["mapped"]  # type: ignore[index]
        return found

    ScantrustUploadOperator.partial(task_id="mapped", mode="async", poll_interval=POLL, **WAITING).expand(
        items=blocks()
    )

    SENSORS: dict[str, dict[str, Any]] = {
        "deferred": {"poke_interval": POLL},
        "poke": {"deferrable": False, "poke_interval": POLL},
        "reschedule": {"deferrable": False, "mode": "reschedule", "poke_interval": 4},
        "triggerer": {"start_from_trigger": True, "end_from_trigger": True, "poke_interval": POLL},
    }
    for name, options in SENSORS.items():
        submit = ScantrustUploadOperator(
            task_id=f"submit_{name}",
            items="{{ dag_run.conf['submit_" + name + "'] | tojson }}",
            mode="async",
            wait_for_completion=False,
        )
        ScantrustTaskSensor(
            task_id=f"wait_{name}",
            scantrust_task_id=submit.output["task_ids"],  # type: ignore[index]
            timeout=900,
            **options,
            **WAITING,
        )

with DAG("scantrust_chaos_meant_to_fail", schedule=None, default_args=ARGS):
    ScantrustUploadOperator(task_id="bad_row", items="{{ dag_run.conf['bad_row'] | tojson }}", mode="sync")
