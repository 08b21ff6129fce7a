"""
Turn Airflow's task instances and their XComs into rows of the page.

Rule: any user can write an XCom. A row always has the types and sizes that the page expects.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Mapping
from datetime import datetime
from typing import Any, NamedTuple, TypeVar

from airflow_provider_scantrust.plugins.problems import find_problems, is_acknowledged

T = TypeVar("T")
# The id of the run in Airflow's database, task id and map index.
Key = tuple[int, str, int]

LINK_KEY = "_link_ScantrustPortalLink"
OF_SUCCESS = ("return_value",)
# XComs of tasks without a return value: of an upload that fails because of its counts, of one with jobs, of a
# wait with failed jobs, of each failure.
OF_OTHERS = ("report", "task_ids", "failed_jobs", "failure")
# Ids of jobs in one row; an upload may have thousands.
MOST_JOBS = 20
_LONGEST_TEXT = 300
_MOST_TEXTS = 100
_MOST_KINDS = 20
_LARGEST = 10**15
_DECODER = json.JSONDecoder(parse_constant=lambda _: None)


class EndedJob(NamedTuple):
    """How a job ended, as reported by a task of the same run."""

    state: str
    codes: float | None
    seen: datetime | None


def make_row(
    task: Any,
    xcoms: Mapping[str, Any],
    fields: Any,
    ended: Mapping[str, EndedJob],
    *,
    now: datetime,
) -> dict[str, Any]:
    """
    Return a row.

    :param task: The task instance and its run.
    :param fields: The rendered fields of the task, if Airflow has kept them.
    :param ended: The ended jobs that a task of the same run has reported; the entry "" is for all jobs that
        were not named.
    """
    result = _get(xcoms, "return_value", dict) or _get(xcoms, "report", dict)
    is_plan = "sync_calls" in result
    report = result if "mode" in result and "rows" in result and not is_plan else {}
    waited = result if "tasks" in result else {}
    unmatched = _get(report, "unmatched", dict)
    failed = _get(xcoms, "failed_jobs", dict)
    failed_ids = _texts(failed, "task_ids")
    job_ids = _texts(report, "task_ids") or _texts(xcoms, "task_ids") or list(_get(waited, "tasks", dict))
    # Failed jobs first.
    job_ids = list(dict.fromkeys([*failed_ids, *job_ids]))
    # Also for a task that failed because of its counts. A wait ends when all its jobs have ended, so jobs
    # that did not fail are complete.
    ours_ended = (
        _number(report, "codes_affected") is not None
        or bool(waited)
        or len(failed_ids) == _number(failed, "failed")
    )
    states = {job: _job_state(job, task.state, ended, ours_ended) for job in job_ids}
    jobs_total = _number(waited, "jobs") or _number(failed, "jobs") or _number(report, "jobs") or len(job_ids)
    failure = _failure(xcoms, task)
    # A task that was marked or timed out while it waited has a report of the time before its wait.
    seconds = _number(report, "seconds") if task.state == "success" or failure else None
    if seconds is None and task.start_date and task.end_date:
        seconds = (task.end_date - task.start_date).total_seconds()
    count = _number(result if is_plan else report, "rows")
    if failure and not count:
        # It failed before it counted its rows.
        count = None
    mode = "dry run" if is_plan else _get(report, "mode", str)[:_LONGEST_TEXT]
    given = {"not valid": result.get("rejected")} if is_plan else _get(report, "rejected", dict)
    fields = fields if isinstance(fields, dict) else {}
    discarded = report.get("discarded_fields")
    note = task.note if isinstance(task.note, str) else None
    row = {
        "key": "\n".join([task.dag_id or "", task.run_id or "", task.task_id or "", str(task.map_index)]),
        "dag_id": task.dag_id,
        "run_id": task.run_id,
        "task_id": task.task_id,
        "map_index": task.map_index,
        "due": task.run_after.isoformat() if task.run_after else "",
        "state": task.state,
        "run_is_active": task.run_state in ("queued", "running"),
        "try_number": task.try_number,
        "tries": max(task.try_number or 0, (task.max_tries or 0) + 1),
        "is_wait": task.operator == "ScantrustTaskSensor" or bool(waited),
        "start": task.start_date.isoformat() if task.start_date else None,
        "end": task.end_date.isoformat() if task.end_date else None,
        "connection": _text(fields, "scantrust_conn_id"),
        "source": _text(fields, "source"),
        "mode": mode or None,
        "mode_reason": _text(report, "reason"),
        "rows": count,
        "calls": _number(report, "requests"),
        "throttled": _number(report, "calls_throttled"),
        "codes": _number(report or waited, "codes_affected"),
        "unmatched": _number(unmatched, "count"),
        "examples": _texts(unmatched, "examples"),
        "rejected": _counts(given),
        "rejects_path": _text(report, "rejects_path") or (failure and failure["rejects_path"]),
        # None: no answer has reported it.
        "discarded": _texts(report, "discarded_fields") if isinstance(discarded, list) else None,
        "jobs": [[job, state, *_seen(ended.get(job))] for job, state in list(states.items())[:MOST_JOBS]],
        "jobs_total": jobs_total,
        "jobs_failed": _number(failed, "failed") or list(states.values()).count("failed"),
        "jobs_unknown": 0 if "" in ended else list(states.values()).count("unknown"),
        "possibly_twice": _number(report, "possibly_submitted_twice"),
        "seconds": seconds,
        "portal": _get(xcoms, LINK_KEY, str)[:2000] or None,
        "failure": failure,
        "note": note,
        "acknowledged": is_acknowledged(note, task.try_number),
    }
    row["problems"] = find_problems(row, now=now)
    return row


def ended_jobs(
    xcoms: Mapping[Key, Mapping[str, Any]], ends: Mapping[Key, datetime | None]
) -> dict[int, dict[str, EndedJob]]:
    """Return run -> job -> how it ended, as reported by tasks of the same run."""
    ended: dict[int, dict[str, EndedJob]] = defaultdict(dict)
    for key, values in xcoms.items():
        result = _get(values, "return_value", dict)
        complete = _get(result, "tasks", dict)
        for job in complete:
            ended[key[0]][job] = EndedJob("complete", _number(complete, job), ends.get(key))
        if complete and (_number(result, "jobs") or 0) > len(complete):
            ended[key[0]][""] = EndedJob("complete", None, ends.get(key))
        for job in _texts(_get(values, "failed_jobs", dict), "task_ids"):
            ended[key[0]][job] = EndedJob("failed", None, ends.get(key))
    return ended


def read_json(text: Any) -> Any:
    """Return an XCom's value, or None if it cannot be read; NaN and infinite numbers are None."""
    for _ in range(2):
        # A worker's value is stored as JSON; that of a wait without a worker as a JSON text in JSON.
        if not isinstance(text, str):
            break
        try:
            text = _DECODER.decode(text)
        except (ValueError, RecursionError):
            break
    return text


def as_json(value: Any) -> str:
    """Return JSON that every browser can read."""
    return json.dumps(value, allow_nan=False)


def _failure(xcoms: Mapping[str, Any], task: Any) -> dict[str, Any] | None:
    """Return why the latest try failed."""
    failure = _get(xcoms, "failure", dict)
    is_latest = _number(failure, "try_number") in (None, task.try_number)
    if not failure or not is_latest or task.state not in ("failed", "up_for_retry"):
        return None
    error, message = _text(failure, "error"), _text(failure, "message")
    return {
        "text": ": ".join(part for part in (error, message) if part) or "The task gave no reason.",
        "permanent": failure.get("permanent") is True,
        "rejects_path": _text(failure, "rejects_path"),
    }


def _job_state(job: str, state: str | None, ended: Mapping[str, EndedJob], ours_ended: bool) -> str:
    """Return the state of a job as Airflow knows it; the page does not call Scantrust."""
    if job in ended:
        return ended[job].state
    if ours_ended:
        return "complete"
    if state in ("deferred", "up_for_reschedule", "running"):
        return "waiting"
    return "unknown"


def _seen(ended: EndedJob | None) -> tuple[float | None, str | None]:
    return (ended.codes, ended.seen.isoformat() if ended.seen else None) if ended else (None, None)


def _get(values: Mapping[str, Any], key: str, kind: type[T]) -> T:
    """Return a value, or an empty one if it is missing or an XCom backend stores it elsewhere."""
    value = values.get(key)
    return value if isinstance(value, kind) else kind()


def _text(values: Mapping[str, Any], key: str) -> str | None:
    return _get(values, key, str)[:_LONGEST_TEXT] or None


def _texts(values: Mapping[str, Any], key: str) -> list[str]:
    texts: list[Any] = _get(values, key, list)
    return [text[:_LONGEST_TEXT] for text in texts[:_MOST_TEXTS] if isinstance(text, str)]


def _number(values: Mapping[str, Any], key: str) -> int | float | None:
    value: Any = values.get(key)
    # Neither a bool, nor NaN, nor a number that a browser cannot read.
    return value if type(value) in (int, float) and abs(value) < _LARGEST else None


def _counts(values: Mapping[str, Any]) -> dict[str, int]:
    found = {str(kind)[:_LONGEST_TEXT]: _number(values, kind) for kind in list(values)[:_MOST_KINDS]}
    return {kind: number for kind, number in found.items() if isinstance(number, int) and number > 0}
