"""
Tables in text files: CSV with any of the usual delimiters, TSV.

Rule: a quote that was opened by mistake must not hide rows without a message.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from itertools import chain, compress, islice
from typing import Any, BinaryIO

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields, Row, UnreadableRow, clean_name
from airflow_provider_scantrust.sources.tables import FileSource
from airflow_provider_scantrust.sources.text import LONGEST_LINE, TextLines

DELIMITERS = ",;\t|"
# A record of more lines than this has a quote that is not closed, and contains other records.
_MOST_LINES = 1000
_SAMPLE = 25
_LONG_ID = 8
_MARK = "\ufeff"
# Line ends of EBCDIC, Unicode and ASCII that CSV does not know: the rows would be part of the header.
_OTHER_ENDS = re.compile("[\x1c-\x1e\x85\u2028\u2029]")
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class DelimitedSource(FileSource):
    """
    A CSV or TSV file; its first line names the columns.

    Every value stays text, unchanged; an empty cell is "", which clears the field at Scantrust. Empty rows
    are skipped. A quote inside quotes must be doubled. Without a delimiter, it is the one of ``,`` ``;`` tab
    and ``|`` that fits the header and the first rows.
    """

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        records = Records(self, self.open())
        names = [field for field in records.fields if field is not None]
        kept = None if len(names) == len(records.fields) else [field is not None for field in records.fields]
        for line, cells, problem in records:
            if problem is not None:
                yield line, UnreadableRow(problem)
                continue
            if kept is not None:
                cells = list(compress(cells, kept))
            # It is known that there are as many cells as names; another check would take a third of the time.
            yield line, dict(zip(names, cells))  # noqa: B905
        self.notes += records.notes

    def rejected_records(self) -> Records:
        return Records(self, self.reopen())


class Records:
    """
    One reading of a delimited file. Iterated once, it returns line, cells, and what is wrong or None.

    :raises InvalidInput: The file is empty, not text, truncated or damaged, or its header does not fit.
    """

    def __init__(self, source: FileSource, raw: BinaryIO) -> None:
        # This limit is global for the process, so it is only raised, never lowered.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        self.notes: list[str] = []
        self._source, self._name, self._quote = source, source.name, source.quotechar
        self._text = TextLines(source.name, raw, source.encoding)
        self.encoding = self._text.encoding
        lines = iter(self._text)
        self._above = sum(1 for _ in islice(lines, source.skip_rows))
        self._sample = sample = list(islice(lines, _SAMPLE))
        if not sample and self._above:
            raise InvalidInput(
                f"{source.name}: the file has {plural(self._above, 'line')}, and skip_rows={source.skip_rows} skips all of them."
            )
        # The line that tells the delimiter, as Excel writes it.
        self.sep = ""
        if sample and (found := _SEP.fullmatch(sample[0])):
            self.sep = found[1]
            self._above += 1
            del sample[0]
        self.delimiter = (
            source.delimiter or self.sep or _find_delimiter(sample, source.quotechar, source.fields)
        )
        self.line_end = next(
            (end for end in ("\r\n", "\n", "\r") if sample and sample[0].endswith(end)), "\n"
        )
        self.dialect = _make_dialect(self.delimiter, source.quotechar)
        self._kept = self._text.record
        self._reader = csv.reader(self._keep(chain(sample, lines)), strict=True, **self.dialect)
        self.header = self._read_header()
        # The field of each column.
        self.fields = self._find_fields()
        # Values over several lines that may contain rows: how many, and the line of the first.
        self._doubtful, self._first_doubtful = 0, 0

    def _read_header(self) -> list[str]:
        try:
            header = next((cells for cells in self._reader if not _is_empty(cells)), None)
        except csv.Error as error:
            # As in "extended_id"~"lot".
            between = re.match(r'"[^"\n]*"([^\s"])"', self._sample[0])
            advice = (
                f" If {between[1]!r} stands between the cells, give delimiter={between[1]!r}."
                if between
                else ""
            )
            raise InvalidInput(f"{self._name}: the header is not valid CSV: {error}.{advice}") from error
        if header is None:
            raise InvalidInput(f"{self._name}: the file is empty; its first line must name the columns.")
        if any("\0" in name for name in header):
            raise InvalidInput(
                f"{self._name}: the header holds NUL characters. If this is a text file, give its encoding, "
                "for example encoding='utf-16-le'."
            )
        if found := _OTHER_ENDS.search("".join(header)):
            raise InvalidInput(
                f"{self._name}: the header holds {found[0]!r}. If it ends the lines, convert them to \\n; if not, check encoding=."
            )
        quote = self._quote
        if quote and (
            odd := [name for name in header if name.strip()[1:].endswith(quote) and name.strip()[0] == quote]
        ):
            self.notes.append(
                f"{self._name}: the name {odd[0].strip()!r} holds quotes. If blanks stand before the quotes, remove them: such "
                "quotes are part of the value."
            )
        return header

    def _find_fields(self) -> list[str | None]:
        first = self._reader.line_num
        below = _parse(self._sample[first:], self.dialect, self._above + first)
        about = f" (delimiter {self.delimiter!r}, encoding {self.encoding})"
        return self._source.fields.of_header(self.header, self._name, about=about, below=below)

    def __iter__(self) -> Iterator[tuple[int, list[str], str | None]]:
        reader, header, text, kept = self._reader, self.header, self._text, self._kept
        width, above = len(header), self._above
        key = self._source.fields.key_column(header) or 0
        names = _spellings(header)
        repeated = 0
        is_read = after_error = False
        while not is_read:
            line = reader.line_num + 1
            kept.clear()
            try:
                for cells in reader:
                    last = reader.line_num
                    if after_error and len(cells) == width and self._has_odd_quotes():
                        reason = "it holds the end of a quote that the row before it opens"
                        yield line + above, self._misfit(cells), reason
                    elif (
                        last != line
                        or len(cells) != width
                        or text.has_nul
                        or (not cells[0].strip() and _is_empty(cells))
                    ):
                        yield from self._look_at(line + above, cells)
                    elif cells[key].lower() in names and self._is_header(line + above, cells):
                        repeated += 1
                    else:
                        yield line + above, cells, None
                    line = last + 1
                    after_error = False
                    kept.clear()
                is_read = True
            except csv.Error as error:
                yield from self._look_at_error(line + above, error)
                after_error = True
        if repeated:
            self.notes.append(f"{self._name}: {plural(repeated, 'more header line')} skipped.")
        if self._doubtful:
            self.notes.append(
                f"{self._name}: lines inside quotes have as many cells as a row, in {plural(self._doubtful, 'row')}, first "
                f'in line {self._first_doubtful}. If quotes are inch marks, set quotechar="".'
            )
        if text.cut_line is not None:
            self.notes.append(
                f"{self._name}: the last line has no line end. If the file was cut there, its last value is incomplete."
            )

    def _is_header(self, line: int, cells: list[str]) -> bool:
        return self._source.fields.repeats_header(cells, self.header, f"{self._name}, line {line}")

    def _look_at(self, line: int, cells: list[str]) -> Iterator[tuple[int, list[str], str | None]]:
        """Return a record that is more than one line, or does not have all its cells."""
        width, last = len(self.header), self._last_line()
        if _is_empty(cells):
            return
        if len(cells) < width and self._text.cut_line == last:
            raise InvalidInput(
                f"{self._name}, line {line}: the file is truncated: its last row has {len(cells)} of {width} cells and no line "
                "end."
            )
        if last > line and self._looks_like_rows():
            yield from self._split(line, "a quote opens in it and closes in another")
        elif len(cells) != width:
            reason = f"it has {len(cells)} cells{self._where(line)}, and the header has {width} columns"
            yield line, cells, reason
        else:
            if any(len(self._cells_of(text)) == width for text in self._kept[1:]):
                self._first_doubtful = self._first_doubtful or line
                self._doubtful += 1
            has_nul = self._text.has_nul and any("\0" in cell for cell in cells)
            yield line, cells, "it holds a NUL character" if has_nul else None

    def _look_at_error(self, line: int, error: csv.Error) -> Iterator[tuple[int, list[str], str | None]]:
        """Return text that is not valid CSV; refuse the file if the text contains the records after it."""
        last = self._last_line()
        # After a cell that is too long, its remaining lines would be read as rows.
        is_open = "unexpected end of data" in str(error) or (last > line and "field limit" in str(error))
        if not is_open and last > line and self._looks_like_rows():
            yield from self._split(line, f"it is not valid CSV: {error}")
        elif is_open or last - line >= _MOST_LINES:
            raise InvalidInput(
                f"{self._name}, line {line}: the record that begins here has not ended by line {last} ({error}). A quote is not "
                'closed, or the file is truncated. If quotes are inch marks, set quotechar="".'
            ) from error
        else:
            text = "".join(self._kept)
            advice = "; double the quotes inside quotes, a backslash does not protect them" * ('\\"' in text)
            reason = f"it is not valid CSV: {error}{self._where(line)}{advice}"
            yield line, self._misfit(self._cells_of(text)), reason

    def _has_odd_quotes(self) -> bool:
        return bool(self._quote and sum(text.count(self._quote) for text in self._kept) % 2)

    def _split(self, line: int, problem: str) -> Iterator[tuple[int, list[str], str]]:
        """Return the rows that a quote has joined into one, each unchanged but with one cell too many."""
        reason = (
            f"{problem}; lines {line} to {line + len(self._kept) - 1} were read as one row, and they look like several. "
            'If quotes are inch marks, set quotechar=""'
        )
        for place, text in enumerate(self._kept):
            cells = self._cells_of(text)
            if not _is_empty(cells):
                yield line + place, self._misfit(cells), reason

    def _misfit(self, cells: list[str]) -> list[str]:
        """Return cells, never as many as columns: the row must not be accepted if it is uploaded unchanged."""
        return [*cells, ""] if len(cells) == len(self.header) else cells

    def _looks_like_rows(self) -> bool:
        """Whether a line inside this record has as many cells as a row, and a key like the record's own."""
        key = self._source.fields.key_column(self.header) or 0
        own, *others = (self._key_in(text, key) for text in self._kept)
        return own is not None and any(other is not None and _are_alike(own, other) for other in others)

    def _key_in(self, text: str, place: int) -> str | None:
        for cells in (self._cells_of(text), next(csv.reader([text], **self.dialect), [])):
            if len(cells) == len(self.header):
                return cells[place].strip().strip(self._quote)
        return None

    def _cells_of(self, text: str) -> list[str]:
        return text.rstrip("\r\n").split(self.delimiter)

    def _last_line(self) -> int:
        return self._reader.line_num + self._above

    def _where(self, line: int) -> str:
        last = self._last_line()
        return f" (lines {line} to {last})" if last > line else ""

    def _keep(self, lines: Iterable[str]) -> Iterator[str]:
        keep = self._kept.append
        for line in lines:
            # Of files that were joined; before a quote it would make the quote a part of the cell.
            if line[0] == _MARK and not self._kept:
                line = line.lstrip(_MARK)
            keep(line)
            yield line


def _are_alike(one: str, other: str) -> bool:
    """Whether two texts look like keys of the same kind."""
    if not one or not other or abs(len(one) - len(other)) > 1:
        return False
    kinds = [{_kind(letter) for letter in text} for text in (one, other)]
    # One of two long random ids may have only lower-case or only upper-case letters.
    return kinds[0] == kinds[1] or (len(one) >= _LONG_ID and all("0" in kind for kind in kinds))


def _kind(letter: str) -> str:
    if letter.isdigit():
        return "0"
    return ("a" if letter.islower() else "A") if letter.isalpha() else letter


def _spellings(header: Sequence[str]) -> set[str]:
    """Return what a name of the header may look like, in lower case, where the header stands again."""
    names = {spelled.lower() for name in header for spelled in (name, clean_name(name))}
    # A form feed or a Ctrl-Z may be left between files that were joined.
    return {
        f"{before}{name}{after}"
        for name in names
        for before in ("", " ", "\f", "\x1a")
        for after in ("", " ")
    }


def _find_delimiter(sample: Sequence[str], quote: str, fields: Fields) -> str:
    """
    Return the delimiter that fits the header and the first rows.

    What counts, in this order: the key is among the names, also below a title; how many rows have as many
    cells as the header; the number of cells. On a tie the comma loses: numbers and names have commas, too.
    """

    def fit(delimiter: str) -> tuple[bool, bool, float, int, bool]:
        records = [cells for _, cells in _parse(sample, _make_dialect(delimiter, quote), 0)] or [[]]
        header, *rows = records
        names = {fields.columns.get(name, name) for name in map(clean_name, header)}
        is_near = any(fields.resembles_key(cell) for cells in records for cell in cells)
        fitting = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0
        return fields.data_key in names, is_near, fitting, len(header), delimiter != ","

    text = "".join(sample)
    # The comma also stands for a single column, whose values may hold any of the others.
    found = [mark for mark in DELIMITERS if (mark in text or mark == ",") and mark != quote]
    return max(found, key=fit, default=",")


def _make_dialect(delimiter: str, quote: str) -> dict[str, Any]:
    quoting = csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE
    return {"delimiter": delimiter, "quotechar": quote or None, "quoting": quoting}


def _parse(lines: Sequence[str], dialect: dict[str, Any], above: int) -> list[tuple[int, list[str]]]:
    """Return the readable records of some lines, each with the number of lines above it."""
    reader = csv.reader(lines, **dialect)
    records: list[tuple[int, list[str]]] = []
    with suppress(csv.Error):
        while True:
            start = above + reader.line_num
            if (cells := next(reader, None)) is None:
                break
            if not _is_empty(cells):
                records.append((start, cells))
    return records


def _is_empty(cells: Sequence[str]) -> bool:
    """Whether a row is empty; a single Ctrl-Z, the end of a file on old systems, is empty, too."""
    return not "".join(cells).strip(" \t\r\n\v\f\x1a\u00a0")
