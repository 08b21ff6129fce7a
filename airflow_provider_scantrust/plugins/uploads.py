"""Uploads and waits as rows of the page, from Airflow's task instances and their XComs."""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.models.dagrun import DagRun
from airflow.models.taskinstance import TaskInstance
from airflow.models.xcom import XComModel
from sqlalchemy import and_, exists, or_, select
from sqlalchemy.orm import aliased

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

T = TypeVar("T")

MOST_UPLOADS = 10_000
# Ids of jobs in one row; an upload may have thousands.
MOST_JOBS = 20
OPERATORS = ("ScantrustUploadOperator", "ScantrustUploadDecoratedOperator", "ScantrustTaskSensor")
LINK_KEY = "_link_ScantrustPortalLink"
# Instead of a return value, an upload that fails by its own counts leaves `report`, and a wait for jobs of which some failed
# `failed_jobs`.
KEYS = ("return_value", "report", "task_ids", "failed_jobs", LINK_KEY)


@dataclass(frozen=True)
class Scope:
    """
    What of the history is wanted; None means all.

    :param since: Of runs that were due after.
    """

    dag_id: str | None = None
    run_id: str | None = None
    task_id: str | None = None
    map_index: int | None = None
    since: datetime | None = None


def find_uploads(
    session: Session, dag_ids: Collection[str], scope: Scope, *, limit: int
) -> list[dict[str, Any]]:
    """
    Return the latest uploads and waits, by the time their runs were due.

    :param dag_ids: The Dags that may be seen.
    """
    if scope.dag_id is not None:
        dag_ids = [scope.dag_id] if scope.dag_id in dag_ids else []
    link = aliased(XComModel)
    # A subclass has another name; it is known by the link that its tasks leave behind.
    is_ours = or_(
        TaskInstance.operator.in_(OPERATORS),
        exists().where(
            link.dag_run_id == DagRun.id,
            link.task_id == TaskInstance.task_id,
            link.map_index == TaskInstance.map_index,
            link.key == LINK_KEY,
        ),
    )
    wanted = [DagRun.dag_id.in_(dag_ids), is_ours]
    for column, value in (
        (DagRun.run_id, scope.run_id),
        (TaskInstance.task_id, scope.task_id),
        (TaskInstance.map_index, scope.map_index),
    ):
        if value is not None:
            wanted.append(column == value)
    if scope.since is not None:
        wanted.append(DagRun.run_after >= scope.since)
    of_run = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    tasks = session.execute(
        select(
            DagRun.id,
            DagRun.dag_id,
            DagRun.run_id,
            DagRun.run_after,
            TaskInstance.task_id,
            TaskInstance.map_index,
            TaskInstance.state,
            TaskInstance.try_number,
            TaskInstance.operator,
            TaskInstance.start_date,
            TaskInstance.end_date,
        )
        .join(TaskInstance, of_run)
        .where(*wanted)
        .order_by(DagRun.run_after.desc(), DagRun.id.desc(), TaskInstance.task_id, TaskInstance.map_index)
        .limit(limit)
    ).all()
    if not tasks:
        return []
    of_task = and_(
        XComModel.dag_run_id == DagRun.id,
        XComModel.task_id == TaskInstance.task_id,
        XComModel.map_index == TaskInstance.map_index,
    )
    xcoms: dict[tuple[int, str, int], dict[str, Any]] = defaultdict(dict)
    for run, task_id, map_index, key, value in session.execute(
        select(XComModel.dag_run_id, XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value)
        .join(DagRun, XComModel.dag_run_id == DagRun.id)
        .join(TaskInstance, and_(of_run, of_task))
        .where(
            *wanted,
            XComModel.key.in_(KEYS),
            # A report has them as well.
            or_(XComModel.key != "task_ids", TaskInstance.state != "success"),
            DagRun.run_after >= tasks[-1].run_after,
        )
    ):
        xcoms[run, task_id, map_index][key] = _decode(value)
    ended = _ended_jobs(xcoms)
    return [_row(task, xcoms[task.id, task.task_id, task.map_index], ended[task.id]) for task in tasks]


def _row(task: Any, xcoms: Mapping[str, Any], ended: Mapping[str, str]) -> dict[str, Any]:
    result = xcoms.get("return_value") or xcoms.get("report")
    report = result if isinstance(result, dict) and "mode" in result and "rows" in result else {}
    waited = result if isinstance(result, dict) and "tasks" in result else {}
    unmatched = report.get("unmatched") or {}
    failed = _get(xcoms, "failed_jobs", dict)
    failed_ids = failed.get("task_ids", [])
    job_ids = report.get("task_ids") or _get(xcoms, "task_ids", list) or list(waited.get("tasks", ()))
    # The worst come first.
    job_ids = list(dict.fromkeys([*failed_ids, *job_ids]))
    # Also of a task that its own counts have failed. A wait ends when all its jobs have, so those that did not fail are complete.
    ours_ended = report.get("codes_affected") is not None or len(failed_ids) == failed.get("failed")
    seconds = report.get("seconds")
    if seconds is None and task.start_date and task.end_date:
        seconds = (task.end_date - task.start_date).total_seconds()
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "state": task.state,
        "try_number": task.try_number,
        "is_wait": task.operator == "ScantrustTaskSensor" or bool(waited),
        "start": task.start_date.isoformat() if task.start_date else None,
        "end": task.end_date.isoformat() if task.end_date else None,
        "mode": report.get("mode"),
        "rows": report.get("rows"),
        "calls": report.get("requests"),
        "codes": report.get("codes_affected", waited.get("codes_affected")),
        "unmatched": unmatched.get("count"),
        "examples": unmatched.get("examples") or [],
        "rejected": report.get("rejected") or {},
        "discarded": report.get("discarded_fields") or [],
        "jobs": [[job, _job_state(job, task.state, ended, ours_ended)] for job in job_ids[:MOST_JOBS]],
        "jobs_total": waited.get("jobs") or failed.get("jobs") or len(job_ids),
        "seconds": seconds,
        "portal": xcoms.get(LINK_KEY) or None,
    }


def _job_state(job: str, state: str | None, ended: Mapping[str, str], ours_ended: bool) -> str:
    """Say what Airflow knows of a job: Scantrust is not asked."""
    if job in ended:
        return ended[job]
    if ours_ended:
        return "complete"
    if state in ("deferred", "up_for_reschedule", "running"):
        return "waited for"
    return "not known"


def _ended_jobs(xcoms: Mapping[tuple[int, str, int], Mapping[str, Any]]) -> dict[int, dict[str, str]]:
    """Return how the jobs ended whose end a task of the same run has seen, by run."""
    ended: dict[int, dict[str, str]] = defaultdict(dict)
    for (run, _, _), values in xcoms.items():
        complete = _get(_get(values, "return_value", dict), "tasks", dict)
        failed = _get(_get(values, "failed_jobs", dict), "task_ids", list)
        ended[run] |= dict.fromkeys(complete, "complete") | dict.fromkeys(failed, "failed")
    return ended


def _get(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """Return a value, or an empty one where there is none, or where an XCom backend keeps it elsewhere."""
    value = values.get(key)
    return value if isinstance(value, kind) else kind()


def _decode(value: Any) -> Any:
    """Return an XCom's value; a worker's is stored as JSON, another one's as JSON in a text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
