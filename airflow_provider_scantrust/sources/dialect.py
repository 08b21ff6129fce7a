"""The delimiter of a file, found in its first lines, and what :mod:`csv` needs to know of it."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from contextlib import suppress
from typing import Any

from airflow_provider_scantrust.sources.fields import Fields, clean_name

DELIMITERS = ",;\t|"


def find_delimiter(sample: Sequence[str], quote: str, fields: Fields) -> str:
    """
    Return the delimiter that fits the header and the first rows.

    What counts, in this order: the key is among the names, also below a title; how many rows have as many
    cells as the header; the number of cells. On a tie the comma loses: numbers and names have commas, too.
    """

    def fit(delimiter: str) -> tuple[bool, bool, float, int, bool]:
        records = [cells for _, cells in parse(sample, make_dialect(delimiter, quote), 0)] or [[]]
        header, *rows = records
        names = {fields.columns.get(name, name) for name in map(clean_name, header)}
        is_near = any(fields.resembles_key(cell) for cells in records for cell in cells)
        fitting = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0
        return fields.data_key in names, is_near, fitting, len(header), delimiter != ","

    text = "".join(sample)
    # The comma also stands for a single column, whose values may hold any of the others.
    found = [mark for mark in DELIMITERS if (mark in text or mark == ",") and mark != quote]
    return max(found, key=fit, default=",")


def make_dialect(delimiter: str, quote: str) -> dict[str, Any]:
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return {"delimiter": delimiter, "quotechar": quote or None, "quoting": quoting}


def parse(lines: Sequence[str], dialect: dict[str, Any], above: int) -> list[tuple[int, list[str]]]:
    """Return the readable records of some lines, each with the number of lines above it."""
    reader = csv.reader(lines, **dialect)
    records: list[tuple[int, list[str]]] = []
    with suppress(csv.Error):
        while True:
            start = above + reader.line_num
            if (cells := next(reader, None)) is None:
                break
            if not is_empty(cells):
                records.append((start, cells))
    return records


def is_empty(cells: Sequence[str]) -> bool:
    """Whether a row is empty; a single Ctrl-Z, the end of a file on old systems, is empty, too."""
    return not "".join(cells).strip(" \t\r\n\v\f\x1a\u00a0")
