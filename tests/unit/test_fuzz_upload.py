"""
Whole uploads over several tries, with an oracle for every code, count and rejected row.

The service and the store are simulated, so that no second passes: calls answer 200, 400, 413, 429, 503, 504,
or lose the answer; the store fails, or the worker dies before or after a write; a time limit strikes between
any two steps; the source changes; the connection leads to another account; the task is stopped or cleared;
its jobs are waited for in place or after a deferral, through JSON and in another process.
``FUZZ_UPLOADS=5000`` runs as many seeds, ``FUZZ_SEED=7`` that one.
"""

from __future__ import annotations

import json
import logging
import os
import random
import sys
import threading
import time
from collections.abc import Mapping, Sequence
from functools import partial
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import (
    ConnectionFailed,
    DiscardedFields,
    RequestRejected,
    RequestTooLarge,
    ScantrustError,
    ServiceUnavailable,
    Throttled,
    TooManyRejected,
    UploadInterrupted,
    UploadTimedOut,
)
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.uploads.kept import Try, end_progress
from airflow_provider_scantrust.uploads.options import Options, Rows
from airflow_provider_scantrust.uploads.progress import Progress
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.upload import Upload
from airflow_provider_scantrust.waits.outcome import Outcome
from airflow_provider_scantrust.waits.pacing import Pacer
from stores import Died, Store

KEY = "extended_id"
# About 20 s of a busy machine.
SECONDS = 10.0
TRIES = 8


class TimeLimit(BaseException):
    """Airflow's time limit, which interrupts the main thread at any step."""


class Service:
    """Codes of a campaign, and all that can go wrong on the way to them."""

    def __init__(self, chance: random.Random, options: Options) -> None:
        self.chance = chance
        self.options = options
        self.trouble = chance.choice([0.0, 0.02, 0.1, 0.3])
        self.fields = {"lot", "place"}
        self.known: set[str] = set()
        self.refused: set[str] = set()
        self.most_items = chance.choice([1, 3, 1000])
        self.codes: dict[str, dict[str, Any]] = {}
        self.jobs: dict[str, int] = {}
        # How often a key was in a job, so that a second job for it can be told from a first.
        self.submitted: dict[str, int] = {}
        self.pacer = Pacer(random=lambda: 0.0)
        self.settings: Any = SimpleNamespace(items_per_call=999, account_digest="account")
        self._lock = threading.Lock()

    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        with self._lock:
            assert len(items) <= self.options.items_per_call
            lost = self._trouble(UploadTimedOut("504", status=504))
            if len(items) > self.most_items and self.chance.random() < 0.5:
                raise RequestTooLarge("413", status=413)
            self._check([item[data_key] for item in items])
            updated: dict[str, list[str]] = {}
            for item in items:
                if item[data_key] in self.known:
                    updated[item[data_key]] = self._set(item[data_key], item)
            if lost:
                raise ConnectionFailed("cut")
            return UploadResult(len(updated), len(updated), updated)

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        with self._lock:
            keys = constraints[KEY]
            assert len(keys) <= self.options.ids_per_job
            lost = self._trouble(ServiceUnavailable("503", status=503))
            if len(keys) > self.most_items * 2 and self.chance.random() < 0.5:
                raise RequestTooLarge("413", status=413)
            self._check(keys)
            found = [key for key in keys if key in self.known]
            for key in found:
                self._set(key, scm_data)
            for key in keys:
                self.submitted[key] = self.submitted.get(key, 0) + 1
            task_id = f"t-{len(self.jobs)}"
            self.jobs[task_id] = len(found)
            if lost:
                raise ConnectionFailed("cut")
            return task_id

    def stop_uploads(self) -> None:
        """No call pauses here."""

    def become_another_account(self) -> None:
        """What was done for the account before is not done for this one."""
        self.codes, self.submitted = {}, {}

    def _trouble(self, slow: ScantrustError) -> bool:
        roll = self.chance.random()
        if roll < self.trouble:
            raise self.chance.choice(
                [
                    slow,
                    slow,
                    Throttled("429", status=429),
                    ServiceUnavailable("503", status=503),
                    ConnectionFailed("refused"),
                ]
            )
        return roll < self.trouble * 1.3

    def _check(self, keys: Sequence[str]) -> None:
        # It names the key: a probe takes the same words for two keys as a refusal of what their rows share.
        if bad := [key for key in keys if key in self.refused]:
            raise RequestRejected("400", status=400, fields={KEY: [f"bad: {bad[0]}"]})

    def _set(self, key: str, values: Mapping[str, Any]) -> list[str]:
        kept = {name: value for name, value in values.items() if name in self.fields}
        self.codes.setdefault(key, {}).update(kept)
        return list(kept)


class Unreliable(Store):
    """A store that fails now and then; the worker may die before or after any write."""

    def __init__(self, chance: random.Random) -> None:
        super().__init__()
        self.chance = chance
        self.risk = chance.choice([0.0, 0.0, 0.1])
        self.fails = chance.choice([0.0, 0.0, 0.2])
        self.has_failed = False

    def set(self, key: str, value: Any) -> None:
        if not self.dead and self.chance.random() < self.fails:
            self.has_failed = True
            raise ConnectionError("the API server is away")
        moment = self.chance.random() / self.risk if self.risk else 1.0
        self.dies = lambda value: moment < 0.5
        super().set(key, value)
        if moment < 1.0:
            self.dead = True
            raise Died


class Rejects:
    """A rejects file in memory."""

    path = "rejects.jsonl"

    def __init__(self) -> None:
        self.rows: list[dict[str, Any]] | None = None
        self.mine: dict[str, str] | None = None

    def write(self, write: Any, *, beside: bool = False) -> str:
        out = Written()
        write(out)
        self.rows = [json.loads(line) for line in out.text.splitlines()]
        self.mine = {"path": self.path, "digest": "d"}
        return self.path

    def append(self, write: Any) -> str:
        before = self.rows or []
        self.write(lambda out: write(out, True))
        self.rows = [*before, *(self.rows or [])]
        return self.path

    def remove(self) -> None:
        self.rows = self.mine = None


class Written:
    def __init__(self) -> None:
        self.text = ""

    def write(self, data: bytes) -> int:
        self.text += data.decode()
        return len(data)


class Interrupting(Upload):
    """An upload that a time limit or a stop may strike between any two steps."""

    def strike(self, chance: random.Random, rate: float) -> None:
        make = self.make_progress

        def progress(rows: Rows | None) -> Progress:
            made = make(rows)
            for name in ("before_call", "answered", "call_done"):
                setattr(made, name, self._struck(getattr(made, name), chance, rate))
            return made

        self.make_progress = progress  # type: ignore[method-assign]

    def _struck(self, step: Any, chance: random.Random, rate: float) -> Any:
        def call(*args: Any) -> None:
            if chance.random() < rate:
                if chance.random() < 0.5:
                    raise TimeLimit
                self.stop()
            step(*args)

        return call


def make_rows(chance: random.Random) -> list[dict[str, Any]]:
    """Return rows of which some have identical data, no key, or a key that comes again."""
    rows: list[dict[str, Any]] = []
    for number in range(chance.randrange(1, 40)):
        row: dict[str, Any] = {KEY: f"K{number}", "lot": chance.choice(["1", "1", "1", str(number)])}
        if chance.random() < 0.3:
            row["place"] = "x"
        if chance.random() < 0.2:
            row["cellar"] = "y"
        if chance.random() < 0.05:
            row[KEY] = ""
        if chance.random() < 0.05 and rows:
            row[KEY] = rows[-1][KEY]
        rows.append(row)
    return rows


def play(seed: int) -> int:
    """Play one upload over its tries; return how many there were."""
    chance = random.Random(seed)
    rows = make_rows(chance)
    keys = [row[KEY] for row in rows]
    options = Options(
        mode=chance.choice(["auto", "auto", "sync", "async"]),
        items_per_call=chance.choice([1, 2, 5]),
        ids_per_job=chance.choice([3, 12, 100]),
        max_in_flight=chance.choice([1, 4]),
        max_rejected=1.0 if chance.random() < 0.1 else 1000,
        stop_on_discarded=chance.random() < 0.1,
    )
    service, store, rejects = Service(chance, options), Unreliable(chance), Rejects()
    service.known = {key for key in keys if chance.random() < chance.choice([1.0, 0.9])}
    service.refused = {key for key in keys if chance.random() < chance.choice([0.0, 0.0, 0.1])}
    with_rejects = chance.random() < 0.5
    account = "account"
    strikes = chance.choice([0.0, 0.0, 0.05])
    series, number = (2, 2), 0
    has_changed, has_ended_early = False, False
    for number in range(1, TRIES + 1):
        if number == TRIES:
            # The weather clears.
            service.trouble, store.risk, store.fails, strikes = 0.0, 0.0, 0.0, 0.0
            service.most_items = 1000
        elif number > 1 and chance.random() < 0.2:
            series, has_changed = (number + 1, 2), True
            if chance.random() < 0.5:
                service.fields.add("cellar")
        if number > 1 and chance.random() < 0.1:
            rows[chance.randrange(len(rows))]["lot"], has_changed = "changed", True
        if number > 1 and chance.random() < 0.1:
            account = f"account {number}"
            service.become_another_account()
        store.dead = False
        this_try = Try(series, number, f"try {number}")
        report = Report("", 0, 0.0)

        service.settings.account_digest = account

        def make_upload(report: Report, this_try: Try = this_try) -> Interrupting:
            return Interrupting(
                service,
                service.submit,
                options,
                report,
                log=LOG,
                store=store,
                this_try=this_try,
                rejects=rejects if with_rejects else None,
            )

        upload = make_upload(report)
        upload.strike(chance, strikes)
        source = Rows(partial(RowSource, [dict(row) for row in rows], data_key=KEY, keep_copy=True), None)
        try:
            with upload:
                upload.send_rows(source)
                outcome = Outcome.of({task_id: service.jobs[task_id] for task_id in report.jobs})
                if has_jobs := bool(report.jobs and not report.jobs_ended):
                    if is_deferred := chance.random() < 0.5:
                        report = Report.load(through_json(report.save()), report.task_ids)
                    else:
                        upload.end_jobs(outcome)
            if has_jobs and is_deferred:
                with make_upload(report) as again:
                    ended = Outcome.from_dict(through_json(outcome.as_dict()))
                    again.end_jobs(ended, partial(lambda rows: rows, source))
            end_progress(store, this_try, report, LOG)
        except (TooManyRejected, DiscardedFields):
            if service.refused or options.stop_on_discarded or "" in keys:
                return number
            raise
        except (ServiceUnavailable, Throttled, ConnectionFailed, UploadInterrupted, TimeLimit, Died):
            has_ended_early = True
            continue
        except (UploadTimedOut, RequestTooLarge):
            # With mode="sync" no call is halved for a 504.
            assert options.mode == "sync"
            continue
        judge(rows, service, report, rejects if with_rejects else None, options, store)
        repeated = max(service.submitted.values(), default=0) > 1
        if not (has_changed or store.has_failed):
            # A job that may be there twice is reported, and no other.
            assert not repeated or report.possibly_twice
            assert has_ended_early or not report.possibly_twice
        return number
    raise AssertionError(f"the upload did not end in {TRIES} tries")


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


def judge(
    rows: Sequence[Mapping[str, Any]],
    service: Service,
    report: Report,
    rejects: Rejects | None,
    options: Options,
    store: Unreliable,
) -> None:
    """Compare every code, every count and every rejected row with what must have become of it."""
    good = [row for row in rows if row[KEY].strip()]
    merged: dict[str, dict[str, Any]] = {}
    for row in good:
        merged.setdefault(row[KEY], {}).update(row)
    refused = {key for key in merged if key in service.refused}
    unknown = {key for key in merged if key not in service.known} - refused
    for key, row in merged.items():
        if key not in refused and key in service.known:
            for name in ("lot", "place"):
                if name in row:
                    assert row[name] == service.codes[key][name], (key, name)
    assert len(rows) == report.rows
    assert len(merged) - len(refused) - len(unknown) == report.codes_affected
    assert len(unknown) == report.unmatched
    assert sum(row[KEY] in refused for row in good) == report.rejected.get("refused", 0)
    assert len(rows) - len(good) == report.rejected.get("key missing", 0)
    told = report.fields_told and options.mode != "async"
    if told and "cellar" not in service.fields:
        sent = {name for key, row in merged.items() if key in service.known - service.refused for name in row}
        if options.mode == "sync":
            assert ("cellar" in sent) == ("cellar" in report.discarded)
    if rejects is not None:
        expected = [
            (line, row[KEY])
            for line, row in enumerate(rows, start=1)
            if not row[KEY].strip()
            or row[KEY] in refused
            or (row[KEY] in unknown and options.mode != "async")
        ]
        # Rows of jobs are added after the others.
        found = sorted((row["rejected_line"], row[KEY]) for row in rejects.rows or [])
        if options.mode == "async":
            # What a job tells depends on how many keys were left in it.
            assert set(expected) <= set(found)
            assert {key for _, key in set(found) - set(expected)} <= unknown
        else:
            assert expected == found


LOG = logging.getLogger("fuzz")
LOG.disabled = True


def test_no_row_is_lost_miscounted_or_unreported_whatever_happens() -> None:
    if seed := os.environ.get("FUZZ_SEED"):
        play(int(seed))
        return
    first = int(time.time() * 1000) % 1_000_000_000
    many = int(os.environ.get("FUZZ_UPLOADS", "0"))
    sys.stdout.write(f"first seed: {first}\n")
    ends = time.monotonic() + SECONDS
    seed_number = first
    tries: list[int] = []
    while seed_number < first + many if many else time.monotonic() < ends:
        try:
            tries.append(play(seed_number))
        except BaseException as error:
            pytest.fail(f"FUZZ_SEED={seed_number}: {type(error).__name__}: {error}")
        seed_number += 1
    sys.stdout.write(f"{len(tries)} uploads, {sum(tries)} tries\n")
    assert len(tries) > 20
