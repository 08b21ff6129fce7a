"""
What an upload keeps between the tries of a task, in Airflow's task state store (Airflow 3.3).

Rule 1: a call counts as done only if all its rows were updated. Other calls are repeated, which does no
        harm and keeps the rejects file of a later try complete. After a clear, calls with discarded fields
        are repeated, too, because the campaign may have the field now.
Rule 2: the number of a job is written before the job is submitted, and its task_id before it is waited for.
        If a try dies in between, the next try finds a number without an id and reports that the job may
        have been submitted twice. It reports the same when it repeats a call that had already submitted a
        job for one of its rows.
Rule 3: the report of a successful upload is written, because a worker can die before Airflow records the
        success. A retry of that try, or a retry of that retry, returns the same report and sends nothing.
        If it is not certain that a try is such a retry, everything is uploaded.
Rule 4: if jobs fail at Scantrust, only their calls are forgotten. A retry submits these again and no others.
Rule 5: no entry of the store grows with the upload: each ``JOBS_TOGETHER`` jobs get an entry of their own,
        which is written once.
Rule 6: progress belongs to one service and one account. With another account, the upload starts over.
Rule 7: an upload does not fail because the store fails; only its progress is lost.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import islice
from typing import Any, Protocol

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.uploads.report import Report

STORE_KEY = "scantrust_upload"
_REJECTS_KEY = f"{STORE_KEY}_rejects"
# About 75 bytes for each job, so an entry stays far below 64 KB, where Airflow begins to warn.
JOBS_TOGETHER = 200


class Store(Protocol):
    """The part of Airflow's task state store that this package uses."""

    def get(self, key: str) -> Any: ...
    def set(self, key: str, value: Any) -> None: ...
    def delete(self, key: str) -> None: ...


@dataclass(frozen=True)
class Try:
    """
    A try of a task.

    :param series: The same for all tries until a user clears the task.
    :param number: From 1; 0 if it is not known.
    :param id: The id of the try; None if not known. ``airflow tasks test`` reuses the id of the last try.
    """

    series: tuple[int, ...]
    number: int
    id: str | None

    def as_list(self) -> list[Any]:
        return [list(self.series), self.number, self.id]

    def follows(self, ended: Any) -> bool:
        """
        Whether this try is a retry of a try that :meth:`as_list` wrote down.

        Between the two, a retry may have died before it wrote anything. A clear begins another series.
        """
        if not isinstance(ended, list) or len(ended) != 3:
            return False
        series, number, try_id = ended
        is_later = list(self.series) == series and self.number > number
        return is_later and (self.id is None or self.id != try_id)


def fingerprint(parts: Any) -> str:
    return hashlib.sha256(json.dumps(parts, sort_keys=True, default=str).encode()).hexdigest()


def forget_jobs(store: Store | None, failed_jobs: Mapping[str, Any], log: Log) -> None:
    """
    Forget the calls of jobs that failed at Scantrust, so that a retry makes them again.

    If a failed job is not named, or its call did more than submit this job, all progress is forgotten.

    :param failed_jobs: See :class:`~airflow_provider_scantrust.exceptions.TaskFailed`.
    """
    with _unharmed(log):
        saved = read_saved(store)
        if store is None or saved is None:
            return
        task_ids = failed_jobs.get("task_ids", ())
        jobs = load_jobs(store, saved)
        if jobs is not None and task_ids and failed_jobs.get("failed") == len(task_ids):
            calls = {number for task_id in task_ids for number in jobs.pop(task_id, ())[2:]}
            if len(calls) == len(task_ids) and calls.isdisjoint(read_ranges(saved["cut"])):
                done = write_ranges(read_ranges(saved["done"]) - calls)
                write_kept(store, {**saved, "done": done, "ended": None, "whole": None}, jobs, 0)
                return
        for number in range(saved.get("job_entries", 0)):
            store.delete(_job_entry(number))
        store.delete(STORE_KEY)


def end_progress(store: Store | None, this_try: Try, report: Report, log: Log) -> None:
    """Keep the report of a successful upload, in case the worker dies before Airflow records the success."""
    with _unharmed(log):
        saved = read_saved(store)
        # While the store failed, the progress of an earlier upload may have stayed there.
        if store is not None and saved is not None and saved.get("fingerprint") == report.fingerprint:
            ended = {"ended": this_try.as_list(), "whole": report.save_counts(), "other_jobs": {}}
            write_kept(store, {**saved, **ended}, report.jobs, 0)


def read_rejects(store: Store | None, log: Log) -> dict[str, str] | None:
    """Return the rejects file that :func:`note_rejects` has noted."""
    with _unharmed(log):
        return read_saved(store, _REJECTS_KEY)
    return None


def note_rejects(store: Store | None, rejects: Mapping[str, str] | None, log: Log) -> None:
    """
    Note which rejects file belongs to this task instance, also if the next try uploads other rows.

    :param rejects: Its path and digest; and the digest ``before``, if an earlier file of this task instance may
        still be there.
    """
    with _unharmed(log):
        if store is not None and rejects is None:
            store.delete(_REJECTS_KEY)
        elif store is not None:
            store.set(_REJECTS_KEY, rejects)


def read_saved(store: Store | None, key: str = STORE_KEY) -> dict[str, Any] | None:
    """Return what is stored for a task under a key, by default its progress, or None."""
    saved = None if store is None else store.get(key)
    return saved if isinstance(saved, dict) else None


@contextmanager
def _unharmed(log: Log) -> Iterator[None]:
    try:
        yield
    except Exception as error:
        log.warning("What this upload has done cannot be kept (%s).", type(error).__name__)


def write_kept(store: Store, saved: Mapping[str, Any], jobs: Mapping[str, list[Any]], entries: int) -> int:
    """Write the progress, after so many full entries of jobs that are there; return how many there are now."""
    full = len(jobs) // JOBS_TOGETHER
    for number in range(entries, full):
        start = number * JOBS_TOGETHER
        together = dict(islice(jobs.items(), start, start + JOBS_TOGETHER))
        store.set(_job_entry(number), {"fingerprint": saved["fingerprint"], "jobs": together})
    others = dict(islice(jobs.items(), full * JOBS_TOGETHER, None))
    store.set(STORE_KEY, {**saved, "jobs": others, "job_entries": full, "job_count": len(jobs)})
    return full


def load_jobs(store: Store, saved: Mapping[str, Any]) -> dict[str, list[Any]] | None:
    """Return the jobs, or None if some of them have expired or belong to another upload."""
    jobs: dict[str, list[Any]] = {}
    for number in range(saved.get("job_entries", 0)):
        entry = store.get(_job_entry(number))
        if not isinstance(entry, dict) or entry.get("fingerprint") != saved["fingerprint"]:
            return None
        jobs.update(entry["jobs"])
    jobs.update(saved.get("jobs", {}))
    # An entry may have been rewritten by a process that died before it wrote the rest.
    if len(jobs) != saved.get("job_count", len(jobs)):
        return None
    return jobs if "fingerprint" in saved and "counts" in saved else None


def _job_entry(number: int) -> str:
    return f"{STORE_KEY}_jobs_{number}"


def write_ranges(numbers: set[int]) -> str:
    """Return numbers as text, with runs as ranges: ``0-57,60``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def read_ranges(text: str) -> set[int]:
    """Return the numbers that :func:`write_ranges` wrote."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
