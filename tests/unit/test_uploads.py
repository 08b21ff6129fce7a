"""Rows to calls to a report."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterable, Mapping, Sequence
from collections.abc import Set as AbstractSet
from math import inf
from types import SimpleNamespace
from typing import Any, cast

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import (
    InvalidInput,
    PermissionDenied,
    RequestRejected,
    TooManyRejected,
    UploadTimedOut,
)
from airflow_provider_scantrust.uploads.calls import Call, Steps, make_job, plan_constraints, read_constraints
from airflow_provider_scantrust.uploads.options import Options
from airflow_provider_scantrust.uploads.progress_log import ProgressLog
from airflow_provider_scantrust.uploads.report import EXAMPLES, Report
from airflow_provider_scantrust.uploads.run import Runner
from airflow_provider_scantrust.waits.outcome import KEPT, Outcome
from airflow_provider_scantrust.waits.pacing import Pacer

KEY = "extended_id"


def rows(count: int, *, distinct: int = 1, key: str = KEY) -> list[dict[str, Any]]:
    return [{key: f"K{number}", "lot": f"L{number % distinct}"} for number in range(count)]


@given(st.integers(1, 5000), st.integers(0, 999))
def test_parts_of_a_call_carry_the_same_rows_once_each(count: int, size: int) -> None:
    for call in (Call(3, rows(count)), make_job(3, KEY, [f"K{n}" for n in range(count)], {"lot": "L0"})):
        parts = call.parts(size)
        keys = [row[KEY] for part in parts for row in part.as_rows(KEY)]
        assert [f"K{n}" for n in range(count)] == keys
        assert {3} == {part.number for part in parts}
        most = size or -(-count // 2)
        assert all(1 <= part.keys <= most for part in parts)
        assert len(parts) == -(-count // most)


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({}, "all codes would match"),
        (None, "must be a dict"),
        ([], "must be a dict"),
        ({"lot_number": ""}, "the key is empty"),
        ({"lot_number": None}, "a key must be text"),
        ({"lot_number": ["a", "b"]}, "extended_id only"),
        ({KEY: []}, "list of values is empty"),
        ({KEY: ["A", ""]}, "the key is empty"),
    ],
)
def test_constraints_that_could_select_too_much_are_refused(constraints: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read_constraints(constraints)


def test_long_list_of_ids_is_cut_and_each_is_sent_once() -> None:
    plan = plan_constraints(read_constraints({"lot": "L", KEY: ["A", "B", "A", "C"]}), {"x": 1}, 2)
    assert [{"lot": "L", KEY: ["A"]}, {"lot": "L", KEY: ["B", "C"]}] == [
        call.constraints for call in plan.calls
    ]


def test_ids_without_an_order_make_the_same_calls_in_each_process() -> None:
    ids = {str(n) for n in range(100)}
    assert sorted(ids) == read_constraints({KEY: ids})[KEY] == read_constraints({KEY: frozenset(ids)})[KEY]


class Service:
    """Times out on calls that touch more codes than it likes, and refuses calls with certain keys."""

    def __init__(
        self,
        most_codes: int,
        codes_per_key: int = 1,
        refused: AbstractSet[str] = frozenset(),
        unknown: AbstractSet[str] = frozenset(),
    ) -> None:
        self.most_codes = most_codes
        self.codes_per_key = codes_per_key
        self.refused = refused
        self.unknown = unknown
        self.calls = 0
        self.updated: list[str] = []
        self.submitted: list[Mapping[str, Any]] = []
        self._lock = threading.Lock()

    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        with self._lock:
            self.calls += 1
            codes = len(items) * self.codes_per_key
            if codes > self.most_codes:
                raise UploadTimedOut("504")
            keys = [item[data_key] for item in items]
            self._check(keys)
            known = [key for key in keys if key not in self.unknown]
            self.updated += known
            return UploadResult(len(known) * self.codes_per_key, codes, {key: ["lot"] for key in known})

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        with self._lock:
            self.calls += 1
            selected = constraints.get(KEY, [])
            self._check([selected] if isinstance(selected, str) else selected)
            self.submitted.append(constraints)
            return f"t-{len(self.submitted)}"

    def stop_uploads(self) -> None:
        """Its calls do not pause."""

    def _check(self, keys: Iterable[str]) -> None:
        if any(key in self.refused for key in keys):
            raise RequestRejected("400", status=400, fields={"lot": ["bad"]})


def make_runner(
    service: Any,
    report: Report,
    *,
    warn: Any = print,
    reject: Any = None,
    progress: Any = None,
    **options: Any,
) -> Runner:
    log: Any = SimpleNamespace(warning=lambda text, *args: warn(text % args))
    pacer = Pacer(random=lambda: 0.0)
    return Runner(
        options=Options(**{"max_in_flight": 1, **options}),
        service=service,
        submit=service.submit,
        report=report,
        progress=progress or cast("Any", Watcher()),
        lines=ProgressLog(log, pacer, rows=0, calls=0),
        log=log,
        items_per_call=999,
        reject=reject,
        max_rejected=options.get("max_rejected", inf),
    )


def run(
    service: Service, calls: Iterable[Call], count: int, *, quarantine: bool = False, **options: Any
) -> tuple[Report, list[str], dict[str, str]]:
    report = Report("sync", count, 0.0)
    warnings: list[str] = []
    rejected: dict[str, str] = {}
    if quarantine:
        options["reject"] = lambda key, kind, reason: rejected.update({key: kind}) or 1
    make_runner(service, report, warn=warnings.append, **options).run(steps(calls))
    return report, warnings, rejected


class Watcher:
    def __init__(self, done: dict[int, Report] | None = None, seen: list[int] | None = None) -> None:
        self.done = {} if done is None else done
        self.seen = [] if seen is None else seen

    def before_call(self, call: Call, in_flight: int) -> None:
        self.seen.append(in_flight)

    def answered(self, call: Call, error: Exception | None) -> None:
        """Is not looked at."""

    def call_done(self, number: int, counted: Report) -> None:
        self.done[number] = counted


def steps(calls: Iterable[Call]) -> Steps:
    return Steps(iter(()), iter(()), iter(calls))


def pieces(items: Sequence[dict[str, Any]]) -> list[Call]:
    return [Call(number, part.rows) for number, part in enumerate(Call(0, items).parts(999))]


def jobs(items: Sequence[dict[str, Any]], size: int = 20_000) -> list[Call]:
    """Return jobs for rows with one field, as the planner makes them."""
    groups: dict[str, list[str]] = {}
    for item in items:
        groups.setdefault(item["lot"], []).append(item[KEY])
    cuts = [(lot, keys[n : n + size]) for lot, keys in groups.items() for n in range(0, len(keys), size)]
    return [make_job(number, KEY, keys, {"lot": lot}) for number, (lot, keys) in enumerate(cuts)]


def upload(service: Service, count: int, **options: Any) -> tuple[Report, list[str]]:
    report, warnings, _ = run(service, pieces(rows(count)), count, **options)
    return report, warnings


@given(st.integers(1, 300), st.integers(1, 300))
def test_halving_brings_every_row_home_once_and_in_order(count: int, most: int) -> None:
    service = Service(most)
    report, _ = upload(service, count)
    assert [f"K{number}" for number in range(count)] == service.updated
    assert count == report.codes_affected
    assert not report.jobs


def test_single_item_that_times_out_goes_async() -> None:
    service = Service(most_codes=999, codes_per_key=1000)
    report, warnings = upload(service, 2)
    assert service.submitted == [{KEY: ["K0"]}, {KEY: ["K1"]}]
    assert 5 == report.requests
    assert ["t-1", "t-2"] == list(report.jobs)
    assert "becomes a job" in warnings[-1]


def test_timeout_without_splitting_is_the_callers() -> None:
    service = Service(most_codes=999)
    service.most_codes = 500
    with pytest.raises(UploadTimedOut):
        upload(service, 1500, mode="sync")
    assert [] == service.updated


def test_refusal_stops_the_upload_and_the_report_says_how_far_it_came() -> None:
    service = Service(999, refused={"K1500"})
    report = Report("sync", 3000, 0.0)
    runner = make_runner(service, report)
    with pytest.raises(RequestRejected):
        runner.run(steps(pieces(rows(3000))))
    assert (3, 1500) == (report.requests, report.codes_affected)


def test_submitted_jobs_survive_a_failing_submit() -> None:
    report = Report("async", 2, 0.0)

    def submit(constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        if report.jobs:
            raise PermissionDenied("403")
        return "t-1"

    service = SimpleNamespace(upload=Service(1).upload, submit=submit)
    with pytest.raises(PermissionDenied):
        make_runner(service, report).run(steps(jobs(rows(2, distinct=2))))
    assert ["t-1"] == list(report.jobs)


@given(
    st.sets(st.integers(0, 2500), max_size=12), st.sets(st.integers(0, 2500), max_size=5), st.integers(1, 8)
)
def test_exactly_the_refused_and_unknown_rows_are_rejected(
    refused: set[int], unknown: set[int], max_in_flight: int
) -> None:
    unknown -= refused
    service = Service(999, refused={f"K{each}" for each in refused}, unknown={f"K{each}" for each in unknown})
    report, _, rejected = run(service, pieces(rows(2501)), 2501, quarantine=True, max_in_flight=max_in_flight)
    expected = {f"K{each}": "refused" for each in refused} | {f"K{each}": "unmatched" for each in unknown}
    assert expected == rejected
    assert 2501 - len(expected) == report.codes_affected == len(service.updated)
    assert len(refused) == report.rejected.get("refused", 0)
    assert len(unknown) == report.unmatched


def test_too_many_refused_rows_end_the_upload_early() -> None:
    service = Service(999, refused={f"K{number}" for number in range(0, 5000, 2)})
    with pytest.raises(TooManyRejected, match="max_rejected"):
        run(service, pieces(rows(5000)), 5000, quarantine=True, max_rejected=10)
    assert service.calls < 100


@pytest.mark.parametrize("max_in_flight", [1, 16])
def test_file_that_is_simply_wrong_ends_the_upload_early(max_in_flight: int) -> None:
    service = Service(999, refused={f"K{number}" for number in range(50_000)})
    with pytest.raises(TooManyRejected, match=r"refused \d+ rows and accepted none, .*: 400"):
        run(
            service,
            pieces(rows(50_000)),
            50_000,
            quarantine=True,
            max_in_flight=max_in_flight,
        )
    assert service.calls < 500


@settings(max_examples=12)
@given(st.integers(0, 899))
def test_good_stretch_anywhere_in_a_call_is_found(start: int) -> None:
    refused = {f"K{number}" for number in range(999) if not start <= number < start + 100}
    service = Service(999, refused=refused)
    # One after the other: with several at once, it depends on their order whether a hundred are refused first.
    options: dict[str, Any] = {"quarantine": True, "max_in_flight": 1}
    report, _, rejected = run(service, pieces(rows(999)), 999, **options)
    assert (100, refused) == (report.codes_affected, set(rejected))


@pytest.mark.parametrize("max_in_flight", [1, 16])
def test_bad_beginning_of_a_file_is_not_the_file(max_in_flight: int) -> None:
    service = Service(999, refused={f"K{number}" for number in range(600)})
    options: dict[str, Any] = {"quarantine": True, "max_in_flight": max_in_flight}
    report, _, rejected = run(service, pieces(rows(900)), 900, **options)
    assert (300, 600) == (report.codes_affected, len(rejected))


@pytest.mark.parametrize("good", ["upload", "job", "earlier try"])
def test_file_of_which_anything_was_taken_is_not_wrong_as_a_whole(good: str) -> None:
    service = Service(999, refused={f"K{number}" for number in range(999)})
    calls, report = pieces(rows(999)), Report("sync", 999, 0.0)
    if good == "upload":
        calls = [Call(1, rows(1000)[999:]), *calls]
    elif good == "job":
        calls = [make_job(1, KEY, ["K1000"], {"lot": "L"}), *calls]
    else:
        report.codes_affected = 1
    make_runner(service, report, reject=lambda *rejected: 1).run(steps(calls))
    assert 999 == report.rejected["refused"]


@pytest.mark.parametrize("timed_out", [False, True])
def test_slow_call_is_waited_for_before_a_file_is_taken_to_be_wrong(timed_out: bool) -> None:
    service = Service(999, refused={f"K{number}" for number in range(200)})
    others_refused, tries = threading.Event(), []

    def upload(items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        if items[-1][data_key] == "K299":
            tries.append(len(items))
            assert others_refused.wait(10)
            if timed_out and len(tries) == 1:
                raise UploadTimedOut("504")
        return service.upload(items, data_key)

    rejected: list[str] = []

    def reject(key: str, kind: str, reason: str) -> int:
        rejected.append(key)
        if len(rejected) == 200:
            others_refused.set()
        return 1

    report = Report("sync", 300, 0.0)
    calls = [Call(0, rows(300)[200:]), Call(1, rows(200))]
    slow = SimpleNamespace(upload=upload, submit=service.submit)
    make_runner(slow, report, reject=reject, max_in_flight=2).run(steps(calls))
    assert (200, 100) == (len(rejected), report.codes_affected)


def test_row_that_times_out_and_is_then_refused_as_a_job_is_refused() -> None:
    service = Service(0, refused={"K3"})
    report, _, rejected = run(service, pieces(rows(8)), 8, quarantine=True)
    assert {"K3": "refused"} == rejected
    assert ({"refused": 1}, 7) == (report.rejected, len(report.jobs))
    # Each cut is a call, and each row was tried as a call and as a job.
    assert service.calls == report.requests == 1 + 2 + 4 + 8 + 8


def test_refused_job_of_one_row_is_not_sent_in_another_way() -> None:
    service = Service(0, refused={"K0"})
    job = make_job(0, KEY, ["K0"], {"lot": "L"})
    report, _, rejected = run(service, [job], 1, quarantine=True, mode="sync")
    assert ({"K0": "refused"}, 1) == (rejected, report.requests)


def test_refused_job_whose_data_is_refused_costs_two_more_calls() -> None:
    service = Service(999, refused={f"K{number}" for number in range(20_000)})
    report, _, rejected = run(service, jobs(rows(20_000)), 20_000, quarantine=True)
    assert 20_000 == len(rejected) == report.rejected["refused"]
    assert 3 == service.calls == report.requests


def test_refused_job_is_one_sign_however_many_rows_it_has() -> None:
    service = Service(999, refused={f"K{number}" for number in range(20_000)})
    report, _, rejected = run(service, jobs(rows(40_000)), 40_000, quarantine=True)
    assert (20_000, 1) == (len(rejected), len(report.jobs))


def test_refused_job_with_some_bad_keys_updates_all_others() -> None:
    service = Service(999, refused={"K5", "K1700"})
    report, _, rejected = run(service, jobs(rows(2000)), 2000, quarantine=True)
    assert {"K5": "refused", "K1700": "refused"} == rejected
    assert 1998 == report.codes_affected == len(set(service.updated))
    assert service.calls == report.requests


def test_each_request_for_a_refused_job_is_counted() -> None:
    service = Service(999, refused={"K0"})
    report, *_ = run(service, jobs(rows(3)), 3, quarantine=True)
    assert service.calls == report.requests


def test_call_counts_when_all_its_pieces_have_ended() -> None:
    done: dict[int, Report] = {}
    service = Service(200, unknown={"K1200"})
    run(service, pieces(rows(1500)), 1500, progress=Watcher(done=done))
    assert [0, 1] == [done[number].unmatched for number in (0, 1)]
    assert [750, 749] == [done[number].codes_affected for number in (0, 1)]


def test_id_that_is_being_counted_when_a_time_limit_strikes_is_kept() -> None:
    class TimeLimit(BaseException):
        """Airflow's time limit interrupts the thread that counts."""

    class Struck(Watcher):
        def answered(self, call: Call, error: Exception | None) -> None:
            raise TimeLimit

    report, service = Report("async", 1, 0.0), Service(999)
    runner = make_runner(service, report, progress=Struck())
    with pytest.raises(TimeLimit):
        runner.run(steps([make_job(0, KEY, ["K0"], {"lot": "L"})]))
    assert ["t-1"] == report.task_ids


def test_no_more_requests_are_under_way_than_allowed() -> None:
    seen: list[int] = []
    run(
        Service(999),
        pieces(rows(20_000)),
        20_000,
        max_in_flight=5,
        progress=Watcher(seen=seen),
    )
    assert 4 == max(seen)


def test_unmatched_keys_and_discarded_fields_are_counted() -> None:
    report = Report("sync", 4, 100.0)
    items = [{KEY: key, "lot": "1", "colour": "red"} for key in ("A", "B", "C", "D")]
    result = UploadResult(3, 4, {"A": ["lot"], "B": ["lot", "colour"], "C": ["lot"]})
    report.add_answer(items, KEY, result)
    summary = report.summary(now=102.5)
    assert {"count": 1, "examples": ["D"]} == summary["unmatched"]
    assert ["colour"] == summary["discarded_fields"]
    assert {"colour": 2} == report.discarded
    assert 2.5 == summary["seconds"]


def job_of(keys: int, example: str, number: int) -> Call:
    return Call(number, constraints={KEY: [example] * keys}, example=example)


def test_jobs_tell_how_many_ids_matched_nothing() -> None:
    report = Report("async", 10, 0.0)
    for task_id, keys in (("all", 3), ("some", 3), ("none", 1), ("unsaid", 3), ("many", 1)):
        report.add_job(job_of(keys, f"first of {task_id}", 0), task_id)
    report.end_jobs(Outcome.of({"all": 3, "some": 1, "none": 0, "unsaid": None, "many": 5000}))
    summary = report.summary(now=1.0)
    assert {"count": 3, "examples": ["first of none"]} == summary["unmatched"]
    assert (5004, 1) == (summary["codes_affected"], summary["jobs_without_count"])


@pytest.mark.parametrize(
    ("jobs", "codes"),
    [
        # Ids in lists, all of which matched but in a few jobs.
        ([(10, 10)] * 3000 + [(10, 7)] * 5 + [(3, 0)], 30_035),
        # More jobs than counts are kept affected less than they could.
        ([(10, 9)] * 2500, 22_500),
        # One key each, on any number of codes, and more than counts are kept on none.
        ([(1, 500)] * 3000 + [(1, 0)] * 1500, 1_500_000),
        ([(1, 1)] * 999 + [(1, 0)] * 2, 999),
    ],
)
def test_unmatched_keys_of_more_jobs_than_are_kept_are_counted_exactly(
    jobs: list[tuple[int, int]], codes: int
) -> None:
    report = Report("async", len(jobs), 0.0)
    for number, (keys, _) in enumerate(jobs):
        report.add_job(job_of(keys, f"key {number}", number), f"t-{number}")
    outcome = Outcome.of({f"t-{number}": affected for number, (_, affected) in enumerate(jobs)})
    assert KEPT == len(outcome.counts)
    report.end_jobs(outcome)
    assert codes == report.codes_affected
    assert sum(max(0, keys - affected) for keys, affected in jobs) == report.unmatched


def test_codes_of_jobs_that_are_not_waited_for_are_unknown() -> None:
    report = Report("async", 1, 0.0)
    report.add_job(job_of(1, "A", 0), "t-1")
    assert report.summary(now=0.0)["codes_affected"] is None


@pytest.mark.parametrize(
    ("more", "end"),
    [({}, "the result of 1 job is not known yet"), ({"failed": 1}, "1 of 1 job failed")],
)
def test_found_rows_and_jobs_without_a_result_are_told_apart(more: dict[str, Any], end: str) -> None:
    report = Report(rows=3, jobs={"t": [2, "A", 0]}, rejected={"invalid": 1})
    assert f"Sent 2 of 3 rows in 1.0 s: 1 row rejected; {end}." == report.describe(1.0, **more)


def test_examples_are_few() -> None:
    report = Report("sync", 5000, 0.0)
    report.add_answer(rows(5000), KEY, UploadResult(0, 0, {}))
    summary = report.summary(now=0.0)
    assert 5000 == summary["unmatched"]["count"]
    assert len(summary["unmatched"]["examples"]) == EXAMPLES


def test_report_survives_a_deferral() -> None:
    report = Report("async", 2, 5.0)
    report.add_job(job_of(2, "A", 0), "t-1")
    report.add_answer([{KEY: "X", "lot": "1"}], KEY, UploadResult(0, 0, {}))
    stored = {**json.loads(json.dumps(report.save())), "written_by_a_later_version": 1}
    loaded = Report.load(stored, report.task_ids)
    assert report == loaded
    loaded.end_jobs(Outcome.of({"t-1": 2}))
    assert 2 == loaded.codes_affected


@pytest.mark.parametrize("sizes", [[1], [20_000, 20_000, 7], range(1, 5000)])
def test_report_of_many_jobs_is_small_and_still_knows_what_each_did(sizes: Sequence[int]) -> None:
    report = Report("async", 5000, 0.0)
    for number in range(5000):
        report.add_job(
            job_of(sizes[number % len(sizes)], f"key {number}", number), f"{number * 7919 % 5000:036d}"
        )
    outcome = Outcome.of(
        {task_id: 0 if place % 2 else 30_000 for place, task_id in enumerate(report.task_ids)}
    )
    assert len(json.dumps(report.summary(now=1.0))) < 8_000
    stored = json.loads(json.dumps(report.save()))
    assert len(json.dumps(stored)) < 32_000
    assert len(json.dumps(outcome.as_dict())) < 64_000
    loaded = Report.load(stored, report.task_ids)
    outcome = Outcome.from_dict(json.loads(json.dumps(outcome.as_dict())))
    keys = sum(job[0] for job in loaded.jobs.values()) if loaded.job_keys is None else loaded.job_keys
    assert sum(job[0] for job in report.jobs.values()) == keys
    if list(sizes) == [1]:
        assert set(range(1, 5000, 2)) == set(loaded.jobs_without_code(outcome))
        loaded.end_jobs(outcome)
        assert 2500 == loaded.unmatched


def through_json(value: Any) -> Any:
    return json.loads(json.dumps(value))


@pytest.mark.parametrize("step", [1, 3])
def test_jobs_of_many_sizes_are_counted_exactly_after_a_deferral(step: int) -> None:
    report = Report("async", 5000, 0.0)
    sizes = {f"{number:036d}": 1 + number % 2 for number in range(0, 1600 * step, step)}
    for number, (task_id, size) in enumerate(sizes.items()):
        report.add_job(job_of(size, f"key {number}", number * step), task_id)
    # One id in ten jobs matched nothing.
    outcome = Outcome.of(
        {task_id: size - (place % 160 == 5) for place, (task_id, size) in enumerate(sizes.items())}
    )
    loaded = Report.load(through_json(report.save()), report.task_ids)
    assert {} == loaded.jobs_without_code(outcome)
    loaded.end_jobs(Outcome.from_dict(through_json(outcome.as_dict())))
    assert 10 == loaded.unmatched
    assert sum(sizes.values()) - 10 == loaded.codes_affected


def test_report_without_its_task_ids_still_counts() -> None:
    report = Report("async", 3, 0.0)
    for number, keys in enumerate((1, 1, 1)):
        report.add_job(job_of(keys, f"key {number}", number), f"t-{number}")
    loaded = Report.load(report.save())
    loaded.end_jobs(Outcome.of({"t-0": 4, "t-1": 0, "t-2": 5}))
    assert (9, 1) == (loaded.codes_affected, loaded.unmatched)
