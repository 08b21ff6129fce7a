"""
The result of a successful wait, small enough to be stored.

Rule: the totals cover all jobs. Counts per job are kept for at most ``KEPT`` jobs: those that affected the
fewest codes.
"""

from __future__ import annotations

import zlib
from base64 import b64decode, b64encode
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_scantrust.api.texts import plural

# With ids of 36 characters, an event has about 46 KB. Airflow stores it with the task and prints it to the
# task's log.
KEPT = 1000
# How many jobs are named in a sensor's result or in the XCom of a failed wait.
NAMED = 100


@dataclass(frozen=True)
class Outcome:
    """
    The codes that jobs affected.

    :param jobs: How many jobs there were.
    :param codes_affected: Codes affected by all jobs together, as far as Scantrust gave numbers.
    :param nothing: How many jobs affected no code.
    :param unsaid: For how many jobs Scantrust gave no number of codes.
    :param counts: task_id -> codes affected, or None if Scantrust gave no number. With more than ``KEPT``
        jobs, only jobs without a number and then those that affected the fewest codes.
    :param nothing_bits: With more than ``KEPT`` jobs, a bit for each job, ordered by id: whether it affected
        no code.
    """

    jobs: int
    codes_affected: int
    nothing: int
    unsaid: int
    counts: dict[str, int | None] = field(default_factory=dict)
    nothing_bits: str = ""

    @classmethod
    def of(cls, codes: Mapping[str, int | None]) -> Outcome:
        """Return the outcome of jobs that have ended: task_id -> codes affected."""
        kept = dict(codes)
        bits = ""
        if len(kept) > KEPT:
            bits = _pack([codes[task_id] == 0 for task_id in sorted(codes)])
            least_first = sorted(kept.items(), key=lambda entry: -1 if entry[1] is None else entry[1])
            kept = dict(least_first[:KEPT])
        numbers = list(codes.values())
        return cls(
            jobs=len(numbers),
            codes_affected=sum(number or 0 for number in numbers),
            nothing=numbers.count(0),
            unsaid=numbers.count(None),
            counts=kept,
            nothing_bits=bits,
        )

    def ids_of_nothing(self, task_ids: Iterable[str]) -> set[str]:
        """
        Return the jobs that affected no code.

        :param task_ids: The ids of all jobs, in any order.
        """
        if not self.nothing_bits:
            return {task_id for task_id, number in self.counts.items() if number == 0}
        ids = sorted(task_ids)
        bits = zlib.decompress(b64decode(self.nothing_bits))
        if len(ids) != self.jobs:
            return set()
        return {task_id for place, task_id in enumerate(ids) if bits[place // 8] >> place % 8 & 1}

    def result(self) -> dict[str, Any]:
        """
        Return what the sensor returns: the codes affected in total, and by each of up to ``NAMED`` jobs.

        If there are more jobs, it has their number, and at most ``NAMED`` jobs that affected no code or have
        no count.
        """
        if self.jobs <= NAMED:
            return {"codes_affected": self.codes_affected, "tasks": self.counts}
        tasks = dict([entry for entry in self.counts.items() if not entry[1]][:NAMED])
        return {"codes_affected": self.codes_affected, "jobs": self.jobs, "tasks": tasks}

    def describe(self) -> str:
        """Return the sentence for the task's log."""
        if not self.jobs:
            return "There is no job to wait for."
        ended = f"All {self.jobs:,} jobs are" if self.jobs != 1 else "The job is"
        if 0 < self.unsaid == self.jobs:
            return f"{ended} complete. Scantrust gives no number of codes."
        text = f"{ended} complete: {plural(self.codes_affected, 'code')} affected."
        if self.nothing and self.jobs > 1:
            text += f" {self.nothing:,} of them affected no code."
        if self.unsaid:
            text += f" Scantrust gives no number of codes for {plural(self.unsaid, 'job')}."
        return text

    def as_dict(self) -> dict[str, Any]:
        """Return everything as plain JSON."""
        data = {**vars(self), "counts": dict(self.counts)}
        return data if self.nothing_bits else {name: data[name] for name in data if name != "nothing_bits"}

    @classmethod
    def from_dict(cls, data: Mapping[str, Any]) -> Outcome:
        """
        Return the outcome that :meth:`as_dict` wrote.

        :raises ValueError: The data is not an outcome.
        """
        numbers = {name: data.get(name) for name in ("jobs", "codes_affected", "nothing", "unsaid")}
        counts = data.get("counts")
        if not isinstance(counts, Mapping) or not all(isinstance(number, int) for number in numbers.values()):
            raise ValueError("this is not an outcome of a wait")
        bits = str(data.get("nothing_bits") or "")
        return cls(**numbers, counts=dict(counts), nothing_bits=bits)  # type: ignore[arg-type]


def _pack(bits: list[bool]) -> str:
    packed = bytearray(-(-len(bits) // 8))
    for place, bit in enumerate(bits):
        packed[place // 8] |= bit << place % 8
    return b64encode(zlib.compress(bytes(packed))).decode()
