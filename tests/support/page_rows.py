"""Rows of the Scantrust page, made from XComs without a database."""

from __future__ import annotations

from datetime import UTC, datetime
from types import SimpleNamespace
from typing import Any

from airflow_provider_scantrust.plugins import rows

FAILED = {"jobs": 2, "failed": 1, "task_ids": ["z"]}
REPORT = {"mode": "async", "rows": 2, "codes_affected": 1, "task_ids": ["a"]}
NOW = datetime(2026, 11, 2, 7, tzinfo=UTC)


def row_of(
    state: str | None,
    xcoms: dict[str, Any],
    ended: dict[str, Any] | None = None,
    fields: Any = None,
    **of_task: Any,
) -> dict[str, Any]:
    names = ("dag_id", "run_id", "run_state", "task_id", "start_date", "end_date", "note")
    task = {
        **dict.fromkeys(names),
        "run_after": NOW,
        "map_index": -1,
        "state": state,
        "try_number": 1,
        "max_tries": 2,
        "operator": "ScantrustUploadOperator",
        **of_task,
    }
    jobs = {job: rows.EndedJob(how, None, None) for job, how in (ended or {}).items()}
    row: dict[str, Any] = rows.make_row(SimpleNamespace(**task), xcoms, fields, jobs, now=NOW)
    return row
