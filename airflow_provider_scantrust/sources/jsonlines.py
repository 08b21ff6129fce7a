"""Rows as JSON lines, and rows that a program hands over."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, BinaryIO

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources.tables import (
    REJECTED,
    REJECTED_TEXT,
    Fields,
    Row,
    Source,
    UnreadableRow,
)
from airflow_provider_scantrust.sources.text import TextLines, check_encoding


class JsonLinesSource(Source):
    """
    A file with one JSON object a line.

    Numbers become the text that stands in the file, so that 007.50 and twenty digits survive; all else keeps its type.
    An object need not have all names. Empty lines are skipped.

    :param open_file: Opens the file anew for each reading.
    :param encoding: None to go by the byte order mark, or else utf-8.
    :raises ConfigurationError: The encoding cannot be one.
    """

    format = "jsonl"

    def __init__(
        self, name: str, open_file: Callable[[], BinaryIO], fields: Fields, *, encoding: str | None = None
    ) -> None:
        check_encoding(encoding)
        self.name = name
        self.fields = fields
        self.open_file = open_file
        self.encoding = encoding

    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.of_records(self._read(), self.name)

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        with self.open_file() as raw:
            begun = False
            for line, text in enumerate(TextLines(self.name, raw, self.encoding), start=1):
                if not begun:
                    begun = not text.isspace()
                    if text.lstrip().startswith("["):
                        raise InvalidInput(
                            f"{self.name}: this is a JSON array; it must be one object a line (JSON lines)."
                        )
                try:
                    record = _DECODER.decode(text)
                except (ValueError, RecursionError) as error:
                    if text.isspace():
                        continue
                    if not text.endswith(("\n", "\r")):
                        raise InvalidInput(
                            f"{self.name}, line {line}: the file is cut off: its last line has no end and is no good "
                            f"JSON ({error})."
                        ) from error
                    yield line, UnreadableRow(f"it is no good JSON: {error}")
                    continue
                yield line, _check_record(record)


class RowSource(Source):
    """
    Rows from any iterable of dicts, such as what a decorated task returns; they are numbered from 1.

    Values are handed on as they are.

    :param rows: Iterated once for each reading; an iterator can be read only once, and ``restartable`` says so.
    :param columns: As for :func:`~airflow_provider_scantrust.sources.opening.open_source`, and ``constants`` too.
    """

    format = "jsonl"

    def __init__(
        self,
        rows: Iterable[Any],
        *,
        name: str = "rows",
        columns: Mapping[str, str | None] | None = None,
        constants: Mapping[str, Any] | None = None,
    ) -> None:
        if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
            raise InvalidInput(f"{name} must be a list of rows, each a dict, not {type(rows).__name__}.")
        self.name = name
        self.fields = Fields(columns, constants)
        self.rows = rows
        self.restartable = not isinstance(rows, Iterator)
        self._was_read = False

    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.of_records(self._read(), self.name)

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        if self._was_read and not self.restartable:
            raise ConfigurationError(f"{self.name}: these rows come from an iterator and were read already.")
        self._was_read = True
        for number, row in enumerate(self.rows, start=1):
            if isinstance(row, Mapping):
                try:
                    copy: Row | UnreadableRow = dict(row)
                except Exception as error:  # anybody's mapping, anybody's exception
                    copy = UnreadableRow(f"it cannot be read ({type(error).__name__})")
                yield number, copy
            else:
                yield number, UnreadableRow(f"it is no dict but {type(row).__name__}")


def _check_record(record: Any) -> Row | UnreadableRow:
    if isinstance(record, _Repeated):
        return UnreadableRow(f"it has the name {show(record.name)} twice")
    if not isinstance(record, dict):
        return UnreadableRow(f"it is no JSON object but {type(record).__name__}")
    if record.keys() == {*REJECTED, REJECTED_TEXT}:
        return UnreadableRow(f"{REJECTED_TEXT} still has to be turned into names and values")
    return record


class _Repeated:
    def __init__(self, name: str) -> None:
        self.name = name


def _to_dict(pairs: list[tuple[str, Any]]) -> Any:
    record = dict(pairs)
    if len(record) == len(pairs):
        return record
    names = [name for name, _ in pairs]
    return _Repeated(next(name for name in names if names.count(name) > 1))


def _refuse_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON")


_DECODER = json.JSONDecoder(
    parse_int=str, parse_float=str, parse_constant=_refuse_constant, object_pairs_hook=_to_dict
)
