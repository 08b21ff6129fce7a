"""
Every morning, write the data of yesterday's lots onto all bottles of each lot.

The rows are keyed by lot_number. The number of bottles in a lot is not known here, so the operator submits
asynchronous jobs and waits for them in the triggerer.
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
    schedule=CronDataIntervalTimetable("0 6 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": pendulum.duration(minutes=5)},
    tags=["scantrust", "example"],
    doc_md=__doc__,
)
def scantrust_upload_and_wait() -> None:
    @task
    def read_lots(day: str) -> list[dict[str, str]]:
        """Read the file for the day of the run; every value stays text."""
        path = DATA / f"lots-{day}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            return list(csv.DictReader(file))

    ScantrustUploadOperator(
        task_id="upload",
        items=read_lots(DAY),
        data_key="lot_number",
        on_unmatched="fail",
        timeout=6 * 60 * 60,
    )


scantrust_upload_and_wait()
