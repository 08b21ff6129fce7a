"""The Scantrust page in the Airflow UI (Airflow 3.1 and later)."""

from __future__ import annotations

from airflow import __version__ as _airflow_version

HAS_PAGES = tuple(int(part) for part in _airflow_version.split(".")[:2]) >= (3, 1)
# Tabs on the pages of a Dag, a run, a task and a task instance, and one entry in the navigation.
ROUTES = {
    "nav": "scantrust",
    "dag": "scantrust-dag",
    "dag_run": "scantrust-run",
    "task": "scantrust-task",
    "task_instance": "scantrust-task-instance",
}
