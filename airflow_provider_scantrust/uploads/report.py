"""What became of an upload: counted as answers come in, and small enough for an XCom."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.api.texts import one_line
from airflow_provider_scantrust.uploads.calls import Job
from airflow_provider_scantrust.uploads.check import Row
from airflow_provider_scantrust.waits.outcome import Outcome

EXAMPLES = 10
_LONGEST_EXAMPLE = 80


@dataclass
class Report:
    """
    Counts of one upload; plain JSON by :meth:`save`, so that they survive a deferral.

    :param rows: Rows that came in.
    :param requests: Upload calls that were made, those that ended in a 504 included.
    :param codes_affected: Codes updated, as far as the answers say.
    :param discarded: Field -> rows in which the campaign discarded it.
    :param jobs: task_id -> (keys it selects by, the beginning of one of them, the call's number in the plan).
    :param jobs_ended: The jobs have ended, and are counted.
    :param rejected: Kind -> rows that were not sent, or that Scantrust refused.
    :param fingerprint: Of the source and its plan; None for an upload without one.
    :param possibly_twice: Jobs of which an earlier try may have left a second one at Scantrust.
    :param fields: Names of the fields that were sent, for lineage.
    :param unsaid: Jobs of which Scantrust did not say how many codes they updated.
    """

    mode: str
    rows: int
    started_at: float
    requests: int = 0
    codes_affected: int = 0
    unmatched: int = 0
    examples: list[str] = field(default_factory=list)
    discarded: dict[str, int] = field(default_factory=dict)
    jobs: dict[str, list[Any]] = field(default_factory=dict)
    rejected: dict[str, int] = field(default_factory=dict)
    fingerprint: str | None = None
    possibly_twice: int = 0
    fields: list[str] = field(default_factory=list)
    unsaid: int = 0
    jobs_ended: bool = False

    def take_over(self, other: Report) -> None:
        """Become the report of an upload that has ended, but for what this try has found out by itself."""
        for name, value in vars(other).items():
            if name not in ("mode", "rows", "started_at", "fingerprint"):
                setattr(self, name, value)

    def add(self, other: Report) -> None:
        """Add the counts of another report."""
        self.requests += other.requests
        self.codes_affected += other.codes_affected
        self.unmatched += other.unmatched
        self.possibly_twice += other.possibly_twice
        self.unsaid += other.unsaid
        self.examples = (self.examples + other.examples)[:EXAMPLES]
        for mine, others in ((self.discarded, other.discarded), (self.rejected, other.rejected)):
            for name, count in others.items():
                mine[name] = mine.get(name, 0) + count
        self.jobs.update(other.jobs)
        self._add_fields(other.fields)

    def add_answer(self, rows: Sequence[Row], data_key: str, result: UploadResult) -> list[str]:
        """Compare the answer to a synchronous call with what was sent; return the keys that matched nothing."""
        self.codes_affected += result.codes_affected
        unmatched = []
        self._add_fields({name for row in rows for name in row} - {data_key})
        for row in rows:
            updated = result.items.get(row[data_key])
            if updated is None:
                unmatched.append(row[data_key])
                self._add_unmatched(1, row[data_key])
                continue
            for name in row.keys() - {data_key, *updated}:
                self.discarded[name] = self.discarded.get(name, 0) + 1
        return unmatched

    def add_rejected(self, kind: str, count: int) -> None:
        """Count rows that did not arrive: refused, key missing, invalid, unreadable."""
        self.rejected[kind] = self.rejected.get(kind, 0) + count

    def add_job(self, job: Job, task_id: str, number: int) -> None:
        """Write down a job that was submitted."""
        self.jobs[task_id] = [job.keys, make_example(job.example), number]
        self._add_fields(job.scm_data)

    def short_jobs(self, outcome: Outcome) -> dict[str, int]:
        """
        Return the jobs that updated fewer codes than they have keys, each with its call's number.

        Jobs that were stored before numbers were are left out: which rows they carried is not known.
        """
        return {
            task_id: number[0]
            for task_id, (keys, _, *number) in self.jobs.items()
            if number and (affected := outcome.counts.get(task_id)) is not None and affected < keys
        }

    def count_instead(self, task_ids: Iterable[str], outcome: Outcome, answers: Report) -> None:
        """Count the answers to rows that were sent again instead of what their jobs did."""
        for task_id in task_ids:
            keys, example, *_ = self.jobs[task_id]
            affected = outcome.counts[task_id] or 0
            self.codes_affected -= affected
            self.unmatched -= keys - affected
            if affected == 0 and example in self.examples:
                self.examples.remove(example)
        self.add(answers)

    def end_jobs(self, outcome: Outcome) -> None:
        """
        Add what the jobs did.

        Of a job that selects by a list of ids only the number of ids that matched nothing is known, not which.
        """
        self.codes_affected += outcome.codes_affected
        self.unsaid += outcome.unsaid
        self.jobs_ended = True
        for task_id, affected in outcome.counts.items():
            keys, example, *_ = self.jobs.get(task_id, (0, task_id))
            if affected is not None and affected < keys:
                self._add_unmatched(keys - affected, example if affected == 0 else None)
        self._add_unmatched(self._unmatched_beyond(outcome), None)

    def summary(self, *, now: float, ended: bool = True) -> dict[str, Any]:
        """
        Return the report that users see.

        :param now: Seconds since the epoch.
        :param ended: Whether the jobs have ended; if not, ``codes_affected`` of an upload with jobs is None.
        """
        return {
            "mode": self.mode,
            "rows": self.rows,
            "requests": self.requests,
            "codes_affected": self.codes_affected if ended or not self.jobs else None,
            "unmatched": {"count": self.unmatched, "examples": self.examples},
            "discarded_fields": sorted(self.discarded),
            **({"rejected": self.rejected} if self.rejected else {}),
            **({"jobs_without_count": self.unsaid} if self.unsaid else {}),
            **({"possibly_submitted_twice": self.possibly_twice} if self.possibly_twice else {}),
            "task_ids": list(self.jobs),
            "seconds": round(now - self.started_at, 3),
        }

    def save(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return asdict(self)

    @classmethod
    def load(cls, data: Mapping[str, Any]) -> Report:
        """Return the report that :meth:`save` wrote; names it does not know are left out."""
        return cls(**{name: value for name, value in data.items() if name in cls.__dataclass_fields__})

    def _add_fields(self, names: Iterable[str]) -> None:
        self.fields.extend(sorted(set(names).difference(self.fields)))

    def _unmatched_beyond(self, outcome: Outcome) -> int:
        """Return how many keys matched nothing of the jobs whose counts were not kept: by what the totals leave."""
        keys: list[int] = [keys for task_id, (keys, *_) in self.jobs.items() if task_id not in outcome.counts]
        kept = list(outcome.counts.values())
        if max(keys, default=1) == 1:
            return outcome.nothing - kept.count(0)
        if outcome.unsaid > kept.count(None):
            return 0
        # Only extended_ids go in lists, and no two codes have the same.
        return sum(keys) - (outcome.codes_affected - sum(number or 0 for number in kept))

    def _add_unmatched(self, count: int, example: str | None) -> None:
        self.unmatched += count
        if example is not None and len(self.examples) < EXAMPLES:
            self.examples.append(example)


def make_example(key: str) -> str:
    """Return a key, or the beginning of a long one, as the report keeps it."""
    return one_line(key, _LONGEST_EXAMPLE)
