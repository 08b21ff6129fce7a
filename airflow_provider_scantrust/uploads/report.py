"""
The result of an upload, counted as answers arrive, and small enough for an XCom.

Rule 1: a value that no answer has given is None, not zero and not an empty list.
Rule 2: :meth:`Report.summary` and :meth:`Report.save` do not grow with the upload; only the XCom
        ``task_ids`` does.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.api.texts import one_line, plural
from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.check import Row
from airflow_provider_scantrust.waits.outcome import NAMED, Outcome

EXAMPLES = 10
_LONGEST_EXAMPLE = 80
# The most groups of equal jobs that a deferral stores; of more groups, it stores only the sum.
_RUNS = 500
_FIELDS = 100


@dataclass
class Report:
    """
    The counts of one upload; :meth:`save` makes them plain JSON, so that they survive a deferral.

    :param requests: Upload calls that were made, including those that ended in a 504.
    :param discarded: Field -> rows in whose answer the campaign discarded it.
    :param fields_told: An answer has told which fields were updated.
    :param jobs: task_id -> (keys it selects by, the beginning of one of them, the call's number in the plan).
    :param job_keys: Keys of all jobs together, where those of each are not known; then they count as 0.
    :param rejected: Kind -> rows that were not sent, or that Scantrust refused.
    :param possibly_twice: Jobs that an earlier try may have submitted already.
    :param fields: Names of the fields that were sent, for lineage.
    :param unsaid: Jobs for which Scantrust did not say how many codes they updated.
    :param rejects: Path and digest of the rejects file that this upload has written.
    :param throttled: Calls of this try that Scantrust answered with a 429.
    """

    mode: str = ""
    rows: int = 0
    started_at: float = 0.0
    reason: str = ""
    requests: int = 0
    codes_affected: int = 0
    unmatched: int = 0
    examples: list[str] = field(default_factory=list)
    discarded: dict[str, int] = field(default_factory=dict)
    fields_told: bool = False
    jobs: dict[str, list[Any]] = field(default_factory=dict)
    job_keys: int | None = None
    rejected: dict[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    possibly_twice: int = 0
    fields: list[str] = field(default_factory=list)
    unsaid: int = 0
    jobs_ended: bool = False
    rejects: dict[str, str] | None = None
    throttled: int = 0

    # All calls and the waits that were wanted have ended. Not a field: the report of a deferred task is not
    # complete.
    is_complete = False

    @property
    def has_all_results(self) -> bool:
        """There is no job whose result is not known yet."""
        return self.jobs_ended or not self.jobs

    @property
    def task_ids(self) -> list[str]:
        """The ids of all jobs, in the order of the plan."""
        return sorted(self.jobs, key=lambda task_id: self.jobs[task_id][2:])

    def add(self, other: Report) -> None:
        self.requests += other.requests
        self.codes_affected += other.codes_affected
        self.unmatched += other.unmatched
        self.possibly_twice += other.possibly_twice
        self.unsaid += other.unsaid
        self.jobs_ended |= other.jobs_ended
        self.fields_told |= other.fields_told
        self.examples = (self.examples + other.examples)[:EXAMPLES]
        _add_counts(self.discarded, other.discarded)
        _add_counts(self.rejected, other.rejected)
        self.jobs.update(other.jobs)
        self._add_fields(other.fields)

    def add_answer(self, rows: Sequence[Row], data_key: str, result: UploadResult) -> list[str]:
        """Compare the answer to a synchronous call with its rows; return the keys that matched no code."""
        self.codes_affected += result.codes_affected
        unmatched = []
        self._add_fields({name for row in rows for name in row} - {data_key})
        for row in rows:
            updated = result.items.get(row[data_key])
            if updated is None:
                unmatched.append(row[data_key])
                self._add_unmatched(1, row[data_key])
                continue
            self.fields_told = True
            _add_counts(self.discarded, dict.fromkeys(row.keys() - {data_key, *updated}, 1))
        return unmatched

    def add_rejected(self, kinds: Mapping[str, int]) -> None:
        """Count rows that were not updated: refused, key missing, invalid, unreadable."""
        _add_counts(self.rejected, kinds)

    def add_job(self, call: Call, task_id: str) -> None:
        self.jobs[task_id] = [call.keys, make_example(call.example), call.number]
        self._add_fields(call.scm_data)

    def end_jobs(self, outcome: Outcome) -> None:
        """
        Add the results of the jobs.

        For a job with a list of ids, it is known how many ids matched no code, but not which.
        """
        self.codes_affected += outcome.codes_affected
        self.unsaid += outcome.unsaid
        self.jobs_ended = True
        for task_id, affected in outcome.counts.items():
            keys, example, *_ = self.jobs.get(task_id, (0, task_id))
            if affected is not None and affected < keys:
                self._add_unmatched(keys - affected, example if affected == 0 else None)
        self._add_unmatched(self._unmatched_beyond(outcome), None)

    def jobs_without_code(self, outcome: Outcome) -> dict[int, list[str]]:
        """Return the single-key jobs that updated nothing: number of a call -> the beginnings of its keys."""
        found: dict[int, list[str]] = {}
        for task_id in outcome.ids_of_nothing(self.task_ids):
            keys, example, *number = self.jobs.get(task_id, (0, ""))
            # Older releases stored jobs without the call's number: it is not known which rows they carried.
            if keys == 1 and number:
                found.setdefault(number[0], []).append(example)
        return found

    def summary(self, *, now: float) -> dict[str, Any]:
        """Return the report that users see, at a time in seconds since the epoch."""
        return {
            "mode": self.mode,
            "reason": self.reason,
            "rows": self.rows,
            "requests": self.requests,
            "codes_affected": self.codes_affected if self.has_all_results else None,
            "unmatched": {
                "count": self.unmatched if self.has_all_results else None,
                "examples": self.examples,
            },
            "discarded_fields": sorted(self.discarded)[:_FIELDS] if self.fields_told else None,
            **({"rejected": self.rejected} if self.rejected else {}),
            **({"rejects_path": self.rejects["path"]} if self.rejects else {}),
            **({"jobs_without_count": self.unsaid} if self.unsaid else {}),
            **({"calls_throttled": self.throttled} if self.throttled else {}),
            **({"possibly_submitted_twice": self.possibly_twice} if self.possibly_twice else {}),
            "jobs": len(self.jobs),
            "task_ids": self.task_ids[:NAMED],
            "seconds": round(now - self.started_at, 3),
        }

    @property
    def updated_nothing(self) -> bool:
        """Rows were sent, the jobs have ended, and no code has a new value."""
        return not self.codes_affected and not self.unsaid and self._sent > 0

    @property
    def _sent(self) -> int:
        return self.rows - sum(self.rejected.values())

    def describe(self, now: float, *, failed: int = 0) -> str:
        """Return the upload as one sentence for the log; ``failed`` is the number of jobs that failed."""
        seconds = now - self.started_at
        took = f"in {seconds:.0f} s" if seconds >= 10 else f"in {seconds:.1f} s"
        jobs = plural(len(self.jobs), "job")
        what, still = f"Sent {self._sent:,} of {plural(self.rows, 'row')} {took}", ""
        # Constraints, or a single row: the number of codes says more than the number of rows.
        counts_codes = bool(self.jobs) and self.rows == 1
        if not self.rows:
            return "There are no rows, so nothing was sent."
        if failed:
            still = f"; {failed:,} of {jobs} failed"
        elif counts_codes and not self.has_all_results:
            results = "its result is" if len(self.jobs) == 1 else "their results are"
            what, still = f"Submitted {jobs} {took}", f"; {results} not known yet"
        elif not self.has_all_results:
            results = f"result of {jobs} is" if len(self.jobs) == 1 else f"results of {jobs} are"
            still = f"; the {results} not known yet"
        elif counts_codes:
            what = f"Updated {plural(self.codes_affected, 'code')} {took}"
        elif self.updated_nothing:
            what = f"Updated no code with {plural(self._sent, 'row')} {took}"
        else:
            what = f"Updated {max(0, self._sent - self.unmatched):,} of {plural(self.rows, 'row')} {took}"
        names = ", ".join(one_line(name, _LONGEST_EXAMPLE) for name in sorted(self.discarded)[:EXAMPLES])
        notes = [
            self.unmatched
            and (self.codes_affected or not counts_codes)
            and plural(self.unmatched, "unknown key"),
            self.rejected and f"{plural(sum(self.rejected.values()), 'row')} rejected",
            self.discarded and f"{plural(len(self.discarded), 'field')} ignored ({names})",
            self.unsaid and f"{plural(self.unsaid, 'job')} without a count",
        ]
        found = ", ".join(str(note) for note in notes if note)
        return f"{what}: {found}{still}." if found else f"{what}{still}."

    def describe_so_far(self) -> str:
        """Return what was done by an upload that has ended early."""
        return (
            f"{plural(self.requests, 'call')} made, {plural(self.codes_affected, 'code')} updated by calls, "
            f"{plural(len(self.jobs), 'job')} submitted"
        )

    def describe_unmatched(self, data_key: str | None) -> str:
        """Return which keys matched no code; for constraints, ``data_key`` is None."""
        if data_key is None:
            what = "meets the constraints"
            if self.unmatched > 1 or self.codes_affected:
                what += f" with {self.unmatched:,} of the extended_ids"
        elif not self.examples:
            what = f"has {self.unmatched:,} of the keys ({data_key})"
        elif self.unmatched == 1:
            what = f"has this key ({data_key})"
        else:
            what = f"has these {self.unmatched:,} keys ({data_key})"
        such = ": " if self.unmatched == len(self.examples) else ", such as "
        text = (
            f"No code that this token sees {what}{such if self.examples else ''}{', '.join(self.examples)}."
        )
        if not self.jobs and self.codes_affected and self.unmatched >= self._sent:
            text += (
                f" But Scantrust counts {plural(self.codes_affected, 'updated code')}, so it may spell these keys in "
                "another way."
            )
        if self.jobs and not self.examples:
            text += " A job does not report which."
        if self.jobs and not self.fields_told:
            text += " It is also possible that the codes' campaign has none of the fields: a job does not report this."
        return text

    def describe_discarded(self) -> str:
        names = ", ".join(
            f"{name} (in {plural(count, 'row')})" for name, count in sorted(self.discarded.items())[:_FIELDS]
        )
        jobs = (
            " Jobs do not report this; it holds for their rows with these fields, too." if self.jobs else ""
        )
        return f"Scantrust discarded fields that the codes' campaign does not have: {names}.{jobs}"

    def save(self) -> dict[str, Any]:
        """Return all but the ids of the jobs as plain JSON; consecutive jobs of one size are one entry."""
        runs: list[list[int]] = []
        entries = [self.jobs[task_id] for task_id in self.task_ids]
        for keys, _, number in entries:
            if runs and runs[-1][1] == keys:
                count, _, first, step = runs[-1]
                step = number - first if count == 1 else step
                if step in (0, 1) and number == first + step * count:
                    runs[-1] = [count + 1, keys, first, step]
                    continue
            runs.append([1, keys, number, 1])
        job_keys = None
        if len(runs) > _RUNS:
            # Their sum is enough to count what matched nothing.
            job_keys, runs = sum(keys for keys, *_ in entries), [[len(entries), 0, 0, 0]]
        examples = [example for _, example, _ in entries[:NAMED]]
        return {**self.save_counts(), "jobs": runs, "job_keys": job_keys, "job_examples": examples}

    def save_counts(self) -> dict[str, Any]:
        """Return all but the jobs as plain JSON."""
        return {each.name: getattr(self, each.name) for each in fields(self) if each.name != "jobs"}

    @classmethod
    def load(cls, data: Mapping[str, Any], task_ids: Sequence[str] = ()) -> Report:
        """
        Return the report that :meth:`save` wrote, in this release or the last; unknown names are ignored.

        :param task_ids: The ids of the report's jobs, in order; without them, the jobs are only numbered.
        """
        known = {name: value for name, value in data.items() if name in cls.__dataclass_fields__}
        # The last release wrote only what was discarded.
        known.setdefault("fields_told", bool(known.get("discarded")))
        if isinstance(known.get("jobs"), list):
            runs = [
                (keys, first + step * place)
                for count, keys, first, step in known["jobs"]
                for place in range(count)
            ]
            if len(task_ids) != len(runs):
                task_ids = [f"job {place}" for place in range(1, len(runs) + 1)]
            examples = data.get("job_examples", [])
            known["jobs"] = {
                task_id: [keys, examples[place] if place < len(examples) else "", number]
                for place, (task_id, (keys, number)) in enumerate(zip(task_ids, runs, strict=True))
            }
        return cls(**known)

    def _add_fields(self, names: Iterable[str]) -> None:
        self.fields.extend(sorted(set(names).difference(self.fields))[: _FIELDS - len(self.fields)])

    def _unmatched_beyond(self, outcome: Outcome) -> int:
        """Return how many keys matched nothing of the jobs whose counts were not kept: by what the totals leave."""
        if self.job_keys is not None:
            if self.job_keys == len(self.jobs):
                return outcome.nothing
            return 0 if outcome.unsaid else max(0, self.job_keys - outcome.codes_affected)
        keys: list[int] = [keys for task_id, (keys, *_) in self.jobs.items() if task_id not in outcome.counts]
        kept = [number for task_id, number in outcome.counts.items() if task_id in self.jobs]
        if max(keys, default=1) == 1:
            return outcome.nothing - kept.count(0)
        if outcome.unsaid > kept.count(None):
            return 0
        # Only extended_ids go in lists, and each belongs to one code.
        return max(0, sum(keys) - (outcome.codes_affected - sum(number or 0 for number in kept)))

    def _add_unmatched(self, count: int, example: str | None) -> None:
        self.unmatched += count
        if example and len(self.examples) < EXAMPLES:
            self.examples.append(example)


def _add_counts(counts: dict[str, int], others: Mapping[str, int]) -> None:
    for name, count in others.items():
        counts[name] = counts.get(name, 0) + count


def make_example(key: str) -> str:
    """Return a key as the report keeps it: of a long key, only the beginning."""
    return one_line(key, _LONGEST_EXAMPLE)
