"""Files as business systems and people have them: each arrives as it was meant, or one sentence says what to do."""

from __future__ import annotations

import io
import zipfile
from typing import Any

import pytest

from airflow_provider_scantrust.exceptions import InvalidInput
from uploaded import KEY, upload

pyarrow: Any = pytest.importorskip("pyarrow")
openpyxl: Any = pytest.importorskip("openpyxl")
parquet: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("python_calamine")


def table(*rows: tuple[str, str], **options: Any) -> bytes:
    keys, lots = zip(*rows, strict=True) if rows else ((), ())
    text = pyarrow.string()
    out = io.BytesIO()
    parquet.write_table(
        pyarrow.table({KEY: pyarrow.array(keys, text), "lot": pyarrow.array(lots, text)}), out, **options
    )
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"write_page_index": True}, {"use_dictionary": False}])
@pytest.mark.parametrize("last", [[("CODE0003", "L3"), ("CODE0004", "L4")], [("CODE0003", "L3")], []])
def test_parquet_files_that_were_joined_are_refused(
    last: list[tuple[str, str]], options: dict[str, Any]
) -> None:
    first = table(("CODE0001", "L1"), ("CODE0002", "L2"), **options)
    assert 2 == len(upload(first, "a.parquet").rows)
    with pytest.raises(InvalidInput, match=r"several Parquet files in one.*upload them one by one"):
        upload(first + table(*last, **options), "a.parquet")


def test_old_workbook_whose_end_is_missing_is_refused() -> None:
    # Its table of sectors would be in sector 8.
    header = (
        bytes.fromhex("d0cf11e0a1b11ae1")
        + bytes(16)
        + bytes.fromhex("3e000300feff0900060000000000000000000000")
    )
    header += bytes.fromhex("01000000090000000000000000100000feffffff00000000feffffff0000000008000000").ljust(
        468, b"\xff"
    )
    with pytest.raises(InvalidInput, match="is it damaged, truncated"):
        upload(header + bytes(7 * 512), "a.xls")


@pytest.mark.parametrize(
    ("end", "encoding"), [("\x85", "cp037"), ("\u2028", None), ("\u2029", "utf-16"), ("\x1e", None)]
)
def test_line_ends_that_csv_does_not_know_refuse_the_file(end: str, encoding: str | None) -> None:
    text = f"{KEY},lot{end}CODE0001,L1{end}"
    with pytest.raises(InvalidInput, match=f"the header holds {end!r}.*convert them".replace("\\", "\\\\")):
        upload(text.encode(encoding or "utf-8"), encoding=encoding)


def workbook(far: str, value: str | None) -> bytes:
    """Return a workbook of one row and thirty columns, and with a cell in a far corner."""
    book = openpyxl.Workbook()
    names = [f"f{number}" for number in range(29)]
    book.active.append([KEY, *names])
    book.active.append(["CODE0001", *names])
    book.active[far] = value
    book.active[far].font = openpyxl.styles.Font(bold=True)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def test_stray_cell_in_a_far_corner_refuses_the_sheet_before_it_fills_the_memory() -> None:
    with pytest.raises(InvalidInput, match=r"sheet 'Sheet' is in use up to column XFD and row 1048576"):
        upload(workbook("XFD1048576", " "), "a.xlsx")
    # A cell that has only a format is not in use, and a few empty columns do no harm.
    found = upload(workbook("XFD1048576", None), "a.xlsx").rows
    assert {f"f{number}": f"f{number}" for number in range(29)} == found["CODE0001"]
    assert 1 == len(upload(workbook("AF30", " "), "a.xlsx", columns={"": None}).rows)


def test_other_sheets_with_cells_are_named_unless_the_sheet_is_given() -> None:
    book = openpyxl.Workbook()
    book.active.title = "Jan"
    for title in ("Feb", "Empty", "Hidden", "Mar"):
        book.create_sheet(title)
    book["Hidden"].sheet_state = "hidden"
    for title in ("Jan", "Feb", "Hidden", "Mar"):
        book[title].append([KEY, "lot"])
        book[title].append([f"CODE-{title}", "L1"])
    out = io.BytesIO()
    book.save(out)
    found = upload(out.getvalue(), "a.xlsx")
    assert ["CODE-Jan"] == list(found.rows)
    (warning,) = found.warnings
    assert "only the first sheet, 'Jan', is read; there are cells in 'Feb', 'Mar', too" in warning
    assert [] == upload(out.getvalue(), "a.xlsx", sheet="Jan").warnings
    without = io.BytesIO()
    with zipfile.ZipFile(out) as archive, zipfile.ZipFile(without, "w") as copy:
        for part in archive.namelist():
            if part != "xl/worksheets/sheet2.xml":
                copy.writestr(part, archive.read(part))
    (warning,) = upload(without.getvalue(), "a.xlsx").warnings
    assert "there are cells in 'Mar', too" in warning
