"""Checking rows."""

from __future__ import annotations

import datetime
import json
from decimal import Decimal
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.check import RowCheck, check_rows, check_values

KEY = "extended_id"


def check(*items: Any, data_key: str = KEY) -> tuple[list[dict[str, Any]], list[str]]:
    warnings: list[str] = []
    rows, count = check_rows(items, data_key, warn=warnings.append)
    assert count == len(items)
    return rows, warnings


@pytest.mark.parametrize(
    ("item", "said"),
    [
        ({"lot": "1"}, r"row 2, field 'extended_id': the key is missing"),
        ({KEY: "", "lot": "1"}, r"row 2, field 'extended_id': the key is empty"),
        ({KEY: " ", "lot": "1"}, r"the key is empty"),
        ({KEY: None, "lot": "1"}, r"a key must be text, not NoneType"),
        ({KEY: 1.0, "lot": "1"}, r"a key must be text, not float"),
        ({KEY: True, "lot": "1"}, r"a key must be text, not bool"),
        ({KEY: "B"}, r"nothing to set"),
        (
            {KEY: "A", "lot": "2"},
            r"row 2, field 'extended_id': 'A' is also the key of row 1, with other data",
        ),
        ({KEY: "B", "activation_status": 3}, r"row 2, field 'activation_status': 3 is out of range"),
        ({KEY: "B", "activation_status": "x"}, r"out of range"),
        ({KEY: "B", "activation_status": True}, r"out of range"),
        ({KEY: "B", "blacklist_reason": 11}, r"row 2, field 'blacklist_reason': 11 is out of range"),
        ({KEY: "B", "blacklist_reason": -1}, r"out of range"),
        ({KEY: "B", "lot": None}, r'send "" to clear the field'),
        ({KEY: "B", "lot": float("nan")}, r"row 2, field 'lot': nan is a number that JSON cannot carry"),
        ({KEY: "B", "lot": float("inf")}, r"JSON cannot carry"),
        ({KEY: "B", "lot": Decimal("1.5")}, r"type Decimal"),
        ({KEY: "B", "lot": b"x"}, r"type bytes"),
        ({KEY: "B", "lot": ["x"]}, r"type list"),
        ({KEY: "B", "lot": "\ud800"}, r"half a character"),
        ({KEY: "\udfff", "lot": "1"}, r"half a character"),
        ({KEY: "B", "lot": "a\0b"}, r"NUL"),
        ({KEY: "B\0", "lot": "1"}, r"NUL"),
        ({KEY: "B", "": "1"}, r"a field's name must be text"),
        ({KEY: "B", 5: "1"}, r"field 5: a field's name must be text"),
        ("a,b", r"row 2, which is no dict but str"),
    ],
)
def test_problem_is_named_with_row_and_field(item: Any, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        check({KEY: "A", "lot": "1"}, item)


def test_all_problems_are_told_at_once_with_a_bound() -> None:
    with pytest.raises(InvalidInput, match=r"row 1, .*row 20, .*and 480 more\.$") as caught:
        check(*[{KEY: ""}] * 500)
    assert len(str(caught.value)) < 3000


@pytest.mark.parametrize("items", [{"extended_id": "A"}, "text", 7, None])
def test_items_of_another_type_are_refused(items: Any) -> None:
    with pytest.raises(InvalidInput, match="items must be a list of rows"):
        check_rows(items, KEY, warn=print)


@pytest.mark.parametrize("data_key", ["", " ", None, 5])
def test_data_key_must_be_a_name(data_key: Any) -> None:
    with pytest.raises(InvalidInput, match="data_key"):
        check_rows([], data_key, warn=print)


def test_dates_are_written_as_scantrust_wants_them() -> None:
    rows, warnings = check(
        {
            KEY: "A",
            "date": datetime.date(2026, 11, 1),
            "datetime": datetime.datetime(2026, 11, 1, 23, 59),
            "pendulum": pendulum.datetime(2026, 11, 1, tz="Asia/Tokyo"),
            "old": datetime.date(33, 4, 3),
        }
    )
    assert rows[0] == {
        KEY: "A",
        "date": "2026-11-01",
        "datetime": "2026-11-01",
        "pendulum": "2026-11-01",
        "old": "0033-04-03",
    }
    assert [] == warnings


@pytest.mark.parametrize(
    "odd", ["01.11.2026", "11/1/26", "2026/11/01", "2026-1-1", "2026-02-30", "2026-11-01T10:00:00Z"]
)
def test_odd_date_is_warned_about_once_and_sent_as_it_is(odd: str) -> None:
    rows, warnings = check({KEY: "A", "bottled": odd}, {KEY: "B", "bottled": odd})
    assert odd == rows[1]["bottled"]
    (warning,) = warnings
    assert "'bottled'" in warning
    assert "2 rows, first in row 1" in warning


@pytest.mark.parametrize(
    "plain", ["2026-11-01", "L-2026-11-01", "1.5", "10.0.0.1", "20261101", "12-34", "", "1-2-3-4"]
)
def test_plain_values_are_no_odd_dates(plain: str) -> None:
    assert [] == check({KEY: "A", "lot": plain})[1]


def test_special_fields_in_range_pass_as_number_and_as_text() -> None:
    rows, _ = check({KEY: "A", "activation_status": "2", "blacklist_reason": 10})
    assert rows[0] == {KEY: "A", "activation_status": "2", "blacklist_reason": 10}


def test_row_that_repeats_another_is_sent_once() -> None:
    rows, warnings = check({KEY: "A", "lot": "1"}, {"lot": "1", KEY: "A"})
    assert 1 == len(rows)
    assert "1 rows repeat" in warnings[0]


def test_values_that_only_python_finds_equal_are_other_data() -> None:
    with pytest.raises(InvalidInput, match="with other data"):
        check({KEY: "A", "x": 1}, {KEY: "A", "x": True})


def test_number_as_key_is_sent_as_text() -> None:
    assert "42" == check({"serial_number": 42, "lot": "1"}, data_key="serial_number")[0][0]["serial_number"]


def test_scm_data_is_checked_alike() -> None:
    with pytest.raises(InvalidInput, match=r"scm_data must be mended first: field 'lot'"):
        check_values({"lot": None}, "scm_data", warn=print)
    with pytest.raises(InvalidInput, match="at least one field"):
        check_values({}, "scm_data", warn=print)


any_value = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.dates()
    | st.datetimes()
    | st.binary(max_size=4)
    | st.decimals()
    | st.lists(st.integers(), max_size=2)
)
any_row = st.dictionaries(
    st.sampled_from([KEY, "lot", "activation_status", "blacklist_reason"]) | st.text(max_size=3),
    any_value,
    max_size=5,
)


@given(st.lists(any_row | any_value, max_size=6))
def test_what_passes_can_be_read_back_from_json_and_nothing_is_lost(items: list[Any]) -> None:
    try:
        rows, count = check_rows(items, KEY, warn=lambda text: None)
    except InvalidInput as error:
        assert "row " in str(error)  # noqa: PT017 - raising is allowed, this is what the message must have
        return
    assert count == len(items)
    assert rows == json.loads(json.dumps(rows, allow_nan=False))
    keys = [row[KEY] for row in rows]
    assert len(keys) == len(set(keys))
    assert set(keys) == {str(item[KEY]) for item in items}
    for item in items:
        (row,) = [row for row in rows if row[KEY] == str(item[KEY])]
        assert row.keys() == item.keys()


def alike(names: list[str], values: st.SearchStrategy[Any]) -> st.SearchStrategy[list[dict[str, Any]]]:
    return st.lists(st.fixed_dictionaries(dict.fromkeys(names, values)), min_size=1, max_size=4)


column_value = (
    st.sampled_from(
        ["", " ", "1", "2026-11-01", "01.11.2026", "2026-02-30", " 2026/1/1", "\x1f1/2/26", "\ud800", 3]
    )
    | any_value
)


@given(
    alike([KEY, "lot"], column_value)
    | alike(
        [KEY, "activation_status", "lot"],
        st.sampled_from(["0", "1", "2", "3", 1, True, 1.0]) | st.text(max_size=2),
    )
    | alike(["", KEY], st.text(max_size=2))
    | st.lists(any_row, min_size=1, max_size=3)
)
def test_rows_checked_at_once_come_to_the_same_as_one_by_one(items: list[dict[str, Any]]) -> None:
    at_once, one_by_one = RowCheck(KEY), RowCheck(KEY)
    numbers = range(1, len(items) + 1)
    table = at_once.many(items, numbers)
    found = [one_by_one.one(item, number) for number, item in zip(numbers, items, strict=True)]
    if table is None:
        several_shapes = len({frozenset(item) for item in items}) > 1
        assert several_shapes or any(row is None for row, _ in found)
        return
    warned: list[list[str]] = [[], []]
    at_once.dates.report(warned[0].append)
    one_by_one.dates.report(warned[1].append)
    rows = [
        {KEY: key, **dict(zip(table.names, values, strict=True))}
        for key, *values in zip(table.keys, *table.columns, strict=True)
    ]
    assert [row for row, _ in found] == rows
    assert json.dumps([row for row, _ in found], sort_keys=True) == json.dumps(rows, sort_keys=True)
    assert sorted(warned[1]) == sorted(warned[0])


def test_rows_with_other_fields_are_not_taken_for_alike() -> None:
    assert RowCheck(KEY).many([{KEY: "A", "lot": "1"}, {KEY: "B", "product": "1"}], [1, 2]) is None
