"""
Progress of an upload over the tries of a task, in Airflow's task state store (Airflow 3.3).

Rule 1: only calls all of whose rows arrived are kept as done; the others are made again, which does no harm, so that the
        rejects file of a later try is complete.
Rule 2: that a job is about to be submitted is written before it is, and its id before it is waited for. A try that dies in
        between leaves a number without an id, and the next one says that this job may have been submitted twice. So it says
        of a call that is made again and of which a row had become a job.
Rule 3: an upload that has ended well is kept as ended, for Airflow may not learn of it: a worker can die between the last
        step of a task and the note of its success. A retry then gives the same report and sends nothing again. A task
        that is cleared uploads anew; Airflow then allows more tries, which is how the two are told apart.
Rule 4: of jobs that failed at Scantrust only the calls are forgotten, so that a retry submits them anew and nothing else.
Rule 5: no entry of the store grows with the upload: whenever there are ``JOBS_TOGETHER`` more jobs, they go into an entry of
        their own, which is not written again.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from itertools import islice
from typing import TYPE_CHECKING, Any, cast

from airflow_provider_scantrust.exceptions import ScantrustError
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.run import Piece

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.transports.common import Log

STORE_KEY = "scantrust_upload"
# Some 75 bytes each, so that an entry stays far below the 64 KB from which on Airflow warns.
JOBS_TOGETHER = 200


class Progress:
    """
    What is known to have been done, and when it has to be written down.

    At most ``max_in_flight`` calls are made again after a crash: those under way and those not yet written together.

    :param context: The task's context.
    :param fingerprint: Stands for the rows, the plan and the connection; progress under another one is forgotten.
    :param jobs: How many calls are jobs; they have the first numbers.

    After that, ``report`` is what earlier tries have done, and ``ended`` says that they did everything.
    """

    def __init__(
        self, context: Context, fingerprint: str, *, jobs: int, max_in_flight: int, log: Log
    ) -> None:
        self._store: Any = cast("Any", context).get("task_state_store")
        self._fingerprint = fingerprint
        self._jobs = jobs
        self._max_in_flight = max_in_flight
        self._unsaved = 0
        self._job_entries = 0
        self._announced: set[int] = set()
        self._begun: set[int] = set()
        # Calls that are made again, and have left a job.
        self._left: set[int] = set()
        self.done: set[int] = set()
        # Calls of which more became than the one request.
        self._cut: set[int] = set()
        self.report = Report("", 0, 0.0)
        self.ended = False
        self._load(context, log)

    def before_call(self, piece: Piece, in_flight: int) -> None:
        """Write down what is done, and which jobs come next, before another call is under way."""
        if piece.alike:
            # Scantrust has refused the job, so there is none.
            self._announced.discard(piece.number)
        if piece.job is not None:
            self._begun.add(piece.number)
        if new := piece.job is not None and piece.number not in self._announced:
            # Several at once: a write is a call to Airflow's API server.
            following = range(piece.number, min(piece.number + self._max_in_flight, self._jobs))
            self._announced |= {piece.number, *following} - self.done
        if new or (self._unsaved and in_flight + self._unsaved >= self._max_in_flight):
            self._save()

    def call_done(self, number: int, counted: Report) -> None:
        """Take note of a call that has ended."""
        self._announced.discard(number)
        if not counted.unmatched and not counted.rejected:
            self.done.add(number)
            if counted.requests > 1:
                self._cut.add(number)
            self.report.add(counted)
            self._unsaved += 1
        elif counted.jobs:
            # A retry makes the whole call again, so that this job, too, comes a second time.
            self._left.add(number)

    @contextmanager
    def kept(self) -> Iterator[None]:
        """Write everything down at the end, however it comes."""
        try:
            yield
        except ScantrustError as error:
            if error.permanent:
                # Scantrust has answered, so nothing is open.
                self._announced.clear()
            raise
        else:
            self._announced.clear()
        finally:
            # All others were only to come next.
            self._announced &= self._begun
            self._save()

    def _save(self) -> None:
        self._unsaved = 0
        if self._store is not None:
            saved = {
                "fingerprint": self._fingerprint,
                "done": write_ranges(self.done),
                "cut": write_ranges(self._cut),
                "submitting": write_ranges(self._announced),
                "left": write_ranges(self._left),
            }
            self._job_entries = _save(self._store, saved, self.report, self._job_entries)

    def _load(self, context: Context, log: Log) -> None:
        if self._store is None:
            if _number(context.get("ti"), "try_number") > 1:
                log.warning(
                    "This Airflow keeps no state between tries (3.3 does), so the upload starts over; setting the same "
                    "values again does no harm."
                )
            return
        saved = self._store.get(STORE_KEY)
        if not isinstance(saved, dict):
            return
        ended_in = saved.get("ended_in")
        if ended_in not in (None, _series(context)):
            return
        if saved.get("fingerprint") != self._fingerprint:
            log.warning("What is uploaded has changed since the last try, so the upload starts anew.")
            return
        report = _load_report(self._store, saved)
        if report is None:
            log.warning("What was kept of the last try is no longer complete, so the upload starts anew.")
            return
        self.done, self._cut, self.report = (
            read_ranges(saved["done"]),
            read_ranges(saved.get("cut", "")),
            report,
        )
        self._job_entries = saved.get("job_entries", 0)
        if ended_in is not None:
            self.ended = True
            log.info("The last try had ended well, but Airflow did not learn of it; nothing is sent again.")
            return
        log.info(
            "The last try made %s calls and submitted %s jobs; going on from there.",
            len(self.done),
            len(self.report.jobs),
        )
        if left := len(read_ranges(saved.get("left", "")) - self.done):
            self.report.possibly_twice += left
            log.warning(
                "Of %s calls that are made again, because not all of their rows arrived, a row had gone as an asynchronous "
                "upload. It is submitted once more; both set the same values.",
                left,
            )
        if unknown := len(read_ranges(saved.get("submitting", "")) - self.done):
            self.report.possibly_twice += unknown
            log.warning(
                "The last try ended while it submitted up to %s asynchronous uploads whose ids it did not learn. They are "
                "submitted now, so Scantrust may run them twice; both set the same values.",
                unknown,
            )


def fingerprint(parts: Any) -> str:
    """Return a hash of plain JSON."""
    return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()


def fingerprint_of(pieces: Iterable[Piece], *parts: Any) -> str:
    """Return a hash of calls, all that they carry, and of further plain JSON."""
    carried = [[p.rows, p.job and [p.job.constraints, p.job.scm_data]] for p in pieces]
    return fingerprint([carried, *parts])


def forget_jobs(context: Context, failed_jobs: Mapping[str, Any]) -> None:
    """
    Forget the calls of jobs that failed at Scantrust, so that a retry makes them anew.

    All that is kept is forgotten where not each of the jobs is named, or known to be all that became of its call.

    :param failed_jobs: See :class:`~airflow_provider_scantrust.exceptions.TaskFailed`.
    """
    store: Any = cast("Any", context).get("task_state_store")
    saved = None if store is None else store.get(STORE_KEY)
    if not isinstance(saved, dict):
        return
    task_ids = failed_jobs.get("task_ids", ())
    report = _load_report(store, saved)
    if report is not None and task_ids and failed_jobs.get("failed") == len(task_ids):
        calls = {number for task_id in task_ids for number in report.jobs.pop(task_id, ())[2:]}
        if len(calls) == len(task_ids) and calls.isdisjoint(read_ranges(saved.get("cut", ""))):
            done = write_ranges(read_ranges(saved["done"]) - calls)
            _save(store, {**saved, "done": done, "ended_in": None}, report)
            return
    store.delete(STORE_KEY)
    for number in range(saved.get("job_entries", 0)):
        store.delete(_job_entry(number))


def end_progress(context: Context, report: Report) -> None:
    """Keep how the upload has ended, for a retry of a task whose success Airflow did not learn of."""
    store: Any = cast("Any", context).get("task_state_store")
    saved = None if store is None else store.get(STORE_KEY)
    if isinstance(saved, dict):
        _save(store, {**saved, "ended_in": _series(context)}, report)


def _save(store: Any, saved: Mapping[str, Any], report: Report, entries: int = 0) -> int:
    """
    Write what is kept, and the report with it; return how many entries hold the first of its jobs.

    :param entries: How many there are already.
    """
    full = len(report.jobs) // JOBS_TOGETHER
    for number in range(entries, full):
        start = number * JOBS_TOGETHER
        jobs = dict(islice(report.jobs.items(), start, start + JOBS_TOGETHER))
        store.set(_job_entry(number), {"fingerprint": saved["fingerprint"], "jobs": jobs})
    others = dict(islice(report.jobs.items(), full * JOBS_TOGETHER, None))
    store.set(STORE_KEY, {**saved, "report": {**report.save(), "jobs": others}, "job_entries": full})
    return full


def _load_report(store: Any, saved: Mapping[str, Any]) -> Report | None:
    """Return the report with its jobs, or None where some of them have expired, or are of another upload."""
    jobs: dict[str, list[Any]] = {}
    for number in range(saved.get("job_entries", 0)):
        entry = store.get(_job_entry(number))
        if not isinstance(entry, dict) or entry.get("fingerprint") != saved["fingerprint"]:
            return None
        jobs.update(entry["jobs"])
    report = Report.load(saved["report"])
    report.jobs = {**jobs, **report.jobs}
    return report


def _job_entry(number: int) -> str:
    return f"{STORE_KEY}_jobs_{number}"


def _series(context: Context) -> list[int]:
    """Return what all tries of a task have in common until a user clears it."""
    ti: Any = context.get("ti")
    # Clearing adds the task's retries to the tries that were made; without the retries, a Dag that has fewer of them now
    # could come to the same sum.
    return [_number(ti, "max_tries"), _number(getattr(ti, "task", None), "retries")]


def _number(thing: Any, name: str) -> int:
    """Return a number that Airflow keeps; 0 where a context made by hand, as in the test of a Dag, has none."""
    number = getattr(thing, name, None)
    return number if isinstance(number, int) else 0


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
