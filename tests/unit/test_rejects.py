"""The rejects file: what did not arrive, ready to be mended and uploaded again."""

from __future__ import annotations

import csv
import datetime
import gzip
import io
import json
from collections.abc import Callable, Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.opening import RowSource, Source, UnreadableRow, open_source
from airflow_provider_scantrust.uploads.rejects import check_rejects_name, read_line_rejects, write_rejects

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("zstandard")

ADDED = ["rejected_line", "rejected_kind", "rejected_reason"]


def source(data: bytes, name: str, **options: Any) -> Source:
    return open_source(name, lambda: io.BytesIO(data), **options)


def rejects(of: Source, reasons: Mapping[int, tuple[str, str]], name: str = "rejects") -> bytes:
    out = io.BytesIO()
    assert len(reasons) == write_rejects(of, in_order(reasons), out, name=name)
    return out.getvalue()


def in_order(reasons: Mapping[int, tuple[str, str]]) -> Callable[[], list[tuple[int, str, str]]]:
    return lambda: [(line, *reason) for line, reason in sorted(reasons.items())]


def refused(*lines: int) -> dict[int, tuple[str, str]]:
    return dict.fromkeys(lines, ("refused", "Invalid value."))


# CSV


def test_rows_keep_names_values_delimiter_encoding_and_line_ends() -> None:
    data = 'Serial;Menge, kg;\r\nA;1;\r\nÄ;"5;5";x\r\n\r\nC; 007 ;"a\r\nb"\r\n'.encode("utf-16")
    columns = {"Serial": "extended_id", "Menge, kg": None, "": None}
    reasons = {3: ("refused", "Not valid;\nsee 'lot'."), 5: ("unmatched", "no code")}
    written = rejects(source(data, "rows.csv", columns=columns, constants={"x": "1"}), reasons)
    expected = [
        [*ADDED, "Serial", "Menge, kg", ""],
        ["3", "refused", "Not valid; see 'lot'.", "Ä", "5;5", "x"],
        ["5", "unmatched", "no code", "C", " 007 ", "a\r\nb"],
    ]
    text = written.decode("utf-16")
    assert expected == list(csv.reader(io.StringIO(text, newline=""), delimiter=";"))
    assert text.endswith('"a\r\nb"\r\n')


@pytest.mark.parametrize(("quotechar", "delimiter"), [("'", ","), ("", ","), ("", "\t"), ("|", ";")])
def test_rejects_are_quoted_as_the_source_is(quotechar: str, delimiter: str) -> None:
    data = "id,size\nA,5\"\nB,3'\n".replace(",", delimiter).encode()
    options = {"quotechar": quotechar, "delimiter": delimiter}
    of = source(data, "rows.csv", **options)
    written = rejects(of, {3: ("refused", "Neither ' nor \", this, that\t nor;\nothers")})
    again = source(written, "rejects.csv", **options)
    assert [(2, {"id": "B", "size": "3'"})] == list(again)
    reasons = source(written, "rejects.csv", columns={name: name for name in ADDED}, **options)
    ((_, row),) = reasons
    assert isinstance(row, dict)
    assert ("3", "refused") == (row["rejected_line"], row["rejected_kind"])
    assert "Neither ' nor \"" in row["rejected_reason"]


def test_record_without_quotes_that_is_no_row_stays_none() -> None:
    of = source(b"id,size\nA,5,6\n", "rows.csv", quotechar="")
    written = rejects(of, {2: ("unreadable", "3 cells")})
    ((line, row),) = source(written, "rejects.csv", quotechar="")
    assert (2, UnreadableRow) == (line, type(row))


def test_mended_rejects_file_can_be_uploaded_as_it_is() -> None:
    columns = {"Serial": "extended_id"}
    written = rejects(source(b"Serial,lot\nA,1\nB,2\nC,3\n", "rows.csv", columns=columns), refused(2, 4))
    mended = written.replace(b'"3"', b'"three"')
    again = source(mended, "rejects.csv", columns=columns)
    assert [(2, {"extended_id": "A", "lot": "1"}), (3, {"extended_id": "C", "lot": "three"})] == list(again)


def test_columns_that_only_look_like_ours_stay() -> None:
    row = {"id": "A", "rejected_by": "Bob", "rejected_reason": "dented"}
    assert [(2, row)] == list(source(b"id,rejected_by,rejected_reason\nA,Bob,dented\n", "rows.csv"))
    assert [(1, row)] == list(source(json.dumps(row).encode(), "rows.jsonl"))
    named = source(
        rejects(source(b"id\nA\n", "rows.csv"), refused(2)), "x.csv", columns={"rejected_kind": "kind"}
    )
    assert [(2, {"id": "A", "kind": "refused"})] == list(named)


BAD = [b"B\n", b"B,1,2,3\n", b'B,"x"y\n', b'B,"x\nz"y\n', b"B,x\0y\n", b'"B"x\n', b'"B"x,1,2\n']


@pytest.mark.parametrize("record", BAD)
def test_bad_record_that_is_not_mended_is_bad_again(record: bytes) -> None:
    of = source(b"id,lot\nA,1\n" + record + b"C,3\n", "rows.csv")
    for _ in range(2):
        found = list(of)
        reasons = {line: ("unreadable", row.reason) for line, row in found if isinstance(row, UnreadableRow)}
        assert 1 == len(reasons)
        of = source(rejects(of, reasons), "rejects.csv")
    ((line, row),) = of
    assert (2, UnreadableRow) == (line, type(row))


def test_bad_record_keeps_what_was_read() -> None:
    of = source(b'id,lot\nA\nB,1,2\nC,"x"y\n', "rows.csv")
    written = rejects(of, dict.fromkeys([2, 3, 4], ("unreadable", "bad")), "rejects.csv")
    expected = [
        [*ADDED, "id", "lot"],
        ["2", "unreadable", "bad", "A"],
        ["3", "unreadable", "bad", "B", "1", "2"],
        # One cell too many, lest what was guessed passes as a row.
        ["4", "unreadable", "bad", "C", "xy", ""],
    ]
    assert expected == list(csv.reader(io.StringIO(written.decode(), newline="")))


def test_rejected_again_it_has_the_columns_once() -> None:
    first = rejects(source(b"id,lot\nA,1\nB,2\n", "rows.csv"), refused(2, 3))
    second = rejects(source(first, "rejects.csv"), {3: ("unmatched", "no code")})
    expected = [[*ADDED, "id", "lot"], ["3", "unmatched", "no code", "B", "2"]]
    assert expected == list(csv.reader(io.StringIO(second.decode())))


def test_reason_is_escaped_where_the_encoding_lacks_its_letters() -> None:
    of = source("id,lot\nA,ä\n".encode("cp1252"), "rows.csv", encoding="cp1252")
    written = rejects(of, {2: ("refused", "漢")}).decode("cp1252")
    assert '"2","refused","\\u6f22","A","ä"' == written.splitlines()[1]


@pytest.mark.parametrize("suffix", ["", ".gz", ".zst"])
@pytest.mark.parametrize(("data", "name"), [(b"id\nA\nB\n", "csv"), (b'\n{"id": "A"}\n{"id": "B"}', "jsonl")])
def test_rejects_are_packed_as_their_name_says(data: bytes, name: str, suffix: str) -> None:
    written = rejects(source(data, f"rows.{name}"), refused(3), f"rejects.{name}{suffix}")
    magic = {"": b"", ".gz": b"\x1f\x8b", ".zst": b"\x28\xb5"}[suffix]
    assert written.startswith(magic)
    assert [{"id": "B"}] == [row for _, row in source(written, f"rejects.{name}")]


@pytest.mark.parametrize(
    ("name", "format", "said"),
    [
        ("rejects.jsonl", "csv", "the rejects are written in the source's format, csv; its name says jsonl"),
        ("rejects.csv.gz", "parquet", "its name says csv"),
        ("rejects.parquet.gz", "parquet", "name it without .gz or .zst"),
    ],
)
def test_name_that_does_not_fit_is_found_early(name: str, format: str, said: str) -> None:
    with pytest.raises(ConfigurationError, match=said):
        check_rejects_name(name, format)


@pytest.mark.parametrize(
    ("name", "format"),
    [("r.csv", "tsv"), ("r.tsv.gz", "csv"), ("r.txt", "csv"), ("r.pq", "parquet"), ("r", "jsonl")],
)
def test_name_that_fits_passes(name: str, format: str) -> None:
    check_rejects_name(name, format)


def test_source_that_has_become_shorter_shows_in_the_count() -> None:
    short = source(b"id\nA\n", "rows.csv")
    assert 1 == write_rejects(short, in_order(refused(2, 9)), io.BytesIO(), name="rejects.csv")


# JSON lines, rows


def test_json_members_are_written_as_they_stand() -> None:
    line = (
        '{"a": 007.50}\n{ "ä" : 1.50,"b":12345678901234567890 , "c": {"d": [1, 2.0]}, "\\u00e9": "\\n}" }\n'
    )
    written = rejects(source(line.encode(), "rows.jsonl"), {2: ("refused", 'not "valid"\n')}).decode()
    added = '"rejected_line": 2, "rejected_kind": "refused", "rejected_reason": "not \\"valid\\""'
    rest = '"ä" : 1.50, "b":12345678901234567890, "c": {"d": [1, 2.0]}, "\\u00e9": "\\n}"'
    assert f"{{{added}, {rest}}}\n" == written


@pytest.mark.parametrize(
    "line", ["{", "7", '{"a": NaN}', '{"a": 1, "a": 2}', "x\x0b", '{"a": 1}\x0b', "[" * 100_000]
)
def test_bad_line_that_is_not_mended_is_bad_again(line: str) -> None:
    of = source(f'{{"id": "A"}}\n{line}\n'.encode(), "rows.jsonl")
    for number in (2, 1, 1):
        assert isinstance(dict(of)[number], UnreadableRow)
        of = source(rejects(of, {number: ("unreadable", "bad")}), "rejects.jsonl")
    ((_, row),) = of
    assert isinstance(row, UnreadableRow)


def test_text_of_a_bad_line_is_kept_until_it_is_mended() -> None:
    of = source(b'{"id": "A", lot: 1}\n', "rows.jsonl")
    once = rejects(of, {1: ("unreadable", "bad")})
    assert '{"id": "A", lot: 1}' == json.loads(once)["rejected_text"]
    assert once == rejects(source(once, "rejects.jsonl"), {1: ("unreadable", "bad")})
    mended = json.dumps({**json.loads(once), "id": "A", "lot": "1"}).encode()
    assert [(1, {"id": "A", "lot": "1"})] == list(source(mended, "rejects.jsonl"))


def test_rows_of_a_program_are_written_as_json_lines_with_their_own_names() -> None:
    day = datetime.date(2024, 5, 1)
    rows = RowSource(
        [{"Serial": "A"}, {"Serial": "B", "day": day, "n": 7}], columns={"Serial": "extended_id"}
    )
    added = dict(zip(ADDED, [2, "refused", "Invalid value."], strict=True))
    assert {**added, "Serial": "B", "day": "2024-05-01", "n": 7} == json.loads(rejects(rows, refused(2)))


def test_rows_that_cannot_be_read_again_are_refused() -> None:
    with pytest.raises(ConfigurationError, match="cannot be read again; keep those that did not arrive"):
        write_rejects(RowSource(iter([])), in_order({}), io.BytesIO(), name="rejects.jsonl")


@pytest.mark.parametrize(
    ("row", "members"),
    [
        ({"id": "Ä\ud800", "n": 1.5}, {"id": "Ä\ud800", "n": 1.5}),
        ({"id": "A", "x": float("nan")}, {"rejected_text": "{'id': 'A', 'x': nan}"}),
        ({"id": "A", "x": {1}}, {"rejected_text": "{'id': 'A', 'x': {1}}"}),
        ({7: "A"}, {"rejected_text": "{7: 'A'}"}),
        (["A"], {"rejected_text": "['A']"}),
    ],
)
def test_any_rejected_row_can_be_written(row: Any, members: dict[str, Any]) -> None:
    written = rejects(RowSource([{}, {}, row]), {3: ("invalid", "bad")}, name="rejects.jsonl.gz")
    line = json.loads(gzip.decompress(written))
    assert {**dict(zip(ADDED, [3, "invalid", "bad"], strict=True)), **members} == line


# Parquet


def test_parquet_rejects_keep_their_types() -> None:
    table = pa.table(
        {
            "id": [str(number) for number in range(25_000)],
            "n": pa.array(range(25_000), pa.int16()),
            "tags": pa.array([["x"]] * 25_000),
        }
    )
    out = io.BytesIO()
    pq.write_table(table, out, row_group_size=12_000)
    lines = [1, 9_999, 10_000, 12_000, 12_001, 25_000]
    written = rejects(source(out.getvalue(), "rows.parquet"), refused(*lines), "rejects.parquet")
    read = pq.read_table(io.BytesIO(written))
    assert [*ADDED, *table.column_names] == read.column_names
    assert lines == read["rejected_line"].to_pylist()
    rest = read.drop(ADDED)
    assert table.take([line - 1 for line in lines]).to_pydict() == rest.to_pydict()
    assert table.schema.types == rest.schema.types


def test_parquet_rejected_again_has_the_columns_once() -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"id": ["A", "B", "C"]}), out)
    first = rejects(source(out.getvalue(), "rows.parquet"), refused(1, 3), "rejects.parquet")
    second = rejects(source(first, "rejects.parquet"), {2: ("unmatched", "no\ncode")}, "rejects.parquet")
    expected = {**dict(zip(ADDED, [2, "unmatched", "no code"], strict=True)), "id": "C"}
    assert [expected] == pq.read_table(io.BytesIO(second)).to_pylist()
    assert [(1, {"id": "C"})] == list(source(second, "rejects.parquet"))


# Any subset


@given(data=st.data(), format=st.sampled_from(["csv", "tsv", "jsonl", "parquet"]))
def test_rejects_of_any_rows_are_read_back_as_these_rows(data: st.DataObject, format: str) -> None:
    text = st.text(
        st.characters(exclude_categories=["Cs"], exclude_characters="\0") | st.sampled_from('",;\r\n')
    )
    rows = data.draw(
        st.lists(st.fixed_dictionaries({"id": text, "a;b": text, "c,d": text}), min_size=1, max_size=5)
    )
    packed = io.BytesIO()
    if format == "parquet":
        pq.write_table(pa.Table.from_pylist(rows), packed)
    elif format == "jsonl":
        packed.write("".join(json.dumps(row, ensure_ascii=False) + "\n" for row in rows).encode())
    else:
        lines = io.StringIO(newline="")
        delimiter = "\t" if format == "tsv" else data.draw(st.sampled_from(",;|"))
        writer = csv.DictWriter(lines, list(rows[0]), delimiter=delimiter)
        writer.writeheader()
        writer.writerows(rows)
        packed.write(lines.getvalue().encode())
    of = source(packed.getvalue(), f"rows.{format}")
    found = dict(of)
    assert rows == list(found.values())
    chosen = data.draw(st.dictionaries(st.sampled_from(sorted(found)), st.tuples(text, text)))
    again = source(rejects(of, chosen), f"rejects.{format}")
    assert [found[line] for line in sorted(chosen)] == [row for _, row in again]


@pytest.mark.parametrize(
    "row",
    [
        {"extended_id": 7.0, "day": "x"},
        {"extended_id": datetime.date(2026, 1, 1), "day": "x"},
        {"extended_id": "A", "day": datetime.time(12)},
    ],
)
def test_row_that_cannot_be_sent_does_not_become_one_that_can(row: dict[str, Any]) -> None:
    written = rejects(RowSource([row]), {1: ("invalid", "no")}).decode()
    again = list(source(written.encode(), "rejects.jsonl"))
    assert all(isinstance(each, UnreadableRow) for _, each in again)


def test_dates_of_rejected_rows_are_written_as_they_are_sent() -> None:
    rows = [{"extended_id": "A", "day": datetime.datetime(2026, 11, 1, 14, 30)}]
    assert '"day": "2026-11-01"' in rejects(RowSource(rows), refused(1)).decode()


def test_key_column_of_another_name_is_known() -> None:
    rows = RowSource([{"code": 7.0}], columns={"code": "extended_id"})
    assert "rejected_text" in rejects(rows, {1: ("invalid", "no")}).decode()


@pytest.mark.parametrize("form", ["jsonl", "rows"])
def test_names_like_our_own_are_kept_where_they_are_the_sources(form: str) -> None:
    row = {"extended_id": "A", "rejected_reason": "cork"}
    of = RowSource([row]) if form == "rows" else source(json.dumps(row).encode() + b"\n", "rows.jsonl")
    written = rejects(of, refused(1))
    # Under one name, since it must not stand there twice.
    assert "cork" in json.loads(written)["rejected_text"]
    assert [(1, "refused", "Invalid value.")] == list(read_line_rejects("r.jsonl", io.BytesIO(written), None))


def test_mended_rejects_need_not_have_every_column_that_is_named() -> None:
    data = b'{"extended_id":"A","EAN":"1"}\n{"extended_id":"B","market":null}\n'
    columns = {"EAN": "product"}
    written = rejects(source(data, "rows.jsonl", columns=columns), {2: ("invalid", "None")})
    (pair,) = source(written.replace(b"null", b'"FR"'), "rejects.jsonl", columns=columns)
    assert (1, {"extended_id": "B", "market": "FR"}) == pair


@pytest.mark.parametrize(("row", "cells"), [("K7,FR", ["K7", "FR", ""]), ("K7", ["K7"])])
def test_short_row_of_a_mended_rejects_file_keeps_its_cells(row: str, cells: list[str]) -> None:
    data = f"{','.join(ADDED)},extended_id,market\n{row}\n".encode()
    written = rejects(source(data, "rejects.csv"), {2: ("unreadable", "it is short")})
    assert cells == list(csv.reader(written.decode().splitlines()))[1][3:]


def test_file_that_is_called_tsv_gets_tabs() -> None:
    of = source(b'id,note\nA,"1,5"\n', "rows.csv")
    written = rejects(of, refused(2), name="rejects.tsv")
    (pair,) = source(written, "rejects.tsv")
    assert (2, {"id": "A", "note": "1,5"}) == pair
    check_rejects_name("rejects.tsv", "csv", "\t")
    with pytest.raises(ConfigurationError, match="its name says tsv"):
        check_rejects_name("rejects.tsv", "csv", ";")


def test_tsv_with_a_delimiter_of_its_own_keeps_it() -> None:
    of = source(b"id;note\nA;1\n", "rows.tsv", delimiter=";")
    written = rejects(of, refused(2), name="rejects.tsv")
    assert [(2, {"id": "A", "note": "1"})] == list(source(written, "rejects.tsv", delimiter=";"))


def test_rejects_in_json_lines_are_read_whatever_else_is_in_them() -> None:
    written = rejects(source(b'{"id": "A", "n": ' + b"9" * 5_000 + b"}\n", "rows.jsonl"), refused(1))
    assert [(1, "refused", "Invalid value.")] == list(
        read_line_rejects("r.jsonl", io.BytesIO(b"\n" + written), None)
    )
