"""Tables in text files: CSV with any of the usual delimiters, TSV."""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import chain, islice, repeat
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources.tables import Batch, Columns, Fields, Row, Source, UnreadableRow
from airflow_provider_scantrust.sources.text import (
    LONGEST_LINE,
    TextLines,
    check_encoding,
    count_lines,
    split_lines,
)

DELIMITERS = ",;\t|"

# One record spans so many lines only when a quote is not closed: then it has swallowed others.
_MOST_LINES = 1000
_AT_ONCE = 500


class DelimitedSource(Source):
    """
    A CSV or TSV file; its first line names the columns.

    Every value stays the text that it is; an empty cell is "", which clears the field at Scantrust. Lines without
    anything in them are skipped. Quotes are doubled inside quotes.

    :param open_file: Opens the file anew for each reading.
    :param encoding: None to go by the byte order mark, or else utf-8.
    :param delimiter: None to take the one that the header has most of, out of ``,`` ``;`` tab and ``|``.
    :param quotechar: Of CSV; "" when nothing is quoted.
    :raises ConfigurationError: The encoding, the delimiter or the quote cannot be one.
    """

    def __init__(
        self,
        name: str,
        open_file: Callable[[], BinaryIO],
        fields: Fields,
        *,
        format: str = "csv",
        encoding: str | None = None,
        delimiter: str | None = None,
        quotechar: str = '"',
    ) -> None:
        check_encoding(encoding)
        if delimiter == "\\t" or (delimiter is None and format == "tsv"):
            delimiter = "\t"
        if delimiter is not None and (
            not isinstance(delimiter, str) or not re.fullmatch(r'[^"\w\r\n\0]', delimiter)
        ):
            raise ConfigurationError(
                f"delimiter={delimiter!r} must be one character, and neither quote, line end, letter nor digit."
            )
        if (
            not isinstance(quotechar, str)
            or not re.fullmatch(r"[^\s\0]?", quotechar)
            or quotechar == delimiter
        ):
            raise ConfigurationError(
                f"quotechar={quotechar!r} must be one character and not the delimiter, or empty when nothing is quoted."
            )
        self.name = name
        self.format = format
        self.fields = fields
        self.open_file = open_file
        self.encoding = encoding
        self.delimiter = delimiter
        self.quotechar = quotechar

    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        for batch in self.batches(_AT_ONCE):
            yield from batch.rows() if isinstance(batch, Columns) else batch

    def batches(self, size: int) -> Iterator[Batch]:
        """Return the rows in pieces of at most so many."""
        with self.open_file() as raw:
            table = Table(self, raw)
            fields = self.fields.of_header(table.header, self.name)
            for lines, records, problem in table.runs(size):
                if problem:
                    yield [(line, UnreadableRow(problem)) for line in lines]
                    continue
                columns = zip(fields, zip(*records, strict=True), strict=True)
                values: dict[str, Sequence[str]] = {
                    field: cells for field, cells in columns if field is not None
                }
                for field, constant in self.fields.constants.items():
                    values[field] = (constant,) * len(lines)
                yield Columns(lines, values)


class Table:
    """
    One reading of a delimited file.

    :param keep_text: Keep each record's text, so that :meth:`records` has cells for those that are no good CSV.
    :raises InvalidInput: There is no header, or it cannot be read.
    """

    def __init__(self, source: DelimitedSource, raw: BinaryIO, *, keep_text: bool = False) -> None:
        # The limit is one for the whole process: it is only ever raised.
        csv.field_size_limit(max(csv.field_size_limit(), LONGEST_LINE))
        self._name = source.name
        self._text = TextLines(source.name, raw, source.encoding)
        self.encoding = self._text.encoding
        self._ended = False
        self._read = self._read_at_end = 0
        lines = split_lines(self._blocks())
        quote = source.quotechar
        delimiters = source.delimiter or DELIMITERS
        head = _take_record(lines, quote, delimiters)
        self._read_at_end = self._read
        second = _take_record(lines, quote, delimiters)
        self.delimiter = source.delimiter or _find_delimiter("".join(head), "".join(second), quote)
        self.line_end = next((end for end in ("\r\n", "\n", "\r") if head and head[-1].endswith(end)), "\n")
        # What csv calls the dialect.
        self.dialect: dict[str, Any] = {
            "delimiter": self.delimiter,
            "quotechar": quote or None,
            "quoting": csv.QUOTE_MINIMAL if quote else csv.QUOTE_NONE,
        }
        self._kept: list[str] = []
        feed: Iterable[str] = chain(head, second, lines, self._note_end())
        self._reader = csv.reader(self._keep(feed) if keep_text else feed, strict=True, **self.dialect)
        self.header = self._read_header()

    def _blocks(self) -> Iterator[str]:
        """Return blocks of lines as long as records come to an end: a record may hold any number of quoted line ends."""
        for text in self._text.blocks():
            if self._read - self._read_at_end > LONGEST_LINE:
                raise InvalidInput(
                    f"{self._name}: a record that begins before line {self._text.lines} is longer than "
                    f"{LONGEST_LINE // 1024**2} Mi characters. Is a quote not closed?"
                )
            self._read += len(text)
            yield text

    def records(self) -> Iterator[tuple[int, list[str], str | None]]:
        """
        Return line, cells and, for a record that is no row of this table, what is wrong with it.

        :raises InvalidInput: As :meth:`runs`.
        """
        for lines, records, problem in self.runs(_AT_ONCE):
            yield from zip(lines, records, repeat(problem))

    def runs(self, size: int) -> Iterator[tuple[Sequence[int], list[list[str]], str | None]]:
        """
        Return lines and cells of at most so many records that are rows, or of one that is none and what is wrong with it.

        :raises InvalidInput: The file is cut or damaged after the line named.
        """
        reader, width = self._reader, len(self.header)
        while True:
            self._kept.clear()
            records: list[list[str]] = []
            first, error = reader.line_num + 1, None
            try:
                for cells in islice(reader, size):
                    records.append(cells)
                    self._read_at_end = self._read
            except csv.Error as raised:
                error = raised
            if not records and error is None:
                return
            lines = range(first, reader.line_num + 1)
            plain = len(lines) == len(records) and set(map(len, records)) == {width}
            if plain and error is None and not self._text.has_nul:
                yield lines, records, None
            else:
                yield from self._look_at(first, records, error)

    def _look_at(
        self, line: int, records: list[list[str]], error: csv.Error | None
    ) -> Iterator[tuple[Sequence[int], list[list[str]], str | None]]:
        """Return what :meth:`runs` does, one by one, of records that begin on a line and of the bad one after them."""
        first, last = line, self._reader.line_num
        lines: list[int] = []
        rows: list[list[str]] = []
        for cells in records:
            problem = self._what_is_wrong(cells)
            if problem is None:
                lines.append(line)
                rows.append(cells)
            elif problem:
                if lines:
                    yield lines, rows, None
                    lines, rows = [], []
                yield [line], [cells], problem
            line += 1 + sum(map(count_lines, cells))
        if lines:
            yield lines, rows, None
        if error is None:
            return
        self._read_at_end = self._read
        # After a cell that is too long the rest of its lines would be taken for rows.
        swallows = last > line and "field limit" in str(error)
        if self._ended or swallows or last - line >= _MOST_LINES:
            raise InvalidInput(
                f"{self._name}, line {line}: the record that begins here has not ended by line {last} ({error}). "
                "A quote is not closed, or the file is cut off."
            ) from error
        where = f" (lines {line} to {last})" if last > line else ""
        cells = self._take_apart(self._kept[line - first :])
        yield [line], [cells], f"it is no good CSV: {error}{where}"

    def _what_is_wrong(self, cells: list[str]) -> str | None:
        """Return why a record is no row, None for one that is, and "" for an empty line."""
        if len(cells) != len(self.header):
            if len(cells) < 2 and not "".join(cells).strip():
                return ""
            return f"it has {len(cells)} cells, and the header has {len(self.header)} columns"
        if self._text.has_nul and any("\0" in cell for cell in cells):
            return "it holds a NUL character"
        return None

    def _read_header(self) -> list[str]:
        try:
            header = next((cells for cells in self._reader if len(cells) > 1 or "".join(cells).strip()), None)
        except csv.Error as error:
            raise InvalidInput(f"{self._name}: the header is no good CSV: {error}.") from error
        if header is None:
            raise InvalidInput(f"{self._name}: the file is empty; its first line must name the columns.")
        if any("\0" in name for name in header):
            raise InvalidInput(
                f"{self._name}: the header holds NUL characters. If this is a text file, give its encoding, "
                "for example encoding='utf-16-le'."
            )
        return header

    def _take_apart(self, text: list[str]) -> list[str]:
        """Return the cells of lines that are no good CSV, as far as they can be told."""
        try:
            cells = next(csv.reader(text, **self.dialect), [])
        except csv.Error:
            cells = ["".join(text)]
        # Never as many as there are columns, lest the row passes as a good one when it is uploaded unmended.
        return [*cells, ""] if len(cells) == len(self.header) else cells

    def _keep(self, lines: Iterable[str]) -> Iterator[str]:
        for line in lines:
            self._kept.append(line)
            yield line

    def _note_end(self) -> Iterator[str]:
        self._ended = True
        yield from ()


def _take_record(lines: Iterator[str], quote: str, delimiters: str) -> list[str]:
    """Return the lines up to where something stands in them and no cell is open: a quote within a cell opens none."""
    taken: list[str] = []
    has_text = is_open = False
    begins = rf"(?:^|(?<=[{re.escape(delimiters)}])){re.escape(quote)}"
    rest = "(?:[^{0}]|{0}{0})*+{0}".format(re.escape(quote))
    for line in islice(lines, _MOST_LINES):
        taken.append(line)
        has_text = has_text or bool(line.strip())
        if quote:
            if is_open:
                end = re.match(rest, line)
                line = f" {line[end.end() :]}" if end else quote
            is_open = re.search(begins, re.sub(begins + rest, "", line)) is not None
        if has_text and not is_open:
            break
    return taken


def _find_delimiter(header: str, record: str, quote: str) -> str:
    """
    Return the delimiter that the header has most of, outside of quotes.

    Where it has several, one that the next record has as many of comes first: ``key;weight, kg;price, EUR``.
    """
    if quote:
        quoted = re.compile("{0}[^{0}]*{0}".format(re.escape(quote)))
        header, record = quoted.sub("", header), quoted.sub("", record)
    found = [delimiter for delimiter in DELIMITERS if delimiter in header and delimiter != quote]
    return max(
        found, key=lambda one: (header.count(one) == record.count(one), header.count(one)), default=","
    )
