"""
Plan the calls of an upload: the fewest that carry the rows of a spool.

The number of calls decides how long an upload takes, because Scantrust's rate limit counts synchronous calls
and jobs together. n rows need

    n / items_per_call    synchronous calls, rounded up once, with any data;
    n / ids_per_job       jobs, rounded up for each set of identical data.

So a job saves calls only if it carries more rows than a synchronous call: k jobs that carry at most
``k * items_per_call`` rows replace at most k calls. The planner takes the largest jobs first. Of several
plans with the fewest calls, it takes the one with the fewest jobs, because a synchronous answer reports on
each row and a job does not.

A job does not report which fields the campaign discards. So where the planner chooses jobs, it first sends
up to three rows of each set of field names in synchronous calls, the tasting calls. Jobs start after these
have ended.

Rule 1: no key is in two calls, so calls may run in any order, and any call may be repeated.
Rule 2: the same spool makes the same plan, call by call; a retry knows its calls by number.
Rule 3: synchronous calls have the first numbers, the tasting calls the very first; jobs come after them.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import accumulate, chain, count, islice
from operator import itemgetter
from typing import Any, Literal

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.uploads.calls import Call, Steps, make_job
from airflow_provider_scantrust.uploads.mode import DANGER_ZONE, FEW_CODES, choose_mode
from airflow_provider_scantrust.uploads.spool import Spool

Mode = Literal["auto", "sync", "async"]

# One row of a set is not enough: if no code has its key, the answer says nothing about its fields.
_TASTERS = 3
# Synchronous calls and jobs together (Scantrust: rate limits, scm_update).
_CALLS_PER_SECOND = 10


@dataclass(frozen=True)
class Plan:
    """
    The calls of an upload of rows.

    :param groups: How many sets of identical data go as jobs.
    :param in_jobs: Data -> how many of its rows go as jobs (the first ones); None if all rows do.
    :param tasters: Data -> places of those of its rows in ``in_jobs`` that a tasting call sends instead.
    """

    spool: Spool
    mode: Literal["sync", "async", "mixed"]
    reason: str
    sync_calls: int
    jobs: int
    groups: int
    items_per_call: int
    ids_per_job: int
    in_jobs: Mapping[str, int] | None
    tasters: Mapping[str, Sequence[int]] = field(default_factory=dict)

    @property
    def rows(self) -> int:
        """Rows of the source, including merged and rejected ones."""
        return self.spool.rows

    @property
    def keys(self) -> int:
        """Rows to send, one for each key."""
        return self.spool.keys

    @property
    def tasting_calls(self) -> int:
        """How many of the synchronous calls must end before the first job starts."""
        return _calls(sum(map(len, self.tasters.values())), self.items_per_call)

    @property
    def contents(self) -> list[Any]:
        """What the calls depend on, for the fingerprint."""
        return [
            self.spool.fingerprint,
            self.summary(),
            self.items_per_call,
            self.ids_per_job,
            list(self.tasters.values()),
        ]

    @property
    def least_seconds(self) -> float:
        """The shortest time that the calls can take at the rate limit."""
        return (self.sync_calls + self.jobs) / _CALLS_PER_SECOND

    def describe(self) -> str:
        spool = self.spool
        calls = [
            plural(number, what)
            for number, what in ((self.sync_calls, "synchronous call"), (self.jobs, "job"))
            if number
        ]
        notes = [
            f"{number} {what}"
            for number, what in ((spool.merged, "merged with another"), (spool.rejected, "rejected"))
            if number
        ]
        shared = f" for {plural(self.groups, 'set')} of identical data" if self.groups else ""
        noted = f" ({', '.join(notes)})" if notes else ""
        least = f" At least {self.least_seconds:.0f} s at {_CALLS_PER_SECOND} calls a second."
        return (
            f"{plural(spool.rows, 'row')}{noted}, {plural(spool.keys, 'key')} ({spool.data_key}) "
            f"→ {' and '.join(calls) or 'no call'}{shared}: "
            f"{self.reason}.{least if self.least_seconds >= 1 else ''}"
        )

    def summary(self) -> dict[str, Any]:
        return {
            "mode": self.mode,
            "reason": self.reason,
            "rows": self.rows,
            "keys": self.keys,
            "merged": self.spool.merged,
            "rejected": self.spool.rejected,
            "groups": self.groups,
            "sync_calls": self.sync_calls,
            "tasting_calls": self.tasting_calls,
            "jobs": self.jobs,
            "least_seconds": round(self.least_seconds, 1),
        }

    def steps(self, skip: Container[int] = ()) -> Steps:
        """Return the calls to make, without those with the numbers ``skip``. Only the rows of one are in memory."""
        rows = self._sync_rows()
        # A list, because the tasting calls and the others read the same sequence of rows.
        first = list(self._sync_calls(rows, range(self.tasting_calls), skip))
        others = self._sync_calls(rows, range(self.tasting_calls, self.sync_calls), skip)
        return Steps(iter(first), self._job_calls(skip), others)

    def calls(self, skip: Container[int] = ()) -> Iterator[Call]:
        """Return all calls, in the order in which a single thread makes them."""
        steps = self.steps(skip)
        return chain(steps.first, steps.jobs, steps.others)

    def _job_calls(self, skip: Container[int]) -> Iterator[Call]:
        if not self.jobs:
            return
        numbers = count(self.sync_calls)
        if self.in_jobs is None and self.spool.data_key != "extended_id":
            for number, (key, data) in zip(numbers, self.spool.read(), strict=False):
                if number not in skip:
                    yield self._job(number, [key], data)
            return
        groups = self.spool.groups() if self.in_jobs is None else iter(self.in_jobs.items())
        lists = _cut_lists(groups, self.tasters, self.ids_per_job)
        for number, (data, start, end) in zip(numbers, lists, strict=False):
            if number not in skip:
                tasters = self.tasters.get(data, ())
                rows = enumerate(self.spool.rows_with(data, end - start, start), start=start)
                yield self._job(number, [key for place, (_, key) in rows if place not in tasters], data)

    def _job(self, number: int, keys: list[str], data: str) -> Call:
        (scm_data,) = self.spool.decode([(keys[0], data)])
        del scm_data[self.spool.data_key]
        return make_job(number, self.spool.data_key, keys, scm_data)

    def _sync_rows(self) -> Iterator[tuple[str, str]]:
        in_jobs = (self.in_jobs or {}).items()
        last_in_job = {data: self.spool.rows_with(data, 1, rows - 1)[0][0] for data, rows in in_jobs}
        tasters = [
            (self.spool.rows_with(data, 1, place)[0][1], data)
            for data, places in self.tasters.items()
            for place in places
        ]
        return chain(tasters, self.spool.read(last_in_job))

    def _sync_calls(
        self, rows: Iterator[tuple[str, str]], numbers: range, skip: Container[int]
    ) -> Iterator[Call]:
        for number in numbers:
            piece = list(islice(rows, self.items_per_call))
            if number not in skip:
                yield Call(number, rows=self.spool.decode(piece))


def make_plan(
    spool: Spool,
    *,
    mode: Mode = "auto",
    codes_per_key: float | None = None,
    items_per_call: int = FEW_CODES - 1,
    ids_per_job: int = DANGER_ZONE,
    answer_for_each_row: bool = False,
) -> Plan:
    """
    Return the fewest calls that carry a spool's rows.

    :param spool: Filled; must stay open while the plan is in use.
    :param mode: ``auto`` follows Scantrust's advice, and sends rows of identical data as jobs where that
        saves calls.
    :param answer_for_each_row: With ``auto``, do not send rows of identical data as jobs, because a job does
        not report on each row.
    """
    choice = choose_mode(spool.data_key, spool.keys, codes_per_key)
    if mode != "auto":
        choice = choice._replace(mode=mode, reason=f"mode={mode!r} is set")
    size = min(choice.keys_per_call, items_per_call)
    if choice.mode == "async":
        jobs = groups = 0
        if spool.data_key == "extended_id":
            for _, rows in spool.groups():
                groups += 1
                jobs += _calls(rows, ids_per_job)
        return Plan(spool, "async", choice.reason, 0, jobs or spool.keys, groups, size, ids_per_job, None)
    sync_calls = _calls(spool.keys, size)
    plan = Plan(spool, "sync", choice.reason, sync_calls, 0, 0, size, ids_per_job, {})
    if mode != "auto" or spool.data_key != "extended_id":
        return plan
    if answer_for_each_row:
        why = "rejects_path needs an answer for each row, which a job does not give"
        return replace(plan, reason=f"{plan.reason}; {why}")
    in_jobs = choose_jobs(spool.crowds(size), spool.keys, size, ids_per_job)
    tasters = _choose_tasters(spool, in_jobs)
    jobs = sum(1 for _ in _cut_lists(iter(in_jobs.items()), tasters, ids_per_job))
    rest = _calls(spool.keys - sum(in_jobs.values()) + sum(map(len, tasters.values())), size)
    if not jobs or jobs + rest >= sync_calls:
        return plan
    reason = f"{sum(in_jobs.values()):,} rows share their data with so many others that jobs need fewer calls"
    return Plan(spool, "mixed", reason, rest, jobs, len(in_jobs), size, ids_per_job, in_jobs, tasters)


def choose_jobs(
    groups: Mapping[str, int], rows: int, items_per_call: int, ids_per_job: int
) -> dict[str, int]:
    """
    Return how many rows of each group go as jobs, so that the fewest calls carry all rows.

    :param groups: Data -> rows with it; groups of at most ``items_per_call`` rows may be left out.
    :param rows: All rows, including those of no group.
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


def _choose_tasters(spool: Spool, in_jobs: Mapping[str, int]) -> dict[str, list[int]]:
    """Return, for each set of field names in jobs, the first, the middle and the last row: data -> places, rising."""
    sets: dict[tuple[str, ...], list[str]] = {}
    for data in in_jobs:
        (row,) = spool.decode([("", data)])
        sets.setdefault(tuple(sorted(row)), []).append(data)
    tasters: dict[str, list[int]] = {}
    for group in sets.values():
        ends = list(accumulate(in_jobs[data] for data in group))
        for place in sorted({(ends[-1] - 1) * part // (_TASTERS - 1) for part in range(_TASTERS)}):
            which = bisect_left(ends, place + 1)
            tasters.setdefault(group[which], []).append(place - (ends[which] - in_jobs[group[which]]))
    return tasters


def _cut_lists(
    groups: Iterator[tuple[str, int]], tasters: Mapping[str, Sequence[int]], ids_per_job: int
) -> Iterator[tuple[str, int, int]]:
    """Return data, first place and end of each job that is left without the tasters."""
    for data, rows in groups:
        gone = tasters.get(data, ())
        for start in range(0, rows, ids_per_job):
            end = min(rows, start + ids_per_job)
            if end - start > sum(start <= place < end for place in gone):
                yield data, start, end


def _calls(rows: int, size: int) -> int:
    return -(-rows // size)
