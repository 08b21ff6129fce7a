"""
The records of a delimited file: where each begins, its cells, and what is wrong with it.

Rule: a quote that is opened by mistake must not swallow rows without a word.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Iterator
from contextlib import suppress
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, BinaryIO, Protocol

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields, clean_name
from airflow_provider_scantrust.sources.text import LONGEST_LINE, TextLines, count_lines

if TYPE_CHECKING:
    from collections.abc import Sequence

DELIMITERS = ",;\t|"

# One record spans so many lines only when a quote is not closed: then it has swallowed others.
_MOST_LINES = 1000
_SAMPLE = 25
_SEP = re.compile(r'"?sep=(.)"?\s*', re.IGNORECASE)


class Dialect(Protocol):
    """What is known of a delimited file before it is read."""

    name: str
    encoding: str | None
    delimiter: str | None
    quotechar: str
    skip_rows: int
    fields: Fields


class Records:
    """
    One reading of a delimited file; iterated once, it returns line, cells, and what is wrong with them or None.

    :param keep_text: Keep each record's text, so that records which are not valid CSV have their cells as they stand.
    :raises InvalidInput: The file is empty or not text.
    """

    def __init__(self, source: Dialect, raw: BinaryIO, *, keep_text: bool = False) -> None:
        # The limit is one for the whole process: it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        self.notes: list[str] = []
        self._source = source
        self._name = source.name
        self._text = TextLines(source.name, raw, source.encoding)
        self.encoding = self._text.encoding
        lines = iter(self._text)
        self._above = sum(1 for _ in islice(lines, source.skip_rows))
        sample = list(islice(lines, _SAMPLE))
        delimiter = source.delimiter
        if sample and (found := _SEP.fullmatch(sample[0])):
            delimiter = delimiter or found[1]
            self._above += 1
            del sample[0]
        self.delimiter = delimiter or find_delimiter(sample, source.quotechar, source.fields)
        self.line_end = next(
            (end for end in ("\r\n", "\n", "\r") if sample and sample[0].endswith(end)), "\n"
        )
        # What csv calls the dialect.
        self.dialect: dict[str, Any] = {
            "delimiter": self.delimiter,
            "quotechar": source.quotechar or None,
            "quoting": csv.QUOTE_MINIMAL if source.quotechar else csv.QUOTE_NONE,
        }
        self._sample = sample
        self._kept: list[str] = []
        feed: Iterable[str] = chain(sample, lines)
        self._reader = csv.reader(self._keep(feed) if keep_text else feed, strict=True, **self.dialect)
        self.header: list[str] = []

    def read_fields(self) -> list[str | None]:
        """
        Read the header, and return the field of each column.

        :raises InvalidInput: There is no header, or it does not fit.
        """
        try:
            header = next((cells for cells in self._reader if not _is_empty(cells)), None)
        except csv.Error as error:
            raise InvalidInput(f"{self._name}: the header is not valid CSV: {error}.") from error
        if header is None:
            raise InvalidInput(f"{self._name}: the file is empty; its first line must name the columns.")
        if any("\0" in name for name in header):
            raise InvalidInput(
                f"{self._name}: the header holds NUL characters. If this is a text file, give its encoding, "
                "for example encoding='utf-16-le'."
            )
        self.header = header
        below = _parse(self._sample[self._reader.line_num :], self.dialect)
        about = f" (delimiter {self.delimiter!r}, encoding {self.encoding})"
        return self._source.fields.of_header(header, self._name, about=about, below=below)

    def __iter__(self) -> Iterator[tuple[int, list[str], str | None]]:
        """
        Return the records.

        :raises InvalidInput: The file is truncated or damaged after the line named.
        """
        reader, width, text = self._reader, len(self.header), self._text
        repeated = 0
        key = self._source.fields.key_column(self.header)
        while True:
            line = reader.line_num + 1
            text.letters_read = text.letters
            self._kept.clear()
            try:
                cells = next(reader, None)
            except csv.Error as error:
                yield line + self._above, self._split_text(), self._explain(line, error)
                continue
            if cells is None:
                break
            if len(cells) == width and reader.line_num == line and not text.has_nul:
                if (cells[0] and not cells[0].isspace()) or not _is_empty(cells):
                    if cells == self.header:
                        repeated += 1
                    else:
                        yield line + self._above, cells, None
                continue
            yield from self._look_at(line, cells, key)
        if repeated:
            self.notes.append(f"{self._name}: {repeated} more header line{'s' * (repeated > 1)} skipped.")
        if not text.ends_with_line_end:
            self.notes.append(
                f"{self._name}: the last line has no line end. If the file was cut there, its last value is incomplete."
            )

    def _look_at(
        self, line: int, cells: list[str], key: int | None
    ) -> Iterator[tuple[int, list[str], str | None]]:
        """Return a record that is not simply one line with all its cells."""
        width, last = len(self.header), self._reader.line_num
        if _is_empty(cells):
            return
        start = line + self._above
        if len(cells) != width:
            if len(cells) < width and not self._text.ends_with_line_end:
                raise InvalidInput(
                    f"{self._name}, line {start}: the file is truncated: its last row has {len(cells)} of {width} cells "
                    "and no line end."
                )
            yield start, cells, f"it has {len(cells)} cells, and the header has {width} columns"
            return
        if self._text.has_nul and any("\0" in cell for cell in cells):
            yield start, cells, "it holds a NUL character"
            return
        # Blank lines above a record belong to it as csv counts, and its own cells have the other line ends.
        start += last - line - sum(map(count_lines, cells))
        rows = self._swallowed(cells, key) if last > line else []
        if not rows:
            yield start, cells, None
        for place, row in enumerate(rows):
            yield (
                start + place,
                [*row, ""],
                f"a quote that opens in line {start} closes in line {last + self._above}, and the lines between look like rows. "
                'If quotes are inch marks, set quotechar=""',
            )

    def _swallowed(self, cells: list[str], key: int | None) -> list[list[str]]:
        """Return the rows that a quote has made one, or nothing for a record whose cells hold line ends."""
        lines = re.split(r"\r\n|\r|\n", self.delimiter.join(cells))
        rows = [text.split(self.delimiter) for text in lines]
        place = key or 0
        own = _shape(rows[0][place]) if len(rows[0]) > place else ""
        alike = [len(row) == len(cells) and _shape(row[place]) == own for row in rows[1:]]
        return rows if own and any(alike) else []

    def _explain(self, line: int, error: csv.Error) -> str:
        """
        Return what is wrong with text that is not valid CSV.

        :raises InvalidInput: It has swallowed what comes after it.
        """
        last = self._reader.line_num
        # After a cell that is too long the rest of its lines would be taken for rows.
        swallows = last > line and "field limit" in str(error)
        if self._text.ended or swallows or last - line >= _MOST_LINES:
            raise InvalidInput(
                f"{self._name}, line {line + self._above}: the record that begins here has not ended by line "
                f"{last + self._above} ({error}). A quote is not closed, or the file is truncated."
            ) from error
        where = f" (lines {line + self._above} to {last + self._above})" if last > line else ""
        return f"it is not valid CSV: {error}{where}"

    def _split_text(self) -> list[str]:
        """Return the cells of text that is not valid CSV, character by character as they stand."""
        cells = "".join(self._kept).rstrip("\r\n").split(self.delimiter)
        # Never as many as there are columns, or the row would pass as a good one when it is uploaded unchanged.
        return [*cells, ""] if len(cells) == len(self.header) else cells

    def _keep(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._kept.append(line)
            yield line


def find_delimiter(sample: Sequence[str], quote: str, fields: Fields) -> str:
    """
    Return the delimiter that fits header and first rows.

    The key among the names counts most, then how many rows have as many cells as the header, then their number; on a tie
    the comma comes last, since it also stands inside numbers and names.
    """

    def fit(delimiter: str) -> tuple[bool, float, int, bool]:
        dialect = {
            "delimiter": delimiter,
            "quotechar": quote or None,
            "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        }
        header, *rows = _parse(sample, dialect) or [[]]
        names = {fields.columns.get(name, name) for name in map(clean_name, header)}
        fitting = sum(len(row) == len(header) for row in rows) / len(rows) if rows else 1.0
        return fields.data_key in names, fitting, len(header), delimiter != ","

    head = next((line for line in sample if line.strip()), "")
    found = [delimiter for delimiter in DELIMITERS if delimiter in head and delimiter != quote]
    return max(found, key=fit, default=",")


def _parse(lines: Sequence[str], dialect: dict[str, Any]) -> list[list[str]]:
    """Return the records of some lines, as far as they can be read."""
    records: list[list[str]] = []
    with suppress(csv.Error):
        records.extend(cells for cells in csv.reader(lines, **dialect) if not _is_empty(cells))
    return records


def _is_empty(cells: Sequence[str]) -> bool:
    """Whether nothing stands in a row; a lone Ctrl-Z ends files of old systems."""
    return not "".join(cells).strip(" \t\r\n\v\f\x1a\u00a0")


def _shape(text: str) -> str:
    """Return what keys of one kind have in common: runs of letters and of digits."""
    text = re.sub(r"[^\W\d_]+", "a", text.strip().strip('"'))
    return re.sub(r"\d+", "0", text)
