"""
Every morning, set the market of one lot on all its bottles, without keeping a worker busy while Scantrust works.

One task submits the job and pushes its task_id; the sensor waits for it in the triggerer.
"""

from __future__ import annotations

import pendulum
from airflow.sdk import dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

# The day before the run, also in a manual run without a logical date.
DAY = "(dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1))"


@dag(
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": pendulum.duration(minutes=5)},
    tags=["scantrust", "example"],
    doc_md=__doc__,
)
def scantrust_async_upload() -> None:
    submit = ScantrustUploadOperator(
        task_id="submit",
        constraints={"lot_number": f"L-{{{{ {DAY}.strftime('%y%m') }}}}-01"},
        scm_data={"market": "FR", "bottling_date": f"{{{{ {DAY} | ds }}}}"},
        wait_for_completion=False,
    )
    ScantrustTaskSensor(
        task_id="wait",
        scantrust_task_id=submit.output["task_ids"],
        poke_interval=10,
        timeout=6 * 60 * 60,
    )


scantrust_async_upload()
