"""
Every morning, upload the bottles that the warehouse has for yesterday, straight from a query.

Needs apache-airflow-providers-postgres and a connection `warehouse`, to a PostgreSQL database with a table

    CREATE TABLE bottles (extended_id text PRIMARY KEY, lot_number text, bottling_date date, market text)

A server-side cursor fetches 1,000 rows at a time, so millions of rows need no more memory than a few.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing
from typing import Any

import pendulum
from airflow.providers.common.compat.sdk import dag, task
from airflow.timetables.interval import CronDataIntervalTimetable

# With a fixed order, a retry reads the same rows as the first try and can continue where it stopped.
SQL = """
    SELECT extended_id, lot_number, bottling_date, market FROM bottles
    WHERE bottling_date = CAST(:day AS date) ORDER BY extended_id
"""

# The day before the run, also in a manual run without a logical date.
DAY = "{{ (dag_run.data_interval_start or dag_run.run_after - macros.timedelta(days=1)) | ds }}"


@task.scantrust_upload(on_unmatched="fail")
def upload_bottles(day: str) -> Iterator[dict[str, Any]]:
    """Yield the rows of one day; cursor and connection are closed after the last row, or after an error."""
    # Imported here, so that parsing the Dag file does not import them.
    from airflow.providers.postgres.hooks.postgres import PostgresHook
    from sqlalchemy import text
    from sqlalchemy.pool import NullPool

    hook = PostgresHook("warehouse")
    # Without "creator", the engine ignores the connection's extra, such as sslmode.
    engine = hook.get_sqlalchemy_engine({"creator": hook.get_conn, "poolclass": NullPool})
    with (
        engine.connect().execution_options(yield_per=1_000) as connection,
        closing(connection.execute(text(SQL), {"day": day})) as result,
    ):
        for row in result.mappings():
            # Rows from Python must not have None; a field that is left out is not changed.
            yield {name: value for name, value in row.items() if value is not None}


@dag(
    schedule=CronDataIntervalTimetable("0 5 * * *", timezone="UTC"),
    start_date=pendulum.datetime(2026, 11, 1, tz="UTC"),
    catchup=False,
    max_active_runs=1,
    default_args={"retries": 2, "retry_delay": pendulum.duration(minutes=5)},
    tags=["scantrust", "example"],
    doc_md=__doc__,
)
def scantrust_from_database() -> None:
    upload_bottles(DAY)


scantrust_from_database()
