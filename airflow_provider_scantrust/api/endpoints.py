"""
The calls of Scantrust's REST API that this package makes.

Rule: what may differ at Scantrust (paths, words for states) comes from the connection's dialect.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from airflow_provider_scantrust.api.extras import SCANTRUST, Dialect
from airflow_provider_scantrust.api.messages import Endpoint
from airflow_provider_scantrust.api.models import (
    Task,
    UploadResult,
    get_field,
    read_account,
    read_task,
    read_upload,
)
from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.exceptions import InvalidInput

# Assumed: an id has letters, digits and a few marks. It must not be able to change the path.
_TASK_ID = re.compile(r"[A-Za-z0-9_-][A-Za-z0-9._:~=-]{0,199}")


def upload_scm_data(
    items: Sequence[Mapping[str, Any]], data_key: str, dialect: Dialect = SCANTRUST
) -> Endpoint[UploadResult]:
    """
    Return the synchronous upload of items, each with its own values. Scantrust: Upload SCM data (sync).

    A 504 means that the gateway gave up after 60 s and that **no** code was updated. The same call would fail
    again. To set the same values twice does no harm, so a replay is safe.
    """
    return Endpoint(
        what=f"the synchronous upload of {plural(len(items), 'item')}",
        method="POST",
        path=dialect.upload_path,
        payload={"data_key": data_key, "items": items},
        read=read_upload,
        gateway_timeout_is_final=True,
    )


def upload_scm_data_async(
    constraints: Mapping[str, Any], scm_data: Mapping[str, Any], dialect: Dialect = SCANTRUST
) -> Endpoint[str]:
    """
    Return the submit of one job that sets ``scm_data`` on every code that meets all constraints.

    Scantrust: Upload SCM data (async). The result is the task_id.

    :raises InvalidInput: There is no constraint, so all codes would match.
    """
    if not constraints:
        raise InvalidInput("constraints must have at least one field: without one, all codes would match.")
    return Endpoint(
        what="the submit of an asynchronous upload",
        method="POST",
        path=dialect.upload_async_path,
        payload={"constraints": constraints, "scm_data": scm_data},
        read=_read_submitted,
        submits_a_job=True,
    )


def get_scm_task(task_id: str, dialect: Dialect = SCANTRUST) -> Endpoint[Task]:
    """Return the status poll of an asynchronous job."""
    task_id = check_task_id(task_id)
    return Endpoint(
        what=f"the status of task {task_id}",
        method="GET",
        path=dialect.task_path.replace("{task_id}", task_id),
        read=lambda data: read_task(task_id, data, dialect),
    )


def get_me(dialect: Dialect = SCANTRUST) -> Endpoint[str]:
    """Return the call that tells whether access works, and for whom."""
    return Endpoint(what="the test of the connection", method="GET", path=dialect.me_path, read=read_account)


def check_task_id(task_id: Any) -> str:
    """Return a task_id without spaces around it; refuse what is no id, and could lead to another path."""
    text = task_id.strip() if isinstance(task_id, str) else ""
    if not _TASK_ID.fullmatch(text):
        raise InvalidInput(f"{show(task_id)} is not a task_id of Scantrust.")
    return text


def _read_submitted(data: Any) -> str:
    task_id = get_field(data, "task_id")
    if isinstance(task_id, bool) or not isinstance(task_id, str | int) or not str(task_id).strip():
        raise ValueError("there is no 'task_id' in it")
    if not _TASK_ID.fullmatch(text := str(task_id).strip()):
        raise ValueError("its 'task_id' is not a task_id")
    return text
