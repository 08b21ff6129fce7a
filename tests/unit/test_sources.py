"""Reading what is to be uploaded: formats, encodings, names, and files that are not as they should be."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
import re
import sys
from collections.abc import Callable
from decimal import Decimal
from itertools import chain
from typing import Any, BinaryIO

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources import text as text_module
from airflow_provider_scantrust.sources.delimited import DelimitedSource, Table
from airflow_provider_scantrust.sources.opening import RowSource, Source, UnreadableRow, open_source
from airflow_provider_scantrust.sources.tables import Columns, Fields
from airflow_provider_scantrust.uploads.spool import Spool

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
zstandard: Any = pytest.importorskip("zstandard")

Read = list[tuple[int, Any]]


def source(data: bytes | str, name: str = "rows.csv", **options: Any) -> Source:
    packed = data.encode() if isinstance(data, str) else data
    return open_source(name, lambda: io.BytesIO(packed), **options)


def read(data: bytes | str, name: str = "rows.csv", **options: Any) -> Read:
    return list(source(data, name, **options))


def reasons(rows: Read) -> dict[int, str]:
    return {line: row.reason for line, row in rows if isinstance(row, UnreadableRow)}


def parquet(**columns: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.table(columns), out)
    return out.getvalue()


# CSV


def test_values_stay_text() -> None:
    values = {
        "id": "007",
        "long": "12345678901234567890123",
        "null": "NULL",
        "nan": "NaN",
        "e": "1e5",
        "empty": "",
    }
    assert [(2, values)] == read(f"{','.join(values)}\n{','.join(values.values())}\n")


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_line_is_where_the_record_begins(end: str) -> None:
    lines = ["id,note", "", 'A,"one', 'two"', "B,x", "  ", "C,y"]
    rows = [
        (3, {"id": "A", "note": f"one{end}two"}),
        (5, {"id": "B", "note": "x"}),
        (7, {"id": "C", "note": "y"}),
    ]
    assert rows == read(end.join(lines))


def test_lines_end_where_python_ends_them_and_not_at_every_separator_of_unicode() -> None:
    odd = "a\x0bb\x0cc\x1cd\x85e\u2028f"
    assert [(2, {"id": "A", "note": odd}), (3, {"id": "B", "note": ""})] == read(f"id,note\nA,{odd}\nB,\n")


def test_blocks_of_any_size_give_the_same_rows(monkeypatch: pytest.MonkeyPatch) -> None:
    data = 'id;note\r\nA;"x\r\ny"\r\n\r\nÄ;ö\r\n'.encode()
    expected = [(2, {"id": "A", "note": "x\r\ny"}), (5, {"id": "Ä", "note": "ö"})]
    for size in range(1, len(data) + 1):
        monkeypatch.setattr(text_module, "_BLOCK", size)
        assert expected == read(data)
        assert expected == read(gzip.compress(data))


@pytest.mark.parametrize(
    ("header", "record", "delimiter"),
    [
        ("a,b", "1,2", ","),
        ("a;b", "1,5;2,5", ";"),
        ("a\tb", "1\t2,3", "\t"),
        ("a|b", "1|2", "|"),
        ('"a,b,c";d', "1;2", ";"),
        ("key;weight, kg;price, EUR", "A;1;2", ";"),
        ("key,weight; kg,price; EUR", "A,1,2", ","),
        ("id", "A;B", "none"),
    ],
)
def test_delimiter_is_found_in_the_header(header: str, record: str, delimiter: str) -> None:
    expected = next(csv.reader([header], delimiter=delimiter)) if delimiter != "none" else [header]
    assert expected == list(read(f"{header}\n{record}\n")[0][1])


@pytest.mark.parametrize("size", ['5" nail', 'a 5" and a 6"', '"5"" nail"'])
def test_inch_mark_in_the_first_row_hides_no_delimiter(size: str) -> None:
    rows = read(f"extended_id;weight, kg;size\nK0;1,5;{size}\nK1;1;1\n")
    assert ["1,5", "1"] == [row["weight, kg"] for _, row in rows]
    long = "".join(f"K{number},{'x' * 2000}\n" for number in range(1200))
    assert 1201 == len(read(f"id,size\nK0,{size}\n{long}"))


def test_lines_of_a_cell_that_is_too_long_are_no_rows() -> None:
    half = "a" * (text_module.LONGEST_LINE // 2 + 1000)
    with pytest.raises(InvalidInput, match="field limit"):
        read(f'id,market\nK0,"{half}\n{half}\nWINE1,FR\nend"\n')


def test_all_columns_may_be_left_out() -> None:
    (batch,) = source("a\n1\n2\n", columns={"a": None}).batches(500)
    assert isinstance(batch, Columns)
    assert [(2, {}), (3, {})] == list(batch.rows())


def test_zeros_after_a_packed_file_are_padding_however_many() -> None:
    packed = gzip.compress(b"id,lot\nA,1\n")
    assert [(2, {"id": "A", "lot": "1"})] == read(packed + bytes(100_000), "rows.csv.gz")
    assert 2 == len(read(packed + bytes(50_000) + gzip.compress(b"B,2\n"), "rows.csv.gz"))


def test_given_delimiter_is_taken() -> None:
    assert [(2, {"a;b": "1", "c": "2;3"})] == read("a;b^c\n1^2;3", delimiter="^")
    assert [(2, {"a,b": "1", "c": "2"})] == read("a,b\tc\n1\t2", name="rows.tsv")
    assert [(2, {"a,b": "1", "c": "2"})] == read("a,b\tc\n1\t2", delimiter="\\t")


def test_given_quote_is_taken() -> None:
    assert [(2, {"id": "A", "a,b": "it's 5\"\nlong"})] == read("id,'a,b'\nA,'it''s 5\"\nlong'", quotechar="'")
    # It is no delimiter then, however often it stands there.
    assert [(2, {"id": "A", "b|c": "1"})] == read("|id|,|b||c|\n|A|,|1|", quotechar="|")


def test_without_quotes_they_are_part_of_the_value() -> None:
    assert [(2, {"id": '"A', '"size"': '5" and 3"'})] == read('id,"size"\n"A,5" and 3"\n', quotechar="")
    assert [(2, {"id": "A", "size": '"'}), (3, {"id": "B", "size": ""})] == read(
        'id\tsize\nA\t"\nB\t', quotechar="", name="rows.tsv"
    )


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-16", "utf-32"])
def test_encoding_is_found_by_its_mark(encoding: str) -> None:
    assert [(2, {"id": "Ä", "note": "漢"})] == read("id,note\nÄ,漢\n".encode(encoding))


def test_mark_is_no_part_of_the_first_name_when_the_encoding_is_given() -> None:
    assert [(2, {"id": "A"})] == read("id\nA\n".encode("utf-8-sig"), encoding="utf-8")
    assert [(2, {"id": "A"})] == read("\ufeffid\nA\n".encode("utf-16-be"), encoding="utf-16-be")


def test_byte_that_is_no_utf8_is_named_with_its_line() -> None:
    data = "id,note\n" + "A,x\r\n" * 70_000 + "B,Käse\n"
    said = r"rows.csv, line 70002: byte 0xE4 is not utf-8\. Give the file's encoding, for example encoding='cp1252'"
    with pytest.raises(InvalidInput, match=said):
        read(data.encode("cp1252"))
    assert (70_002, {"id": "B", "note": "Käse"}) == read(data.encode("cp1252"), encoding="cp1252")[-1]


@pytest.mark.parametrize("data", ["id\nä\n".encode("utf-16-le"), b"\x00\x00\x00\x00"])
def test_nul_in_the_header_asks_for_the_encoding(data: bytes) -> None:
    with pytest.raises(InvalidInput, match=r"NUL characters.*encoding='utf-16-le'|byte 0x"):
        read(data)


@pytest.mark.parametrize(
    ("record", "reason"),
    [
        ("B", "it has 1 cells, and the header has 2 columns"),
        ("B,1,2", "it has 3 cells, and the header has 2 columns"),
        ("B,x\0y", "it holds a NUL character"),
        ('B,"x"y', "it is no good CSV: ',' expected after '\"'"),
        ('B,"x\nz"y', "it is no good CSV: ',' expected after '\"' (lines 3 to 4)"),
    ],
)
def test_bad_record_is_reported_in_its_place(record: str, reason: str) -> None:
    rows = read(f"id,note\nA,1\n{record}\nC,2\n")
    assert {3: reason} == reasons(rows)
    assert [{"id": "A", "note": "1"}, {"id": "C", "note": "2"}] == [rows[0][1], rows[2][1]]
    assert 3 == len(rows)


def test_quote_that_is_never_closed_names_its_line() -> None:
    with pytest.raises(
        InvalidInput, match=r"line 3: the record that begins here has not ended by line 5 .*cut off"
    ):
        read('id,note\nA,1\nB,"x\nC,2\nD,3\n')


def test_quote_that_swallows_many_records_is_no_single_bad_row() -> None:
    with pytest.raises(InvalidInput, match=r"line 2: the record that begins here has not ended by line 2003"):
        read('id,note\nA,"x\n' + "B,1\n" * 2000 + 'C,"y"\n')


def test_overlong_line_and_overlong_field_are_refused() -> None:
    with pytest.raises(InvalidInput, match=r"rows.csv, line 3: the line is longer than 1 Mi characters"):
        read(b"id,note\nA,1\nB," + b"x" * (17 * 1024**2))
    swallowed = b'id,note\nA,"' + b"B,1234567890\n" * 1_400_000
    with pytest.raises(InvalidInput, match=r"line 2: the record that begins here has not ended by line"):
        read(swallowed)
    assert text_module.LONGEST_LINE <= csv.field_size_limit()
    many = b"id,note\n" + b"".join(b'%d,"%s"\n' % (number, b"x\n" * 5_000) for number in range(500))
    assert len(many) > 4 * text_module.LONGEST_LINE
    assert 500 == len(read(many))


@pytest.mark.parametrize(
    ("data", "said"),
    [
        ("", "the file is empty; its first line must name the columns"),
        ("\n \n", "the file is empty"),
        ("id,lot,lot\nA,1,2", "two columns are called 'lot'"),
        ("id,,lot\nA,1,2", r"column 2 of 3 has no name.*columns=\{'': None\}"),
        ('id,"lot\nA,1', "the header is no good CSV"),
    ],
)
def test_bad_header_is_refused(data: str, said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read(data)


def test_header_alone_has_no_rows() -> None:
    assert [] == read("id,lot\n")


# Names


def test_columns_rename_leave_out_and_keep() -> None:
    data = "Serial,Batch,Clerk,plant,\nA,7,Bob,Vienna,\n"
    columns = {"Serial": "extended_id", "Batch": "lot_number", "Clerk": None, "": None}
    row = {"extended_id": "A", "lot_number": "7", "plant": "Vienna", "source": 1}
    assert [(2, row)] == read(data, columns=columns, constants={"source": 1})


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"columns": {"Lot": "lot_number"}},
            r"there is no column 'Lot', which columns= names. The file has 'id', 'lot'",
        ),
        ({"columns": {"Lot": None}}, r"there is no column 'Lot'"),
        ({"columns": {"lot": "id"}}, r"the columns 'id' and 'lot' would both become the field 'id'"),
        ({"constants": {"lot": "1"}}, r"the column 'lot' would be the field 'lot', a constant"),
        (
            {"columns": {"id": "lot2", "lot": "x"}, "constants": {"x": 1}},
            r"the column 'lot' would be the field 'x'",
        ),
    ],
)
def test_columns_that_do_not_fit_are_refused(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read("id,lot\nA,1\n", **options)
    with pytest.raises(InvalidInput, match=said):
        read(parquet(id=["A"], lot=["1"]), "rows.parquet", **options)


@pytest.mark.parametrize(
    ("options", "said"),
    [
        (
            {"columns": {"Lot": "lot_number"}},
            r"no row has 'Lot', which columns= names. The first row has 'id', 'lot'",
        ),
        ({"columns": {"lot": "id"}}, r"line 1: 'lot' and another column would both become the field 'id'"),
        ({"constants": {"lot": "1"}}, r"line 1: 'lot' would be the field 'lot', a constant"),
    ],
)
def test_columns_that_do_not_fit_are_refused_in_rows_too(options: dict[str, Any], said: str) -> None:
    with pytest.raises(InvalidInput, match=said):
        read('{"id": "A", "lot": "1"}\n', "rows.jsonl", **options)
    with pytest.raises(InvalidInput, match=said.replace("line 1", "rows, line 1")):
        list(RowSource([{"id": "A", "lot": "1"}], **options))


@pytest.mark.parametrize(
    ("name", "options", "said"),
    [
        (
            "rows.xlsx",
            {},
            "the name does not tell the format. Give source_format=, one of csv, tsv, jsonl, parquet",
        ),
        ("rows.csv", {"format": "xml"}, "format='xml' is not known"),
        ("rows.csv", {"encoding": "klingon"}, "encoding='klingon' is no text encoding"),
        ("rows.jsonl", {"encoding": "hex"}, "encoding='hex' is no text encoding"),
        ("rows.csv", {"delimiter": ";;"}, "must be one character"),
        ("rows.csv", {"delimiter": '"'}, "must be one character"),
        ("rows.csv", {"delimiter": "e"}, "neither quote, line end, letter nor digit"),
        ("rows.jsonl", {"delimiter": ","}, "delimiter= is for csv and tsv"),
        ("rows.csv", {"quotechar": "''"}, "quotechar=\"''\" must be one character"),
        ("rows.csv", {"quotechar": ";", "delimiter": ";"}, "not the delimiter"),
        ("rows.csv", {"quotechar": "\n"}, "must be one character"),
        ("rows.parquet", {"quotechar": ""}, "quotechar= is for csv and tsv"),
        ("rows.parquet", {"encoding": "utf-8"}, "encoding= is for text files"),
        ("rows.csv", {"columns": ["id"]}, "columns must be a dict, not list"),
        ("rows.csv", {"columns": {"id": ""}}, "'' is no name of an SCM field"),
        ("rows.csv", {"constants": {1: "x"}}, "1 is no name of an SCM field"),
    ],
)
def test_argument_that_cannot_work_is_found_before_the_file_is_opened(
    name: str, options: dict[str, Any], said: str
) -> None:
    def fail() -> BinaryIO:
        raise AssertionError("opened")

    with pytest.raises(ConfigurationError, match=said):
        open_source(name, fail, **options)


@pytest.mark.parametrize(
    ("name", "format"),
    [
        ("a/B.CSV", "csv"),
        ("s3://aws@bucket/x.tsv.gz", "tsv"),
        ("x.ndjson.zst", "jsonl"),
        ("x.jsonl", "jsonl"),
        ("x.parquet", "parquet"),
    ],
)
def test_name_tells_the_format(name: str, format: str) -> None:
    assert format == open_source(name, io.BytesIO).format


# Packed files


def pack_zstd(data: bytes) -> bytes:
    return bytes(zstandard.ZstdCompressor().compress(data))


@pytest.mark.parametrize("pack", [gzip.compress, pack_zstd])
def test_packed_file_is_read_whatever_its_name(pack: Callable[[bytes], bytes]) -> None:
    lot = "2" * 50
    data, more = b"id,lot\nA,1\n", f"B,{lot}\n".encode() * 10_000
    expected = [
        (2, {"id": "A", "lot": "1"}),
        *((line, {"id": "B", "lot": lot}) for line in range(3, 10_003)),
    ]
    for name in ("rows.csv", "rows.csv.gz", "rows.csv.zst"):
        assert expected == read(pack(data) + pack(more), name)
    assert expected[:1] == read(data, "unpacked-by-the-store.csv.gz")
    assert expected[:1] == read(gzip.compress(data) + bytes(512))


@pytest.mark.parametrize("pack", [gzip.compress, pack_zstd])
def test_packed_file_that_is_cut_or_damaged_names_the_line_reached(pack: Callable[[bytes], bytes]) -> None:
    rows = pack(b"id,lot\n" + b"".join(b"%d,%d\n" % (i, i**5) for i in range(40_000)))
    with pytest.raises(InvalidInput, match=r"rows.csv: the \w+ data is cut off after line [1-9]\d+\."):
        read(rows[:-5])
    with pytest.raises(InvalidInput, match=r"rows.csv: the \w+ data is (damaged|cut off) after line \d+"):
        read(rows[: len(rows) // 2] + b"\xff" * 64 + rows[len(rows) // 2 + 64 :])


@pytest.mark.parametrize("pack", [gzip.compress, pack_zstd])
def test_bomb_is_refused_at_the_longest_line(pack: Callable[[bytes], bytes]) -> None:
    with pytest.raises(InvalidInput, match=r"line 2: the line is longer"):
        read(pack(b"id\n" + bytes(40 * 1024**2)))


def test_missing_library_names_its_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    packed, table = pack_zstd(b"id\nA\n"), parquet(id=["A"])
    for module in ("zstandard", "pyarrow", "pyarrow.parquet"):
        monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(ConfigurationError, match=r"Install airflow-provider-scantrust\[zstd\]"):
        read(packed)
    with pytest.raises(ConfigurationError, match=r"Install airflow-provider-scantrust\[parquet\]"):
        read(table, "rows.parquet")


def test_error_of_the_storage_passes_through() -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1, /) -> bytes:
            raise TimeoutError("storage")

    for name in ("rows.csv", "rows.jsonl", "rows.parquet"):
        with pytest.raises(TimeoutError, match="storage"):
            list(open_source(name, lambda: Broken(b"PAR1" * 100)))


@pytest.mark.parametrize("size", [1, 2, 3, 500])
@pytest.mark.parametrize(
    "options", [{}, {"columns": {"lot": None, "date": "day"}, "constants": {"market": "FR"}}]
)
def test_batches_hold_the_same_rows(size: int, options: dict[str, Any]) -> None:
    data = 'id,lot,date\nA,1,x\nB,2,y\nC,3\n\nD,"4\n4",z\nE,"5"5,z\nF,6,z\nG,7,z\n'
    pairs: Read = []
    for batch in source(data, **options).batches(size):
        rows = list(batch.rows() if isinstance(batch, Columns) else batch)
        assert 1 <= len(rows) <= size
        pairs += rows
    assert read(data, **options) == pairs
    assert [2, 3, 4, 6, 8, 9, 10] == [line for line, _ in pairs]
    assert {4, 8} == reasons(pairs).keys()


RECORDS = [
    "A,1",
    'B,"2',
    'C,"x\ny"',
    'D,"x\r\n\ry"',
    "E",
    "F,1,2",
    'G,"5"5',
    'H,"\n"6',
    "I,\0",
    "",
    " ",
    '"',
] + ["J,7"] * 12


@given(
    st.lists(st.tuples(st.sampled_from(RECORDS), st.sampled_from(["\n", "\n", "\r\n", "\r"])), max_size=20),
    st.integers(2, 9),
)
def test_records_are_the_same_one_by_one_and_many_at_once(records: list[tuple[str, str]], size: int) -> None:
    data = ("id,note\n" + "".join(chain.from_iterable(records))).encode()

    def read_by(size: int) -> list[Any]:
        raw = io.BytesIO(data)
        table = Table(DelimitedSource("rows.csv", lambda: raw, Fields(None, None)), raw, keep_text=True)
        found: list[Any] = []
        try:
            for lines, rows, problem in table.runs(size):
                found += [(line, cells, problem) for line, cells in zip(lines, rows, strict=True)]
        except InvalidInput as error:
            found.append(str(error))
        return found

    assert read_by(1) == read_by(size)


@given(st.lists(st.sampled_from(["A,1", "B,2", " ,3", "A,4", "short", "2026-1-1,1/1/2026"]), max_size=30))
def test_columns_are_checked_as_rows_are(lines: list[str]) -> None:
    data = "\n".join(["id,lot", *lines])
    kept = []
    for rows in (source(data), iter(source(data))):
        with Spool("id") as spool:
            told: list[str] = []
            spool.fill(rows, warn=told.append)
            kept.append((spool.fingerprint, spool.rows, spool.merged, list(spool.rejects()), told))
    assert kept[0] == kept[1]


def test_file_is_opened_anew_for_each_reading_and_closed() -> None:
    opened: list[io.BytesIO] = []

    def open_file() -> BinaryIO:
        opened.append(io.BytesIO(b"id,lot\nA,1\nB,2\n"))
        return opened[-1]

    rows = open_source("rows.csv", open_file)
    assert [] == opened
    assert list(rows) == list(rows)
    next(iter(rows))
    assert [True] * 3 == [file.closed for file in opened]


# JSON lines, rows


def test_json_numbers_are_the_text_that_stands_there() -> None:
    line = '{"a": 12345678901234567890, "b": 1.50, "c": 1E3, "d": "007", "e": null, "f": true, "g": [1]}\n'
    row = {"a": "12345678901234567890", "b": "1.50", "c": "1E3", "d": "007", "e": None, "f": True, "g": ["1"]}
    assert [(2, row)] == read("\n" + line, "rows.jsonl")


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("{", "it is no good JSON"),
        ('{"a": NaN}', "it is no good JSON: NaN is no JSON"),
        ('{"a": 1, "a": 2}', "it has the name 'a' twice"),
        ("7", "it is no JSON object but str"),
        ("[" * 100_000, "it is no good JSON"),
    ],
)
def test_bad_line_is_reported_in_its_place(line: str, reason: str) -> None:
    rows = read(f'{{"id": "A"}}\n{line}\n{{"id": "C"}}', "rows.jsonl")
    assert [1, 2, 3] == [line for line, _ in rows]
    assert reasons(rows)[2].startswith(reason)


def test_json_array_and_cut_file_are_refused_whole() -> None:
    with pytest.raises(InvalidInput, match="this is a JSON array; it must be one object a line"):
        read('[\n{"id": "A"},\n{"id": "B"}\n]\n', "rows.json")
    with pytest.raises(InvalidInput, match="line 2: the file is cut off"):
        read('{"id": "A"}\n{"id": "B', "rows.jsonl")


def test_rows_of_a_program_are_numbered_and_kept_as_they_are() -> None:
    day = datetime.date(2024, 5, 1)
    rows = RowSource([{"id": 1, "day": day}, ["id"]], columns={"id": "extended_id"}, constants={"lot": "7"})
    assert [
        (1, {"extended_id": 1, "day": day, "lot": "7"}),
        (2, UnreadableRow("it is no dict but list")),
    ] == list(rows)
    assert rows.restartable
    assert list(rows) == list(rows)


def test_iterator_of_rows_says_that_it_cannot_be_read_again() -> None:
    rows = RowSource(iter([{"id": "A"}]))
    assert not rows.restartable
    assert [(1, {"id": "A"})] == list(rows)
    with pytest.raises(ConfigurationError, match="were read already"):
        list(rows)


@pytest.mark.parametrize("rows", [{"id": "A"}, "rows.csv", 7])
def test_what_is_no_list_of_rows_is_refused(rows: Any) -> None:
    with pytest.raises(InvalidInput, match="must be a list of rows"):
        RowSource(rows)


# Parquet


@pytest.mark.parametrize(
    ("values", "kind", "texts"),
    [
        (["007", ""], pa.string(), ["007", ""]),
        (["007", "007"], pa.dictionary(pa.int8(), pa.string()), ["007", "007"]),
        ([b"K\xc3\xa4se"], pa.binary(), ["Käse"]),
        ([2**63, 1], pa.uint64(), ["9223372036854775808", "1"]),
        ([True, False], pa.bool_(), ["true", "false"]),
        (
            [7.0, 0.1, 1234567890123456.0, -0.0, 1e22],
            pa.float64(),
            ["7", "0.1", "1234567890123456", "0", "1e+22"],
        ),
        ([0.1, 7.0], pa.float32(), ["0.1", "7"]),
        ([Decimal("12.50"), Decimal("0.00")], pa.decimal128(9, 2), ["12.50", "0.00"]),
        ([Decimal("0E-9")], pa.decimal128(12, 9), ["0.000000000"]),
        ([datetime.date(2024, 5, 1)], pa.date32(), ["2024-05-01"]),
        ([datetime.time(6, 5)], pa.time64("us"), ["06:05:00"]),
        (
            [datetime.datetime(2024, 5, 1), datetime.datetime(2024, 5, 1, 6, 5)],
            pa.timestamp("ns"),
            ["2024-05-01", "2024-05-01T06:05:00"],
        ),
        (
            [
                datetime.datetime(2024, 4, 30, 22, tzinfo=datetime.UTC),
                datetime.datetime(2024, 5, 1, tzinfo=datetime.UTC),
            ],
            pa.timestamp("us", "Europe/Vienna"),
            ["2024-05-01", "2024-05-01T02:00:00+02:00"],
        ),
    ],
)
def test_parquet_values_become_text(values: list[Any], kind: Any, texts: list[str]) -> None:
    rows = read(parquet(x=pa.array(values, kind)), "rows.parquet")
    assert [(row, {"x": text}) for row, text in enumerate(texts, start=1)] == rows


def test_parquet_moment_beyond_all_calendars_is_no_other_moment() -> None:
    moments = pa.array([0, 9223372036854775807], pa.timestamp("ms"))
    with pytest.raises(InvalidInput, match="column 'at'"):
        list(source(parquet(id=["A", "B"], at=moments), "rows.parquet"))


def test_parquet_null_leaves_the_field_out() -> None:
    data = parquet(id=["A", "B"], lot=[None, "1"], none=pa.nulls(2), x=[None, 1.5])
    expected = [(1, {"id": "A", "c": 1}), (2, {"id": "B", "lot": "1", "x": "1.5", "c": 1})]
    assert expected == read(data, "rows.parquet", constants={"c": 1})


def test_parquet_value_that_cannot_be_sent_is_reported_in_its_place() -> None:
    data = parquet(id=["A", "B", "C"], x=[1.0, float("nan"), 2.0], y=pa.array([b"a", b"b", b"\xff"]))
    rows = read(data, "rows.parquet")
    assert {
        2: "column 'x': nan is no number that can be sent",
        3: "column 'y': the bytes are no utf-8",
    } == reasons(rows)


def test_parquet_column_of_lists_must_be_left_out() -> None:
    data = parquet(id=["A"], tags=[["x"]])
    with pytest.raises(
        InvalidInput, match=r"column 'tags': values of type list<.*giving None for it in columns="
    ):
        read(data, "rows.parquet")
    assert [(1, {"id": "A"})] == read(data, "rows.parquet", columns={"tags": None})


@pytest.mark.parametrize("keep", [0, 3, 100, -20])
def test_parquet_file_that_is_cut_is_refused(keep: int) -> None:
    data = parquet(id=[str(number) for number in range(10_000)])
    with pytest.raises(InvalidInput, match=r"rows.parquet: this cannot be read as Parquet"):
        read(data[:keep], "rows.parquet")


def test_parquet_file_that_is_damaged_is_refused() -> None:
    data = bytearray(parquet(id=[str(number) for number in range(10_000)]))
    data[4:400] = bytes(396)
    with pytest.raises(InvalidInput, match=r"rows.parquet: this cannot be read as Parquet"):
        read(bytes(data), "rows.parquet")


# Any table


@st.composite
def tables(draw: st.DrawFn) -> tuple[list[str], list[list[str]], dict[str, Any], str]:
    """Return header, records, csv.writer's options, encoding."""
    encoding = draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "cp1252"]))
    # NUL is a problem of its own, and a byte order mark at the very beginning is none of the header.
    alphabet = (
        st.sampled_from([chr(code) for code in range(1, 127)] + list("€äß"))
        if encoding == "cp1252"
        else st.characters(exclude_categories=["Cs"], exclude_characters="\0\ufeff")
    )
    cell = st.text(alphabet | st.sampled_from(",;\t|\"'\r\n"), max_size=6)
    header = draw(st.lists(cell.filter(str.strip), min_size=1, max_size=4, unique=True))
    width = len(header)
    records = draw(st.lists(st.lists(cell, min_size=width, max_size=width), max_size=4))
    options = {
        "delimiter": draw(st.sampled_from(",;\t|^")),
        "quotechar": draw(st.sampled_from("\"'~")),
        "quoting": draw(st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        "lineterminator": draw(st.sampled_from(["\n", "\r\n", "\r"])),
    }
    if options["quoting"] == csv.QUOTE_MINIMAL and re.search(r"[\r\n]", "".join(chain(header, *records))):
        # csv.writer before Python 3.13 quotes none but the characters of its own line end.
        options["lineterminator"] = "\r\n"
    return header, records, options, encoding


@given(table=tables(), packed=st.booleans())
def test_any_table_is_read_back_as_it_was_written(
    table: tuple[list[str], list[list[str]], dict[str, Any], str], packed: bool
) -> None:
    header, records, options, encoding = table
    text = io.StringIO(newline="")
    csv.writer(text, **options).writerows([header, *records])
    data = text.getvalue().encode(encoding)
    given_encoding = encoding if encoding == "cp1252" else None
    dialect = {name: options[name] for name in ("delimiter", "quotechar")}
    rows = read(gzip.compress(data) if packed else data, encoding=given_encoding, **dialect)
    assert [dict(zip(header, record, strict=True)) for record in records] == [row for _, row in rows]


@given(st.lists(st.dictionaries(st.text(), st.text() | st.none() | st.booleans())))
def test_any_json_lines_are_read_back_as_they_were_written(rows: list[dict[str, Any]]) -> None:
    data = "".join(json.dumps(row) + "\n" for row in rows)
    assert list(enumerate(rows, start=1)) == read(data, "rows.jsonl")
