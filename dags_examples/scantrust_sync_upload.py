"""
Every morning, write yesterday's bottling onto the bottles' codes: one row for each bottle.

The rows are keyed by extended_id, so the operator uploads them synchronously, as Scantrust advises.
"""

from __future__ import annotations

import csv
from pathlib import Path

import pendulum
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

DATA = Path(__file__).parent / "sample_data"
# The day before the run, also in a manual run without a logical date.
DAY = "{{ (dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds }}"


@dag(
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": pendulum.duration(minutes=5)},
    tags=["scantrust", "example"],
    doc_md=__doc__,
)
def scantrust_sync_upload() -> None:
    @task
    def read_bottling(day: str) -> list[dict[str, str]]:
        """Read the file for the day of the run; every value stays text."""
        path = DATA / f"bottling-{day}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    ScantrustUploadOperator(task_id="upload", items=read_bottling(DAY), on_unmatched="fail")


scantrust_sync_upload()
