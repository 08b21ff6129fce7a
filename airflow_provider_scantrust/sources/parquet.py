"""Parquet files; pyarrow is imported when one is read."""

from __future__ import annotations

import json
import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from datetime import timedelta
from decimal import Decimal
from functools import partial
from itertools import repeat
from typing import Any, BinaryIO, NamedTuple
from uuid import UUID

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import REJECTED_TEXT, Row, UnreadableRow
from airflow_provider_scantrust.sources.members import Member, make_member
from airflow_provider_scantrust.sources.packing import Unpacked, check_start, unpack
from airflow_provider_scantrust.sources.tables import FileSource, need
from airflow_provider_scantrust.sources.values import INEXACT, is_exact, iso_moment, plain_moment, trim_zeros

_ROWS_AT_ONCE = 10_000
_BYTES_AT_ONCE = 64 * 1024 * 1024
_BUFFER = 256 * 1024


class _Bad(NamedTuple):
    """
    Takes the place of a value that cannot be sent.

    :param literal: JSON for it that is rejected again, or "" if there is none.
    """

    reason: str
    literal: str = ""


# The text of a value; None for a null.
_Value = str | _Bad | None


class ParquetSource(FileSource):
    """
    A Parquet file; its rows are numbered from 1.

    Every value becomes text: integers, booleans (``true``, ``false``) and decimals (never with an exponent)
    as they are; floats as the shortest text for the same number, 7.0 as ``7``; dates and timestamps as in
    ISO 8601, in their own time zone, a timestamp at midnight as its date; binary as utf-8. A null leaves the
    field out of the row: "" clears it at Scantrust, a null does not.

    The file is copied first, because Parquet is read from its end. Columns that pandas wrote as the index are
    not fields, unless one is the key or ``columns=`` names it.
    """

    _size = 0
    _kept: Sequence[str] = ()

    def rejected_members(self) -> Iterator[tuple[int, list[Member]]]:
        """Return line and members of each row of the copy; bad values stay numbers if possible."""
        with self._explaining():
            for line, values, _ in self._values(self._open_parquet(self.reopen())):
                named = [
                    (name, value) for name, value in zip(self._kept, values, strict=True) if value is not None
                ]
                yield line, [_member(name, value) for name, value in named]

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        copy = self.open_whole(unpack)
        with self._explaining():
            file = self._open_parquet(copy)
            index = self._index_of(file)
            names = [name for name in file.schema_arrow.names if name not in index]
            fields = self.fields.of_header(names, self.name)
            kept = {name: field for name, field in zip(names, fields, strict=True) if field is not None}
            if left_out := sorted(name for name in index if not name.startswith("__index_level_")):
                self.notes.append(
                    f"{self.name}: {', '.join(map(repr, left_out))} is the index of a pandas DataFrame and no field. To upload it, "
                    "name it in columns=."
                )
            self._kept = list(kept)
            for line, values, may_be_bad in self._values(file):
                if may_be_bad and _Bad in map(type, values):
                    found = zip(kept, values, strict=True)
                    reasons = (
                        f"column {name!r}: {bad.reason}" for name, bad in found if isinstance(bad, _Bad)
                    )
                    yield line, UnreadableRow("; ".join(reasons), "invalid")
                    continue
                row: Row = dict(zip(kept.values(), values, strict=True))
                if None in values:
                    row = {name: value for name, value in row.items() if value is not None}
                yield line, row

    def _values(self, file: Any) -> Iterator[tuple[int, tuple[_Value, ...], bool]]:
        """Return number and values of each row, and whether a row near it has a value that cannot be sent."""
        schema = file.schema_arrow
        bound = Unpacked(self.name, self._size)
        described = (file.schema.column(place) for place in range(len(file.schema)))
        # Arrow may give UUIDs as plain bytes.
        uuids = {column.path for column in described if str(column.logical_type) == "UUID"}
        readers = {
            name: partial(_apply, _read_uuid)
            if name in uuids
            else _find_reader(schema.field(name).type, f"{self.name}, column {name!r}")
            for name in self._kept
        }
        line = 1
        for batch in file.iter_batches(_rows_at_once(file), columns=list(self._kept), use_threads=False):
            # A null takes no bytes, so each row counts at least as one byte.
            bound.take(0, max(batch.nbytes, batch.num_rows))
            columns: list[list[_Value]] = []
            for name, read in readers.items():
                try:
                    columns.append(read(batch.column(name)))
                except (ValueError, OverflowError, KeyError) as error:
                    raise InvalidInput(
                        f"{self.name}, column {name!r}, row {line} or one of the {batch.num_rows - 1} after it: {error}"
                    ) from error
            rows = zip(*columns, strict=True) if columns else repeat((), batch.num_rows)
            may_be_bad = any(_Bad in set(map(type, column)) for column in columns)
            yield from zip(range(line, line + batch.num_rows), rows, repeat(may_be_bad))
            line += batch.num_rows
        if line - 1 != file.metadata.num_rows:
            raise InvalidInput(
                f"{self.name}: the file says that it has {file.metadata.num_rows} rows, and there are {line - 1} in it."
            )

    def _index_of(self, file: Any) -> set[str]:
        """Return the columns that pandas wrote as the index and that the user did not name."""
        with suppress(ValueError, KeyError, TypeError, AttributeError):
            about = json.loads(file.schema_arrow.metadata[b"pandas"])
            return {
                name
                for name in about["index_columns"]
                if isinstance(name, str) and name not in (*self.fields.columns, self.fields.data_key)
            }
        return set()

    def _open_parquet(self, raw: BinaryIO) -> Any:
        parquet = need("pyarrow.parquet", "parquet", self.name)
        self._size = raw.seek(0, os.SEEK_END)
        raw.seek(0)
        what = "a Parquet file. If it is text, give source_format='csv' or 'jsonl'"
        check_start(self.name, raw, (b"PAR1",), what)
        # Buffered, page by page: by default, the columns of a row group are read as a whole.
        file = parquet.ParquetFile(
            raw,
            buffer_size=_BUFFER,
            pre_buffer=False,
            page_checksum_verification=True,
            # In nanoseconds, moments before 1677 and after 2262 would become others.
            coerce_int96_timestamp_unit="us",
        )
        Unpacked(self.name, self._size).take(0, _unpacked_size(file))
        if _is_joined(raw, file.metadata):
            raise InvalidInput(
                f"{self.name}: this is several Parquet files in one, and only the last of them could be read. It looks as if "
                "files were joined: upload them one by one."
            )
        return file

    @contextmanager
    def _explaining(self) -> Iterator[None]:
        try:
            yield
        except (need("pyarrow", "parquet", self.name).ArrowException, UnicodeError, OSError) as error:
            # Arrow reports damage as an OSError without errno; errors of the storage have one.
            if isinstance(error, OSError) and (type(error) is not OSError or error.errno is not None):
                raise
            raise InvalidInput(
                f"{self.name}: this cannot be read as Parquet; is it damaged or truncated? {error}"
            ) from error


def _is_joined(raw: BinaryIO, about: Any) -> bool:
    """
    Whether one Parquet file stands behind another.

    The last footer counts from the start of the file, so the values of the first file would be read, and those
    of the last would be lost. A footer follows its values, with nothing but indexes between them.
    """
    end = 0
    if about.num_row_groups:
        group = about.row_group(about.num_row_groups - 1)
        for chunk in map(group.column, range(group.num_columns)):
            start = chunk.dictionary_page_offset if chunk.has_dictionary_page else chunk.data_page_offset
            end = max(end, start + chunk.total_compressed_size)
    raw.seek(end)
    rest = b""
    while block := raw.read(_BUFFER):
        if b"PAR1PAR1" in rest + block:
            return True
        rest = block[-7:]
    return False


def _unpacked_size(file: Any) -> int:
    return sum(
        max(0, file.metadata.row_group(number).total_byte_size) for number in range(file.num_row_groups)
    )


def _rows_at_once(file: Any) -> int:
    """Return how many rows to hold in memory: fewer if they are long."""
    rows: int = file.metadata.num_rows
    return max(1, min(_ROWS_AT_ONCE, _BYTES_AT_ONCE * rows // max(1, _unpacked_size(file))))


def _member(name: str, value: str | _Bad) -> Member:
    if isinstance(value, str):
        return name, make_member(name, value)
    if value.literal:
        return name, f"{json.dumps(name)}: {value.literal}"
    # As plain text, this value would be accepted when the file is uploaded again.
    return REJECTED_TEXT, make_member(REJECTED_TEXT, f"column {name!r}: {value.reason}")


def _find_reader(kind: Any, where: str) -> Callable[[Any], list[_Value]]:
    """Return the function that turns a column into texts; refuse columns of lists, structs and the like."""
    import pyarrow as arrow

    types = arrow.types
    if types.is_dictionary(kind):
        read = _find_reader(kind.value_type, where)
        return lambda column: read(column.cast(kind.value_type))
    is_text = types.is_string(kind) or types.is_large_string(kind) or types.is_string_view(kind)
    if is_text or types.is_null(kind):
        return lambda column: list(column.to_pylist())
    if types.is_integer(kind) or types.is_boolean(kind):
        return lambda column: list(column.cast(arrow.string()).to_pylist())
    if types.is_date32(kind):
        return lambda column: _apply(_read_date, column.cast(arrow.string()))
    if types.is_floating(kind):
        texts = arrow.string()
        return lambda column: _read_floats(column, column.cast(texts).to_pylist(), kind.bit_width // 8)
    if types.is_timestamp(kind) and kind.unit == "ns":
        whole, numbers = arrow.timestamp("us", kind.tz), arrow.int64()
        return lambda column: _read_nanoseconds(
            column.cast(whole, safe=False).to_pylist(), column.cast(numbers).to_pylist()
        )
    if types.is_timestamp(kind):
        # Coarser units could overflow.
        unit = arrow.timestamp("us", kind.tz)
        return lambda column: _apply(plain_moment, column.cast(unit))
    if types.is_date64(kind):
        return lambda column: _apply(plain_moment, column.cast(arrow.date32(), safe=False))
    if types.is_time(kind):
        return lambda column: _apply(trim_zeros, column.cast(arrow.string()))
    if types.is_decimal(kind):
        return lambda column: _apply(_show_decimal, column)
    is_bytes = types.is_binary(kind) or types.is_large_binary(kind) or types.is_binary_view(kind)
    if is_bytes or types.is_fixed_size_binary(kind):
        return lambda column: _apply(_read_bytes, column)
    raise InvalidInput(
        f"{where}: values of type {kind} are not single values of text, number or date. "
        "Leave the column out by giving None for it in columns=."
    )


def _apply(make_text: Callable[[Any], _Value], column: Any) -> list[_Value]:
    return [None if value is None else make_text(value) for value in column.to_pylist()]


def _read_nanoseconds(whole: list[Any], numbers: list[Any]) -> list[_Value]:
    """Return timestamps with all nine decimals of the second; Python's own type keeps six."""
    texts: list[_Value] = []
    for moment, number in zip(whole, numbers, strict=True):
        if moment is not None and number < 0 and number % 1000:
            # Arrow rounds toward 1970, but the remaining digits count from the earlier microsecond.
            moment -= timedelta(microseconds=1)
        texts.append(None if moment is None else iso_moment(moment, number % 1000))
    return texts


def _read_date(text: str) -> _Value:
    # For such a date, Arrow writes "<value out of range: 1073741824>".
    return _Bad("the date is outside the calendar") if text[0] == "<" else text


def _read_floats(column: Any, texts: list[_Value], size: int) -> list[_Value]:
    for index, value in enumerate(column.to_pylist()):
        if value is None:
            continue
        if value - value != 0:
            texts[index] = _Bad(f"{value} is not a number that can be sent")
        elif value.is_integer():
            # In the rejects file, a number of JSON would have to be one that is not exact there, either.
            bad = _Bad(f"{value} {INEXACT}", "" if is_exact(value) else repr(value))
            texts[index] = str(int(value)) if is_exact(value, size) else bad
        elif (text := texts[index]) and "e+" in text:
            # 1.234567890123456e+14 becomes 123456789012345.6.
            texts[index] = format(Decimal(str(text)), "f")
    return texts


def _read_bytes(value: bytes) -> _Value:
    try:
        return value.decode()
    except UnicodeDecodeError:
        return _Bad(f"the bytes {show(value)} are not utf-8 text")


def _read_uuid(value: Any) -> str:
    return str(value if isinstance(value, UUID) else UUID(bytes=value))


def _show_decimal(value: Decimal) -> str:
    """Return a decimal as its column shows it; a whole number without zeros after the point."""
    return str(int(value)) if value == value.to_integral_value() else format(value, "f")
