"""The spool: what is kept, merged and rejected, and what it costs."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterable
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import UnreadableRow
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.uploads.doubts import BETWEEN, are_plain
from airflow_provider_scantrust.uploads.spool import Spool

KEY = "extended_id"
# A file on a busy machine keeps no deadline.
ON_DISK = settings(deadline=None)


@pytest.fixture
def stack() -> Iterable[ExitStack]:
    with ExitStack() as stack:
        yield stack


def fill(stack: ExitStack, *rows: Any, **kwargs: Any) -> tuple[Spool, list[str]]:
    warnings: list[str] = []
    spool = stack.enter_context(Spool(KEY, **kwargs))
    spool.fill(enumerate(rows, start=2), warn=warnings.append)
    return spool, warnings


def sent(spool: Spool) -> list[dict[str, Any]]:
    return spool.decode(spool.read())


def test_rows_come_out_as_they_went_in_and_in_order(stack: ExitStack) -> None:
    rows = [
        {KEY: f"K{number}", "lot": f"L{number}", **({"x": number} if number % 3 else {})}
        for number in range(2500)
    ]
    spool, warnings = fill(stack, *rows)
    assert rows == sent(spool)
    assert (2500, 2500, 0, 0) == (spool.rows, spool.keys, spool.merged, spool.rejected)
    assert warnings == []


@pytest.mark.parametrize(
    "value",
    ["", "NULL", "0012", "1e5", "日本", "a\x1fb", "\n", '"', "\x01", 1, 1.5, True, 10**30, "1", "True"],
)
def test_value_keeps_its_type_to_the_letter(stack: ExitStack, value: Any) -> None:
    spool, _ = fill(stack, {KEY: "A", "b": value, "a": "x"}, {KEY: "B", "b": "x", "a": value})
    assert repr([{KEY: "A", "a": "x", "b": value}, {KEY: "B", "a": value, "b": "x"}]) == repr(sent(spool))


def test_last_value_of_each_field_wins_in_the_place_of_the_first_row(stack: ExitStack) -> None:
    spool, warnings = fill(
        stack,
        {KEY: "A", "lot": "1", "place": "x"},
        {KEY: "B", "lot": "1"},
        {KEY: "A", "lot": "2"},
        {KEY: "A", "date": 3},
        {KEY: "A", "lot": "1"},
    )
    assert [{KEY: "A", "date": 3, "lot": "1", "place": "x"}, {KEY: "B", "lot": "1"}] == sent(spool)
    assert (5, 2, 3, 0) == (spool.rows, spool.keys, spool.merged, spool.rejected)
    assert ["3 rows have the key of an earlier one: the last value of each field is sent."] == warnings


def test_key_that_comes_back_to_its_first_value_keeps_it(stack: ExitStack) -> None:
    spool, _ = fill(stack, *({KEY: "A", "lot": lot} for lot in "121"))
    assert [{KEY: "A", "lot": "1"}] == sent(spool)


def test_duplicate_fails_with_both_lines_when_told_so(stack: ExitStack) -> None:
    rows = [{KEY: "A", "lot": "1"}, {KEY: "B", "lot": "1"}, {KEY: "A", "lot": "1"}, {KEY: "A", "lot": "2"}]
    with pytest.raises(InvalidInput, match=r"extended_id 'A' is on lines 4 and 5\. Fix"):
        fill(stack, *rows, on_duplicate="fail")


def test_row_that_repeats_another_is_no_conflict(stack: ExitStack) -> None:
    spool, _ = fill(stack, {KEY: "A", "lot": "1"}, {"lot": "1", KEY: "A"}, on_duplicate="fail")
    assert 1 == spool.merged


def test_rows_that_cannot_be_sent_are_put_aside_with_line_kind_and_reason(stack: ExitStack) -> None:
    good = [{KEY: f"K{number}", "lot": "1"} for number in range(30)]
    _, (_, no_row) = RowSource([good[0], "text"], data_key=KEY)
    spool, _ = fill(
        stack,
        *good[:10],
        UnreadableRow("it has 3 cells, and the header has 2 columns"),
        {KEY: "", "lot": "1"},
        *good[10:20],
        {"lot": "1"},
        {KEY: None, "lot": "1"},
        {KEY: 1.5, "lot": "1"},
        {KEY: "X", "lot": None},
        {KEY: "X"},
        no_row,
        *good[20:],
        UnreadableRow("half a character: \ud800"),
    )
    assert good == sent(spool)
    assert 9 == spool.rejected
    rejects = list(spool.rejects())
    assert [
        (12, "unreadable"),
        (13, "key missing"),
        (24, "key missing"),
        (25, "key missing"),
        (26, "invalid"),
        (27, "invalid"),
        (28, "invalid"),
        (29, "unreadable"),
        (40, "unreadable"),
    ] == [(line, kind) for line, kind, _ in rejects]
    assert "it has 3 cells, and the header has 2 columns" == rejects[0][2]
    assert "field 'extended_id': the key is empty" == rejects[1][2]
    assert "field 'lot': there is no value" in rejects[5][2]
    assert "it is not a dict but str" == rejects[7][2]


def test_rejected_key_rejects_its_merged_rows_too(stack: ExitStack) -> None:
    spool, _ = fill(stack, *({KEY: key, "lot": str(n)} for n, key in enumerate(["A", "B", "A", "\x01", "A"])))
    for key in ("A", "\x01", "unknown"):
        spool.reject(key, "refused", "no \ud800")
    assert [(line, "refused", "no \\ud800") for line in (2, 4, 5, 6)] == list(spool.rejects())
    assert (5, 2, 3, 0) == (spool.rows, spool.merged, spool.keys, spool.rejected)


def test_later_reason_for_a_row_stands(stack: ExitStack) -> None:
    spool, _ = fill(stack, {KEY: "A", "lot": "1"})
    spool.reject("A", "unmatched", "earlier")
    spool.reject("A", "refused", "later")
    assert [(2, "refused", "later")] == list(spool.rejects())


def test_keys_can_be_rejected_while_rows_are_read(stack: ExitStack) -> None:
    spool, _ = fill(stack, *({KEY: f"K{n}", "lot": "1"} if n % 5 else {} for n in range(3000)))
    sent = 0
    for key, _ in spool.read():
        spool.reject(key, "unmatched", "no code")
        sent += 1
    assert (2400, 600, 3000) == (sent, spool.rejected, len(list(spool.rejects())))


def test_fingerprint_tells_what_is_sent_and_in_which_order(stack: ExitStack) -> None:
    def fingerprint(*rows: Any) -> str:
        return fill(stack, *rows)[0].fingerprint

    one, two = {KEY: "A", "lot": "1"}, {KEY: "B", "lot": "2"}
    assert fingerprint(one, two) == fingerprint({"lot": "1", KEY: "A"}, two)
    assert fingerprint(one, two) == fingerprint(one, {KEY: ""}, two)
    others = [
        (two, one),
        (one,),
        (one, {KEY: "B", "lot": 2}),
        (one, {KEY: "B", "lots": "2"}),
        ({KEY: "AB", "lot": "1"}, {KEY: "", "lot": "2"}),
        (one, two, two),
        (),
    ]
    assert len(others) + 1 == len({fingerprint(one, two), *(fingerprint(*rows) for rows in others)})


def test_fingerprint_and_order_are_the_same_in_another_process() -> None:
    script = (
        "from airflow_provider_scantrust.uploads.spool import Spool\n"
        "with Spool('k') as s:\n"
        "    s.fill(((n, {'k': f'{n % 900}', 'lot' if n % 2 else 'b': 'x'}) for n in range(1000)), warn=str)\n"
        "    print(s.fingerprint, list(s.read())[:20], list(s.groups()))"
    )
    outputs = {
        subprocess.check_output([sys.executable, "-c", script], env={"PYTHONHASHSEED": seed}, cwd=Path.cwd())
        for seed in ("1", "2")
    }
    assert 1 == len(outputs)


def test_nothing_is_left_in_the_folder_even_while_it_is_open(
    tmp_path: Path, stack: ExitStack, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    spool, _ = fill(stack, {KEY: "A", "lot": "1"})
    assert [] == list(tmp_path.iterdir())
    assert 1 == spool.keys


def test_data_key_must_be_a_name() -> None:
    with pytest.raises(InvalidInput, match="data_key"):
        Spool(" ")


def test_odd_dates_are_told_once_with_their_line(stack: ExitStack) -> None:
    _, warnings = fill(stack, *({KEY: f"K{n}", "bottled": "01.11.2026" if n else "x"} for n in range(600)))
    (warning,) = warnings
    assert "in 599 rows, first in row 3: '01.11.2026'" in warning


value = st.sampled_from(["1", "2", "", 1, True, None, "a\x1fb"])
row = st.dictionaries(st.sampled_from([KEY, "a", "b"]), value, max_size=3) | st.builds(
    UnreadableRow, st.just("x")
)


@ON_DISK
@given(st.lists(row, max_size=30))
def test_each_row_is_sent_merged_or_put_aside(rows: list[Any]) -> None:
    with Spool(KEY) as spool:
        spool.fill(enumerate(rows), warn=lambda text: None)
        assert len(rows) == spool.rows == spool.keys + spool.merged + spool.rejected
        assert spool.keys == len(sent(spool))
        assert spool.rejected == len(list(spool.rejects()))
        for key, _ in spool.read():
            spool.reject(key, "unmatched", "no code")
        assert [line for line, _, _ in spool.rejects()] == list(range(len(rows)))


@pytest.mark.parametrize(
    ("key", "plain"), [("3OCT12345ABC", True), ("31DEC20269", True), ("31DEC2026", False), ("1JAN26", False)]
)
def test_codes_in_which_a_month_can_be_read_do_not_slow_the_rows_beside_them(key: str, plain: bool) -> None:
    assert plain is are_plain([f"{key}{BETWEEN}lot"], 2)
