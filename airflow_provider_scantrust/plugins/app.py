"""
What the page asks for: uploads and waits from Airflow's own database, for the signed-in user.

Rule: whoever asks is authorized by Airflow as for its own list of XComs; only the page's own files are for everyone.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Annotated

from airflow.api_fastapi.app import get_auth_manager
from airflow.api_fastapi.auth.managers.models.resource_details import DagAccessEntity
from airflow.api_fastapi.common.db.common import SessionDep
from airflow.api_fastapi.core_api.security import GetUserDep, requires_access_dag
from fastapi import APIRouter, Depends, FastAPI, Query, Response
from fastapi.staticfiles import StaticFiles

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.plugins.uploads import MOST_UPLOADS, Scope, find_uploads

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
    """Return uploads and waits, the latest runs first; those of one run whatever its age."""
    now = datetime.now(UTC)
    scope = Scope(
        dag_id=dag_id,
        run_id=run_id,
        task_id=task_id,
        map_index=map_index,
        since=None if run_id else now - timedelta(days=days),
    )
    found = find_uploads(session, dag_ids, scope, limit=limit + 1)
    answer = {"uploads": found[:limit], "truncated": len(found) > limit, "now": now.isoformat()}
    # It is plain JSON already; FastAPI would look at every value of 10,000 rows again, which takes longer than all else.
    return Response(json.dumps(answer), media_type="application/json")


def make_app() -> FastAPI:
    """Return the app that the plugin mounts."""
    app = FastAPI(title="Scantrust", docs_url=None, redoc_url=None, openapi_url=None)
    app.include_router(router)
    # The version is in the path, so that no browser mixes the files of two of them.
    app.mount(f"/static/{__version__}", StaticFiles(directory=Path(__file__).parent / "static"))
    return app
