"""Decide why an upload needs attention, and until when."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any

# After this time, jobs that no task waits for need attention.
UNKNOWN_AFTER = timedelta(days=1)
_NAMES = 5
# A line in the task instance's note. It is for one try; a later try must be acknowledged again.
_ACKNOWLEDGED = re.compile(r"^Scantrust: acknowledged \(try (\d+)\)", re.MULTILINE)

Problem = dict[str, Any]


def find_problems(row: Mapping[str, Any], *, now: datetime) -> list[Problem]:
    """
    Return what is wrong with an upload or a wait, the most important problem first.

    :param row: The result of :func:`make_row` for the task.
    """
    found: list[tuple[str, str]] = []
    failure = row["failure"]
    if row["state"] == "upstream_failed":
        found.append(("failed", "An upstream task failed, so this task did not run."))
    elif row["state"] in ("failed", "up_for_retry"):
        found.append(("failed", failure["text"] if failure else "No reason was recorded. The log has more."))
    if row["jobs_failed"]:
        found.append(("jobs", f"{row['jobs_failed']:,} of {count(row['jobs_total'], 'job')} failed"))
    if row["codes"] == 0 and row["state"] == "success":
        if row["rows"]:
            found.append(("zero", f"No code updated by {count(row['rows'], 'row')}"))
        elif row["is_wait"] and row["jobs_total"]:
            found.append(("zero", f"No code updated by {count(row['jobs_total'], 'job')}"))
    if row["discarded"]:
        found.append(
            ("fields", f"{count(len(row['discarded']), 'field')} ignored: {_names(row['discarded'])}")
        )
    if row["unmatched"]:
        found.append(("keys", count(row["unmatched"], "unknown key")))
    if rejected := sum(row["rejected"].values()):
        kinds = ", ".join(
            kind if number == rejected else f"{kind}: {number:,}" for kind, number in row["rejected"].items()
        )
        found.append(("rows", f"{count(rejected, 'row')} rejected ({kinds})"))
    if row["state"] == "success" and row["jobs_unknown"] and row["end"]:
        age = now - datetime.fromisoformat(row["end"])
        if age >= UNKNOWN_AFTER:
            jobs = count(row["jobs_unknown"], "job")
            found.append(("unknown", f"State of {jobs} unknown for {count(age.days, 'day')}"))
    return [{"kind": kind, "text": text, "open": False} for kind, text in found]


def open_problems(rows: Sequence[dict[str, Any]], later: Iterable[dict[str, Any]] = ()) -> None:
    """
    Mark the problems that are open: no later run of the same task succeeded without them.

    :param later: Rows of runs that may be later, for comparison only.
    """
    # Task -> the problems that all its later successes had, too.
    remaining: dict[tuple[Any, ...], set[str]] = {}
    mine = {row["key"] for row in rows}
    compared = [*(row for row in later if row["key"] not in mine), *rows]
    for row in sorted(compared, key=lambda row: row["due"], reverse=True):
        task = (row["dag_id"], row["task_id"], row["map_index"])
        still = remaining.get(task)
        kinds = {problem["kind"] for problem in row["problems"]}
        if row["key"] in mine:
            for problem in row["problems"]:
                problem["open"] = still is None or problem["kind"] in still
            has_ended = row["state"] in ("failed", "upstream_failed", "success")
            is_open = any(problem["open"] for problem in row["problems"])
            row["needs_attention"] = has_ended and is_open and not row["acknowledged"]
        if row["state"] == "success" and row["mode"] != "dry run":
            remaining[task] = kinds if still is None else still & kinds


def is_acknowledged(note: str | None, try_number: int) -> bool:
    """Whether a user has acknowledged the problems of this try."""
    return note is not None and str(try_number) in _ACKNOWLEDGED.findall(note)


def count(number: int | float, noun: str) -> str:
    """Return a number with its noun."""
    return f"{number:,} {noun}" if number == 1 else f"{number:,} {noun}s"


def _names(names: Sequence[str]) -> str:
    more = f" and {len(names) - _NAMES:,} more" if len(names) > _NAMES else ""
    return ", ".join(names[:_NAMES]) + more
