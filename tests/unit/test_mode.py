"""Scantrust's advice as a function, held to the table in the docs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.uploads.mode import DANGER_ZONE, FEW_CODES, choose_mode

DOC = Path(__file__).parent.parent.parent / "docs" / "sync-or-async.md"
ROW = re.compile(r"^\| (\w+) \| (\d+) \|(?: (\d+))? \| (sync|async) \|(?: (\d+))? \|$", re.MULTILINE)
ROWS = ROW.findall(DOC.read_text(encoding="utf-8"))


def test_the_table_was_found() -> None:
    assert 14 == len(ROWS)


@pytest.mark.parametrize(("data_key", "keys", "codes_per_key", "mode", "items"), ROWS)
def test_auto_does_what_the_docs_say(
    data_key: str, keys: str, codes_per_key: str, mode: str, items: str
) -> None:
    choice = choose_mode(data_key, int(keys), int(codes_per_key) if codes_per_key else None)
    assert mode == choice.mode
    assert choice.reason
    assert (mode == "sync") == bool(items)
    if items:
        assert int(items) == choice.keys_per_call


@given(
    st.sampled_from(["extended_id", "serial_number", "lot_number"]),
    st.integers(0, 10**7),
    st.none() | st.floats(1e-3, 1e9),
)
def test_no_advice_is_broken(data_key: str, keys: int, codes_per_key: float | None) -> None:
    choice = choose_mode(data_key, keys, codes_per_key)
    assert choice.mode in ("sync", "async")
    assert 1 <= choice.keys_per_call <= FEW_CODES - 1
    if data_key != "lot_number":
        assert "sync" == choice.mode
    elif codes_per_key is None:
        assert "async" == choice.mode
    else:
        codes = keys * codes_per_key
        if codes > DANGER_ZONE + 1:
            assert "async" == choice.mode
        if codes < FEW_CODES - 1:
            assert "sync" == choice.mode
        if choice.mode == "sync" and codes_per_key < FEW_CODES:
            assert choice.keys_per_call * codes_per_key < FEW_CODES
