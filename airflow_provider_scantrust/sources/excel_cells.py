"""
Find cells whose content differs from the value that python-calamine returns.

Errors, formulas that were never calculated and merged cells arrive as empty cells; a cell that shows 00123
may hold the number 123.

Rule: if the cells cannot be found, the file is refused, because an empty cell clears a field.
"""

from __future__ import annotations

import re
import zipfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from functools import reduce
from html import unescape
from typing import IO, Any, BinaryIO

from airflow_provider_scantrust.exceptions import InvalidInput

_BLOCK = 1 << 20
# A formula has up to 8,192 characters.
_OVERLAP = 32 * 1024
_ERROR = re.compile(rb"""<(?:\w+:)?c\b([^<>]*\bt=["']e["'][^<>]*)>""")
_CELL = rb"<(?:\w+:)?c\b([^<>]*)>\s*"
_ANY_FORMULA = rb"<(?:\w+:)?f\b(?:[^<>]*/>|[^<>]*>[^<]*</(?:\w+:)?f>)\s*"
_MAY_FORMULA = rb"(?:" + _ANY_FORMULA + rb")?"
_FORMULA = _CELL + _ANY_FORMULA
_UNCALCULATED = re.compile(_FORMULA + rb"(?:<(?:\w+:)?v\s*/>|<(?:\w+:)?v>\s*</(?:\w+:)?v>)?\s*</(?:\w+:)?c>")
# XlsxWriter stores 0 for each formula, and asks Excel to calculate them when the file is opened.
_ZERO = re.compile(_FORMULA + rb"<(?:\w+:)?v>0</(?:\w+:)?v>\s*</(?:\w+:)?c>")
# Content that the library does not read: in CDATA, after an inline text, or in place of one.
_IN_CDATA = re.compile(_CELL + _MAY_FORMULA + rb"<(?:\w+:)?v>\s*<!\[CDATA\[")
_AFTER_INLINE = re.compile(
    _CELL + rb"<(?:\w+:)?is>(?:(?!</(?:\w+:)?c>).)*</(?:\w+:)?is>\s*<(?:\w+:)?v>", re.DOTALL
)
_NO_INLINE = re.compile(
    rb"""<(?:\w+:)?c\b(?=[^<>]*\bt=["']inlineStr["'])([^<>]*)>\s*<(?:\w+:)?v>[^<]*[^<\s][^<]*</(?:\w+:)?v>\s*</(?:\w+:)?c>"""
)
# A formula that refers to an empty cell is 0; this is no date, and neither is a number below 0.
_STYLE = rb"""s=["'](?:%b)["'][^<>]*"""
_ZERO_OR_LESS = rb">\s*" + _MAY_FORMULA + rb"<(?:\w+:)?v>(?:0<|-)"
_NO_DATE = rb"""<(?:\w+:)?c\b(?![^<>]*\bt=["'][^n])([^<>]*\b""" + _STYLE + rb")" + _ZERO_OR_LESS
_SIGN_OF_NO_DATE = _STYLE + _ZERO_OR_LESS
_CALCULATE_LATER = re.compile(rb"""\bfullCalcOnLoad=["'](?:1|true)["']""")
# A formula may give an empty text.
_IS_TEXT = re.compile(rb"""\bt=["']str["']""")
_PLACE = re.compile(rb"""\br=["']([A-Z]{1,3})(\d{1,7})["']""")
_TAG = re.compile(r"<(?:\w+:)?(?:sheet|Relationship)\s[^>]*>")
# In BIFF8 (.xls): a cell with one of the seven errors, or a formula whose last value is one.
_XLS_ERROR = re.compile(
    rb"\x05\x02\x08\x00.{6}[\x00\x07\x0f\x17\x1d\x24\x2a]\x01"
    rb"|\x06\x00[^\x00].[^\xff].{5}\x02.[\x00\x07\x0f\x17\x1d\x24\x2a].{3}\xff\xff",
    re.DOTALL,
)
# Of xlsb: BrtCellError, BrtFmlaError and BrtMergeCell.
_XLSB_UNTOLD = (3, 11, 176)
# Of ods: an error, CDATA, merged cells, a formula or text without a type, an error that is shown for an empty
# text or 0 (without LibreOffice's extensions), marks that are left out of a text, and a shape, whose text would
# be added.
_ODS_UNTOLD = re.compile(
    rb"""value-type=["']error["']|<!\[CDATA\[|number-(?:rows|columns)-spanned=["'](?!1["'])"""
    rb"""|<(?:\w+:)?table-cell\b(?![^<>]*value-type=)(?:[^<>]*:formula=|[^<>]*>\s*<(?:\w+:)?p\b[^<>]*(?<!/)>(?!</))"""
    rb"""|<(?:\w+:)?table-cell\b(?=[^<>]*:formula=)(?=[^<>]*(?:string-value=(?:""|'')|:value=["']0["']))[^<>]*>\s*"""
    rb"""<(?:\w+:)?p\b[^<>]*>(?:#[A-Z\xC0-\xFF]|Err:\d)"""
    rb"""|<(?:\w+:)?table-cell\b(?=[^<>]*value-type=["']string)(?![^<>]*string-value=)[^<>]*(?<!/)>[^<]*"""
    rb"""(?:<(?!/?(?:\w+:)?table-cell\b|draw:|dr3d:)[^<]*)*<(?:draw|dr3d):"""
    rb"""|<(?:\w+:)?table-cell\b(?![^<>]*string-value=)[^<>]*(?<!/)>[^<]*"""
    rb"""(?:<(?!(?:/?\w+:)?(?:table-cell|tab|line-break)\b)[^<]*)*<(?:\w+:)?(?:tab|line-break)\b"""
)
# With what stands in a block that has one, since looking for that is ten times as fast.
_HAS_FORMULA = re.compile(rb"<(?:\w+:)?f\b")
_NOT_A_DATE = "is formatted as a date, and 0 or less is none; a formula gives 0 if it refers to an empty cell"
_UNREADABLE = "holds a value that cannot be read"
_KINDS: tuple[tuple[re.Pattern[bytes], re.Pattern[bytes], str], ...] = (
    (_ERROR, re.compile(rb"""t=["']e["']"""), "holds an error"),
    (_UNCALCULATED, _HAS_FORMULA, "holds a formula that was never calculated"),
    (_IN_CDATA, re.compile(rb"CDATA"), _UNREADABLE),
    (_AFTER_INLINE, re.compile(rb"is>\s*<(?:\w+:)?v>"), _UNREADABLE),
    (_NO_INLINE, re.compile(rb"""inlineStr["'][^<>]*>\s*<(?:\w+:)?v>"""), _UNREADABLE),
    (_ZERO, _HAS_FORMULA, "holds a formula that was never calculated"),
)

_NUMBER_FORMAT = re.compile(r"<(?:\w+:)?numFmt\s[^>]*>")
_CELL_FORMATS = re.compile(r"<(?:\w+:)?cellXfs\b.*?</(?:\w+:)?cellXfs>", re.DOTALL)
_CELL_FORMAT = re.compile(r"<(?:\w+:)?xf\s[^>]*>")
# Of a number format: a text in it, and what is left of one that only fills up with zeros.
_LITERAL = re.compile(r'"[^"]*"|[\\_*].|\[[^\]]*\]')
_ZEROS = re.compile(r"[-\s/()#?]*0[-\s/()0]*0[-\s/()]*")
# Excel's own formats of dates, also in East Asia.
_DATE_FORMATS = {*range(14, 18), 22, *range(27, 32), 36, *range(50, 55), 57, 58}
_MOST_MERGED = 1_000_000
_MERGED = "it is merged with a cell before it, which has the value; unmerge the cells and fill in each"

# A number in one of some styles.
_NUMBER = (
    rb"""<(?:\w+:)?c\b(?=[^<>]*\bs=["'](%b)["'])(?![^<>]*\bt=["'][^n])[^<>]*\br=["']([A-Z]+)(\d+)["'][^<>]*>\s*"""
    + _MAY_FORMULA
    + rb"<(?:\w+:)?v>(\d+)</"
)

# python-calamine keeps a place for each cell up to the last column and row in use, also for empty ones. A stray
# cell in a far corner would fill the memory, and end the process. So a sheet may have so many places, and one
# more for each byte.
_MOST_PLACES = 16_000_000
_FAR = re.compile(rb"""\br=["'][A-Z]{2,3}\d""")
_FILLED = re.compile(rb"""<(?:\w+:)?c\b[^<>]*\br=["']([A-Z]{1,3})(\d{1,7})["'][^<>]*(?<!/)>""")

# Row (from 1) -> column (from 0) -> what is wrong.
Problems = dict[int, dict[int, str]]
# Column (from 0) -> row, value and digits of its first number with zeros in front (00123).
Zeros = dict[int, tuple[int, str, int]]


def find_in_file(file: BinaryIO, sheet: str, name: str) -> tuple[Problems, Zeros]:
    """
    Return the cells of a sheet that have no value and are not empty, and the numbers with zeros in front.

    A file with such cells that is not .xlsx does not tell which they are, and is refused. So is an .xlsx sheet
    that is nearly empty and too large for the memory.
    """
    file.seek(0)
    problems: Problems = {}
    zeros: Zeros = {}
    if zipfile.is_zipfile(file):
        with zipfile.ZipFile(file) as archive:
            parts = _parts_of(archive)
            if "xl/workbook.xml" in parts:
                problems, zeros, is_told = _find_in_xlsx(archive, parts, sheet, name)
            elif "content.xml" in parts:
                with archive.open("content.xml") as part:
                    is_told = not any(_ODS_UNTOLD.search(block) for block in _blocks(part))
            else:
                binary = [parts[part] for part in parts if re.fullmatch(r"xl/worksheets/[^/]*\.bin", part)]
                is_told = bool(binary) and not any(_is_untold(archive.read(part)) for part in binary)
    else:
        file.seek(0)
        is_told = not any(_XLS_ERROR.search(block) for block in _blocks(file))
    if not is_told:
        raise InvalidInput(
            f"{name}: cells hold an error (such as #N/A), a formula that was never calculated, a picture or shape beside text, or "
            "text that cannot be read, or are merged, and this file does not tell which. Fix them, or save the file as .xlsx."
        )
    return problems, zeros


def has_cells(file: BinaryIO, book: Any, sheet: str) -> bool:
    """
    Whether a sheet has cells with a value; a sheet of .xlsx is read only up to the first one.

    A sheet that is damaged counts as empty: it is not the one that is read.
    """
    file.seek(0)
    with suppress(Exception):
        if zipfile.is_zipfile(file):
            with zipfile.ZipFile(file) as archive:
                parts = _parts_of(archive)
                if "xl/workbook.xml" in parts:
                    with archive.open(_part_of(archive, parts, sheet)) as part:
                        return any(map(_FILLED.search, _blocks(part)))
        return book.get_sheet_by_name(sheet).start is not None
    return False


def find_merged(sheet: Any, name: str) -> Problems:
    """Return the cells that are merged with a cell before them, which has the value of all."""
    found: Problems = {}
    count = 0
    last_row, last_column = sheet.end or (-1, -1)
    for (top, left), (bottom, right) in sheet.merged_cell_ranges or ():
        rows, columns = range(top, min(bottom, last_row) + 1), range(left, min(right, last_column) + 1)
        count += len(rows) * len(columns)
        if count > _MOST_MERGED:
            raise InvalidInput(f"{name}: more than {_MOST_MERGED:,} cells are merged; unmerge them.")
        for row in rows:
            found.setdefault(row + 1, {}).update(dict.fromkeys(columns, _MERGED))
        found.get(top + 1, {}).pop(left, None)
    return found


def _formats_of(styles: str) -> list[str]:
    """Return what each style shows a number as: the code of its format without texts, or the number of Excel's own."""
    codes = {
        _attribute("numFmtId", tag): _LITERAL.sub("", _attribute("formatCode", tag).partition(";")[0])
        for tag in _NUMBER_FORMAT.findall(styles)
    }
    formats = _CELL_FORMATS.search(styles)
    numbers = [_attribute("numFmtId", tag) for tag in _CELL_FORMAT.findall(formats[0] if formats else "")]
    return [codes.get(number, f"#{number}") for number in numbers]


def _is_date(code: str) -> bool:
    if code.startswith("#") and code[1:].isdecimal():
        return int(code[1:]) in _DATE_FORMATS
    return bool(re.search("[yd]", code, re.IGNORECASE))


def _joined(styles: Iterable[int]) -> bytes:
    return "|".join(map(str, styles)).encode()


def _column(letters: bytes) -> int:
    return reduce(lambda number, letter: number * 26 + letter - 64, letters, 0) - 1


def _blocks(file: IO[bytes]) -> Iterator[bytes]:
    """Return a file's blocks, each with the end of the block before it in front."""
    rest = b""
    while block := file.read(_BLOCK):
        rest += block
        yield rest
        rest = rest[-_OVERLAP:]


def _parts_of(archive: zipfile.ZipFile) -> dict[str, str]:
    """Return the names of an archive's parts by how Excel finds them: some tools write backslashes or capitals."""
    return {name.replace("\\", "/").lower(): name for name in archive.namelist()}


def _part_of(archive: zipfile.ZipFile, parts: Mapping[str, str], sheet: str) -> str:
    """Return the part of an .xlsx file that holds a sheet."""
    sheets, links = (
        _TAG.findall(archive.read(parts[f"xl/{part}"]).decode())
        for part in ("workbook.xml", "_rels/workbook.xml.rels")
    )
    link = next(_attribute("id", tag) for tag in sheets if _attribute("name", tag) == sheet)
    target = next(_attribute("Target", tag) for tag in links if _attribute("Id", tag) == link)
    return parts[(target.lstrip("/") if target.startswith("/") else f"xl/{target}").lower()]


def _attribute(name: str, tag: str) -> str:
    found = re.search(rf"""[\s:]{name}=(?:"([^"]*)"|'([^']*)')""", tag)
    return unescape(found[1] or found[2] or "") if found else ""


def _find_in_xlsx(
    archive: zipfile.ZipFile, parts: Mapping[str, str], sheet: str, name: str
) -> tuple[Problems, Zeros, bool]:
    """Return what :func:`find_in_file` does, and whether each cell with a problem has told where it is."""
    problems: Problems = {}
    zeros: Zeros = {}
    is_told = True
    kinds = _KINDS if _CALCULATE_LATER.search(archive.read(parts["xl/workbook.xml"])) else _KINDS[:-1]
    has_styles = "xl/styles.xml" in parts
    styles = archive.read(parts["xl/styles.xml"]).decode(errors="replace") if has_styles else ""
    formats = dict(enumerate(_formats_of(styles)))
    digits = {style: code.count("0") for style, code in formats.items() if _ZEROS.fullmatch(code)}
    number = re.compile(_NUMBER % _joined(digits))
    if dates := [style for style, code in formats.items() if _is_date(code)]:
        no_date, its_sign = (re.compile(each % _joined(dates)) for each in (_NO_DATE, _SIGN_OF_NO_DATE))
        kinds = (*kinds, (no_date, its_sign, _NOT_A_DATE))
    columns: set[bytes] = set()
    last_row = 0
    path = _part_of(archive, parts, sheet)
    with archive.open(path) as part:
        for block in _blocks(part):
            if (columns or _FAR.search(block)) and (filled := _FILLED.findall(block)):
                columns.update(letters for letters, _ in filled)
                last_row = max(last_row, int(filled[-1][1]))
            # A cell that is found twice does no harm.
            for kind, sign, what in kinds:
                for match in kind.finditer(block) if sign.search(block) else ():
                    if kind is _UNCALCULATED and _IS_TEXT.search(match[1]):
                        continue
                    if place := _PLACE.search(match[1]):
                        text = f"the cell {place[0][3:-1].decode()} {what}"
                        problems.setdefault(int(place[2]), {})[_column(place[1])] = text
                    else:
                        is_told = False
            for style, letters, row, value in number.findall(block) if digits else ():
                if len(value) < digits[int(style)]:
                    zeros.setdefault(_column(letters), (int(row), value.decode(), digits[int(style)]))
    last = max(columns, key=_column, default=b"A")
    if (_column(last) + 1) * last_row > _MOST_PLACES + archive.getinfo(path).file_size:
        raise InvalidInput(
            f"{name}: the sheet {sheet!r} is in use up to column {last.decode()} and row {last_row}, is nearly empty, and would "
            "fill the memory. Delete the columns and rows beside the table."
        )
    return problems, zeros, is_told


def _is_untold(data: bytes) -> bool:
    position = 0

    def number(most: int) -> int:
        nonlocal position
        value = 0
        for place in range(most):
            byte = data[position]
            position += 1
            value |= (byte & 0x7F) << 7 * place
            if byte < 0x80:
                break
        return value

    with suppress(IndexError):
        while position < len(data):
            kind, size = number(2), number(4)
            if kind in _XLSB_UNTOLD:
                return True
            position += size
    return False
