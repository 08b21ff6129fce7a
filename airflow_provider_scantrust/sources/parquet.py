"""Parquet files; pyarrow is imported when one is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import datetime, time
from itertools import repeat
from typing import Any, BinaryIO
from uuid import UUID

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields
from airflow_provider_scantrust.sources.numbers import is_exact, not_exact
from airflow_provider_scantrust.sources.packing import Unpacked, refuse_other_kinds
from airflow_provider_scantrust.sources.tables import FileSource, Row, UnreadableRow, need

_ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 64 * 1024 * 1024
_BUFFER = 256 * 1024

# Texts of a column's values, and which of them cannot be sent, with the reason.
_Texts = tuple[list[str | None], dict[int, str]]


class ParquetSource(FileSource):
    """
    A Parquet file; its rows are numbered from 1.

    Every value becomes text: integers, booleans (``true``, ``false``) and decimals (never with an exponent) as they
    are; floats as the shortest text that means the same number, 7.0 as ``7``; dates and timestamps as in ISO 8601, a
    timestamp at midnight as its date, one with a time zone in that zone, to the microsecond; binary as utf-8. A null
    leaves the field out of the row: "" clears it at Scantrust, a null does not.

    The file is copied first: Parquet is read from its end. Columns that pandas wrote as the index are not fields, unless
    one is the key or ``columns=`` names it.
    """

    format = "parquet"

    def __init__(
        self, name: str, open_file: Callable[[], BinaryIO], fields: Fields, *, keep_copy: bool = False
    ) -> None:
        super().__init__(name, open_file, keep_copy=keep_copy)
        self.fields = fields
        self._size = 0

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.without_nulls(self._rows())

    def rejected_rows(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """Return line and row of the copy, by the names of its columns."""
        with self._open_parquet(self.reopen()) as file, self._explaining():
            for line, rows in self._tables(file, dict.fromkeys(file.schema_arrow.names)):
                yield from enumerate(rows, start=line)

    def _rows(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        with self._open_parquet(self.open_whole()) as file, self._explaining():
            names = [name for name in file.schema_arrow.names if name not in self._index_of(file)]
            fields = self.fields.of_header(names, self.name)
            kept: dict[str, str | None] = {
                name: field for name, field in zip(names, fields, strict=True) if field is not None
            }
            for start, rows in self._tables(file, kept):
                for line, row in enumerate(rows, start=start):
                    yield line, {**row, **self.fields.constants} if isinstance(row, dict) else row

    def _tables(
        self, file: Any, kept: dict[str, str | None]
    ) -> Iterator[tuple[int, Iterator[Row | UnreadableRow]]]:
        """
        Return rows, many at a time, and the number of the first.

        :param kept: Column -> field, None for the column's own name.
        """
        schema = file.schema_arrow
        bound = Unpacked(self.name, self._size)
        uuids = _uuids_of(file)
        readers = {
            name: _read_uuids
            if name in uuids
            else _find_reader(schema.field(name).type, f"{self.name}, column {name!r}")
            for name in kept
        }
        line = 1
        for batch in file.iter_batches(_rows_at_once(file), columns=list(kept), use_threads=False):
            # A null takes no byte, and a row is one all the same.
            bound.take(0, max(batch.nbytes, batch.num_rows))
            columns: list[list[str | None]] = []
            bad: dict[int, UnreadableRow] = {}
            for name, read in readers.items():
                try:
                    texts, wrong = read(batch.column(name))
                except (ValueError, OverflowError, KeyError) as error:
                    raise InvalidInput(
                        f"{self.name}, column {name!r}, row {line} or one of the {batch.num_rows - 1} after it: {error}"
                    ) from error
                columns.append(texts)
                bad.update(
                    {
                        index: UnreadableRow(f"column {name!r}: {reason}", "invalid")
                        for index, reason in wrong.items()
                    }
                )
            yield (
                line,
                _make_rows([field or name for name, field in kept.items()], columns, batch.num_rows, bad),
            )
            line += batch.num_rows
        if line - 1 != file.metadata.num_rows:
            raise InvalidInput(
                f"{self.name}: the file says that it has {file.metadata.num_rows} rows, and there are {line - 1} in it."
            )

    def _index_of(self, file: Any) -> set[str]:
        """Return the columns that pandas wrote as the index, but for those that are asked for."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            about = json.loads(file.schema_arrow.metadata[b"pandas"])
            index = {name for name in about["index_columns"] if isinstance(name, str)}
            return {
                name for name in index if self.fields.columns.get(name, name) != self.fields.data_key
            }.difference(self.fields.columns)
        return set()

    @contextmanager
    def _open_parquet(self, raw: BinaryIO) -> Iterator[Any]:
        """
        Open the copy.

        :raises InvalidInput: It is not a Parquet file, or a damaged one, or unpacks to too much by its own account.
        """
        parquet = need("pyarrow.parquet", "parquet", self.name)
        self._size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        head = raw.read(512)
        if not head:
            raise InvalidInput(f"{self.name}: the file is empty (0 bytes).")
        if not head.startswith(b"PAR1"):
            refuse_other_kinds(self.name, head)
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
            # Arrow reports damage as an OSError without a number; the storage's own errors have one.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            raise InvalidInput(
                f"{self.name}: this cannot be read as Parquet; is it damaged or truncated? {error}"
            ) from error


def _make_rows(
    names: list[str], columns: list[list[str | None]], count: int, bad: dict[int, UnreadableRow]
) -> Iterator[Row | UnreadableRow]:
    rows: Iterable[tuple[str | None, ...]] = zip(*columns, strict=True) if columns else repeat((), count)
    for index, values in enumerate(rows):
        if index in bad:
            yield bad[index]
        elif None in values:
            yield {name: value for name, value in zip(names, values, strict=True) if value is not None}
        else:
            yield dict(zip(names, values, strict=True))


def _uuids_of(file: Any) -> set[str]:
    """Return the columns of UUIDs, which Arrow may give as plain bytes."""
    columns = (file.schema.column(place) for place in range(len(file.schema)))
    return {column.path for column in columns if str(column.logical_type) == "UUID"}


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
    Return the function that makes texts of a column.

    :raises InvalidInput: Its values are not single ones.
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
        # Some nanoseconds are lost; longer units could wrap around.
        safe = kind.unit != "ns"
        return lambda column: (_apply(_format_datetime, column.cast(unit, safe=safe)), {})
    if types.is_date64(kind) or types.is_time(kind):
        unit = arrow.date32() if types.is_date64(kind) else arrow.time64("us")
        return lambda column: (_apply(lambda value: value.isoformat(), column.cast(unit, safe=False)), {})
    if types.is_decimal(kind):
        return lambda column: (_apply(lambda value: format(value, "f"), column), {})
    if types.is_binary(kind) or types.is_large_binary(kind) or types.is_fixed_size_binary(kind):
        return lambda column: _read_binary(column.to_pylist())
    raise InvalidInput(
        f"{where}: values of type {kind} are not single values of text, number or date. "
        "Leave the column out by giving None for it in columns=."
    )


def _apply(make_text: Callable[[Any], str], column: Any) -> list[str | None]:
    return [None if value is None else make_text(value) for value in column.to_pylist()]


def _format_datetime(value: datetime) -> str:
    return value.date().isoformat() if value.time() == time() else value.isoformat()


def _read_dates(texts: list[str | None]) -> _Texts:
    # Arrow writes "<value out of range: 1073741824>".
    bad = {
        index: "the date is outside the calendar"
        for index, text in enumerate(texts)
        if text and text[0] == "<"
    }
    return texts, bad


def _read_floats(values: list[float | None], texts: list[str | None]) -> _Texts:
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        if value is None:
            continue
        if value - value != 0:
            bad[index] = f"{value} is not a number that can be sent"
        elif value.is_integer():
            texts[index] = str(int(value))
            if not is_exact(value):
                bad[index] = not_exact("", value).partition(": ")[2]
    return texts, bad


def _read_binary(values: list[bytes | None]) -> _Texts:
    texts: list[str | None] = []
    bad: dict[int, str] = {}
    for index, value in enumerate(values):
        try:
            texts.append(None if value is None else value.decode())
        except UnicodeDecodeError:
            texts.append(None)
            bad[index] = "the bytes are not utf-8 text"
    return texts, bad


def _read_uuids(column: Any) -> _Texts:
    texts = [
        None if value is None else str(value if isinstance(value, UUID) else UUID(bytes=value))
        for value in column.to_pylist()
    ]
    return texts, {}
