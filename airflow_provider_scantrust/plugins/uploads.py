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
OF_SUCCESS = ("return_value",)
# Instead of a return value, an upload that fails by its own counts leaves `report`, and a wait for jobs of which some failed
# `failed_jobs`.
OF_OTHERS = ("report", "task_ids", "failed_jobs")
KEYS = (*OF_SUCCESS, *OF_OTHERS, LINK_KEY)


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
    in_runs = [DagRun.dag_id.in_(dag_ids), is_ours]
    if scope.run_id is not None:
        in_runs.append(DagRun.run_id == scope.run_id)
    if scope.since is not None:
        in_runs.append(DagRun.run_after >= scope.since)
    wanted = list(in_runs)
    if scope.task_id is not None:
        wanted.append(TaskInstance.task_id == scope.task_id)
    if scope.map_index is not None:
        wanted.append(TaskInstance.map_index == scope.map_index)
    of_run = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)
    tasks = session.execute(
        select(
            DagRun.id,
            DagRun.dag_id,
            DagRun.run_id,
            DagRun.run_after,
            DagRun.state.label("run_state"),
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
    # Of all our tasks in these runs: a sensor beside the task that is looked at knows how its jobs have ended.
    xcoms: dict[tuple[int, str, int], dict[str, Any]] = defaultdict(dict)
    for run, task_id, map_index, key, value in session.execute(
        select(XComModel.dag_run_id, XComModel.task_id, XComModel.map_index, XComModel.key, XComModel.value)
        .join(DagRun, XComModel.dag_run_id == DagRun.id)
        .join(TaskInstance, and_(of_run, of_task))
        .where(
            *in_runs,
            XComModel.key.in_(KEYS),
            or_(
                XComModel.key == LINK_KEY,
                # What does not fit the state is of an earlier try: a wait that starts in the triggerer clears nothing.
                and_(XComModel.key.in_(OF_SUCCESS), TaskInstance.state == "success"),
                and_(XComModel.key.in_(OF_OTHERS), TaskInstance.state != "success"),
            ),
            DagRun.run_after >= tasks[-1].run_after,
        )
    ):
        xcoms[run, task_id, map_index][key] = _decode(value)
    ended = _ended_jobs(xcoms)
    return [_row(task, xcoms[task.id, task.task_id, task.map_index], ended[task.id]) for task in tasks]


def _row(task: Any, xcoms: Mapping[str, Any], ended: Mapping[str, str]) -> dict[str, Any]:
    """Return a row; whatever is in the XComs, it has the types that the page knows."""
    result = _get(xcoms, "return_value", dict) or _get(xcoms, "report", dict)
    is_plan = "sync_calls" in result
    report = result if "mode" in result and "rows" in result and not is_plan else {}
    waited = result if "tasks" in result else {}
    unmatched = _get(report, "unmatched", dict)
    failed = _get(xcoms, "failed_jobs", dict)
    failed_ids = _texts(failed, "task_ids")
    job_ids = _texts(report, "task_ids") or _texts(xcoms, "task_ids") or list(_get(waited, "tasks", dict))
    # The worst come first.
    job_ids = list(dict.fromkeys([*failed_ids, *job_ids]))
    # Also of a task that its own counts have failed. A wait ends when all its jobs have, so those that did not fail are complete.
    ours_ended = (
        _number(report, "codes_affected") is not None
        or bool(waited)
        or len(failed_ids) == _number(failed, "failed")
    )
    seconds = _number(report, "seconds")
    if seconds is None and task.start_date and task.end_date:
        seconds = (task.end_date - task.start_date).total_seconds()
    given = {"not fit to send": result.get("rejected")} if is_plan else _get(report, "rejected", dict)
    rejected = {kind: count for kind, count in given.items() if isinstance(count, int)}
    mode = _get(report, "mode", str)
    return {
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "state": task.state,
        "run_is_active": task.run_state in ("queued", "running"),
        "try_number": task.try_number,
        "is_wait": task.operator == "ScantrustTaskSensor" or bool(waited),
        "start": task.start_date.isoformat() if task.start_date else None,
        "end": task.end_date.isoformat() if task.end_date else None,
        "mode": "dry run" if is_plan else mode or None,
        "rows": _number(result if is_plan else report, "rows"),
        "calls": _number(report, "requests"),
        "codes": _number(report or waited, "codes_affected"),
        "unmatched": _number(unmatched, "count"),
        "examples": _texts(unmatched, "examples"),
        "rejected": rejected,
        "discarded": _texts(report, "discarded_fields"),
        "jobs": [[job, _job_state(job, task.state, ended, ours_ended)] for job in job_ids[:MOST_JOBS]],
        "jobs_total": _number(waited, "jobs") or _number(failed, "jobs") or len(job_ids),
        "seconds": seconds,
        "portal": _get(xcoms, LINK_KEY, str) or None,
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
        failed = _texts(_get(values, "failed_jobs", dict), "task_ids")
        ended[run] |= dict.fromkeys(complete, "complete") | dict.fromkeys(failed, "failed")
    return ended


def _get(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """Return a value, or an empty one where there is none, or where an XCom backend keeps it elsewhere."""
    value = values.get(key)
    return value if isinstance(value, kind) else kind()


def _texts(values: Mapping[str, Any], key: str) -> list[str]:
    return [text for text in _get(values, key, list) if isinstance(text, str)]


def _number(values: Mapping[str, Any], key: str) -> float | None:
    value = values.get(key)
    return value if isinstance(value, int | float) and not isinstance(value, bool) else None


def _decode(value: Any) -> Any:
    """Return an XCom's value; a worker's is stored as JSON, another one's as JSON in a text."""
    if isinstance(value, str):
        try:
            return json.loads(value)
        except ValueError:
            return value
    return value
