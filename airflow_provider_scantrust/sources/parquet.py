"""Parquet files; pyarrow is imported when one is read."""

from __future__ import annotations

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, time
from itertools import repeat
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.tables import Fields, Row, Source, UnreadableRow, need
from airflow_provider_scantrust.sources.text import Unpacked

_ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 64 * 1024 * 1024
_BUFFER = 256 * 1024
_MOST_EXACT = 2**53

# Texts of a column's values, and which of them are none that can be sent, with the reason.
_Texts = tuple[list[str | None], dict[int, str]]


class ParquetSource(Source):
    """
    A Parquet file; its rows are numbered from 1.

    Every value becomes text: integers, booleans (``true``, ``false``) and decimals (never with an exponent) as they
    are; floats as the shortest text that means the same number, 7.0 as ``7``; dates and timestamps as in ISO 8601, a
    timestamp at midnight as its date, one with a time zone in that zone, to the microsecond; binary as utf-8. A null
    leaves the field out of the row: "" clears it at Scantrust, a null does not.

    :param open_file: Opens the file anew for each reading, and can seek.
    """

    format = "parquet"

    def __init__(self, name: str, open_file: Callable[[], BinaryIO], fields: Fields) -> None:
        self.name = name
        self.fields = fields
        self.open_file = open_file
        self._size = 0

    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        with self.open_parquet() as file, self._explaining():
            schema = file.schema_arrow
            bound = Unpacked(self.name, self._size)
            fields = self.fields.of_header(schema.names, self.name)
            kept = {
                name: field for name, field in zip(schema.names, fields, strict=True) if field is not None
            }
            readers = {
                name: _find_reader(schema.field(name).type, f"{self.name}, column {name!r}") for name in kept
            }
            line = 1
            for batch in file.iter_batches(_rows_at_once(file), columns=list(kept), use_threads=False):
                # A null takes no byte, and a row is one all the same.
                bound.take(0, max(batch.nbytes, batch.num_rows))
                columns: list[list[str | None]] = []
                bad: dict[int, str] = {}
                for name, read in readers.items():
                    try:
                        texts, wrong = read(batch.column(name))
                    except (ValueError, OverflowError, KeyError) as error:
                        raise InvalidInput(
                            f"{self.name}, column {name!r}, row {line} or one of the {batch.num_rows - 1} after it: {error}"
                        ) from error
                    columns.append(texts)
                    bad.update({index: f"column {name!r}: {reason}" for index, reason in wrong.items()})
                yield from self._rows(line, batch.num_rows, list(kept.values()), columns, bad)
                line += batch.num_rows
            if line - 1 != file.metadata.num_rows:
                raise InvalidInput(
                    f"{self.name}: the file says that it has {file.metadata.num_rows} rows, and there are {line - 1} in it."
                )

    def _rows(
        self, line: int, count: int, names: list[str], columns: list[list[str | None]], bad: dict[int, str]
    ) -> Iterator[tuple[int, Row | UnreadableRow]]:
        rows: Iterable[tuple[str | None, ...]] = zip(*columns, strict=True) if columns else repeat((), count)
        for index, values in enumerate(rows):
            if index in bad:
                yield line + index, UnreadableRow(bad[index])
                continue
            row: Row = dict(zip(names, values, strict=True))
            if None in values:
                row = {name: value for name, value in row.items() if value is not None}
            yield line + index, {**row, **self.fields.constants}

    def take(self, file: Any, lines: Sequence[int]) -> Iterator[tuple[list[int], Any]]:
        """
        Return the rows of an open file as they are, in batches, each with their numbers.

        :param lines: Numbers of rows, in order.
        """
        with self._explaining():
            first = 1
            for group in range(file.num_row_groups):
                rows = file.metadata.row_group(group).num_rows
                if bisect_left(lines, first) < bisect_left(lines, first + rows):
                    start = first
                    for batch in file.iter_batches(
                        _rows_at_once(file), row_groups=[group], use_threads=False
                    ):
                        wanted = lines[bisect_left(lines, start) : bisect_left(lines, start + batch.num_rows)]
                        if wanted:
                            yield (
                                list(wanted),
                                batch.take(_arrow(self.name).array([line - start for line in wanted])),
                            )
                        start += batch.num_rows
                first += rows

    @contextmanager
    def open_parquet(self) -> Iterator[Any]:
        """
        Open the file.

        :raises InvalidInput: It is no Parquet file, or a damaged one, or says itself that it unpacks to too much.
        """
        parquet = need("pyarrow.parquet", "parquet", self.name)
        with self.open_file() as raw:
            self._size = raw.seek(0, os.SEEK_END)
            raw.seek(0)
            with self._explaining():
                # By pages: with the default a row group's columns are read whole.
                file = parquet.ParquetFile(raw, buffer_size=_BUFFER, pre_buffer=False)
                Unpacked(self.name, self._size).take(0, _unpacked_size(file))
            yield file

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (_arrow(self.name).ArrowException, UnicodeError, OSError) as error:
            # Arrow reports damage as an OSError without a number; those of the storage are none of ours.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            raise InvalidInput(
                f"{self.name}: this cannot be read as Parquet; is it damaged or cut off? {error}"
            ) from error


def _unpacked_size(file: Any) -> int:
    return sum(
        max(0, file.metadata.row_group(number).total_byte_size) for number in range(file.num_row_groups)
    )


def _rows_at_once(file: Any) -> int:
    """Return how many rows to hold in memory: fewer where they are long."""
    rows: int = file.metadata.num_rows
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * rows // max(1, _unpacked_size(file))))


def _arrow(name: str) -> Any:
    return need("pyarrow", "parquet", name)


def _find_reader(kind: Any, where: str) -> Callable[[Any], _Texts]:
    """
    Return what makes texts of a column.

    :raises InvalidInput: Its values are no single ones.
    """
    arrow = _arrow(where)
    types = arrow.types
    if types.is_dictionary(kind):
        read = _find_reader(kind.value_type, where)
        return lambda column: read(column.cast(kind.value_type))
    if (
        types.is_string(kind)
        or types.is_large_string(kind)
        or types.is_string_view(kind)
        or types.is_null(kind)
    ):
        return lambda column: (column.to_pylist(), {})
    if types.is_integer(kind) or types.is_boolean(kind):
        return lambda column: (column.cast(arrow.string()).to_pylist(), {})
    if types.is_date32(kind):
        return lambda column: _read_dates(column.cast(arrow.string()).to_pylist())
    if types.is_floating(kind):
        return lambda column: _read_floats(column.to_pylist(), column.cast(arrow.string()).to_pylist())
    if types.is_timestamp(kind):
        unit = arrow.timestamp("us", kind.tz)
        # Of nanoseconds some are lost; of longer units some would wrap around.
        safe = kind.unit != "ns"
        return lambda column: (_apply(_format_datetime, column.cast(unit, safe=safe)), {})
    if types.is_date64(kind) or types.is_time(kind):
        unit = arrow.date32() if types.is_date64(kind) else arrow.time64("us")
        return lambda column: (_apply(lambda value: value.isoformat(), column.cast(unit, safe=False)), {})
    if types.is_decimal(kind):
        return lambda column: (_apply(lambda value: format(value, "f"), column), {})
    if types.is_binary(kind) or types.is_large_binary(kind):
        return lambda column: _read_binary(column.to_pylist())
    raise InvalidInput(
        f"{where}: values of type {kind} are no single values of text, number or date. "
        "Leave the column out by giving None for it in columns=."
    )


def _apply(make_text: Callable[[Any], str], column: Any) -> list[str | None]:
    return [None if value is None else make_text(value) for value in column.to_pylist()]


def _format_datetime(value: datetime) -> str:
    return value.date().isoformat() if value.time() == time() else value.isoformat()


def _read_dates(texts: list[str | None]) -> _Texts:
    # Arrow writes "<value out of range: 1073741824>".
    bad = {index: "the date is in no calendar" for index, text in enumerate(texts) if text and text[0] == "<"}
    return texts, bad


def _read_floats(values: list[float | None], texts: list[str | None]) -> _Texts:
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        if value - value != 0:
            bad[index] = f"{value} is no number that can be sent"
        elif value.is_integer() and abs(value) < _MOST_EXACT:
            texts[index] = str(int(value))
    return texts, bad


def _read_binary(values: list[bytes | None]) -> _Texts:
    texts: list[str | None] = []
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            bad[index] = "the bytes are no utf-8"
    return texts, bad
