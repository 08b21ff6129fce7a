"""Excel and OpenDocument sheets; python-calamine is imported when one is read."""

from __future__ import annotations

import re
import zipfile
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from datetime import date, datetime, time, timedelta
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields
from airflow_provider_scantrust.sources.packing import refuse_other_kinds
from airflow_provider_scantrust.sources.tables import FileSource, Row, UnreadableRow, need

EXCEL_FORMATS = ("xlsx", "xlsb", "ods", "xls")
# Excel keeps 15 digits of a number; what was typed beyond them is lost.
_MOST_EXACT = 10**15
_SAMPLE = 25
_ERROR_CELL = re.compile(
    rb'<c [^>]*?\br="([A-Z]{1,3}\d{1,7})"[^>]*?\bt="e"|<c [^>]*?\bt="e"[^>]*?\br="([A-Z]{1,3}\d{1,7})"'
)
_SHEET = re.compile(r'<sheet [^>]*?name="([^"]*)"[^>]*?r:id="([^"]*)"')
_TARGET = re.compile(r"<Relationship [^>]*?>")


class ExcelSource(FileSource):
    """
    One sheet of a workbook; its first row names the columns, and rows have the sheet's own numbers.

    Text stays text; whole numbers keep every digit, up to Excel's 15; dates become YYYY-MM-DD, with a time as in ISO 8601;
    a formula gives its last value; an empty cell is "", as in CSV. Cells with an error are rejected; only ``.xlsx`` tells
    them from empty ones.

    :param sheet: Name or number, from 0; None for the first.
    :param skip_rows: Rows above the header.
    """

    format = "excel"

    def __init__(
        self,
        name: str,
        open_file: Callable[[], BinaryIO],
        fields: Fields,
        *,
        sheet: str | int | None = None,
        skip_rows: int = 0,
        keep_copy: bool = False,
    ) -> None:
        super().__init__(name, open_file, keep_copy=keep_copy)
        self.fields = fields
        self._sheet = sheet
        self._skip_rows = skip_rows
        self.header: list[str] = []

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.without_nulls(self._rows())

    def _rows(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        rows, errors = self._open_sheet(self.open_whole())
        fields = self._read_header(rows)
        for number, cells in rows:
            texts, problem = _read_cells(cells, errors.get(number, {}), self.header)
            if problem is not None:
                yield number, UnreadableRow(problem, "invalid")
            elif any(texts):
                named = zip(fields, texts, strict=True)
                yield (
                    number,
                    {
                        **{field: text for field, text in named if field is not None},
                        **self.fields.constants,
                    },
                )

    def rejected_rows(self) -> Iterator[tuple[int, list[str]]]:
        """Return number and cells of each row of the copy."""
        rows, _ = self._open_sheet(self.reopen())
        self._read_header(rows)
        for number, cells in rows:
            yield number, [_show(cell) for cell in cells]

    def _read_header(self, rows: Iterator[tuple[int, Sequence[Any]]]) -> list[str | None]:
        sample: list[Sequence[Any]] = []
        for number, cells in rows:
            if number > self._skip_rows and any(cell != "" for cell in cells):
                self.header = [_show(cell) for cell in cells]
                break
        else:
            raise InvalidInput(f"{self.name}: the sheet is empty; its first row must name the columns.")
        # What stands below is looked at only when the header is wrong: the rows cannot be read twice.
        if self.fields.data_key is not None:
            try:
                return self.fields.of_header(self.header, self.name)
            except InvalidInput:
                sample = [cells for (_, cells), _ in zip(rows, range(_SAMPLE), strict=False)]
        return self.fields.of_header(self.header, self.name, below=sample)

    def _open_sheet(
        self, file: BinaryIO
    ) -> tuple[Iterator[tuple[int, Sequence[Any]]], dict[int, dict[int, str]]]:
        """Return the rows with their numbers, and row -> column -> what is wrong for cells with an error."""
        calamine = need("python_calamine", "excel", self.name)
        head = file.read(512)
        file.seek(0)
        if not head:
            raise InvalidInput(f"{self.name}: the file is empty (0 bytes).")
        if not head.startswith((b"PK\x03\x04", b"\xd0\xcf\x11\xe0")):
            refuse_other_kinds(self.name, head)
            raise InvalidInput(f"{self.name}: this is not an Excel or OpenDocument file.")
        try:
            book = calamine.CalamineWorkbook.from_filelike(file)
            names = list(book.sheet_names)
            wanted = 0 if self._sheet is None else self._sheet
            if isinstance(wanted, str):
                if wanted not in names:
                    raise InvalidInput(
                        f"{self.name}: there is no sheet {wanted!r}. It has {', '.join(map(repr, names))}."
                    )
                wanted = names.index(wanted)
            if isinstance(wanted, bool) or not 0 <= wanted < len(names):
                raise InvalidInput(
                    f"{self.name}: there is no sheet {wanted!r}; it has {len(names)}, numbered from 0: "
                    f"{', '.join(map(repr, names))}."
                )
            rows = book.get_sheet_by_index(wanted).iter_rows()
        except InvalidInput:
            raise
        except Exception as error:  # each kind of damage has an exception of its own
            raise InvalidInput(
                f"{self.name}: this cannot be read as an Excel or OpenDocument file; is it damaged, truncated or protected by a "
                f"password? {error}"
            ) from error
        return enumerate(rows, start=1), _find_errors(file, names[wanted])


def _read_cells(
    cells: Sequence[Any], errors: dict[int, str], header: Sequence[str]
) -> tuple[list[str], str | None]:
    """Return the cells as they are sent, or what is wrong with one of them."""
    texts = []
    for column, cell in enumerate(cells):
        if column in errors:
            return [], f"column {header[column]!r}: the cell {errors[column]} holds an error"
        if isinstance(cell, float | int) and not isinstance(cell, bool) and abs(cell) >= _MOST_EXACT:
            return [], (
                f"column {header[column]!r}: {cell:.0f} has more than 15 digits, and Excel keeps only 15; format the column as "
                "text and enter it again"
            )
        if isinstance(cell, timedelta):
            return [], f"column {header[column]!r}: {cell} is a duration; format the column as text"
        texts.append(_show(cell))
    return texts, None


def _show(cell: Any) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool):
        return "true" if cell else "false"
    if isinstance(cell, float):
        return str(int(cell)) if cell.is_integer() else repr(cell)
    if isinstance(cell, datetime):
        return cell.date().isoformat() if cell.time() == time() else cell.isoformat()
    if isinstance(cell, date | time):
        return cell.isoformat()
    return str(cell)


def _find_errors(file: BinaryIO, sheet: str) -> dict[int, dict[int, str]]:
    """Return the cells of an .xlsx sheet that hold an error: the library gives them as empty ones."""
    found: dict[int, dict[int, str]] = {}
    file.seek(0)
    with (
        suppress(zipfile.BadZipFile, KeyError, StopIteration, UnicodeError),
        zipfile.ZipFile(file) as archive,
    ):
        book = archive.read("xl/workbook.xml").decode()
        links = archive.read("xl/_rels/workbook.xml.rels").decode()
        relation = next(link for name, link in _SHEET.findall(book) if _plain(name) == sheet)
        target = next(tag for tag in _TARGET.findall(links) if f'Id="{relation}"' in tag)
        path = re.search(r'Target="/?(?:xl/)?([^"]*)"', target)
        if path is None:
            return found
        with archive.open(f"xl/{path[1]}") as part:
            rest = b""
            while block := part.read(1 << 20):
                text = rest + block
                for match in _ERROR_CELL.finditer(text):
                    cell = (match[1] or match[2]).decode()
                    letters = cell.rstrip("0123456789")
                    column = 0
                    for letter in letters:
                        column = column * 26 + ord(letter) - 64
                    found.setdefault(int(cell[len(letters) :]), {})[column - 1] = cell
                # A tag may go over the border of two blocks; one that is found twice does no harm.
                rest = text[-200:]
    return found


def _plain(name: str) -> str:
    for entity, letter in (("&lt;", "<"), ("&gt;", ">"), ("&quot;", '"'), ("&apos;", "'"), ("&amp;", "&")):
        name = name.replace(entity, letter)
    return name
