"""
Every morning, submit one asynchronous upload for each of yesterday's lots, and wait for all of them with one sensor.

Each lot is its own task in the grid, so a refused lot can be fixed and cleared alone.
"""

from __future__ import annotations

import csv
from pathlib import Path
from typing import Any

import pendulum
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

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
def scantrust_mapped_uploads() -> None:
    @task
    def read_lots(day: str) -> list[dict[str, Any]]:
        """Return the arguments of each mapped task."""
        path = DATA / f"lots-{day}.csv"
        with path.open(encoding="utf-8", newline="") as file:
            return [
                {"constraints": {"lot_number": row.pop("lot_number")}, "scm_data": row}
                for row in csv.DictReader(file)
            ]

    submit = ScantrustUploadOperator.partial(task_id="submit", wait_for_completion=False).expand_kwargs(
        read_lots(DAY)
    )
    ScantrustTaskSensor(
        task_id="wait",
        scantrust_task_id=submit.output["task_ids"],
        timeout=6 * 60 * 60,
    )


scantrust_mapped_uploads()
