"""Rows as JSON lines."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import Any

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import REJECTED, REJECTED_TEXT, Row, UnreadableRow
from airflow_provider_scantrust.sources.members import MARKS
from airflow_provider_scantrust.sources.tables import FileSource
from airflow_provider_scantrust.sources.text import TextLines
from airflow_provider_scantrust.sources.values import INEXACT, is_exact

_UNFIXED = {*REJECTED, REJECTED_TEXT}
_PANDAS = "With pandas: df.to_json(path, orient='records', lines=True, date_format='iso')."


class JsonLinesSource(FileSource):
    """
    A file with one JSON object per line.

    Integers and fractions become text as written in the file, so that all digits survive; a float without a
    fraction (4006381333931.0) becomes a whole number; everything else keeps its type. An object need not have
    all names. A null leaves its field unchanged. Empty lines are skipped.
    """

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.of_records(self._records(), self.name)

    def rejected_lines(self) -> TextLines:
        return TextLines(self.name, self.reopen(), self.encoding)

    def _records(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        is_first = True
        for line, text in enumerate(TextLines(self.name, self.open(), self.encoding), start=1):
            if text[0] != "{":
                text = text.lstrip(MARKS)
                if not text.strip(" \t\r\n\v\f\x1a"):
                    continue
            if is_first:
                is_first = False
                if shape := self._find_shape(text.strip()):
                    raise InvalidInput(
                        f"{self.name}: this must be one object per line (JSON lines), and is {shape}"
                    )
            try:
                record = _DECODER.decode(text)
            except (ValueError, RecursionError) as error:
                if not text.endswith(("\n", "\r")) and "Extra data" not in str(error):
                    raise InvalidInput(
                        f"{self.name}, line {line}: the file is truncated: its last line has no end and is not valid "
                        f"JSON ({_explain(error)})."
                    ) from error
                yield line, UnreadableRow(f"it is not valid JSON: {_explain(error)}")
                continue
            yield line, _check_record(record)

    def _find_shape(self, text: str) -> str | None:
        """Return what a file is that begins with such a line, and what to do; None if this is a row."""
        if "\0" in text:
            return "text with NUL characters. Give its encoding, for example encoding='utf-16-le'."
        if "{" not in text and "[" not in text:
            return f"other text: its first line is {show(text)}. If it is a table, give source_format='csv'."
        if text.startswith("["):
            return f"a JSON array. {_convert('.[]')}. {_PANDAS}"
        if text.startswith("{") and text.endswith("},"):
            return "objects with commas between them. Convert it: sed 's/,$//' in.json > out.jsonl"
        if text.startswith("{") and not text.endswith("}"):
            return f"one object over several lines. {_convert('.')} (or '.rows[]' for the rows in it)"
        try:
            record = json.loads(text)
        except (ValueError, RecursionError) as error:
            if "Extra data" in str(error) and text.startswith("{"):
                return f"several objects in one line. {_convert('.')}"
            return None
        return self._find_wrapping(record) if isinstance(record, dict) else None

    def _find_wrapping(self, record: dict[str, Any]) -> str | None:
        values = list(record.values())
        if self._has_key(record):
            is_wrapped = all(isinstance(value, list | dict) for value in values)
            return f"one object around the columns. {_PANDAS}" if is_wrapped else None
        lists = list(_find_lists(record))
        if path := next((path for path, rows in lists if self._has_key(rows[0])), lists and lists[0][0]):
            return f"one object around the rows. {_convert(f'{path}[]')}"
        if values and all(isinstance(value, dict) for value in values):
            if len(values) > 1:
                path = f"to_entries[] | {{{self.fields.data_key}: .key}} + .value"
                return f"one object around the rows, by their keys. {_convert(path)}"
            if self._has_key(values[0]):
                return f"objects around the rows. {_convert(f'.[{json.dumps(next(iter(record)))}]')}"
        elif any(isinstance(value, list) and value[:1] and isinstance(value[0], list) for value in values):
            return f"one object around the table. {_PANDAS}"
        return None

    def _has_key(self, record: dict[str, Any]) -> bool:
        return self.fields.key_column(list(record)) is not None


def _convert(path: str) -> str:
    return f"Convert it: jq -c '{path}' in.json > out.jsonl"


def _explain(error: Exception) -> str:
    """Return what is wrong with a line, without the decoder's line number, which is always 1."""
    if not isinstance(error, json.JSONDecodeError):
        return str(error)
    return f"{error.msg.removesuffix(' at')} at column {error.colno}"


def _find_lists(value: Any, depth: int = 3) -> Iterator[tuple[str, list[Any]]]:
    """Return the lists of rows in an object, each with its path for jq."""
    for name, each in value.items():
        place = f".{name}" if name.isidentifier() and name.isascii() else f".[{json.dumps(name)}]"
        if isinstance(each, list) and each and all(isinstance(row, dict) for row in each):
            yield place, each
        if isinstance(each, dict) and depth:
            yield from ((f"{place}{path}", rows) for path, rows in _find_lists(each, depth - 1))


def _check_record(record: Any) -> Row | UnreadableRow:
    if isinstance(record, UnreadableRow):
        return record
    if not isinstance(record, dict):
        return UnreadableRow(f"it is not a JSON object but {type(record).__name__}")
    if record.keys() >= _UNFIXED:
        return UnreadableRow(f"{REJECTED_TEXT} must be turned into names and values, or removed, first")
    row: Row = record
    types = set(map(type, record.values()))
    if UnreadableRow in types:
        return next(value for value in record.values() if isinstance(value, UnreadableRow))
    if None in record.values():
        row = {name: value for name, value in record.items() if value is not None}
    if _Inexact in types:
        name = next(name for name, value in row.items() if type(value) is _Inexact)
        return UnreadableRow(f"field {show(name)}: {row[name]} {INEXACT}", "invalid")
    return row


class _Inexact(str):
    """The text of a float that cannot hold its digits."""


def _to_dict(pairs: list[tuple[str, Any]]) -> Any:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    names = [name for name, _ in pairs]
    repeated = next(name for name in names if names.count(name) > 1)
    return UnreadableRow(f"it has the name {show(repeated)} twice")


def _read_float(text: str) -> str:
    value = float(text)
    if not is_exact(value):
        return _Inexact(text)
    # As a float, 123456789012345.99999 would become a whole number, and 1e-400 would become 0.
    return str(int(value)) if value.is_integer() and value == Decimal(text) else text


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is not JSON")


_DECODER = json.JSONDecoder(
    parse_int=str, parse_float=_read_float, parse_constant=_refuse_constant, object_pairs_hook=_to_dict
)
