"""Tables in text files: CSV with any of the usual delimiters, TSV."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from itertools import compress
from typing import BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.fields import Fields, Row, UnreadableRow
from airflow_provider_scantrust.sources.records import Records
from airflow_provider_scantrust.sources.tables import FileSource
from airflow_provider_scantrust.sources.text import check_encoding


class DelimitedSource(FileSource):
    """
    A CSV or TSV file; its first line names the columns.

    Every value stays text, unchanged; an empty cell is "", which clears the field at Scantrust. Empty rows
    are skipped. A quote inside quotes must be doubled.

    :param encoding: None: the byte order mark decides; without one, utf-8.
    :param delimiter: None: the one of ``,`` ``;`` tab and ``|`` that fits the header and the first rows.
    :param quotechar: For CSV; "" if nothing is quoted.
    :param skip_rows: Lines above the header.
    :raises ConfigurationError: The encoding, the delimiter or the quote is not possible.
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
        skip_rows: int = 0,
        keep_copy: bool = False,
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
        super().__init__(name, open_file, fields, keep_copy=keep_copy)
        self.format = format
        self.encoding = encoding
        self.delimiter = delimiter
        self.quotechar = quotechar
        self.skip_rows = skip_rows

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        records = Records(self, self.open())
        fields = records.read_fields()
        names = [field for field in fields if field is not None]
        kept = None if len(names) == len(fields) else [field is not None for field in fields]
        for line, cells, problem in records:
            if problem is not None:
                yield line, UnreadableRow(problem)
                continue
            if kept is not None:
                cells = list(compress(cells, kept))
            # It is known that there are as many cells as names; another check would take a third of the time.
            yield line, dict(zip(names, cells))  # noqa: B905
        self.notes += records.notes

    def rejected_records(self) -> tuple[Records, list[str]]:
        """Return the records of the copy, and its header."""
        records = Records(self, self.reopen())
        records.read_fields()
        return records, records.header
