"""`task`: the state of asynchronous jobs."""

from __future__ import annotations

import argparse
import time
from typing import Any

from airflow_provider_scantrust.api.models import Task
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.cli.hook import CommandHook
from airflow_provider_scantrust.cli.output import FAILED, TEMPORARY, Output, rows
from airflow_provider_scantrust.exceptions import InvalidInput, NotFound, ScantrustError
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.hooks.waiting import WorkerWait
from airflow_provider_scantrust.waits.jobs import Jobs, jobs_go_on

_COLUMNS = ("task_id", "state", "codes_affected", "created_at", "started_at", "completed_at")


def task(arguments: argparse.Namespace, out: Output) -> int:
    """Show jobs; with ``--wait``, after they have ended."""
    hook = CommandHook(arguments.conn_id, out)
    # Each once, in the order given.
    task_ids = list(dict.fromkeys(arguments.task_ids))
    ended: ScantrustError | None = None
    if arguments.wait:
        try:
            with out.waiting(f"Waiting for {plural(len(task_ids), 'job')}"):
                jobs = Jobs(task_ids, deadline=time.time() + arguments.timeout)
                WorkerWait(hook, jobs).wait(arguments.poll_interval)
        except KeyboardInterrupt:
            raise KeyboardInterrupt(f"Stopped waiting. {jobs_go_on(task_ids)}") from None
        except ScantrustError as error:
            ended = error
    found = [_look(hook, task_id) for task_id in task_ids]
    out.result(found, rows(_COLUMNS, [[each[name] for name in _COLUMNS] for each in found]))
    if ended is not None:
        out.say(f"{type(ended).__name__}: {ended}")
        return FAILED if ended.permanent else TEMPORARY
    return FAILED if any(each["failed"] for each in found) else 0


def _look(hook: ScantrustHook, task_id: str) -> dict[str, Any]:
    try:
        job = hook.get_task(task_id)
    except (NotFound, InvalidInput):
        return {**dict.fromkeys(_COLUMNS), "task_id": task_id, "state": "not known", "failed": True}
    return {
        "task_id": task_id,
        "state": job.state_word,
        "codes_affected": job.codes_affected,
        **{name: _moment(job, name) for name in _COLUMNS[3:]},
        "failed": job.is_failed,
    }


def _moment(job: Task, name: str) -> str | None:
    moment = getattr(job, name)
    return None if moment is None else str(moment.to_iso8601_string())
