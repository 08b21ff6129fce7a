"""Whatever stands in rows: it is sent exactly as it is meant, or refused with its row and its field."""

from __future__ import annotations

import datetime
import enum
import io
import json
import math
from collections.abc import Iterator, Mapping
from decimal import Decimal
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.flow import make_request
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.opening import RowSource
from airflow_provider_scantrust.uploads.check import LONGEST_TEXT, SPECIAL_FIELDS, check_rows, check_values
from airflow_provider_scantrust.uploads.constraints import ConstraintsPlan, read_constraints
from airflow_provider_scantrust.uploads.rejects import write_rejects
from airflow_provider_scantrust.uploads.spool import Spool
from steps import settings

KEY = "extended_id"
TEN_MB = "x" * 10_000_000


class Trap(Exception):
    """What hostile objects raise; no code of ours may let it through."""


def spring(*args: Any) -> Any:
    raise Trap


TRAPS = dict.fromkeys(
    [
        "__str__",
        "__repr__",
        "__eq__",
        "__bool__",
        "__len__",
        "__iter__",
        "__format__",
        "__float__",
        "__int__",
        "__index__",
        "__lt__",
    ],
    spring,
)
HostileObject = type("HostileObject", (), {**TRAPS, "__hash__": spring})
HostileKey = type("HostileKey", (), {**TRAPS, "__hash__": lambda self: hash(KEY)})
HostileText = type("HostileText", (str,), {**TRAPS, "__hash__": spring, "strip": spring, "encode": spring})
HostileInt = type("HostileInt", (int,), {**TRAPS, "__hash__": int.__hash__})
HostileFloat = type("HostileFloat", (float,), {**TRAPS, "__hash__": float.__hash__})
HostileDate = type(
    "HostileDate", (datetime.date,), {"__eq__": spring, "__ne__": spring, "__hash__": None, "year": 1}
)


class LyingText(str):
    """Text that is equal to nothing and calls itself something else."""

    __slots__ = ()

    def __str__(self) -> str:
        return "a lie"

    __repr__ = __str__

    def __eq__(self, other: object) -> bool:
        return False

    def __hash__(self) -> int:
        return 7


class Lot(str, enum.Enum):  # noqa: UP042 - its str() is "Lot.A", which StrEnum has mended
    A = "lot-a"


class Number(int, enum.Enum):
    TWO = 2


class HostileMapping(Mapping[str, Any]):
    """A row whose reading fails."""

    def __getitem__(self, name: str) -> Any:
        raise Trap

    def __iter__(self) -> Iterator[str]:
        raise Trap

    def __len__(self) -> int:
        raise Trap


class Row(Mapping[str, Any]):
    """A row that is no dict."""

    def __init__(self, fields: Any) -> None:
        self.fields = fields

    def __getitem__(self, name: str) -> Any:
        return self.fields[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.fields)

    def __len__(self) -> int:
        return len(self.fields)


class ManyValued:
    """Like an array: asking whether it is true, or equal, has no answer."""

    def __bool__(self) -> bool:
        raise ValueError("The truth value of an array is ambiguous")

    def __eq__(self, other: object) -> Any:
        return self

    __hash__ = None  # type: ignore[assignment]


knot: list[Any] = []
knot.append(knot)

# Each value and what is to be sent for it: None where it must be refused.
MEANT: list[tuple[Any, Any]] = [
    ("", ""),
    (" \t", " \t"),
    ("\r\n", "\r\n"),
    ("\x01\x1f\x7f\x85\u2028\ufeff", "\x01\x1f\x7f\x85\u2028\ufeff"),
    ("ẞ👩🏽‍🚀\u0301", "ẞ👩🏽‍🚀\u0301"),
    ('"\\/<script>', '"\\/<script>'),
    ("\ud800", None),
    ("\0", None),
    ("x" * LONGEST_TEXT, "x" * LONGEST_TEXT),
    (TEN_MB, None),
    ("\ud800" * 1_000_000, None),
    (" " * 1_000_000 + "01.02.2026", None),
    (0, 0),
    (-1, -1),
    (10**1_000, 10**1_000),
    (10**5_000, None),
    (True, True),
    (1e308, 1e308),
    (5e-324, 5e-324),
    (math.nan, None),
    (-math.inf, None),
    (None, None),
    (datetime.date(2026, 11, 1), "2026-11-01"),
    (datetime.datetime(2026, 11, 1, 23, 59), "2026-11-01"),
    (datetime.date(1, 1, 1), "0001-01-01"),
    (Lot.A, "lot-a"),
    (Number.TWO, 2),
    (LyingText("true"), "true"),
    (HostileText("text"), "text"),
    (HostileInt(7), 7),
    (HostileFloat(0.5), 0.5),
    (HostileFloat("nan"), None),
    (HostileDate(2026, 1, 1), None),
    (HostileObject(), None),
    (ManyValued(), None),
    (Decimal(1), None),
    (1j, None),
    (b"x", None),
    (bytearray(b"x"), None),
    ([], None),
    ({}, None),
    (knot, None),
    ({"a": {"b": [1]}}, None),
    (object, None),
    (datetime.time(1), None),
    (datetime.timedelta(1), None),
    (iter("ab"), None),
]
NAMES: list[tuple[Any, str | None]] = [
    ("lot", "lot"),
    ("ä b\r\n", "ä b\r\n"),
    (LyingText("lot"), "lot"),
    (HostileInt(3), None),
    (Lot.A, "lot-a"),
    ("", None),
    (" ", None),
    ("\0", None),
    ("\udfff", None),
    ("x" * 1_000_000, None),
    (5, None),
    (None, None),
    (("a", "b"), None),
]
# By number: Hypothesis looks at what it draws, and these are not to be looked at.
odd_value = st.integers(0, len(MEANT) - 1)
odd_name = st.integers(0, len(NAMES) - 1)


def body_of(rows: list[dict[str, Any]]) -> Any:
    """Return what the service reads in the request that carries the rows."""
    connection = settings()
    body = make_request(endpoints.upload_scm_data(rows, KEY), connection, connection.make_auth()).body
    assert body is not None
    return json.loads(body)["items"]


def refusal(items: Any) -> str:
    with pytest.raises(InvalidInput) as caught:
        check_rows(items, KEY, warn=check_text)
    check_text(str(caught.value))
    return str(caught.value)


def check_text(text: str) -> None:
    assert len(text) < 10_000
    text.encode()


def same(one: Any, other: Any) -> bool:
    """Whether JSON has the same for both; True is not 1."""
    return json.dumps(one, sort_keys=True) == json.dumps(other, sort_keys=True)


@pytest.mark.parametrize(("value", "meant"), MEANT, ids=lambda value: type(value).__name__)
def test_odd_value_is_sent_as_it_is_meant_or_refused_by_name(value: Any, meant: Any) -> None:
    items = [{KEY: "A", "lot": "1"}, Row({KEY: "B", "lot": value})]
    if meant is None:
        assert "row 2, field 'lot': " in refusal(items)
        with pytest.raises(InvalidInput, match="field 'lot': "):
            check_values({"lot": value}, "scm_data", warn=check_text)
    else:
        rows, count = check_rows(items, KEY, warn=check_text)
        assert 2 == count
        assert same([{KEY: "A", "lot": "1"}, {KEY: "B", "lot": meant}], body_of(rows))
        assert same({"lot": meant}, check_values({"lot": value}, "scm_data", warn=check_text))


@pytest.mark.parametrize(("value", "meant"), MEANT, ids=lambda value: type(value).__name__)
def test_odd_key_is_sent_as_it_is_meant_or_refused_by_name(value: Any, meant: Any) -> None:
    items = [{KEY: "A", "lot": "1"}, {KEY: value, "lot": "1"}]
    is_key = isinstance(value, str | int) and not isinstance(value, bool)
    if meant is None or not is_key or not str(meant).strip():
        assert f"row 2, field '{KEY}': " in refusal(items)
    else:
        rows, _ = check_rows(items, KEY, warn=check_text)
        assert [{KEY: "A", "lot": "1"}, {KEY: str(meant), "lot": "1"}] == body_of(rows)


@pytest.mark.parametrize(("name", "meant"), NAMES, ids=lambda value: type(value).__name__)
def test_odd_name_is_sent_as_it_is_meant_or_refused(name: Any, meant: str | None) -> None:
    items = [{KEY: "A", "lot": "1"}, {KEY: "B", name: "1"}]
    if meant is None:
        assert "row 2, " in refusal(items)
    else:
        rows, _ = check_rows(items, KEY, warn=check_text)
        assert [{KEY: "A", "lot": "1"}, {KEY: "B", meant: "1"}] == body_of(rows)


@pytest.mark.parametrize(
    "names", [("lot", LyingText("lot")), (LyingText("lot"), LyingText("lot")), (LyingText(KEY), "x")]
)
def test_two_names_that_are_one_are_refused(names: tuple[Any, Any]) -> None:
    row = {KEY: "A", names[0]: "1", names[1]: "2"}
    assert "the field is there twice" in refusal([row])
    assert "the field is there twice" in refusal([row] * 20)


@pytest.mark.parametrize(
    "item",
    [HostileMapping(), {HostileKey(): "1"}, HostileObject(), ManyValued(), None, knot, "row", LyingText("x")],
)
def test_what_is_no_row_is_refused_by_its_number(item: Any) -> None:
    assert "row 2, " in refusal([{KEY: "A", "lot": "1"}, item])


def test_names_keys_and_problems_are_cut_short_in_messages() -> None:
    long = "n" * 1_000_000
    assert "nnn'…" in refusal([{KEY: "A", long: None}] * 30)
    assert "and 980 more" in refusal([{KEY: "A", **{f"f{number}": None for number in range(1_000)}}])
    assert "xxx" in refusal([{KEY: "x" * 60_000, "lot": "1"}, {KEY: "x" * 60_000, "lot": "2"}])


@given(
    st.lists(
        st.tuples(odd_value, st.lists(st.tuples(odd_name, odd_value), max_size=3)), min_size=1, max_size=20
    ),
    st.sampled_from([dict, Row]),
)
def test_source_sets_bad_rows_apart_and_keeps_the_others_as_they_are(drawn: list[Any], kind: type) -> None:
    """In a source a bad row stops no other: each is in the spool as it is meant, or in the rejects."""
    items, meant = [], []
    for number, (key_number, field_numbers) in enumerate(drawn):
        key, meant_key = MEANT[key_number]
        fields = [(NAMES[name], MEANT[value]) for name, value in field_numbers]
        if not number % 3:
            key = meant_key = f"K{number}"
        pairs = {name: value for (name, _), (value, _) in fields}
        items.append(kind({KEY: key, **pairs}))
        meant.append((key, meant_key, fields))
    source = RowSource(items)
    out = io.BytesIO()
    with Spool(KEY) as spool:
        spool.fill(source, warn=check_text)
        rejects = list(spool.rejects())
        assert spool.rows == len(items) == spool.keys + spool.merged + spool.rejected
        sent = {row[KEY]: row for row in spool.decode(spool.read())}
        assert same(list(sent.values()), body_of(list(sent.values())))
    for line, _, reason in rejects:
        assert 1 <= line <= len(items)
        assert reason
        check_text(reason)
    refused = {line for line, _, _ in rejects}
    for line, (_, meant_key, fields) in enumerate(meant, start=1):
        values = {id(name): (meant_name, value) for (name, meant_name), (_, value) in fields}
        good = fields and all(None not in pair for pair in values.values())
        special = {name for name, _ in values.values()} & set(SPECIAL_FIELDS)
        if (
            good
            and meant_key == f"K{line - 1}"
            and len({name for name, _ in values.values()}) == len(values)
            and not special
        ):
            assert line not in refused
        if line not in refused:
            assert str(meant_key) in sent
    written = write_rejects(source, lambda: rejects, out, name="r.jsonl")
    assert len(rejects) == written == len(out.getvalue().splitlines())
    for text in out.getvalue().splitlines():
        json.loads(text)


@pytest.mark.parametrize(
    "constraints",
    [
        {1: "a", "1": "b"},
        {"lot": "a", LyingText("lot"): "b"},
        {"": "a"},
        {HostileKey(): "a"},
        {"lot": HostileObject()},
        {"lot": TEN_MB},
        {"lot": math.nan},
        {"lot": None},
        {"lot": True},
        {"lot": knot},
        {"extended_id": knot},
        {"extended_id": ["A", None]},
        {"extended_id": set()},
        HostileMapping(),
        [("lot", "a")],
        HostileObject(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_no_constraint_is_lost(constraints: Any) -> None:
    """A constraint that got lost on the way would set the values on more codes."""
    with pytest.raises(InvalidInput) as caught:
        read_constraints(constraints)
    check_text(str(caught.value))


def test_constraints_are_sent_as_they_are_meant() -> None:
    checked = read_constraints({LyingText("lot"): Lot.A, "extended_id": ("A", 5)})
    (job,) = ConstraintsPlan.of(checked, {"market": "FR"}, 10).calls
    assert {"lot": "lot-a", "extended_id": ["A", "5"]} == job.constraints
