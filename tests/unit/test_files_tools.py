"""What tools of the field leave in files: each arrives as a person would read it, or one sentence says what to do."""

from __future__ import annotations

import io
import lzma
import zipfile
import zlib
from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources.excel_cells import find_in_file
from airflow_provider_scantrust.sources.opening import open_source
from uploaded import KEY, upload

openpyxl: Any = pytest.importorskip("openpyxl")
pyarrow: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("python_calamine")


def workbook(*rows: list[Any], title: str = "Sheet") -> bytes:
    book = openpyxl.Workbook()
    book.active.title = title
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def table(**columns: Any) -> bytes:
    out = io.BytesIO()
    parquet.write_table(pyarrow.table(columns), out)
    return out.getvalue()


def test_sheet_named_like_a_number_is_that_sheet_and_else_the_text_is_its_number() -> None:
    data = workbook([KEY, "lot"], ["CODE0001", "L1"], title="1")
    assert ["CODE0001"] == list(upload(data, "a.xlsx", sheet="1").rows)
    assert ["CODE0001"] == list(upload(data, "a.xlsx", sheet="0").rows)
    with pytest.raises(InvalidInput, match="no sheet 2"):
        upload(data, "a.xlsx", sheet="2")


def test_header_of_a_cover_sheet_names_the_sheet_and_the_others() -> None:
    book = openpyxl.Workbook()
    book.active.title = "Summary"
    book.active.append(["This document was exported"])
    book.create_sheet("Table 1").append([KEY, "lot"])
    out = io.BytesIO()
    book.save(out)
    with pytest.raises(InvalidInput, match=r"sheet 'Summary'; for another, give sheet=: 'Table 1'"):
        upload(out.getvalue(), "a.xlsx")


def test_repeated_header_of_a_sheet_is_skipped_and_another_one_refused() -> None:
    rows = (
        [KEY, "lot", "market"],
        ["CODE0001", "L1", "FR"],
        [KEY, "lot", "market"],
        ["CODE0002", "L2", "FR"],
    )
    assert ["CODE0001", "CODE0002"] == list(upload(workbook(*rows), "a.xlsx").rows)
    rows[2][1:] = ["market", "lot"]
    with pytest.raises(InvalidInput, match="row 3: this is a header with other columns"):
        upload(workbook(*rows), "a.xlsx")


def test_fraction_of_a_sheet_has_the_digits_that_excel_shows() -> None:
    values = {
        "57": 0.57 * 100,
        "0.00001": 1e-5,
        "0.1": 0.1,
        "-12.5": -12.5,
        "123456789.123457": 123456789.12345678,
    }
    data = workbook([KEY, *"abcde"], ["CODE0001", *values.values()])
    assert [*values] == [*upload(data, "a.xlsx").rows["CODE0001"].values()]


def test_workbook_with_a_damaged_text_is_refused() -> None:
    texts = '<sst xmlns="http://schemas.openxmlformats.org/spreadsheetml/2006/main"><si><t>L1</t></si></sst>'
    data, changed = io.BytesIO(workbook([KEY, "lot"], ["CODE0001", "L1"])), io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name, old.read(name).replace(b't="inlineStr"><is><t>L1</t></is>', b't="s"><v>0</v>'))
        new.writestr("xl/sharedStrings.xml", texts)
    assert {"CODE0001": {"lot": "L1"}} == upload(changed.getvalue(), "a.xlsx").rows
    with pytest.raises(InvalidInput, match=r"sharedStrings\.xml is damaged"):
        upload(changed.getvalue().replace(b"<t>L1</t>", b"<t>L2</t>"), "a.xlsx")


def test_parts_of_a_workbook_that_cannot_be_found_refuse_it() -> None:
    data, changed = io.BytesIO(workbook([KEY, "lot"], ["CODE0001", "L1"])), io.BytesIO()
    with zipfile.ZipFile(data) as old, zipfile.ZipFile(changed, "w") as new:
        for name in old.namelist():
            new.writestr(name.replace("xl/workbook.xml", "xl/workbooks.xml"), old.read(name))
    with pytest.raises(InvalidInput, match=r"save the file as \.xlsx"):
        find_in_file(changed, "Sheet", "a.xlsx")


@pytest.mark.parametrize(
    "header",
    [
        "lot,market,extended_id",
        "extended_id,market,lot",
        "EXTENDED_ID,MARKET,LOT",
        "\x1aextended_id,market,lot",
        "\fextended_id,market,lot",
        " extended_id , market,lot",
    ],
)
def test_second_header_with_other_columns_refuses_the_file(header: str) -> None:
    with pytest.raises(InvalidInput, match="line 3: this is a header with other columns"):
        upload(f"extended_id,lot,market\nCODE0001,L1,FR\n{header}\nCODE0002,FR,L2\n")


@pytest.mark.parametrize(
    "header",
    [
        "extended_id,lot",
        "Extended_ID,Lot",
        "extended_id , lot ",
        "\x1aextended_id,lot",
        '"extended_id","lot"',
    ],
)
def test_second_header_in_any_spelling_is_skipped(header: str) -> None:
    found = upload(f"extended_id,lot\nCODE0001,L1\n{header}\nCODE0002,L2\n")
    assert ["CODE0001", "CODE0002"] == list(found.rows)
    assert any("1 more header line skipped" in each for each in found.warnings)


def test_value_that_is_called_like_a_column_is_a_value() -> None:
    found = upload("lot,market\nmarket,FR\nL2,lot market\n", data_key="lot")
    assert {"market": {"market": "FR"}, "L2": {"market": "lot market"}} == found.rows


def test_cells_too_many_of_csv_dictreader_are_rejected_and_not_left_out() -> None:
    row = {KEY: "CODE0001", "lot": "L1", None: ["a cell too many"]}
    cases: list[dict[str, Any]] = [{}, {"columns": {"lot": "lot_number"}}, {"constants": {"market": "FR"}}]
    for options in cases:
        ((_, kind, reason),) = upload([row], **options).rejected
        assert "invalid" == kind
        assert "a field's name must be text" in reason


def test_moments_of_spark_far_from_today_stay_what_they_are() -> None:
    out = io.BytesIO()
    moments = [datetime(9999, 12, 31), datetime(1600, 1, 1, 5, 6, 7)]
    rows = pyarrow.table(
        {KEY: ["CODE0001", "CODE0002"], "until": pyarrow.array(moments, pyarrow.timestamp("us"))}
    )
    parquet.write_table(rows, out, use_deprecated_int96_timestamps=True)
    found = upload(out.getvalue(), "a.parquet").rows
    assert ["9999-12-31", "1600-01-01T05:06:07"] == [row["until"] for row in found.values()]


def test_decimals_of_a_database_are_whole_where_they_are_whole() -> None:
    numbers = [Decimal("4006381333931"), Decimal("12.5"), Decimal("-3")]
    column = pyarrow.array(numbers, pyarrow.decimal128(38, 10))
    found = upload(table(**{KEY: ["A1", "A2", "A3"], "number": column}), "a.parquet").rows
    assert ["4006381333931", "12.5000000000", "-3"] == [row["number"] for row in found.values()]


@pytest.mark.parametrize(
    ("value", "word"),
    [
        ("4006381333931.0", "whole numbers with .0"),
        ("12345678.00", "whole numbers with .0"),
        ("it\x92s", "damaged"),
        ("#¡REF!", "missing"),
        ("#¿NOMBRE?", "missing"),
        ("Err:502", "missing"),
        ("inf", "missing"),
        ("-Infinity", "missing"),
        # As mysql and COPY of PostgreSQL write a line break, and pandas a date in JSON.
        ("Main Street\\nParis", "escapes"),
        ("1798675200000", "YYYY-MM-DD"),
        ("\u202aL1", "blanks"),
        ("L1\u00ad", "blanks"),
        # Dates of other countries, of DB2, and of XML with a time zone.
        ("31. 12. 2026", "YYYY-MM-DD"),
        ("2026. 12. 31.", "YYYY-MM-DD"),
        ("2026年12月31日", "YYYY-MM-DD"),
        ("2026년 12월 31일", "YYYY-MM-DD"),
        ("31\u201312\u20132026", "YYYY-MM-DD"),
        ("2026-12-31-14.30.15.123456", "YYYY-MM-DD"),
        ("2026-12-31Z", "YYYY-MM-DD"),
        ("2026-12-31+01:00", "YYYY-MM-DD"),
        ("(Leer)", "missing"),
        ("(空白)", "missing"),
        ("#GETTING_DATA", "missing"),
        ("Loading...", "missing"),
        ("#Н/Д", "missing"),  # noqa: RUF001
    ],
)
@pytest.mark.parametrize("row", [0, 150])
def test_doubtful_value_is_named_in_any_row(value: str, word: str, row: int) -> None:
    rows = [f"CODE{number:04},{value if number == row else 'x'}" for number in range(200)]
    found = upload("extended_id,note\n" + "\n".join(rows) + "\n")
    assert value == found.rows[f"CODE{row:04}"]["note"]
    (warning,) = found.warnings
    assert word in warning
    assert f"first in row {row + 2}" in warning


@pytest.mark.parametrize(
    "value", ["12/2026", "00:00:00", "0:00", "31DEC2026", "31Dec26:14:30:00", "31-DEC-26 02.30.00.000000 PM"]
)
@pytest.mark.parametrize("row", [5, 150])
def test_odd_value_among_dates_is_named_in_any_row(value: str, row: int) -> None:
    rows = [f"CODE{number:04},{value if number == row else '2026-11-05'}" for number in range(200)]
    (warning,) = upload("extended_id,day\n" + "\n".join(rows) + "\n").warnings
    assert f"first in row {row + 2}: {value!r}" in warning


@pytest.mark.parametrize(
    "value",
    [
        "1234.0",
        "12.50",
        "12:30:00",
        "information",
        "error",
        "100.05",
        "2.0",
        "4006381300000",
        "C:\\data",
        "3. 5 kg",
        "12DEC2026A",
    ],
)
def test_usual_value_is_not_doubtful(value: str) -> None:
    assert [] == upload(f"extended_id,note\nCODE0001,{value}\n").warnings


@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_file_that_ends_inside_a_letter_is_truncated(encoding: str) -> None:
    with pytest.raises(InvalidInput, match="truncated: it ends inside a character"):
        upload("extended_id,city\nCODE0001,Köl€".encode(encoding)[:-1])


@pytest.mark.parametrize("mark", ["~", "^", ":"])
def test_odd_delimiter_between_quoted_names_is_named(mark: str) -> None:
    with pytest.raises(InvalidInput, match=f"give delimiter='\\{mark}'"):
        upload(f'"extended_id"{mark}"lot"\n"CODE0001"{mark}"L1"\n')


def test_rejects_of_a_file_that_tells_its_delimiter_tell_it_again() -> None:
    found = upload("sep=^\nextended_id^lot\nCODE0001^L1\n^L2\nCODE0003^L3\n")
    assert ["CODE0001", "CODE0003"] == list(found.rows)
    again = upload(
        found.rejects.replace(b'"4"^"key missing"', b'"4"^"fixed"').replace(b'""^"L2"', b'"CODE0002"^"L2"')
    )
    assert {"CODE0002": {"lot": "L2"}} == again.rows


@pytest.mark.parametrize(
    ("name", "word"),
    [
        ("a.csv.bz2", "archive"),
        ("a.xz", "archive"),
        ("a.csv.tar.gz", "tar archive"),
        ("a.csv.gpg", "encrypted"),
        ("a.pdf", "document"),
        ("a.orc", "write it as Parquet"),
    ],
)
def test_name_of_another_kind_says_what_to_do(name: str, word: str) -> None:
    with pytest.raises(ConfigurationError, match=word):
        open_source(name, io.BytesIO)


@pytest.mark.parametrize(
    ("data", "name", "word"),
    [
        (zlib.compress(b"extended_id,lot\nA,B\n"), "a.csv", "zlib"),
        (lzma.compress(b"extended_id,lot\nA,B\n", lzma.FORMAT_ALONE), "a.csv", "lzma"),
        (workbook([KEY, "lot"], ["A", "B"]), "a.parquet", "Excel workbook"),
        (b'[{"extended_id": "A"}]', "a.csv", "JSON array"),
        ('{"extended_id": "A"}\n'.encode("utf-16-le"), "a.jsonl", "encoding="),
        (b'{"Item": {"extended_id": "A", "lot": "L"}}\n' * 2, "a.jsonl", r"""jq -c '.\["Item"\]'"""),
    ],
)
def test_content_of_another_kind_says_what_to_do(data: bytes, name: str, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        upload(data, name)


def test_more_rows_to_skip_than_there_are_is_said() -> None:
    with pytest.raises(InvalidInput, match="has 2 lines, and skip_rows=5 skips all of them"):
        upload("extended_id,lot\nCODE0001,L1\n", skip_rows=5)


@pytest.mark.parametrize("method", [zipfile.ZIP_DEFLATED, zipfile.ZIP_BZIP2, zipfile.ZIP_LZMA])
def test_damaged_zip_archive_is_refused(method: int) -> None:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        archive.writestr("a.csv", "extended_id,lot\n" + "".join(f"CODE{n:04},{n * n}\n" for n in range(999)))
    data = bytearray(out.getvalue())
    data[1000] ^= 0xFF
    with pytest.raises(InvalidInput, match="the zip archive is damaged"):
        upload(bytes(data), "a.zip.csv")


def test_zstd_may_begin_with_a_frame_to_skip() -> None:
    zstandard = pytest.importorskip("zstandard")
    skipped = b"\x50\x2a\x4d\x18\x04\0\0\0size"
    frames = [skipped + zstandard.compress(part) for part in (b"extended_id,lot\n", b"CODE0001,L1\n")]
    assert {"CODE0001": {"lot": "L1"}} == upload(b"".join(frames), "a.csv.zst").rows


def test_zstd_with_a_long_window_is_not_called_damaged() -> None:
    zstandard = pytest.importorskip("zstandard")
    packing = zstandard.ZstdCompressionParameters(window_log=28, write_content_size=False)
    packer = zstandard.ZstdCompressor(compression_params=packing).compressobj()
    with pytest.raises(InvalidInput, match="pack it without --long"):
        upload(packer.compress(b"extended_id,lot\nCODE0001,L1\n") + packer.flush(), "a.csv.zst")
