"""
What a wait that ended well found out, small enough to be stored.

Rule: the totals are of all jobs; counts job by job are kept for at most ``KEPT`` of them, those that affected least.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

# Ids of 36 characters make that about 46 KB in an event, which Airflow stores with the task and prints to its log.
KEPT = 1000
# How many jobs a result names, of a sensor or of a wait that failed.
NAMED = 100


@dataclass(frozen=True)
class Outcome:
    """
    The codes that jobs affected.

    :param jobs: How many jobs there were.
    :param codes_affected: By all jobs together, as far as Scantrust said.
    :param nothing: Jobs that affected no code.
    :param unsaid: Jobs of which Scantrust did not say how many codes they affected.
    :param counts: task_id -> codes affected, None where Scantrust did not say. Of more than ``KEPT`` jobs, these are
        the unsaid first, then those that affected least.
    """

    jobs: int
    codes_affected: int
    nothing: int
    unsaid: int
    counts: dict[str, int | None] = field(default_factory=dict)

    @classmethod
    def of(cls, codes: Mapping[str, int | None]) -> Outcome:
        """Return the outcome of jobs that have ended: task_id -> codes affected."""
        kept = dict(codes)
        if len(kept) > KEPT:
            least_first = sorted(kept.items(), key=lambda entry: -1 if entry[1] is None else entry[1])
            kept = dict(least_first[:KEPT])
        numbers = list(codes.values())
        return cls(
            jobs=len(numbers),
            codes_affected=sum(number or 0 for number in numbers),
            nothing=numbers.count(0),
            unsaid=numbers.count(None),
            counts=kept,
        )

    def result(self) -> dict[str, Any]:
        """
        Return what the sensor returns: codes affected in all, and by each of up to ``NAMED`` jobs.

        Of more jobs it tells how many there are, and names only those worth a look, at most ``NAMED``: they affected
        nothing, or Scantrust gives no count.
        """
        if self.jobs <= NAMED:
            return {"codes_affected": self.codes_affected, "tasks": self.counts}
        tasks = dict([entry for entry in self.counts.items() if not entry[1]][:NAMED])
        return {"codes_affected": self.codes_affected, "jobs": self.jobs, "tasks": tasks}

    def describe(self) -> str:
        """Return the sentence for the task's log."""
        text = f"All {self.jobs} asynchronous uploads are complete: {self.codes_affected} codes affected."
        if self.nothing:
            text += f" {self.nothing} of them affected no code."
        if self.unsaid:
            text += f" Of {self.unsaid} Scantrust does not say how many codes they affected."
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        return {**vars(self), "counts": dict(self.counts)}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """
        Return the outcome that :meth:`as_dict` wrote.

        :raises ValueError: It is none.
        """
        numbers = {name: data.get(name) for name in ("jobs", "codes_affected", "nothing", "unsaid")}
        counts = data.get("counts")
        if not isinstance(counts, Mapping) or not all(isinstance(number, int) for number in numbers.values()):
            raise ValueError("this is no outcome of a wait")
        return cls(**numbers, counts=dict(counts))  # type: ignore[arg-type]
