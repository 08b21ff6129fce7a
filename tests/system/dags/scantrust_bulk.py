"""DAGs of the system tests that upload a source."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta

from airflow.sdk import DAG, task

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

with DAG("upload_source", schedule=None):
    ScantrustUploadOperator(
        task_id="task",
        source="{{ dag_run.conf['source'] }}",
        retries=30,
        retry_delay=timedelta(seconds=1),
    )

with DAG("upload_yielded_rows", schedule=None):

    @task.scantrust_upload(retries=0)
    def rows(extended_ids: str) -> Iterator[dict[str, str]]:
        """Yield rows that were never in memory together."""
        for extended_id in extended_ids.split(","):
            yield {"extended_id": extended_id, "market": "JP"}

    rows("{{ dag_run.conf['extended_ids'] }}")
