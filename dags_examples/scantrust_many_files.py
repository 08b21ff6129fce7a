"""
Every morning, upload the files of all packaging lines, each in its own task, spread over the workers.

The pool scantrust_uploads limits how many tasks run at once. They share the rate limit of one token, so with
more than a few, the tasks only wait for each other. Create the pool once, with 3 slots: airflow pools set
scantrust_uploads 3 "uploads to Scantrust"
"""

from __future__ import annotations

from pathlib import Path

import pendulum
from airflow.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

LINES = Path(__file__).parent / "sample_data" / "lines"
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
def scantrust_many_files() -> None:
    @task
    def list_files(day: str) -> list[str]:
        """Return the files of one day; each becomes a task."""
        return sorted(str(path) for path in (LINES / day).glob("*.csv"))

    ScantrustUploadOperator.partial(task_id="upload", pool="scantrust_uploads", on_unmatched="fail").expand(
        source=list_files(DAY)
    )


scantrust_many_files()
