"""Rows to calls to a report."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import InvalidInput, RequestRejected, UploadTimedOut
from airflow_provider_scantrust.uploads.calls import Job, cut, make_constrained_jobs, make_jobs
from airflow_provider_scantrust.uploads.report import EXAMPLES, Report
from airflow_provider_scantrust.uploads.run import run_async, run_sync

KEY = "extended_id"


def rows(count: int, *, distinct: int = 1, key: str = KEY) -> list[dict[str, Any]]:
    return [{key: f"K{number}", "lot": f"L{number % distinct}"} for number in range(count)]


@given(st.integers(0, 5000), st.integers(1, 999))
def test_cutting_loses_nothing_and_keeps_the_limit(count: int, size: int) -> None:
    pieces = list(cut(rows(count), size))
    assert rows(count) == [row for piece in pieces for row in piece]
    assert all(1 <= len(piece) <= size for piece in pieces)
    assert len(pieces) == -(-count // size)


@given(
    st.lists(st.dictionaries(st.sampled_from(["a", "b"]), st.sampled_from(["1", "2", 1, True]), min_size=1)),
    st.integers(1, 5),
    st.sampled_from([KEY, "lot_number"]),
)
def test_jobs_set_exactly_what_the_rows_say(data: list[dict[str, Any]], size: int, key: str) -> None:
    items = [{key: f"K{number}", **values} for number, values in enumerate(data)]
    said: dict[str, Any] = {}
    for job in make_jobs(items, key, size):
        keys = job.constraints[key]
        keys = keys if isinstance(keys, list) else [keys]
        assert len(keys) == job.keys <= (size if key == KEY else 1)
        assert isinstance(job.constraints[key], list) == (key == KEY)
        for each in keys:
            assert each not in said
            said[each] = dict(job.scm_data)
    expected = {item[key]: {name: value for name, value in item.items() if name != key} for item in items}
    assert json.dumps(expected, sort_keys=True) == json.dumps(said, sort_keys=True)


def test_values_that_python_finds_equal_are_different_data() -> None:
    jobs = make_jobs([{KEY: "A", "x": 1}, {KEY: "B", "x": True}, {KEY: "C", "x": "1"}], KEY)
    assert len(jobs) == 3


def test_identical_rows_share_a_job_whatever_the_order_of_their_fields() -> None:
    jobs = make_jobs([{KEY: "A", "x": 1, "y": 2}, {KEY: "B", "y": 2, "x": 1}], KEY)
    assert [Job({KEY: ["A", "B"]}, {"x": 1, "y": 2}, 2, "A")] == jobs


@pytest.mark.parametrize(
    ("constraints", "said"),
    [
        ({}, "all codes would match"),
        (None, "must be a dict"),
        ([], "must be a dict"),
        ({"lot_number": ""}, "the key is empty"),
        ({"lot_number": None}, "a key must be text"),
        ({"lot_number": ["a", "b"]}, "extended_id only"),
        ({KEY: []}, "must not be empty"),
        ({KEY: ["A", ""]}, "the key is empty"),
    ],
)
def test_constraints_that_could_select_too_much_are_refused(constraints: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        make_constrained_jobs(constraints, {"x": 1})


def test_long_list_of_ids_is_cut_and_each_is_sent_once() -> None:
    jobs = make_constrained_jobs({"lot": "L", KEY: ["A", "B", "A", "C"]}, {"x": 1}, ids_per_job=2)
    assert [job.constraints[KEY] for job in jobs] == [["A", "B"], ["C"]]
    assert {"L"} == {job.constraints["lot"] for job in jobs}


class Service:
    """Takes calls and times out on those that touch more codes than it likes."""

    def __init__(self, most_codes: int, codes_per_key: int = 1) -> None:
        self.most_codes = most_codes
        self.codes_per_key = codes_per_key
        self.updated: list[str] = []
        self.submitted: list[Mapping[str, Any]] = []

    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        codes = len(items) * self.codes_per_key
        if codes > self.most_codes:
            raise UploadTimedOut("504")
        self.updated += [item[data_key] for item in items]
        return UploadResult(codes, codes, {item[data_key]: ["lot"] for item in items})

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        self.submitted.append(constraints)
        return f"t-{len(self.submitted)}"


def upload(service: Service, count: int, *, split: bool = True) -> tuple[Report, list[str]]:
    report = Report("sync", count, 0.0)
    warnings: list[str] = []
    run_sync(
        cut(rows(count), 999),
        KEY,
        report,
        upload=service.upload,
        submit=service.submit,
        warn=warnings.append,
        split=split,
    )
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
    assert report.requests == 5
    assert list(report.jobs) == ["t-1", "t-2"]
    assert "goes async" in warnings[-1]


def test_timeout_without_splitting_is_the_callers() -> None:
    service = Service(most_codes=999)
    service.most_codes = 500
    with pytest.raises(UploadTimedOut):
        upload(service, 1500, split=False)
    assert service.updated == []


def test_refusal_stops_the_upload_and_the_report_says_how_far_it_came() -> None:
    report = Report("sync", 3, 0.0)
    answers = iter([UploadResult(1, 1, {"K0": ["lot"]})])

    def refuse(items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        for result in answers:
            return result
        raise RequestRejected("400")

    with pytest.raises(RequestRejected):
        run_sync(cut(rows(3), 1), KEY, report, upload=refuse, submit=lambda *_: "", warn=print, split=True)
    assert (report.requests, report.codes_affected) == (2, 1)


def test_submitted_jobs_survive_a_failing_submit() -> None:
    report = Report("async", 2, 0.0)

    def submit(constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        if report.jobs:
            raise RequestRejected("400")
        return "t-1"

    with pytest.raises(RequestRejected):
        run_async(make_jobs(rows(2, distinct=2), KEY), report, submit=submit)
    assert list(report.jobs) == ["t-1"]


def test_unmatched_keys_and_discarded_fields_are_counted() -> None:
    report = Report("sync", 4, 100.0)
    items = [{KEY: key, "lot": "1", "colour": "red"} for key in ("A", "B", "C", "D")]
    result = UploadResult(3, 4, {"A": ["lot"], "B": ["lot", "colour"], "C": ["lot"]})
    report.add_answer(items, KEY, result)
    summary = report.summary(now=102.5)
    assert summary["unmatched"] == {"count": 1, "examples": ["D"]}
    assert summary["discarded_fields"] == ["colour"]
    assert report.discarded == {"colour": 2}
    assert summary["seconds"] == 2.5


def test_jobs_tell_how_many_ids_matched_nothing() -> None:
    report = Report("async", 10, 0.0)
    for task_id, keys in (("all", 3), ("some", 3), ("none", 1), ("unsaid", 3), ("many", 1)):
        report.add_job(Job({}, {}, keys, f"first of {task_id}"), task_id)
    report.end_jobs({"all": 3, "some": 1, "none": 0, "unsaid": None, "many": 5000})
    summary = report.summary(now=1.0)
    assert summary["unmatched"] == {"count": 3, "examples": ["first of none"]}
    assert summary["codes_affected"] == 5004


def test_codes_of_jobs_that_are_not_waited_for_are_unknown() -> None:
    report = Report("async", 1, 0.0)
    report.add_job(Job({}, {}, 1, "A"), "t-1")
    assert report.summary(now=0.0, ended=False)["codes_affected"] is None


def test_examples_are_few() -> None:
    report = Report("sync", 5000, 0.0)
    report.add_answer(rows(5000), KEY, UploadResult(0, 0, {}))
    summary = report.summary(now=0.0)
    assert summary["unmatched"]["count"] == 5000
    assert len(summary["unmatched"]["examples"]) == EXAMPLES


def test_report_survives_a_deferral() -> None:
    report = Report("async", 2, 5.0)
    report.add_job(Job({}, {}, 2, "A"), "t-1")
    report.add_answer([{KEY: "X", "lot": "1"}], KEY, UploadResult(0, 0, {}))
    loaded = Report.load({**json.loads(json.dumps(report.save())), "written_by_a_later_version": 1})
    assert report == loaded
    loaded.end_jobs({"t-1": 2})
    assert loaded.codes_affected == 2
