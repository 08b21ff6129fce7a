"""What an upload has done so far, and when that is written to the store; the rules are in ``kept``."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from typing import Any

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.exceptions import ConnectionFailed, ServiceUnavailable, UnreadableAnswer
from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.kept import (
    Store,
    Try,
    load_jobs,
    read_ranges,
    read_saved,
    write_kept,
    write_ranges,
)
from airflow_provider_scantrust.uploads.report import Report

# After these, Scantrust may or may not have made the job.
_UNCERTAIN = (ConnectionFailed, ServiceUnavailable, UnreadableAnswer)


class Progress:
    """
    After a crash, at most ``max_in_flight`` calls are repeated: those in flight and those not yet written.

    :param store: None before Airflow 3.3.
    :param account: Identifies service and account.
    :param options: Identifies the upload without reading its source.
    """

    def __init__(
        self, store: Store | None, this_try: Try, *, account: str, options: str, max_in_flight: int, log: Log
    ) -> None:
        self._store = store
        self._try = this_try
        self._max_in_flight = max_in_flight
        self._log = log
        self._saved: dict[str, Any] = {"account": account, "options": options}
        self._jobs = range(0)
        self._unsaved = 0
        self._job_entries = 0
        self._announced: set[int] = set()
        # Calls that have begun -> how many jobs they have submitted, or may have; a call that was halved may
        # have several.
        self._possible: Counter[int] = Counter()
        # Calls that are repeated, and have left a job.
        self._left: set[int] = set()
        self.done: set[int] = set()
        # Calls that took more than one request.
        self._cut: set[int] = set()
        # Calls with discarded fields. _doubtful_counts has their counts, _counts those of all other calls.
        self._doubtful: set[int] = set()
        self._counts = Report()
        self._doubtful_counts = Report()
        self._task_jobs: dict[str, list[Any]] = {}
        self._has_failed = False
        self._is_half_noted = False

    @property
    def report(self) -> Report:
        """The counts and jobs of the calls that are done."""
        report = Report()
        for counts in (self._counts, self._doubtful_counts):
            report.add(counts)
        report.jobs = dict(self._task_jobs)
        return report

    def keys_done(self, items_per_call: int) -> int:
        """Return how many keys the calls that are done have sent; each synchronous call counts as full."""
        in_jobs: int = sum(keys for keys, _, number in self._task_jobs.values() if number in self._jobs)
        return in_jobs + len(self.done.difference(self._jobs)) * items_per_call

    def take_up(self, fingerprint: str, jobs: range) -> Report | None:
        """
        Take up what earlier tries have done; if the upload has ended, return its report.

        :param fingerprint: Identifies the calls of this try; progress of other calls is forgotten.
        :param jobs: The numbers of the calls that are jobs.
        """
        self._saved["fingerprint"] = fingerprint
        self._jobs = jobs
        if self._store is None:
            if self._try.number > 1:
                self._log.warning(
                    "This Airflow keeps no state between tries (3.3 does), so the upload starts over. Setting the same values "
                    "again does no harm."
                )
            return None
        found = self._find("fingerprint")
        if found is None:
            return None
        if found[0].get("ended") is not None:
            return self._whole_report(*found)
        self._load(*found)
        return None

    def take_up_without_source(self) -> Report | None:
        """
        Return what earlier tries have done, if they made every call of this upload; otherwise None.

        For a source that is gone: the task can still wait for its jobs.
        """
        found = self._find("options")
        if found is None:
            return None
        saved, _ = found
        if not saved.get("whole") or (self._is_cleared(saved) and saved["doubtful_counts"]["discarded"]):
            # Some of its calls have to be made, which takes the source.
            return None
        return self._whole_report(*found)

    def before_call(self, call: Call, in_flight: int) -> None:
        """Before another call starts, write down what is done and which jobs come next."""
        if new := call.is_job and call.number not in self._announced:
            # Several jobs with one write, because each write is a call to Airflow's API server.
            following = set(range(call.number, call.number + self._max_in_flight)).intersection(self._jobs)
            self._announced |= {call.number, *following} - self.done
        if new or (self._unsaved and in_flight + self._unsaved >= self._max_in_flight):
            self._save()
        if call.is_job:
            self._possible[call.number] += 1

    def answered(self, call: Call, error: Exception | None) -> None:
        """Note whether Scantrust may have made a job for this call."""
        if not call.is_job or error is None or isinstance(error, _UNCERTAIN):
            return
        if not getattr(error, "after_trouble", True):
            self._possible[call.number] -= 1
            if not self._possible[call.number]:
                self._announced.discard(call.number)

    def call_done(self, number: int, counted: Report) -> None:
        """
        Note that a call has ended.

        A time limit may interrupt this at any step. Then nothing more is written: a retry could otherwise skip
        a call whose job or counts are not there. It repeats the calls that are not yet written.
        """
        if self._is_half_noted:
            return
        self._is_half_noted = True
        self._note_done(number, counted)
        self._is_half_noted = False

    def _note_done(self, number: int, counted: Report) -> None:
        self._announced.discard(number)
        self._possible.pop(number, None)
        if counted.unmatched or counted.rejected:
            if counted.jobs:
                # A retry repeats the whole call, and so submits this job again.
                self._left.add(number)
            return
        self.done.add(number)
        if counted.requests > 1:
            self._cut.add(number)
        known = self._doubtful_counts.discarded
        # Of a job that was submitted before the first field was discarded, it is known only later.
        is_doubtful = (
            bool(counted.discarded)
            or not known.keys().isdisjoint(counted.fields)
            or (bool(counted.jobs) and not known)
        )
        if is_doubtful:
            self._doubtful.add(number)
        self._task_jobs.update(counted.jobs)
        (self._doubtful_counts if is_doubtful else self._counts).add(counted)
        self._unsaved += 1

    def close(self) -> None:
        """Write everything down at the end, also when an error or a time limit ends the upload."""
        # The other announced jobs were never submitted.
        self._announced &= self._possible.keys()
        self._save()

    def all_calls_made(self, report: Report) -> None:
        """Note that only the wait for jobs is left."""
        self._saved["whole"] = report.save_counts()
        self._saved["other_jobs"] = {
            task_id: job for task_id, job in report.jobs.items() if task_id not in self._task_jobs
        }
        self._save()

    def _find(self, what: str) -> tuple[dict[str, Any], dict[str, list[Any]]] | None:
        """Return the stored progress and jobs of this upload; if they are of no use, a warning says why."""
        saved = self._read()
        if self._store is None or saved is None:
            return None
        ended = saved.get("ended")
        if ended is not None and not self._try.follows(ended):
            return None
        if saved.get("account") != self._saved["account"]:
            reason = (
                "The connection leads to another service or account than in the last try, or has another token"
                if "account" in saved
                else "The last try was made by another release of this package"
            )
        elif saved.get(what) != self._saved[what]:
            reason = "What is uploaded has changed since the last try"
        elif (jobs := load_jobs(self._store, saved)) is None or (
            ended is not None and not saved.get("whole")
        ):
            reason = "The stored progress of the last try is not complete"
        else:
            return saved, jobs
        self._log.warning("%s, so the upload starts over.", reason)
        return None

    def _whole_report(self, saved: Mapping[str, Any], jobs: dict[str, list[Any]]) -> Report:
        if saved.get("ended") is not None:
            self._log.info("The last try succeeded, but Airflow did not record that; nothing is sent again.")
        report = Report.load(saved["whole"])
        report.jobs = jobs | saved["other_jobs"]
        return report

    def _load(self, saved: Mapping[str, Any], jobs: dict[str, list[Any]]) -> None:
        self.done, self._cut, self._doubtful = (
            read_ranges(saved[name]) for name in ("done", "cut", "doubtful")
        )
        self._counts = Report.load(saved["counts"])
        self._doubtful_counts = Report.load(saved["doubtful_counts"])
        self._task_jobs = jobs
        self._job_entries = saved["job_entries"]
        if self._doubtful_counts.discarded and self._is_cleared(saved):
            self._forget_doubtful()
        if self.done:
            self._log.info(
                "The last try made %s and submitted %s; this one continues from there.",
                plural(len(self.done), "call"),
                plural(len(self._task_jobs), "job"),
            )
        unknown = len(read_ranges(saved["submitting"]) - self.done) + saved.get("submitting_more", 0)
        self._say_twice(len(read_ranges(saved["left"]) - self.done), unknown)

    def _is_cleared(self, saved: Mapping[str, Any]) -> bool:
        return bool(saved["series"] != list(self._try.series))

    def _forget_doubtful(self) -> None:
        self._log.info(
            "The task was cleared, so this try repeats %s with fields that Scantrust discarded (%s).",
            plural(len(self._doubtful), "call"),
            ", ".join(sorted(self._doubtful_counts.discarded)[:10]),
        )
        self.done -= self._doubtful
        self._cut -= self._doubtful
        self._task_jobs = {
            task_id: job for task_id, job in self._task_jobs.items() if job[2] not in self._doubtful
        }
        self._doubtful = set()
        self._doubtful_counts = Report()
        self._job_entries = 0

    def _say_twice(self, left: int, unknown: int) -> None:
        self._counts.possibly_twice += left + unknown
        if left:
            self._log.warning(
                "%s will be submitted as a job a second time: other rows of the same call were not updated, so the call "
                "is repeated. Both jobs set the same values.",
                plural(left, "row"),
            )
        if unknown:
            self._log.warning(
                "The last try ended while it submitted up to %s, and got no task_id. Each is submitted again, so Scantrust "
                "may run it twice; both runs set the same values.",
                plural(unknown, "job"),
            )

    def _read(self) -> dict[str, Any] | None:
        try:
            return read_saved(self._store)
        except Exception as error:
            if self._try.number > 1:
                # Without the progress, all jobs would be submitted again. The next try may read it.
                raise
            self._log.warning("The progress of this task cannot be read (%s).", type(error).__name__)
            return None

    def _save(self) -> None:
        if self._store is None or "fingerprint" not in self._saved or self._is_half_noted:
            return
        self._saved |= {
            "series": list(self._try.series),
            "done": write_ranges(self.done),
            "cut": write_ranges(self._cut),
            "doubtful": write_ranges(self._doubtful),
            "submitting": write_ranges(self._announced),
            "submitting_more": sum(jobs - 1 for jobs in self._possible.values() if jobs),
            "left": write_ranges(self._left),
            "counts": self._counts.save_counts(),
            "doubtful_counts": self._doubtful_counts.save_counts(),
        }
        try:
            self._job_entries = write_kept(self._store, self._saved, self._task_jobs, self._job_entries)
        except Exception as error:
            if not self._has_failed:
                self._has_failed = True
                self._log.warning(
                    "The progress of this upload cannot be kept (%s). The upload continues; if this try fails, the next one "
                    "may submit the same jobs again.",
                    type(error).__name__,
                )
        else:
            self._has_failed = False
            self._unsaved = 0
