"""
Every use of Airflow's internals by the page: database tables and authorization.

Rule 1: no other module of the page imports these internals. If this module cannot be imported, the page
        says so and Airflow continues without it.
Rule 2: Airflow authorizes each request, as for its own lists of task instances and XComs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Collection
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Annotated, Any

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from airflow.models.dagrun import DagRun
from airflow.models.renderedtifields import RenderedTaskInstanceFields
from airflow.models.taskinstance import TaskInstance, TaskInstanceNote
from airflow.models.xcom import XComModel
from fastapi import APIRouter, Depends, Query, Response
from sqlalchemy import Text, and_, cast, exists, or_, select
from sqlalchemy.orm import aliased

from airflow_provider_scantrust.plugins.problems import open_problems
from airflow_provider_scantrust.plugins.rows import (
    LINK_KEY,
    OF_OTHERS,
    OF_SUCCESS,
    Key,
    as_json,
    ended_jobs,
    make_row,
    read_json,
)

if TYPE_CHECKING:
    from sqlalchemy.orm import Session

MOST_UPLOADS = 10_000
# The most later runs that are read for one run, to see whether its problems are gone.
MOST_LATER = 1_000
OPERATORS = ("ScantrustUploadOperator", "ScantrustUploadDecoratedOperator", "ScantrustTaskSensor")
OF_RUN = and_(TaskInstance.dag_id == DagRun.dag_id, TaskInstance.run_id == DagRun.run_id)

router = APIRouter(
    dependencies=[
        Depends(requires_access_dag("GET", DagAccessEntity.TASK_INSTANCE)),
        Depends(requires_access_dag("GET", DagAccessEntity.XCOM)),
    ]
)


def readable_dags(user: GetUserDep) -> set[str]:
    """Return the Dags that the user may see."""
    return get_auth_manager().get_authorized_dag_ids(user=user, method="GET")


@router.get("/uploads")
def get_uploads(
    session: SessionDep,
    dag_ids: Annotated[set[str], Depends(readable_dags)],
    dag_id: str | None = None,
    run_id: str | None = None,
    task_id: str | None = None,
    map_index: int | None = None,
    days: Annotated[int, Query(ge=1, le=366)] = 7,
    limit: Annotated[int, Query(ge=1, le=MOST_UPLOADS)] = MOST_UPLOADS,
) -> Response:
    """Return uploads and waits, the latest runs first. For a single run, its age does not matter."""
    now = datetime.now(UTC)
    seen = dag_ids if dag_id is None else dag_ids & {dag_id}
    of_runs = DagRun.run_after >= now - timedelta(days=days) if run_id is None else DagRun.run_id == run_id
    given = ((TaskInstance.task_id, task_id), (TaskInstance.map_index, map_index))
    of_task = [column == value for column, value in given if value is not None]
    found = find_uploads(session, seen, of_runs, of_task, limit=limit + 1, now=now)
    rows, later = found[:limit], []
    if run_id and rows:
        of_runs = DagRun.run_after >= min(datetime.fromisoformat(row["due"]) for row in rows)
        later = find_uploads(session, seen, of_runs, of_task, limit=MOST_LATER, now=now)
    open_problems(rows, later)
    # Returned as text: FastAPI would check each value of 10,000 rows, which takes longer than all the rest.
    known = [{name: value for name, value in row.items() if value is not None} for row in rows]
    answer = {"uploads": known, "truncated": len(found) > limit, "now": now.isoformat()}
    return Response(as_json(answer), media_type="application/json")


def find_uploads(
    session: Session,
    dag_ids: Collection[str],
    of_runs: Any,
    of_task: Collection[Any] = (),
    *,
    limit: int,
    now: datetime,
) -> list[dict[str, Any]]:
    """
    Return the latest uploads and waits, by the time at which their runs were due.

    :param dag_ids: The Dags that the user may see.
    :param of_runs: Condition for the runs.
    :param of_task: Conditions for the task instances.
    """
    in_runs = [DagRun.dag_id.in_(dag_ids), of_runs, _is_ours()]
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
            TaskInstance.max_tries,
            TaskInstance.operator,
            TaskInstance.start_date,
            TaskInstance.end_date,
            TaskInstanceNote.content.label("note"),
        )
        .join(TaskInstance, OF_RUN)
        .outerjoin(TaskInstanceNote, TaskInstanceNote.ti_id == TaskInstance.id)
        .where(*in_runs, *of_task)
        .order_by(DagRun.run_after.desc(), DagRun.id.desc(), TaskInstance.task_id, TaskInstance.map_index)
        .limit(limit)
    ).all()
    if not tasks:
        return []
    in_runs.append(DagRun.run_after >= tasks[-1].run_after)
    xcoms: dict[Key, dict[str, Any]] = defaultdict(dict)
    # XComs of all our tasks in these runs, because another task, a sensor, may know how the jobs ended. As
    # text, because one unreadable value (NaN, deep nesting) must not break the whole answer.
    for run, task_id, map_index, key, value in session.execute(
        select(
            XComModel.dag_run_id,
            XComModel.task_id,
            XComModel.map_index,
            XComModel.key,
            cast(XComModel.value, Text),
        )
        .join(DagRun, XComModel.dag_run_id == DagRun.id)
        .join(TaskInstance, and_(OF_RUN, _same_task(XComModel)))
        .where(
            *in_runs,
            or_(
                XComModel.key == LINK_KEY,
                # Otherwise from an earlier try: a wait that starts in the triggerer does not clear XComs.
                and_(XComModel.key.in_(OF_SUCCESS), TaskInstance.state == "success"),
                and_(XComModel.key.in_(OF_OTHERS), TaskInstance.state != "success"),
            ),
        )
    ):
        xcoms[run, task_id, map_index][key] = read_json(value)
    fields = _rendered_fields(session, [*in_runs, *of_task])
    ended = ended_jobs(
        xcoms,
        {(task.id, task.task_id, task.map_index): task.end_date for task in tasks},
    )
    return [
        make_row(task, xcoms[key], fields.get(key, {}), ended[task.id], now=now)
        for task in tasks
        for key in [(task.id, task.task_id, task.map_index)]
    ]


def _rendered_fields(session: Session, conditions: Collection[Any]) -> dict[Key, Any]:
    """Return the rendered fields of tasks; Airflow keeps them only for the latest runs."""
    rendered = RenderedTaskInstanceFields
    found = session.execute(
        select(DagRun.id, TaskInstance.task_id, TaskInstance.map_index, cast(rendered.rendered_fields, Text))
        .select_from(DagRun)
        .join(TaskInstance, OF_RUN)
        .join(
            rendered,
            and_(rendered.dag_id == DagRun.dag_id, rendered.run_id == DagRun.run_id, _same_task(rendered)),
        )
        .where(*conditions)
    )
    return {(run, task_id, map_index): read_json(value) for run, task_id, map_index, value in found}


def _is_ours() -> Any:
    """Return the condition for tasks of this provider; tasks of a subclass are found by their portal link."""
    link = aliased(XComModel)
    return or_(
        TaskInstance.operator.in_(OPERATORS),
        exists().where(link.dag_run_id == DagRun.id, _same_task(link), link.key == LINK_KEY),
    )


def _same_task(other: Any) -> Any:
    return and_(other.task_id == TaskInstance.task_id, other.map_index == TaskInstance.map_index)
