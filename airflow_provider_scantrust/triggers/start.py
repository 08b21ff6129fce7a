"""
Decide which waits Airflow can start and end in the triggerer, without a worker.

Rule: if the result would be different in the triggerer, the wait starts, or ends, on a worker.
"""

from __future__ import annotations

import re
from datetime import timedelta
from math import inf
from typing import TYPE_CHECKING, Any

import airflow

from airflow_provider_scantrust.triggers.deferral import BACKSTOP, fits_a_row
from airflow_provider_scantrust.triggers.scantrust import CLASS_PATH

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator
    from airflow.triggers.base import StartTriggerArgs

# The trigger must report before Airflow's own timeout, which ends the task without a reason.
_SPARE = 10.0
# What a worker does at the end of a task, and the triggerer does not. For on_success_callback, Airflow 3.3
# sends a request to the Dag processor, which runs only callbacks of failed tasks.
_ONLY_ON_A_WORKER = (
    "outlets",
    "on_execute_callback",
    "on_success_callback",
    "_pre_execute_hook",
    "_post_execute_hook",
)
# Names in a template that have no value in the triggerer of Airflow 3.3, or an empty one.
_ONLY_IN_TEMPLATES_ON_A_WORKER = (
    "triggering_asset_events",
    "consumed_asset_events",
    "inlet_events",
    "task_state_store",
    "prev_start_date_success",
    "prev_end_date_success",
    "prev_data_interval_start_success",
    "prev_data_interval_end_success",
)


class StartsOnWorker(Exception):
    """The wait cannot start in the triggerer; the message says why."""


def has_start() -> bool:
    """Whether this Airflow renders templates in the triggerer; 3.3 is the first."""
    major, minor = (int(part) for part in airflow.__version__.split(".")[:2])
    return (major, minor) >= (3, 3)


def why_end_on_worker(task: BaseOperator) -> str | None:
    """Return why a task must end on a worker, or None."""
    if not has_start():
        return "this Airflow is older than 3.3"
    needed = [name.strip("_") for name in _ONLY_ON_A_WORKER if getattr(task, name, None)]
    return f"it has {', '.join(needed)}" if needed else None


def make_start(
    task: BaseOperator, scantrust_task_id: Any, *, scantrust_conn_id: Any, timeout: float, **options: Any
) -> StartTriggerArgs:
    """
    Return what Airflow needs to start the wait in the triggerer.

    :param timeout: Seconds.
    :param options: Further arguments of the trigger.
    :raises StartsOnWorker: The wait must start on a worker.
    """
    if not has_start():
        raise StartsOnWorker(
            "this Airflow is older than 3.3, the first that renders templates in the triggerer"
        )
    from airflow.triggers.base import StartTriggerArgs

    if task.get_closest_mapped_task_group() is not None:
        raise StartsOnWorker("it is in a mapped task group")
    template = _as_template("scantrust_task_id", scantrust_task_id)
    conn_id = _as_template("scantrust_conn_id", scantrust_conn_id)
    if used := _unknown_names(task, [template, conn_id]):
        raise StartsOnWorker(f"the triggerer does not know {', '.join(used)}")
    if not fits_a_row(template):
        raise StartsOnWorker("its ids are too many for the row of a trigger")
    limit = inf if task.execution_timeout is None else task.execution_timeout.total_seconds()
    airflow_ends = min(timeout + BACKSTOP, limit)
    return StartTriggerArgs(
        trigger_cls=CLASS_PATH,
        trigger_kwargs={
            "scantrust_task_id": template,
            "scantrust_conn_id": conn_id,
            "spare_seconds": max(airflow_ends - min(timeout, limit), min(_SPARE, airflow_ends / 10)),
            **options,
        },
        next_method="execute_complete",
        next_kwargs={"deadline_is": "execution_timeout" if limit < timeout else "timeout"},
        timeout=timedelta(seconds=airflow_ends),
    )


def _unknown_names(task: BaseOperator, template: Any) -> list[str]:
    """Return the names in a template that the triggerer does not know; the stored Dag, which it uses, has no macros."""
    dag: Any = task.get_dag()
    names = [
        *_ONLY_IN_TEMPLATES_ON_A_WORKER,
        *(getattr(dag, "user_defined_macros", None) or ()),
        *(getattr(dag, "user_defined_filters", None) or ()),
    ]
    text = str(template)
    return [name for name in names if "{" in text and re.search(rf"\b{re.escape(name)}\b", text)]


def _as_template(name: str, value: Any) -> Any:
    """
    Return an argument, or templates of it, in a form that the triggerer can read.

    The triggerer does not resolve an XComArg, and ``xcom_pull`` without ``map_indexes`` gets no answer.
    """
    if isinstance(value, str):
        if "xcom_pull" in value and "map_indexes" not in value:
            raise StartsOnWorker("its template has an xcom_pull without map_indexes=-1")
        return value
    if isinstance(value, list | tuple):
        return [_as_template(name, entry) for entry in value]
    from airflow.sdk.definitions.xcom_arg import PlainXComArg

    if not isinstance(value, PlainXComArg):
        raise StartsOnWorker(f"{name} is a {type(value).__name__}")
    upstream = value.operator
    if upstream.is_mapped or upstream.get_closest_mapped_task_group() is not None:
        raise StartsOnWorker("the upstream task is mapped")
    if not re.fullmatch(r"[\w.-]+", value.key):
        raise StartsOnWorker(f"the XCom key {value.key!r} cannot be written into a template")
    return f"{{{{ ti.xcom_pull(task_ids={upstream.task_id!r}, key={value.key!r}, map_indexes=-1) }}}}"
