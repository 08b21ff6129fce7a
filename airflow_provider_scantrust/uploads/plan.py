"""
From the rows of a spool to the fewest calls that carry them.

The cost of an upload is its number of calls, since Scantrust takes so many a second of both kinds together. n rows cost

    n / items_per_call    calls, rounded up once for all of them, when they go synchronously, whatever they carry;
    n / ids_per_job       calls, rounded up for each set of identical data, when they go as jobs.

So a job pays when it carries more rows than a synchronous call, and no other job does: k jobs that carry at most
``k * items_per_call`` rows save at most k calls. The planner takes the largest jobs first, and of several plans with the
fewest calls the one with the fewest jobs, because a synchronous answer tells what became of each row and a job does not.

Rule 1: no key is in two calls, so calls may run in any order, and any of them again.
Rule 2: the same spool makes the same plan, call by call; a retry knows its calls by number.
"""

from __future__ import annotations

from collections.abc import Collection, Container, Iterator, Mapping
from dataclasses import dataclass, field
from itertools import islice, repeat
from operator import itemgetter
from typing import Any, Literal

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.uploads.calls import Job
from airflow_provider_scantrust.uploads.check import Row
from airflow_provider_scantrust.uploads.mode import DANGER_ZONE, FEW_CODES, choose_mode
from airflow_provider_scantrust.uploads.spool import Spool

Mode = Literal["auto", "sync", "async"]


@dataclass(frozen=True)
class Limits:
    """
    What one call may carry, and how many calls fit in a second.

    :param ids_per_job: The most extended_ids that one asynchronous job may carry.
    :param calls_per_second: Both kinds together (Scantrust: rate limits, scm_update).
    :raises ConfigurationError: With one of them, nothing could be sent.
    """

    items_per_call: int = FEW_CODES - 1
    ids_per_job: int = DANGER_ZONE
    calls_per_second: float = 10.0

    def __post_init__(self) -> None:
        for name, least in (("items_per_call", 1), ("ids_per_job", 1), ("calls_per_second", 1e-9)):
            if not getattr(self, name) >= least:
                raise ConfigurationError(f"{name} must be above 0, not {getattr(self, name)!r}.")


@dataclass(frozen=True)
class Call:
    """
    One call to make.

    :param number: Its place in the plan; the same in each plan of the same rows.
    :param keys: How many keys it carries.
    :param rows: What a synchronous call carries.
    :param job: What an asynchronous call carries.
    """

    number: int
    kind: Literal["sync", "async"]
    keys: int
    rows: list[Row] = field(default_factory=list)
    job: Job | None = None

    def all_rows(self, data_key: str) -> list[Row]:
        """Return what it carries, row by row, also of a job."""
        return self.job.as_rows(data_key) if self.job else self.rows


@dataclass(frozen=True)
class Plan:
    """
    The calls of an upload, jobs first: they run at Scantrust while the others are made.

    :param mode: "sync", "async", or "mixed" for both.
    :param reason: Why.
    :param groups: Sets of identical data that share jobs.
    :param items_per_call: Rows in a synchronous call.
    :param in_jobs: Data -> how many rows with it, the first ones, go as jobs; None when all rows do.
    """

    spool: Spool
    limits: Limits
    mode: Literal["sync", "async", "mixed"]
    reason: str
    sync_calls: int
    jobs: int
    groups: int
    items_per_call: int
    in_jobs: Mapping[str, int] | None

    @property
    def rows(self) -> int:
        """Rows that came in, those that were merged or put aside among them."""
        return self.spool.rows

    @property
    def keys(self) -> int:
        """Rows that go out, one for each key."""
        return self.spool.keys

    @property
    def least_seconds(self) -> float:
        """The least time that the calls can take at the limit."""
        return (self.sync_calls + self.jobs) / self.limits.calls_per_second

    def describe(self) -> str:
        """Return the plan as one sentence for the log."""
        spool = self.spool
        shared = f" for {self.groups} sets of identical data" if self.groups else ""
        return (
            f"{spool.rows} rows ({spool.merged} merged with another, {spool.rejected} not fit to send) with {spool.keys} "
            f"keys ({spool.data_key}) make {self.sync_calls} synchronous calls and {self.jobs} jobs{shared}, because "
            f"{self.reason}; at {self.limits.calls_per_second:g} calls a second they take at least "
            f"{self.least_seconds:.0f} s."
        )

    def summary(self) -> dict[str, Any]:
        """Return the plan's numbers as plain JSON."""
        return {
            "mode": self.mode,
            "reason": self.reason,
            "rows": self.rows,
            "keys": self.keys,
            "merged": self.spool.merged,
            "rejected": self.spool.rejected,
            "groups": self.groups,
            "sync_calls": self.sync_calls,
            "jobs": self.jobs,
            "least_seconds": round(self.least_seconds, 1),
        }

    def keys_in(self, numbers: Collection[int]) -> int:
        """Return how many keys some of the calls carry; only the last call of an upload may be counted as too large."""
        if not numbers:
            return 0
        sizes = self._job_sizes() if self.jobs else iter(())
        in_jobs = sum(size for number, size in enumerate(sizes) if number in numbers)
        sync_calls = sum(number >= self.jobs for number in numbers)
        return min(self.keys, in_jobs + sync_calls * self.items_per_call)

    def calls(self, skip: Container[int] = ()) -> Iterator[Call]:
        """
        Return the calls in order. Only the rows of one call are in memory.

        :param skip: Numbers of calls to leave out.
        """
        if self.in_jobs is None and self.spool.data_key != "extended_id":
            yield from self._jobs_for_one_key(skip)
        else:
            yield from self._jobs_for_lists(skip)
        if self.sync_calls:
            yield from self._sync_calls(skip)

    def _job_sizes(self) -> Iterator[int]:
        if self.in_jobs is None and self.spool.data_key != "extended_id":
            return repeat(1, self.jobs)
        return (size for _, _, size in self._lists())

    def _lists(self) -> Iterator[tuple[str, int, int]]:
        """Return data, first row and number of rows of each job that carries a list."""
        groups = self.spool.groups() if self.in_jobs is None else self.in_jobs.items()
        most = self.limits.ids_per_job
        for data, rows in groups:
            for start in range(0, rows, most):
                yield data, start, min(most, rows - start)

    def _jobs_for_lists(self, skip: Container[int]) -> Iterator[Call]:
        for number, (data, start, size) in enumerate(self._lists()):
            if number not in skip:
                keys = [key for _, key in self.spool.rows_with(data, size, start)]
                yield self._job(number, keys, keys, data)

    def _jobs_for_one_key(self, skip: Container[int]) -> Iterator[Call]:
        for number, (key, data) in enumerate(self.spool.read()):
            if number not in skip:
                yield self._job(number, [key], key, data)

    def _job(self, number: int, keys: list[str], selected: str | list[str], data: str) -> Call:
        (scm_data,) = self.spool.decode([(keys[0], data)])
        del scm_data[self.spool.data_key]
        job = Job({self.spool.data_key: selected}, scm_data, len(keys), keys[0])
        return Call(number, "async", len(keys), job=job)

    def _sync_calls(self, skip: Container[int]) -> Iterator[Call]:
        in_jobs = (self.in_jobs or {}).items()
        last_in_job = {data: self.spool.rows_with(data, 1, rows - 1)[0][0] for data, rows in in_jobs}
        rows = self.spool.read(last_in_job)
        for number in range(self.jobs, self.jobs + self.sync_calls):
            piece = list(islice(rows, self.items_per_call))
            if number not in skip:
                yield Call(number, "sync", len(piece), rows=self.spool.decode(piece))


def make_plan(
    spool: Spool, *, mode: Mode = "auto", codes_per_key: float | None = None, limits: Limits | None = None
) -> Plan:
    """
    Return the fewest calls that carry a spool's rows.

    :param spool: Filled, and open as long as the plan is in use.
    :param mode: ``auto`` follows Scantrust's advice, and joins rows of identical data where that saves calls.
    :param codes_per_key: Codes that one value of an SCM key is on, as far as the user knows.
    :param limits: None for Scantrust's own.
    """
    limits = limits or Limits()
    choice = choose_mode(spool.data_key, spool.keys, codes_per_key)
    if mode != "auto":
        choice = choice._replace(mode=mode, reason=f"mode={mode!r} was asked for")
    size = min(choice.keys_per_call, limits.items_per_call)
    if choice.mode == "async":
        jobs = groups = 0
        if spool.data_key == "extended_id":
            for _, rows in spool.groups():
                groups += 1
                jobs += _calls(rows, limits.ids_per_job)
        return Plan(spool, limits, "async", choice.reason, 0, jobs or spool.keys, groups, size, None)
    in_jobs: dict[str, int] = {}
    if mode == "auto" and spool.data_key == "extended_id":
        in_jobs = choose_jobs(spool.crowds(size), spool.keys, size, limits.ids_per_job)
    jobs = sum(_calls(rows, limits.ids_per_job) for rows in in_jobs.values())
    sync_calls = _calls(spool.keys - sum(in_jobs.values()), size)
    reason = choice.reason
    if jobs:
        reason = (
            f"{sum(in_jobs.values())} rows carry data that so many others carry that jobs need fewer calls"
        )
    kind: Literal["sync", "async", "mixed"] = "sync" if not jobs else "mixed" if sync_calls else "async"
    return Plan(spool, limits, kind, reason, sync_calls, jobs, len(in_jobs), size, in_jobs)


def choose_jobs(
    groups: Mapping[str, int], rows: int, items_per_call: int, ids_per_job: int
) -> dict[str, int]:
    """
    Return how many rows of each group go as jobs, so that as few calls as can be carry all rows.

    :param groups: Data -> rows with it; groups of at most ``items_per_call`` may be left out.
    :param rows: All rows, those of no group too.
    """
    pieces = [
        (min(ids_per_job, size - start), data)
        for data, size in groups.items()
        for start in range(0, size, ids_per_job)
    ]
    pieces.sort(key=itemgetter(0), reverse=True)
    fewest, best, left = _calls(rows, items_per_call), 0, rows
    for jobs, (size, _) in enumerate(pieces, start=1):
        left -= size
        calls = jobs + _calls(left, items_per_call)
        if calls < fewest:
            fewest, best = calls, jobs
    chosen = dict.fromkeys(groups, 0)
    for size, data in pieces[:best]:
        chosen[data] += size
    return {data: size for data, size in chosen.items() if size}


def _calls(rows: int, size: int) -> int:
    return -(-rows // size)
