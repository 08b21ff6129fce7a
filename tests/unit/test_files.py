"""Files as people have them: which values arrive, what is warned about, and what is refused or rejected."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import json
import lzma
import zipfile
from collections import namedtuple
from decimal import Decimal
from typing import Any

import pytest
import sqlalchemy as sa

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields
from uploaded import KEY, upload

np: Any = pytest.importorskip("numpy")
openpyxl: Any = pytest.importorskip("openpyxl")
pa: Any = pytest.importorskip("pyarrow")
pd: Any = pytest.importorskip("pandas")
pq: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("python_calamine")


def parquet(**columns: list[Any]) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


def sheet(*rows: list[Any]) -> bytes:
    book = openpyxl.Workbook()
    for row in rows:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


@pytest.mark.parametrize(
    ("cell", "value"),
    [
        ('="00123"', "00123"),
        ('"=""00123"""', "00123"),
        ('"=""say """"hi"""""""', 'say "hi"'),
        ("=1+1", "=1+1"),
    ],
)
def test_text_formula_of_excel_is_its_text_also_in_the_key(cell: str, value: str) -> None:
    assert {"CODE0001": {"lot": value}} == upload(f'extended_id,lot\n="CODE0001",{cell}\n').rows


@pytest.mark.parametrize(
    "text", ["nan", "NaN", "NaT", "None", "NULL", "null", "\\N", "<NA>", "#N/A", "#REF!", "N/A", "#DIV/0!"]
)
def test_placeholder_is_sent_with_one_warning_or_left_out(text: str) -> None:
    data = f"extended_id,lot,market\nCODE0001,{text},FR\nCODE0002,{text},FR\nCODE0003,x,FR\n"
    sent = upload(data)
    assert text == sent.rows["CODE0001"]["lot"]
    assert 1 == len(sent.warnings)
    assert "Field 'lot'" in sent.warnings[0]
    assert "2 rows, first in row 2" in sent.warnings[0]
    assert {"market": "FR"} == upload(data, null_values=[text]).rows["CODE0001"]


@pytest.mark.parametrize(
    ("text", "word"),
    [
        ("4.00638E+12", "lost digits"),
        ("4,00638E+12", "lost digits"),
        ("'00123", "apostrophe"),
        (" FR", "blanks"),
        ("FR ", "blanks"),
        ("FR\u00a0", "blanks"),
        ("31.12.2026", "not YYYY-MM-DD"),
    ],
)
def test_doubtful_value_is_sent_as_it_is_with_one_warning(text: str, word: str) -> None:
    sent = upload(f'extended_id;lot\nCODE0001;"{text}"\nCODE0002;"{text}"\n')
    assert text == sent.rows["CODE0002"]["lot"]
    assert 1 == len(sent.warnings)
    assert "Field 'lot'" in sent.warnings[0]
    assert word in sent.warnings[0]


@pytest.mark.parametrize("text", ["31-Dez-26", "45292"])
def test_odd_date_among_dates_joins_their_warning(text: str) -> None:
    among = upload(f"extended_id,day\nCODE0001,2026-11-01\nCODE0002,2026-11-02\nCODE0003,{text}\n")
    assert "not YYYY-MM-DD" in among.warnings[0]
    assert [] == upload(f"extended_id,lot\nCODE0001,{text}\nCODE0002,L1\n").warnings


def test_float_that_cannot_hold_its_digits_is_invalid_in_every_format() -> None:
    exact, lost = 4006381333931.0, 1e17
    lines = "".join(
        json.dumps({KEY: f"CODE000{n}", "ean": value}) + "\n" for n, value in enumerate((exact, lost))
    )
    out = io.BytesIO()
    pq.write_table(pa.table({KEY: ["CODE0000", "CODE0001"], "ean": [exact, lost]}), out)
    for found in (
        upload(lines, "rows.jsonl"),
        upload(out.getvalue(), "rows.parquet"),
        upload(sheet([KEY, "ean"], ["CODE0000", exact], ["CODE0001", lost]), "rows.xlsx"),
        upload([{KEY: "CODE0000", "ean": exact}, {KEY: "CODE0001", "ean": lost}]),
    ):
        assert "4006381333931" == str(found.rows["CODE0000"]["ean"])
        ((_, kind, reason),) = found.rejected
        assert "invalid" == kind
        assert "ean" in reason
        assert "text" in reason


def test_null_leaves_the_field_alone() -> None:
    assert {"CODE0001": {"market": "FR"}} == upload(
        '{"extended_id": "CODE0001", "lot": null, "market": "FR"}\n', "a.jsonl"
    ).rows


def test_index_of_pandas_is_no_field_unless_it_is_the_key() -> None:
    frame = pd.DataFrame({KEY: ["CODE0001", "CODE0002"], "lot": ["a", "b"]}, index=[5, 6])
    out = io.BytesIO()
    frame.to_parquet(out)
    assert {"lot": "a"} == upload(out.getvalue(), "a.parquet").rows["CODE0001"]
    out = io.BytesIO()
    frame.set_index(KEY).to_parquet(out)
    assert {"lot": "b"} == upload(out.getvalue(), "a.parquet").rows["CODE0002"]


def test_bytes_that_are_text_are_text() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({KEY: pa.array([b"CODE0001"]), "lot": pa.array([b"ABCD"], pa.binary(4))}), out)
    assert {"CODE0001": {"lot": "ABCD"}} == upload(out.getvalue(), "a.parquet").rows


def test_records_with_nothing_to_rename_are_not_copied() -> None:
    record = {KEY: "CODE0001", "lot": "1"}
    ((_, row),) = Fields(None, None, KEY).of_records([(1, record)], "rows")
    assert row is record


def test_blanks_around_names_and_extended_ids_are_stripped() -> None:
    data = "\ufeff extended_id\u00a0, lot \n CODE0001 ,1\n"
    assert {"CODE0001": {"lot": "1"}} == upload(data).rows


@pytest.mark.parametrize(
    ("head", "options", "word"),
    [
        ("Extended_ID,market", {}, "columns={'Extended_ID': 'extended_id'}"),
        ("Report of today,,\nextended_id,market", {}, "skip_rows=1"),
        ("CODE0000,FR", {}, "is the header missing"),
        ("serial,market", {}, "The file has 'serial', 'market' (delimiter ',', encoding utf-8)"),
        ("\ufeffextended_id,market", {"encoding": "cp1252"}, "leave encoding= out"),
    ],
)
def test_table_without_the_key_is_refused_at_its_header(
    head: str, options: dict[str, Any], word: str
) -> None:
    with pytest.raises(InvalidInput) as caught:
        upload(f"{head}\nCODE0001,FR\n", **options)
    assert word in str(caught.value)


@pytest.mark.parametrize(
    ("data", "options", "fields"),
    [
        ("sep=;\nextended_id;lot\nCODE0001;1,5\n", {}, {"lot": "1,5"}),
        ("A title\nand more\nextended_id,lot\nCODE0001,1\n", {"skip_rows": 2}, {"lot": "1"}),
        (
            "extended_id;weight (kg, net);price (EUR, net)\nCODE0001;1,5;12,50\n",
            {},
            {"weight (kg, net)": "1,5", "price (EUR, net)": "12,50"},
        ),
        (
            'extended_id,note\nCODE0001,"line one\nline two, with a comma"\n',
            {},
            {"note": "line one\nline two, with a comma"},
        ),
        ("extended_id,lot\n,\n  ,\nCODE0001,1\n\x1a", {}, {"lot": "1"}),
        ("extended_id,lot\nCODE0001,1\nextended_id,lot\n", {}, {"lot": "1"}),
    ],
)
def test_table_is_read_as_it_was_meant(data: str, options: dict[str, Any], fields: dict[str, str]) -> None:
    found = upload(data, **options)
    assert ({"CODE0001": fields}, []) == (found.rows, found.rejected)


def test_quote_that_swallows_rows_makes_them_unreadable() -> None:
    data = 'extended_id,lot,market\nCODE0001,"5 inch,FR\nCODE0002,2,FR\nCODE0003,3 inch",FR\nCODE0004,ok,FR\n'
    found = upload(data)
    assert {"CODE0004": {"lot": "ok", "market": "FR"}} == found.rows
    assert {"unreadable"} == {kind for _, kind, _ in found.rejected}
    assert 'quotechar=""' in found.rejected[0][2]


def test_file_cut_inside_its_last_row_is_refused_and_a_whole_one_is_warned_about() -> None:
    with pytest.raises(InvalidInput, match="truncated"):
        upload("extended_id,lot,market\nCODE0001,1,FR\nCODE0002,2")
    found = upload("extended_id,lot,market\nCODE0001,1,FR\nCODE0002,2,FR")
    assert 2 == len(found.rows)
    assert "no line end" in found.warnings[0]


def test_short_row_is_no_cut_file_where_others_follow() -> None:
    found = upload("extended_id,lot,market\nCODE0001,1\nCODE0002,2,FR")
    assert [(2, "unreadable")] == [(line, kind) for line, kind, _ in found.rejected]


def test_backslash_before_a_quote_survives_in_the_rejects() -> None:
    assert b'\\"' in upload('extended_id,note\nCODE0001,"a \\" b"\nCODE0002,x\n').rejects


@pytest.mark.parametrize(
    "text",
    [
        '[\n{"extended_id": "CODE0001", "lot": "1"}\n]',
        '[{"extended_id": "CODE0001", "lot": "1"}]',
        '{\n "extended_id": "CODE0001"\n}\n',
        '{"data": {"items": [{"extended_id": "CODE0001", "lot": "1"}]}}',
    ],
)
def test_json_of_another_shape_says_how_to_convert_it(text: str) -> None:
    with pytest.raises(InvalidInput, match=r"one object per line .* jq -c"):
        upload(text, "rows.json")


CSV = b"extended_id,lot\nCODE0001,1\n"


@pytest.mark.parametrize(
    ("data", "word"),
    [
        (bz2.compress(CSV, 1), "bzip2"),
        (bz2.compress(b""), "bzip2"),
        (b"Rar!\x1a\x07\x01\0" + b"x" * 100, "rar"),
        (parquet(extended_id=["CODE0001" * 100]), "Parquet"),
        (b"ARROW1\0\0\xff\xff\xff\xff", "Arrow"),
        (b"ORC\x11\0\0\n\x06\x12\x04\x08\x01P\0", "ORC"),
        (lzma.compress(CSV), "xz"),
        (b"7z\xbc\xaf\x27\x1c" + b"x" * 100, "7z"),
        (b"%PDF-1.4\n", "PDF"),
        (b"<!DOCTYPE html><html></html>", "HTML"),
        (b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + b"\0" * 600, "xls"),
        (b"", "empty"),
    ],
)
def test_file_of_another_kind_is_recognized_by_its_content(data: bytes, word: str) -> None:
    with pytest.raises(InvalidInput, match=word):
        upload(data)


@pytest.mark.parametrize("name", ["a.csv", "a.jsonl", "a.parquet", "a.xlsx"])
def test_zero_bytes_are_an_error_in_every_format(name: str) -> None:
    with pytest.raises(InvalidInput, match="empty"):
        upload(b"", name)


def test_packed_files_are_read() -> None:
    archive = io.BytesIO()
    with zipfile.ZipFile(archive, "w") as file:
        file.writestr("rows.csv", CSV)
    more = gzip.compress(CSV) + gzip.compress(b"extended_id,lot\nCODE0002,2\n")
    assert ["CODE0001"] == list(upload(gzip.compress(CSV), "a.csv.gz").rows)
    assert ["CODE0001"] == list(upload(gzip.compress(gzip.compress(CSV)), "a.csv.gz").rows)
    assert ["CODE0001"] == list(upload(archive.getvalue(), "a.csv").rows)
    assert ["CODE0001", "CODE0002"] == list(upload(more, "a.csv.gz").rows)
    with pytest.raises(InvalidInput, match="truncated"):
        upload(gzip.compress(CSV * 100)[:-9], "a.csv.gz")


def test_sheet_gives_the_values_that_a_person_sees() -> None:
    day = datetime.date(2026, 12, 31)
    data = sheet(
        [KEY, "lot", "ean", "day", "note"],
        ["CODE0001", "00123", 4006381333931, day, None],
        ["CODE0002", "x", "#REF!", day, "y"],
    )
    book = openpyxl.load_workbook(io.BytesIO(data))
    book.active["C3"].data_type = "e"
    out = io.BytesIO()
    book.save(out)
    found = upload(out.getvalue(), "a.xlsx")
    assert {
        "CODE0001": {"lot": "00123", "ean": "4006381333931", "day": "2026-12-31", "note": ""}
    } == found.rows
    assert [(3, "invalid")] == [(line, kind) for line, kind, _ in found.rejected]
    with pytest.raises(InvalidInput, match="'Sheet'"):
        upload(out.getvalue(), "a.xlsx", sheet="Other")


def test_numbers_and_dates_of_other_libraries_are_numbers_and_dates() -> None:
    tokyo = datetime.timezone(datetime.timedelta(hours=9))
    row = {
        KEY: "CODE0001",
        "a": np.int64(7),
        "b": np.float64(1.5),
        "c": Decimal("1.50"),
        "d": np.bool_(True),
        "e": datetime.datetime(2026, 1, 2, tzinfo=tokyo),
        "f": datetime.datetime(2026, 1, 2, 3, 4, tzinfo=tokyo),
    }
    (fields,) = upload([row]).rows.values()
    assert {
        "a": 7,
        "b": 1.5,
        "c": 1.5,
        "d": True,
        "e": "2026-01-02",
        "f": "2026-01-02T03:04:00+09:00",
    } == fields


@pytest.mark.parametrize(
    "missing", [None, float("nan"), np.float64("nan"), Decimal("NaN"), pd.NaT, pd.NA, np.datetime64("NaT")]
)
def test_missing_values_of_a_program_have_one_rule(missing: Any) -> None:
    ((_, kind, reason),) = upload([{KEY: "CODE0001", "lot": missing}]).rejected
    assert "invalid" == kind
    assert "leave the field out" in reason


def test_data_frame_says_what_to_give_instead() -> None:
    with pytest.raises(InvalidInput, match=r'to_dict\("records"\)'):
        upload(pd.DataFrame({KEY: ["CODE0001"]}))


def test_list_of_paths_names_mapping() -> None:
    with pytest.raises(InvalidInput, match=r"\.expand\(source="):
        upload(["/data/a.csv", "/data/b.csv"])


@pytest.mark.parametrize("name", ["ORCHARD", "PAR1", "ARROW1", "BZh9", "BZhome", "Rar!", "Object"])
def test_table_whose_first_name_begins_like_a_binary_file_is_a_table(name: str) -> None:
    assert {"CODE0001": {name: "A"}} == upload(f"{name},extended_id\nA,CODE0001\n").rows


def test_marks_of_direction_around_names_and_keys_are_removed() -> None:
    data = "\u200eextended_id,\u061clot\u200d\n\u202aCODE0001\u202c\u00ad,L1\n"
    assert {"CODE0001": {"lot": "L1"}} == upload(data).rows


def test_rows_of_databases_are_rows() -> None:
    columns = (sa.literal("A1234567").label(KEY), sa.literal("L1").label("lot"))
    with sa.create_engine("sqlite://").connect() as connection:
        of_sqlalchemy = connection.execute(sa.select(*columns)).all()
    bottle = namedtuple("bottle", ["extended_id", "lot"])
    for rows in (of_sqlalchemy, [bottle("A1234567", "L1")]):
        assert {"A1234567": {"lot": "L1"}} == upload(rows).rows


def test_open_file_in_place_of_rows_is_refused_with_advice() -> None:
    with pytest.raises(InvalidInput, match="is an open file; give its path"):
        upload(io.StringIO("extended_id,lot\nCODE0001,1\n"))


def test_rows_of_mapped_tasks_in_place_of_rows_are_rejected_with_advice() -> None:
    ((_, _, reason),) = upload([[{KEY: "CODE0001", "lot": "1"}]]).rejected
    assert "not a dict but list; give rows of mapped tasks as `items`" in reason
