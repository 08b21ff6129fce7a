"""
The rejects file: the rows that were not uploaded, each with its line and the reason, ready to be fixed.

Rule: no value changes its meaning in this file. A row that is uploaded again without a fix is rejected again.
"""

from __future__ import annotations

import codecs
import csv
import gzip
import re
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any, BinaryIO, TypeVar, cast

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.delimited import DELIMITERS, DelimitedSource
from airflow_provider_scantrust.sources.excel import EXCEL_FORMATS, ExcelSource
from airflow_provider_scantrust.sources.fields import REJECTED
from airflow_provider_scantrust.sources.jsonlines import JsonLinesSource
from airflow_provider_scantrust.sources.members import Member, make_member, members_of_text, write_line
from airflow_provider_scantrust.sources.opening import find_format
from airflow_provider_scantrust.sources.parquet import ParquetSource
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.sources.tables import Source, need
from airflow_provider_scantrust.uploads.options import RejectsFile
from airflow_provider_scantrust.uploads.plan import Plan
from airflow_provider_scantrust.uploads.report import make_example
from airflow_provider_scantrust.uploads.run import UNMATCHED

T = TypeVar("T")

# Line, kind and reason; lines rise.
Reject = tuple[int, str, str]


def rejects_format(format: str) -> str:
    """Return the format in which the rejects of a source are written."""
    if format == "parquet":
        return "jsonl"
    return "csv" if format in EXCEL_FORMATS else format


def check_rejects_name(name: str, format: str, delimiter: str | None = None) -> None:
    """
    Refuse a name that does not fit the rejects of a source, before anything is sent.

    :param delimiter: The source's delimiter, if the user gave one.
    :raises ConfigurationError: The name ends like another format, or its compression cannot be written.
    """
    said, written = find_format(name), rejects_format(format)
    # A reader finds tabs in a file of any name, but expects nothing else in a TSV file. So a TSV file gets
    # tabs.
    fits = {said, written} <= {"csv", "tsv"} and (said == "csv" or delimiter in (None, "\t", "\\t"))
    if said not in (None, written) and not fits:
        raise ConfigurationError(
            f"{name}: the rejects of a source in the format {format} are written as {written}, but the name says {said}. "
            f"Give a name that ends in .{written}."
        )
    if name.lower().endswith(".zip"):
        raise ConfigurationError(f"{name}: rejects are packed as .gz or .zst, not as .zip.")
    if name.lower().endswith(".zst"):
        need("zstandard", "zstd", name)


def write_rejects(
    source: Source, rejects: Iterable[Reject], out: BinaryIO, *, name: str, header: bool = True
) -> None:
    """
    Write the rows that were not uploaded, from the copy that the source kept.

    Encoding, delimiter, columns and values are the source's; a file named TSV has tabs. The columns
    ``rejected_line``, ``rejected_kind`` and ``rejected_reason`` come first. The rejects of Parquet are JSON
    lines, those of a sheet are CSV. Only one reject is in memory at a time.

    :param source: Read to its end, or as far as it could be read, with ``keep_copy``.
    :param rejects: Line, kind and reason of each reject, ordered by line.
    :param out: Stays open.
    :param name: The file's name, which :func:`check_rejects_name` has accepted; with the ending ``.gz`` or
        ``.zst``, the file is compressed.
    :param header: Begin a file; without it, the rows can be added to one.
    :raises ConfigurationError: No copy was kept.
    """
    with packed(out, name) as stream:
        if isinstance(source, DelimitedSource):
            # If the user gave a delimiter, the fixed file will be read with it, too.
            tabs = source.delimiter is None and find_format(name) == "tsv"
            _write_delimited(source, rejects, stream, tabs=tabs, header=header)
        elif isinstance(source, ExcelSource):
            writer = csv.writer(_encoded(stream, "utf-8"), quoting=csv.QUOTE_ALL, lineterminator="\n")
            found = _matched(source.rejected_rows(), rejects)
            _write_table(source.header, found, writer.writerow, header=header)
        elif isinstance(source, JsonLinesSource):
            lines = source.rejected_lines()
            rows = ((line, members_of_text(text)) for line, text in enumerate(lines, start=1))
            _write_members(rows, rejects, _encoded(stream, lines.encoding, begins=header))
        elif isinstance(source, ParquetSource):
            _write_members(source.rejected_members(), rejects, _encoded(stream, "utf-8"))
        elif isinstance(source, RowSource):
            numbered = enumerate(source.rejected_members(), start=1)
            _write_members(numbered, rejects, _encoded(stream, "utf-8"))
        else:
            raise TypeError(f"{type(source).__name__} is not a source whose rejects can be written")


def write_keys(keys: Sequence[str], reason: str, out: BinaryIO, *, name: str, data_key: str) -> None:
    """Write keys that matched no code, for rows that cannot be read again; see :func:`write_rejects`."""
    format = find_format(name)
    with packed(out, name) as stream:
        text = _encoded(stream, "utf-8")
        if format in ("csv", "tsv"):
            delimiter = "\t" if format == "tsv" else ","
            writer = csv.writer(text, delimiter=delimiter, quoting=csv.QUOTE_ALL, lineterminator="\n")
            _write_table([data_key], (("", [key], "unmatched", reason) for key in keys), writer.writerow)
        else:
            for key in keys:
                text.write(write_line("", "unmatched", reason, [(data_key, make_member(data_key, key))]))


def add_late_rejects(
    file: RejectsFile,
    wanted: Mapping[int, list[str]],
    *,
    read: Callable[[], tuple[Source, Plan]],
    data_key: str,
    log: Log,
) -> None:
    """
    Add rows of jobs that matched no code to the rejects file of the upload, or write one.

    No error here fails an upload that has ended.

    :param wanted: Number of a call -> the keys that matched no code; of a long key, only the beginning.
    :param read: Returns what was uploaded; after a deferral, it reads the source once more, and raises if that
        cannot be read as it was uploaded.
    """
    rows = sum(map(len, wanted.values()))
    try:
        source, plan = read()
        plan.spool.forget_rejects()
        found = [plan.spool.reject(key, "unmatched", UNMATCHED) for key in find_keys(plan, data_key, wanted)]
        if missing := rows - len(found):
            log.warning(
                "%s of jobs matched no code, but it is not known which. They are counted, and are not in the rejects file.",
                plural(missing, "row"),
            )

        def write(out: BinaryIO, header: bool) -> None:
            write_rejects(source, plan.spool.rejects(), out, name=file.path, header=header)

        log.warning("Rows of jobs that matched no code were added to %s.", file.append(write))
        return
    except Exception as error:  # the file, the service or the program may be gone
        keys = [example for examples in wanted.values() for example in examples if example]
        log.warning(
            "%s of jobs matched no code. The source cannot be read as it was uploaded (%.200s), so only the known keys "
            "(%s) are written.",
            plural(rows, "row"),
            error,
            len(keys),
        )
    if not keys:
        return
    others = f"; the rows that were rejected before are in {file.mine['path']}" if file.mine else ""
    try:
        path = file.write(
            lambda out: write_keys(keys, UNMATCHED, out, name=file.path, data_key=data_key), beside=True
        )
    except Exception as error:  # as above
        log.warning("The keys cannot be written to %s (%s).", file.path, type(error).__name__)
    else:
        log.warning("The keys are in %s%s.", path, others)


def find_keys(plan: Plan, data_key: str, wanted: Mapping[int, list[str]]) -> Iterator[str]:
    """
    Return the whole keys of jobs that had a single key.

    Such a job may come from a larger call that timed out (504) and whose other rows got an answer. If several
    keys of that call begin with the same eighty characters, the job's key is not known and is left out.

    :param wanted: Number of a call -> the beginnings of the keys.
    """
    total = range(plan.sync_calls + plan.jobs)
    for call in plan.calls(skip=set(total).difference(wanted)):
        if call.is_job and call.keys == 1:
            yield str(call.as_rows(data_key)[0][data_key])
            continue
        beginnings: dict[str, list[str]] = {}
        for row in call.as_rows(data_key):
            beginnings.setdefault(make_example(row[data_key]), []).append(row[data_key])
        for example in wanted[call.number]:
            if len(beginnings.get(example, ())) == 1:
                yield beginnings[example][0]


def _matched(rows: Iterable[tuple[int, T]], rejects: Iterable[Reject]) -> Iterator[tuple[int, T, str, str]]:
    """Return the rejected rows of a source, each with kind and reason; both inputs are ordered by line."""
    waiting = iter(rejects)
    rejected = next(waiting, None)
    for line, row in rows:
        while rejected is not None and rejected[0] < line:
            rejected = next(waiting, None)
        if rejected is None:
            return
        if rejected[0] == line:
            yield line, row, *rejected[1:]


def _write_delimited(
    source: DelimitedSource, rejects: Iterable[Reject], out: BinaryIO, *, tabs: bool, header: bool
) -> None:
    records = source.rejected_records()
    # Every cell is quoted, so that a delimiter inside a reason cannot mislead the reader.
    quoting = csv.QUOTE_ALL if source.quotechar else csv.QUOTE_NONE
    delimiter = "\t" if tabs else records.delimiter
    dialect = {"delimiter": delimiter, "lineterminator": records.line_end, "quoting": quoting}
    stream = _encoded(out, records.encoding, begins=header)
    if header and records.sep == delimiter and delimiter not in DELIMITERS:
        stream.write(f"sep={delimiter}{records.line_end}")
    writer = csv.writer(stream, **{**records.dialect, **dialect})
    rows = ((line, cells) for line, cells, _ in records)

    def write(cells: list[Any]) -> None:
        if not source.quotechar:
            # Without quotes, a delimiter or a line end would cut the cell in two.
            cells = [re.sub(f"[{re.escape(delimiter)}\r\n]", " ", str(cell)) for cell in cells]
        writer.writerow(cells)

    _write_table(records.header, _matched(rows, rejects), write, header=header)


def _write_table(
    names: list[str],
    found: Iterable[tuple[Any, list[str], str, str]],
    write: Callable[[list[Any]], object],
    *,
    header: bool = True,
) -> None:
    # A rejects file that is uploaded again already has these columns.
    dropped = set(REJECTED) if set(REJECTED) <= set(names) else set()
    kept = [name not in dropped for name in names]
    if header:
        write([*REJECTED, *_select(names, kept)])
    for line, cells, kind, reason in found:
        write([line, kind, " ".join(reason.split()), *_select(cells, kept)])


def _select(cells: list[str], kept: list[bool]) -> list[str]:
    """Return the cells of the columns to keep, and cells without a column."""
    if len(cells) < len(kept) and not all(kept):
        # It is not known which cells are missing, so all cells stay. The row must not look complete.
        return [*cells, ""] if len(cells) == sum(kept) else cells
    chosen = [cell for cell, keep in zip(cells, kept, strict=False) if keep]
    return chosen + cells[len(kept) :]


def _write_members(
    rows: Iterable[tuple[int, list[Member]]], rejects: Iterable[Reject], out: codecs.StreamWriter
) -> None:
    for line, members, kind, reason in _matched(rows, rejects):
        out.write(write_line(line, kind, reason, members))


def _encoded(out: BinaryIO, encoding: str, *, begins: bool = True) -> codecs.StreamWriter:
    """Return a text stream that escapes what the encoding lacks; only a reason has such characters, never a value."""
    stream = codecs.getwriter(encoding)(out, "backslashreplace")
    if not begins:
        # A byte order mark is for the beginning of a file.
        stream.encode("")
    return stream


@contextmanager
def packed(out: BinaryIO, name: str) -> Iterator[BinaryIO]:
    """Return a stream that compresses what it writes, as the file's name says."""
    if name.lower().endswith(".gz"):
        with gzip.GzipFile(filename="", mode="wb", fileobj=out) as stream:
            yield cast(BinaryIO, stream)
    elif name.lower().endswith(".zst"):
        with need("zstandard", "zstd", name).ZstdCompressor().stream_writer(out, closefd=False) as stream:
            yield cast(BinaryIO, stream)
    else:
        yield out
