"""
Every morning, upload the workbook that the bottling hall filled in yesterday: one row for each bottle.

Needs the extra `excel`: pip install 'airflow-provider-scantrust[excel]'. The columns of the sheet do not have
the names of SCM fields; `columns` gives the field for each column, and None leaves a column out.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import pendulum
from airflow.providers.common.compat.sdk import dag
from airflow.timetables.interval import CronDataIntervalTimetable

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

DATA = Path(__file__).parent / "sample_data"
REJECTS = Path(tempfile.gettempdir()) / "scantrust-rejects"
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
def scantrust_from_excel() -> None:
    ScantrustUploadOperator(
        task_id="upload",
        source=str(DATA / f"bottles-{DAY}.xlsx"),
        sheet="Bottles",
        columns={
            "Code": "extended_id",
            "SKU": "product",
            "Bottled on": "bottling_date",
            "Vintage": "vintage",
            "Grape": None,
            "Case": "case_id",
        },
        rejects_path=str(REJECTS / f"bottles-{DAY}.csv"),
    )


scantrust_from_excel()
