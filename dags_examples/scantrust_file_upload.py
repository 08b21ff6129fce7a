"""
Every morning, upload yesterday's file from object storage, and write the rejected rows beside it.

The file is read row by row, so it can be of any size. Set BOTTLING_STORAGE to the place of your files, such
as s3://aws_default@bottling, with the Airflow connection in the URL.
"""

from __future__ import annotations

import os
import tempfile
from pathlib import Path

import pendulum
from airflow.sdk import dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

STORAGE = os.environ.get("BOTTLING_STORAGE", f"file://{Path(__file__).parent}/sample_data")
REJECTS = os.environ.get("REJECTS_STORAGE", f"file://{tempfile.gettempdir()}/scantrust-rejects")
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
def scantrust_file_upload() -> None:
    ScantrustUploadOperator(
        task_id="upload",
        source=STORAGE + f"/bottling-{DAY}.csv",
        columns={"grape": None},
        constants={"market": "FR"},
        max_rejected=0.1,
        rejects_path=REJECTS + f"/bottling-{DAY}.csv",
    )


scantrust_file_upload()
