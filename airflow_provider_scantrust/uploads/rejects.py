"""
The rejects file: the rows that did not arrive, each with its line and the reason, ready to be mended.

Rule: what is written here and not mended is rejected again when it is uploaded; it never passes as something else.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import json
import re
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from datetime import date
from itertools import islice
from operator import itemgetter
from typing import Any, BinaryIO, TypeVar, cast

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.delimited import DelimitedSource, Table
from airflow_provider_scantrust.sources.jsonlines import JsonLinesSource, RowSource
from airflow_provider_scantrust.sources.opening import find_format
from airflow_provider_scantrust.sources.parquet import ParquetSource
from airflow_provider_scantrust.sources.tables import REJECTED, REJECTED_TEXT, Source, UnreadableRow, need
from airflow_provider_scantrust.sources.text import TextLines

_LONGEST_REPR = 100_000

_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)

T = TypeVar("T")

# Line, kind and reason; lines rise.
Reject = tuple[int, str, str]


def check_rejects_name(name: str, format: str, delimiter: str | None = None) -> None:
    """
    Find a name that does not fit before anything is sent.

    :param format: The source's; its rejects are written in the same.
    :param delimiter: The source's, where it is given.
    :raises ConfigurationError: The name's ending says another format, or a packing that is not there.
    """
    said = find_format(name)
    # Tabs are found in a file of any name; in one that is called TSV nothing else is looked for, so it gets tabs.
    fits = {said, format} <= {"csv", "tsv"} and (said == "csv" or delimiter in (None, "\t", "\\t"))
    if said not in (None, format) and not fits:
        raise ConfigurationError(
            f"{name}: the rejects are written in the source's format, {format}; its name says {said}."
        )
    if format == "parquet" and name.lower().endswith((".gz", ".zst")):
        raise ConfigurationError(f"{name}: a Parquet file is packed inside; name it without .gz or .zst.")
    if name.lower().endswith(".zst"):
        need("zstandard", "zstd", name)


def write_rejects(
    source: Source,
    rejects: Callable[[], Iterable[Reject]],
    out: BinaryIO,
    *,
    name: str,
    data_key: str = "extended_id",
) -> int:
    """
    Read the source once more and write the rows that did not arrive; return how many.

    Format, delimiter (but tabs in a file that is called TSV), encoding, columns, their names and values are the source's; before them stand
    ``rejected_line``, ``rejected_kind`` and ``rejected_reason``. Fewer than there are rejects means that the source has
    changed in between. No more than one reject is in memory at a time; of Parquet, the numbers of all lines are.

    :param rejects: Returns line, kind and reason of each, in the order of the lines.
    :param out: Written to, and left open.
    :param data_key: The field that selects codes.
    :param name: Its name; what ends in ``.gz`` or ``.zst`` is packed.
    :raises ConfigurationError: The name does not fit the format, or the source cannot be read again.
    :raises InvalidInput: The source cannot be read any more.
    """
    check_rejects_name(name, source.format, source.delimiter if isinstance(source, DelimitedSource) else None)
    if not source.restartable:
        raise ConfigurationError(
            f"{source.name}: these rows cannot be read again; keep those that did not arrive."
        )
    if isinstance(source, ParquetSource):
        return _write_parquet(source, rejects, out)
    with _packed(out, name) as stream:
        if isinstance(source, DelimitedSource):
            # Whoever gave a delimiter reads the rejects with it, too.
            tabs = source.delimiter is None and find_format(name) == "tsv"
            return _write_table(source, rejects(), stream, tabs=tabs)
        if isinstance(source, JsonLinesSource):
            return _write_lines(source, rejects(), stream)
        if isinstance(source, RowSource):
            columns = source.fields.columns
            matched = _matched(enumerate(source.rows, start=1), rejects())
            return _write_rows(matched, stream, lambda name: columns.get(name, name) == data_key)
    raise TypeError(f"{type(source).__name__} is no source whose rejects can be written")


def read_line_rejects(name: str, raw: BinaryIO, encoding: str | None) -> Iterator[Reject]:
    """Return the rejects in a file of JSON lines that was written here, whatever else is in them."""
    for text in TextLines(name, raw, encoding):
        if not text.isspace():
            line, kind, reason = itemgetter(*REJECTED)(_DECODER.decode(text))
            yield int(line), kind, reason


def _matched(rows: Iterable[tuple[int, T]], rejects: Iterable[Reject]) -> Iterator[tuple[int, T, str, str]]:
    """Return those rows of a source that were rejected, each with kind and reason; both come in the order of lines."""
    waiting = iter(rejects)
    rejected = next(waiting, None)
    for line, row in rows:
        while rejected is not None and rejected[0] < line:
            rejected = next(waiting, None)
        if rejected is None:
            return
        if rejected[0] == line:
            yield line, row, *rejected[1:]


def _write_table(
    source: DelimitedSource, rejects: Iterable[Reject], out: BinaryIO, *, tabs: bool = False
) -> int:
    written = 0
    with source.open_file() as raw:
        table = Table(source, raw, keep_text=True)
        # A rejects file that is uploaded and rejected again has the columns already.
        dropped = set(REJECTED) if set(REJECTED) <= set(table.header) else set()
        kept = [name not in dropped for name in table.header]
        # All is quoted, so that reading finds the same delimiter again whatever the reasons hold.
        quoting = csv.QUOTE_ALL if source.quotechar else csv.QUOTE_NONE
        delimiter = "\t" if tabs else table.delimiter
        dialect = {"delimiter": delimiter, "lineterminator": table.line_end, "quoting": quoting}
        writer = csv.writer(_Encoded(out, table.encoding), **{**table.dialect, **dialect})
        writer.writerow([*REJECTED, *_select(table.header, kept)])
        records = ((line, cells) for line, cells, _ in table.records())
        for line, cells, kind, reason in _matched(records, rejects):
            said, rest = _one_line(reason), _select(cells, kept)
            if not source.quotechar:
                # Nothing protects a cell, so none may look like two.
                said, *rest = (re.sub(f"[{re.escape(delimiter)}\r\n]", " ", cell) for cell in (said, *rest))
            writer.writerow([line, kind, said, *rest])
            written += 1
    return written


def _select(cells: list[str], kept: list[bool]) -> list[str]:
    """Return the cells of the columns to keep, and those for which there is no column."""
    if len(cells) < len(kept) and not all(kept):
        # Which cells these are is not known, so all of them stay; never as many as make a row.
        return [*cells, ""] if len(cells) == sum(kept) else cells
    chosen = [cell for cell, keep in zip(cells, kept, strict=False) if keep]
    return chosen + cells[len(kept) :]


def _write_lines(source: JsonLinesSource, rejects: Iterable[Reject], out: BinaryIO) -> int:
    written = 0
    with source.open_file() as raw:
        lines = TextLines(source.name, raw, source.encoding)
        stream = _Encoded(out, lines.encoding)
        for line, text, kind, reason in _matched(enumerate(lines, start=1), rejects):
            members = _read_members(text)
            names = {name for name, _ in members}
            if names.issuperset(REJECTED):
                members = [member for member in members if member[0] not in REJECTED]
            elif not names.isdisjoint(REJECTED):
                # Names of the source's own, which must not stand twice.
                members = [(REJECTED_TEXT, _make_member(REJECTED_TEXT, text.strip()))]
            stream.write(_make_line(line, kind, reason, members))
            written += 1
    return written


def _read_members(text: str) -> list[tuple[str, str]]:
    """Return the members of a JSON object: each name, and the member as it stands there, lest 007.50 becomes 7.5."""
    members: list[tuple[str, str]] = []
    text = text.strip(" \t\r\n")
    try:
        if not isinstance(_DECODER.decode(text), dict):
            raise ValueError("no object")
        start = _skip(text, 1)
        while text[start] != "}":
            name, end = _DECODER.raw_decode(text, start)
            _, end = _DECODER.raw_decode(text, _skip(text, end))
            members.append((name, text[start:end]))
            start = _skip(text, end)
    except (ValueError, RecursionError):
        return [(REJECTED_TEXT, _make_member(REJECTED_TEXT, text))]
    return members


def _skip(text: str, position: int) -> int:
    """Return where the next name or value begins, or the end of the object."""
    while text[position] in " \t\r\n,:":
        position += 1
    return position


def _make_member(name: Any, value: Any, *, ascii_only: bool = True) -> str:
    if not isinstance(name, str):
        raise TypeError("a name in JSON is text")
    return f"{json.dumps(name, ensure_ascii=ascii_only)}: " + json.dumps(
        value, ensure_ascii=ascii_only, allow_nan=False, default=_make_text
    )


def _write_rows(
    rows: Iterable[tuple[int, Any, str, str]], out: BinaryIO, is_key: Callable[[Any], bool]
) -> int:
    stream = _Encoded(out, "utf-8")
    written = 0
    for line, row, kind, reason in rows:
        members: list[tuple[str, str]] = []
        if isinstance(row, Mapping):
            try:
                ours = REJECTED if all(name in row for name in REJECTED) else ()
                if not ours and any(name in row for name in REJECTED):
                    raise TypeError("names of the source's own, which must not stand twice")
                for name, value in row.items():
                    # A number or a date is no key; as text it would be one.
                    if is_key(name) and not isinstance(value, str | int | None):
                        raise TypeError(f"a key of type {type(value).__name__}")
                    if name not in ours:
                        members.append((name, _make_member(name, value, ascii_only=False)))
            except Exception:  # anybody's objects, anybody's exceptions
                members = [(REJECTED_TEXT, _make_member(REJECTED_TEXT, show(row, _LONGEST_REPR)))]
        elif not isinstance(row, UnreadableRow):
            members = [(REJECTED_TEXT, _make_member(REJECTED_TEXT, show(row, _LONGEST_REPR)))]
        stream.write(_make_line(line, kind, reason, members))
        written += 1
    return written


def _make_text(value: Any) -> str:
    # As it would be sent; what cannot be sent must not become text that can.
    if isinstance(value, date) and value == value:
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    raise TypeError


def _make_line(line: int, kind: str, reason: str, members: list[tuple[str, str]]) -> str:
    added = zip(REJECTED, (line, kind, _one_line(reason)), strict=True)
    return (
        "{"
        + ", ".join([*(_make_member(*pair) for pair in added), *(member for _, member in members)])
        + "}\n"
    )


def _write_parquet(source: ParquetSource, rejects: Callable[[], Iterable[Reject]], out: BinaryIO) -> int:
    arrow, parquet = (need(module, "parquet", source.name) for module in ("pyarrow", "pyarrow.parquet"))
    written = 0
    with source.open_parquet() as file:
        names = file.schema_arrow.names
        dropped = set(REJECTED) if set(REJECTED) <= set(names) else set()
        kept = [index for index, name in enumerate(names) if name not in dropped]
        types = (arrow.int64(), arrow.string(), arrow.string())
        added = [arrow.field(name, kind) for name, kind in zip(REJECTED, types, strict=True)]
        schema = arrow.schema([*added, *(file.schema_arrow.field(index) for index in kept)])
        with parquet.ParquetWriter(out, schema) as writer:
            found = source.take(file, array("Q", (line for line, _, _ in rejects())))
            waiting = iter(rejects())
            for lines, rows in found:
                _, kinds, texts = zip(*islice(waiting, len(lines)), strict=True)
                columns = (lines, kinds, [_one_line(text) for text in texts])
                arrays = [arrow.array(values, kind) for values, kind in zip(columns, types, strict=True)]
                arrays += [rows.column(index) for index in kept]
                writer.write_batch(arrow.RecordBatch.from_arrays(arrays, schema=schema))
                written += len(lines)
    return written


class _Encoded:
    """A stream for text; what the encoding lacks (in a reason, never in a row's own values) is escaped."""

    def __init__(self, out: BinaryIO, encoding: str) -> None:
        self._out = out
        self._encoder = codecs.getincrementalencoder(encoding)("backslashreplace")

    def write(self, text: str) -> None:
        self._out.write(self._encoder.encode(text))


@contextmanager
def _packed(out: BinaryIO, name: str) -> Iterator[BinaryIO]:
    if name.lower().endswith(".gz"):
        with gzip.GzipFile(filename="", mode="wb", fileobj=out) as stream:
            yield cast(BinaryIO, stream)
    elif name.lower().endswith(".zst"):
        with need("zstandard", "zstd", name).ZstdCompressor().stream_writer(out, closefd=False) as stream:
            yield cast(BinaryIO, stream)
    else:
        yield out


def _one_line(reason: str) -> str:
    return " ".join(reason.split())
