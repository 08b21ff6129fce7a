"""A DAG of the tests of the UI: an operator of a user's own, on the provider's."""

from __future__ import annotations

from airflow.sdk import DAG

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator


class WineryUpload(ScantrustUploadOperator):
    """Has another class name, by which Airflow lists its tasks."""


with DAG("winery", schedule=None):
    WineryUpload(task_id="upload", items="{{ dag_run.conf['items'] | tojson }}")
