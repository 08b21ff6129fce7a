"""Excel and OpenDocument sheets; python-calamine is imported when one is read."""

from __future__ import annotations

import io
import re
import zipfile
from collections.abc import Iterator, Sequence
from datetime import date, datetime, time, timedelta
from decimal import Decimal
from itertools import compress, islice
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.excel_cells import (
    Problems,
    Zeros,
    find_in_file,
    find_merged,
    has_cells,
)
from airflow_provider_scantrust.sources.fields import Row, UnreadableRow
from airflow_provider_scantrust.sources.packing import Unpacked, check_start, unpack
from airflow_provider_scantrust.sources.tables import FileSource, need

EXCEL_FORMATS = ("xlsx", "xlsb", "ods", "xls")
# Excel keeps 15 digits of a number; all further digits are lost.
_MOST_EXACT = 10**15
_SAMPLE = 25
# What python-calamine returns for each time of an .ods sheet.
_ODS_TIME = re.compile(r"PT\d+H\d+M\d+(?:\.\d+)?S")


class ExcelSource(FileSource):
    """
    One sheet of a workbook; its first row names the columns, and rows have the sheet's own numbers.

    Text stays text; whole numbers keep every digit, up to Excel's 15; dates become YYYY-MM-DD, with a time as
    in ISO 8601; a formula gives its last value; an empty cell is "", as in CSV. A cell with an error, or with
    a formula that was never calculated, is rejected in .xlsx, and the reason to refuse .xlsb and .ods. An
    .xls file shows errors, but a formula that was never calculated looks like an empty text there.
    """

    # Known when the sheet has been opened, and its header read.
    header: list[str]
    _kept: list[bool]
    _key: int
    _problems: Problems
    _merged: Problems
    _zeros: Zeros
    _first_column: int
    _sheet_name: str
    _sheets: list[str]

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        rows = self._open_sheet(self.open_whole(unpack), is_first=True)
        fields = self._read_header(rows)
        names = [field for field in fields if field is not None]
        self._note_zeros(fields)
        for number, cells in rows:
            texts, problem = self._read_cells(number, cells)
            if problem is not None:
                yield number, UnreadableRow(problem, "invalid")
            elif any(texts) and any(map(str.strip, texts)) and not self._is_header(number, texts):
                yield number, dict(zip(names, compress(texts, self._kept), strict=True))

    def _is_header(self, number: int, cells: list[str]) -> bool:
        again = cells[self._key] in self.header
        return again and self.fields.repeats_header(cells, self.header, f"{self.name}, row {number}")

    def _note_sheets(self, file: BinaryIO, book: Any, seen: Sequence[str]) -> None:
        first, *others = self._sheets
        if first not in seen:
            self.notes.append(
                f"{self.name}: the first sheet, {first!r}, is hidden, and is read. To read another one, give sheet=."
            )
        elif filled := [name for name in others if name in seen and has_cells(file, book, name)]:
            self.notes.append(
                f"{self.name}: only the first sheet, {first!r}, is read; there are cells in {', '.join(map(repr, filled))}, too. "
                "Give sheet= for the one to read."
            )

    def _note_zeros(self, fields: Sequence[str | None]) -> None:
        for place, field in enumerate(fields):
            if field is None or (found := self._zeros.get(place + self._first_column)) is None:
                continue
            row, value, digits = found
            self.notes.append(
                f"{self.name}: column {self.header[place]!r} shows numbers with zeros before them, as {value.zfill(digits)} in "
                f"row {row}. The value is {value} and is sent without zeros; to send them, write the column as text."
            )

    def rejected_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Return number and cells of each row of the copy, with one cell too many if it cannot be sent."""
        rows = self._open_sheet(self.reopen(), is_first=False)
        self._read_header(rows)
        for number, cells in rows:
            _, problem = self._read_cells(number, cells)
            yield number, [*map(_show, cells), *([""] if problem else [])]

    def _read_header(self, rows: Iterator[tuple[int, Sequence[Any]]]) -> list[str | None]:
        for number, cells in rows:
            texts = [_show(cell) for cell in cells]
            if number > self.skip_rows and any(map(str.strip, texts)):
                self.header = texts
                break
        else:
            raise InvalidInput(
                f"{self.name}: the sheet {self._sheet_name!r} is empty; its first row must name the columns. "
                "To read another one, give sheet=."
            )
        others = ", ".join(repr(name) for name in self._sheets if name != self._sheet_name)
        about = f" (sheet {self._sheet_name!r}{'; for another, give sheet=: ' * bool(others)}{others})"
        try:
            fields = self.fields.of_header(self.header, self.name, about=about)
        except InvalidInput:
            # The rows below are read only if the header is wrong, because rows cannot be read twice.
            below = [(number - 1, cells) for number, cells in islice(rows, _SAMPLE)]
            fields = self.fields.of_header(self.header, self.name, about=about, below=below)
        self._kept = [field is not None for field in fields]
        self._key = self.fields.key_column(self.header) or 0
        return fields

    def _read_cells(self, row: int, cells: Sequence[Any]) -> tuple[list[str], str | None]:
        """Return the cells as they are sent, and what is wrong with them."""
        texts: list[str] = []
        problems: list[str] = []
        empty = self._problems.get(row, {})
        if row in self._merged and any(cells):
            # A completely empty row does not count as a row.
            empty = self._merged[row] | empty
        for place, cell in enumerate(cells):
            if isinstance(cell, str) and not empty and cell[:2] != "PT":
                texts.append(cell)
                continue
            texts.append(_show(cell))
            problem = empty.get(place + self._first_column) or _find_problem(cell)
            if problem and self._kept[place]:
                problems.append(f"column {self.header[place]!r}: {problem}")
        return texts, "; ".join(problems) or None

    def _open_sheet(self, file: BinaryIO, *, is_first: bool) -> Iterator[tuple[int, Sequence[Any]]]:
        """Return the rows with their numbers; the other sheets are looked at only the first time."""
        calamine = need("python_calamine", "excel", self.name)
        what = "an Excel or OpenDocument file. If it is text, give source_format='csv'"
        start = check_start(self.name, file, (b"PK\x03\x04", b"\xd0\xcf\x11\xe0"), what)
        try:
            if start.startswith(b"PK"):
                with zipfile.ZipFile(file) as archive:
                    size = sum(part.file_size for part in archive.infolist())
                    Unpacked(self.name, file.seek(0, io.SEEK_END)).take(0, size)
                    # The library does not check each part's checksum.
                    if bad := archive.testzip():
                        raise zipfile.BadZipFile(f"{bad} is damaged")
                file.seek(0)
            book = calamine.CalamineWorkbook.from_filelike(file)
            self._sheets = names = list(book.sheet_names)
            wanted = 0 if self.sheet is None else self.sheet
            if isinstance(wanted, str) and (wanted in names or wanted.isdecimal()):
                wanted = names.index(wanted) if wanted in names else int(wanted)
            if isinstance(wanted, str | bool) or not 0 <= wanted < len(names):
                raise InvalidInput(
                    f"{self.name}: there is no sheet {wanted!r}; it has {len(names)}, numbered from 0: "
                    f"{', '.join(map(repr, names))}."
                )
            self._sheet_name = names[wanted]
            if self.sheet is None and is_first:
                visible = calamine.SheetVisibleEnum.Visible
                seen = [each.name for each in book.sheets_metadata if each.visible == visible]
                self._note_sheets(file, book, seen)
            self._problems, self._zeros = find_in_file(file, names[wanted], self.name)
            sheet = book.get_sheet_by_index(wanted)
            self._merged = find_merged(sheet, self.name)
        except InvalidInput:
            raise
        except BaseException as error:  # each kind of damage raises another exception
            # A panic of the library, which is written in Rust, is no Exception.
            if not isinstance(error, Exception) and type(error).__name__ != "PanicException":
                raise
            raise InvalidInput(
                f"{self.name}: this cannot be read as an Excel or OpenDocument file; is it damaged, truncated, protected "
                f"by a password, or inside a zip archive? {error}"
            ) from error
        # The library counts rows from the sheet's first row, but cells from the first column in use.
        self._first_column = sheet.start[1] if sheet.start else 0
        return enumerate(sheet.iter_rows(), start=1)


def _find_problem(cell: Any) -> str | None:
    if isinstance(cell, float | int) and abs(cell) >= _MOST_EXACT:
        return f"{cell:.0f} has more than 15 digits, and Excel keeps only 15; format the column as text and enter it again"
    if isinstance(cell, timedelta) or (isinstance(cell, str) and _ODS_TIME.fullmatch(cell)):
        return f"{cell} is a duration or a time; format the column as text"
    return None


def _show(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        # As Excel shows it: 0.1 + 0.2 is 0.3.
        return str(int(cell)) if cell.is_integer() else format(Decimal(f"{cell:.15g}"), "f")
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)
