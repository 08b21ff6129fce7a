"""The planner: every row in one call, in as few calls as can be."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from contextlib import ExitStack
from itertools import product
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.plan import Plan, choose_jobs, make_plan
from airflow_provider_scantrust.uploads.spool import Spool

KEY = "extended_id"
# A file on a busy machine keeps no deadline.
ON_DISK = settings(deadline=None)
SMALL: dict[str, Any] = {"items_per_call": 3, "ids_per_job": 7}


@pytest.fixture
def stack() -> Iterable[ExitStack]:
    with ExitStack() as stack:
        yield stack


def filled(stack: ExitStack, rows: Iterable[Any], data_key: str = KEY) -> Spool:
    spool = stack.enter_context(Spool(data_key))
    spool.fill(enumerate(rows, start=2), warn=lambda text: None)
    return spool


def lot(number: int, size: int) -> list[dict[str, Any]]:
    return [{KEY: f"{number}-{index}", "lot": str(number)} for index in range(size)]


def keys_of(call: Call, data_key: str = KEY) -> list[str]:
    return [row[data_key] for row in call.as_rows(data_key)]


def apply(call: Call, codes: dict[str, dict[str, Any]], data_key: str = KEY) -> None:
    for row in call.as_rows(data_key):
        fields = {name: value for name, value in row.items() if name != data_key}
        codes.setdefault(row[data_key], {}).update(fields)


def apply_one_by_one(rows: Iterable[Mapping[str, Any]], data_key: str = KEY) -> dict[str, dict[str, Any]]:
    codes: dict[str, dict[str, Any]] = {}
    for row in rows:
        codes.setdefault(row[data_key], {}).update({name: row[name] for name in row if name != data_key})
    return codes


def test_different_rows_fill_synchronous_calls(stack: ExitStack) -> None:
    plan = make_plan(filled(stack, ({KEY: str(n), "lot": str(n)} for n in range(2000))))
    assert ("sync", 3, 0, 0, 0.3) == (plan.mode, plan.sync_calls, plan.jobs, plan.groups, plan.least_seconds)
    assert [999, 999, 2] == [call.keys for call in plan.calls()]


def test_rows_with_identical_data_share_jobs_where_that_needs_fewer_calls(stack: ExitStack) -> None:
    rows = [*lot(1, 16), *lot(2, 3), *lot(3, 7)]
    plan = make_plan(filled(stack, rows), **SMALL)
    assert ("mixed", 3, 3, 2) == (plan.mode, plan.jobs, plan.sync_calls, plan.groups)
    calls = list(plan.calls())
    assert [(False, 3), (True, 6), (True, 6), (True, 6), (False, 3), (False, 2)] == [
        (call.is_job, call.keys) for call in calls
    ]
    assert ["1-1", "1-2", "1-3", "1-4", "1-5", "1-6"] == keys_of(calls[1])
    assert {"lot": "1"} == calls[1].scm_data
    assert ["1-14", "1-15", "2-0"] == keys_of(calls[4])


def test_first_middle_and_last_row_of_each_set_of_fields_go_first(stack: ExitStack) -> None:
    rows = [{KEY: f"a{n}", "lot": "1"} for n in range(42)]
    rows += [{KEY: f"b{n}", "lot": "1", "place": "x"} for n in range(14)]
    rows += [{KEY: f"c{n}", "lot": "1", "place": "y"} for n in range(14)]
    plan = make_plan(filled(stack, rows), items_per_call=6, ids_per_job=14)
    assert (1, 5) == (plan.tasting_calls, plan.jobs)
    first, *jobs = plan.calls()
    assert {"a0", "a20", "a41", "b0", "b13", "c13"} == set(keys_of(first))
    assert 0 == first.number
    assert all(call.is_job for call in jobs)
    assert {f"{n[0]}" for n in keys_of(first)} == {"a", "b", "c"}


@pytest.mark.parametrize(("size", "calls"), [(999, 1), (1998, 2), (1999, 2), (2500, 2), (20_004, 2)])
def test_tasting_never_needs_more_calls_than_synchronous_ones(
    stack: ExitStack, size: int, calls: int
) -> None:
    plan = make_plan(filled(stack, lot(1, size)))
    assert calls == plan.sync_calls + plan.jobs
    assert (plan.jobs > 0) == (plan.tasting_calls == 1) == (size > 1998)


def test_with_an_answer_for_each_row_no_row_by_extended_id_becomes_a_job(stack: ExitStack) -> None:
    plan = make_plan(filled(stack, lot(1, 5000)), answer_for_each_row=True)
    assert ("sync", 6, 0) == (plan.mode, plan.sync_calls, plan.jobs)
    assert "rejects_path" in plan.reason


def test_of_plans_with_as_few_calls_the_one_with_fewer_jobs_is_taken(stack: ExitStack) -> None:
    plan = make_plan(filled(stack, [*lot(1, 4), *lot(2, 2)]), **SMALL)
    assert ("sync", 2, 0) == (plan.mode, plan.sync_calls, plan.jobs)


def test_order_of_fields_makes_no_other_data(stack: ExitStack) -> None:
    rows = [{KEY: "A", "a": "1", "b": "2"}, {"b": "2", "a": "1", KEY: "B"}] * 1
    rows += [{"a": "1", KEY: f"C{n}", "b": "2"} for n in range(5)]
    assert 1 == make_plan(filled(stack, rows), mode="async", **SMALL).jobs


def test_values_that_only_python_finds_equal_share_no_job(stack: ExitStack) -> None:
    rows = [{KEY: f"{n}", "x": (1, True, 1.5, "1")[n % 4]} for n in range(16)]
    plan = make_plan(filled(stack, rows), mode="async", **SMALL)
    for call in plan.calls():
        assert {repr(rows[int(key)]["x"]) for key in keys_of(call)} == {repr(call.scm_data["x"])}
    assert 4 == plan.jobs


@pytest.mark.parametrize(("mode", "jobs", "sync_calls"), [("sync", 0, 7), ("async", 4, 0), ("auto", 2, 3)])
def test_mode_that_is_asked_for_is_kept(mode: Any, jobs: int, sync_calls: int, stack: ExitStack) -> None:
    plan = make_plan(filled(stack, [*lot(1, 15), *lot(2, 4)]), mode=mode, **SMALL)
    assert (jobs, sync_calls) == (plan.jobs, plan.sync_calls)
    assert ("mixed" if mode == "auto" else mode) == plan.mode


@pytest.mark.parametrize(
    ("data_key", "codes_per_key", "mode", "calls"),
    [
        ("serial_number", None, "sync", 1),
        ("lot_number", None, "async", 30),
        ("lot_number", 100, "sync", 4),
        ("lot_number", 1000, "async", 30),
    ],
)
def test_other_keys_follow_scantrusts_advice(
    data_key: str, codes_per_key: float | None, mode: str, calls: int, stack: ExitStack
) -> None:
    rows = [{data_key: str(n), "product": "1"} for n in range(30)]
    plan = make_plan(filled(stack, rows, data_key), codes_per_key=codes_per_key)
    made = list(plan.calls())
    assert (mode, calls) == (plan.mode, len(made))
    if mode == "async":
        assert {data_key: "0"} == made[0].constraints


def test_plan_without_rows_has_no_calls(stack: ExitStack) -> None:
    for mode, key in product(("auto", "sync", "async"), (KEY, "lot_number")):
        plan = make_plan(filled(stack, [{}], key), mode=mode)  # type: ignore[arg-type]
        assert (0, 0, 0, 1) == (plan.sync_calls, plan.jobs, plan.keys, plan.rows)
        assert [] == list(plan.calls())


def test_plan_is_one_sentence_and_small_json(stack: ExitStack) -> None:
    plan = make_plan(filled(stack, [*lot(1, 10), *lot(1, 1), {}]), **SMALL)
    assert (
        "12 rows (1 merged with another, 1 rejected), 10 keys (extended_id) → 2 synchronous calls and 1 job for 1 set of "
        "identical data: 7 rows share their data with so many others that jobs need fewer calls."
    ) == plan.describe()
    slow = make_plan(filled(stack, lot(1, 50)), mode="sync", items_per_call=1)
    assert slow.describe().endswith(" At least 5 s at 10 calls a second.")
    assert len(json.dumps(plan.summary())) < 500
    assert {
        "rows": 12,
        "keys": 10,
        "merged": 1,
        "rejected": 1,
        "jobs": 1,
        "sync_calls": 2,
    }.items() <= plan.summary().items()


def fewest_calls(groups: list[int], others: int, size: int, most: int) -> int:
    """Try every number of jobs for every group."""
    rows = sum(groups) + others
    return min(
        sum(jobs) + -(-(rows - sum(min(n, k * most) for n, k in zip(groups, jobs, strict=True))) // size)
        for jobs in product(*(range(-(-n // most) + 1) for n in groups))
    )


@ON_DISK
@given(st.lists(st.integers(1, 14), max_size=3), st.integers(0, 40), st.integers(1, 9), st.integers(1, 15))
def test_no_plan_has_fewer_calls(groups: list[int], others: int, items: int, ids: int) -> None:
    named = {str(place): size for place, size in enumerate(groups)}
    rows = sum(groups) + others
    for worth_a_look in (named, {data: size for data, size in named.items() if size > items}):
        in_jobs = choose_jobs(worth_a_look, rows, items, ids)
        assert all(0 < size <= named[data] for data, size in in_jobs.items())
        calls = sum(-(-size // ids) for size in in_jobs.values()) + -(
            -(rows - sum(in_jobs.values())) // items
        )
        assert fewest_calls(groups, others, items, ids) == calls


any_value = st.sampled_from(["1", "1", "1", "2", 1, True, None, "a\x1fb", '"'])
any_row = st.fixed_dictionaries(
    {KEY: st.integers(0, 60).map(str) | st.just("")},
    optional={"lot": any_value, "place": any_value, "x": st.just("1")},
)
few_rows = st.lists(any_row, max_size=60)


def check_plan(plan: Plan, rows: list[dict[str, Any]], order: list[float]) -> None:
    data_key = plan.spool.data_key
    calls = sorted(plan.calls(), key=lambda call: call.number)
    assert list(range(len(calls))) == [call.number for call in calls]
    assert (plan.jobs, plan.sync_calls) == tuple(
        sum(call.is_job == is_job for call in calls) for is_job in (True, False)
    )
    # What a job sets has been in a synchronous call before, wherever a mode leaves the choice.
    tasted = {frozenset(row) for call in calls[: plan.tasting_calls] for row in call.rows}
    if plan.mode == "mixed":
        assert all(frozenset(call.as_rows(data_key)[0]) in tasted for call in calls if call.is_job)
    sent = [key for call in calls for key in keys_of(call, data_key)]
    assert len(set(sent)) == len(sent) == sum(call.keys for call in calls) == plan.keys
    for call in calls:
        most = plan.ids_per_job if call.is_job else plan.items_per_call
        assert 0 < len(keys_of(call, data_key)) == call.keys <= most
    rejected = {line for line, _, _ in plan.spool.rejects()}
    expected = apply_one_by_one((row for line, row in enumerate(rows, 2) if line not in rejected), data_key)
    codes: dict[str, dict[str, Any]] = {}
    for _, call in sorted(zip(order, calls, strict=False), key=lambda pair: pair[0]):
        apply(call, codes, data_key)
    assert json.dumps(expected, sort_keys=True) == json.dumps(codes, sort_keys=True)
    assert plan.rows == len(rows) == plan.keys + plan.spool.merged + len(rejected)


@ON_DISK
@given(
    few_rows,
    st.sampled_from(["auto", "sync", "async"]),
    st.integers(1, 5),
    st.integers(1, 12),
    st.lists(st.floats(0, 1), min_size=60, max_size=60),
)
@example([{KEY: str(n), "x": "1"} for n in range(60)], "auto", 2, 7, [0.0] * 60)
def test_any_order_of_calls_gives_the_same_codes_as_the_rows_one_by_one(
    rows: list[dict[str, Any]], mode: Any, items: int, ids: int, order: list[float]
) -> None:
    with ExitStack() as stack:
        plan = make_plan(filled(stack, rows), mode=mode, items_per_call=items, ids_per_job=ids)
        check_plan(plan, rows, order)
        if mode != "async":
            assert plan.sync_calls + plan.jobs <= -(-plan.keys // items)


@ON_DISK
@given(few_rows, st.sampled_from(["auto", "sync", "async"]), st.sampled_from([None, 1, 300]))
def test_scm_keys_hold_the_same_promises(
    rows: list[dict[str, Any]], mode: Any, codes_per_key: float | None
) -> None:
    rows = [{"case" if name == KEY else name: value for name, value in row.items()} for row in rows]
    with ExitStack() as stack:
        plan = make_plan(filled(stack, rows, "case"), mode=mode, codes_per_key=codes_per_key)
        check_plan(plan, rows, [float(number) for number in range(60, 0, -1)])


@ON_DISK
@given(few_rows, st.sampled_from(["auto", "sync", "async"]), st.sets(st.integers(0, 30)))
def test_skipped_calls_leave_the_others_as_they_are(
    rows: list[dict[str, Any]], mode: Any, skip: set[int]
) -> None:
    with ExitStack() as stack:
        first = make_plan(filled(stack, rows), mode=mode, **SMALL)
        again = make_plan(filled(stack, rows), mode=mode, **SMALL)
        assert first.spool.fingerprint == again.spool.fingerprint
        assert [call for call in first.calls() if call.number not in skip] == list(again.calls(skip))
