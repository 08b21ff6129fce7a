"""A rejects file that is uploaded again carries exactly the rejected rows, and what was not fixed is rejected again."""

from __future__ import annotations

import csv
import gzip
import io
import json
from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.rejects import write_rejects
from uploaded import KEY, opened, upload

openpyxl: Any = pytest.importorskip("openpyxl")
pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
zstandard: Any = pytest.importorskip("zstandard")
pytest.importorskip("python_calamine")

NAMES = [KEY, "lot", "note", "activation_status"]
ODD = "aB07 \t\n\"'`\\,;|:=#-.\u00a0\ufeff\u0085\u2028\x1f\x0céß漢😀"
texts = st.text(st.sampled_from(ODD) | st.characters(exclude_categories=["Cs", "Cc"]), max_size=8)
# What is fixed in a row: its key, its status, or nothing, because the service refused it.
defects = st.sampled_from(["", "", "refused", "key", "status"])
rows = st.lists(st.tuples(texts, texts, defects), min_size=1, max_size=6)
reasons = texts.map(lambda text: f"field 'lot': {text}")
Table = list[list[str]]


def as_table(drawn: list[tuple[str, str, str]]) -> Table:
    return [
        ["" if defect == "key" else f"CODE{number:04}", lot, note, "7" if defect == "status" else "1"]
        for number, (lot, note, defect) in enumerate(drawn)
    ]


def as_csv(table: Table, **dialect: Any) -> str:
    out = io.StringIO(newline="")
    csv.writer(out, **dialect).writerows([NAMES, *table])
    return out.getvalue()


def as_lines(table: Table) -> str:
    return "".join(json.dumps(dict(zip(NAMES, row, strict=True)), ensure_ascii=False) + "\n" for row in table)


def as_parquet(table: Table) -> bytes:
    out = io.BytesIO()
    columns = zip(*table, strict=True)
    pq.write_table(
        pa.table({name: pa.array(column, pa.string()) for name, column in zip(NAMES, columns, strict=True)}),
        out,
    )
    return out.getvalue()


def as_sheet(table: Table) -> bytes:
    assume(not any(text.isspace() or text.startswith("=") for row in table for text in row))
    assume(not any(openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE.search(text) for row in table for text in row))
    book = openpyxl.Workbook()
    for row in [NAMES, *table]:
        book.active.append(row)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


UNPACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.decompress,
    ".zst": lambda data: bytes(zstandard.ZstdDecompressor().decompressobj().decompress(data)),
}
PACK: dict[str, Callable[[bytes], bytes]] = {
    "": bytes,
    ".gz": gzip.compress,
    ".zst": lambda data: bytes(zstandard.compress(data)),
}


def fix_csv(text: str, keys: list[str], **dialect: Any) -> str:
    """Do what a person does in an editor of tables: fill in keys in their order, and correct the status."""
    given = list(csv.reader(io.StringIO(text, newline=""), **dialect))
    header = given[0]
    waiting = iter(keys)
    for row in given[1:]:
        row[header.index(KEY)] = row[header.index(KEY)] or next(waiting)
        row[header.index("activation_status")] = "1"
    out = io.StringIO(newline="")
    csv.writer(out, quoting=csv.QUOTE_ALL, **dialect).writerows(given)
    return out.getvalue()


def fix_lines(text: str, keys: list[str]) -> str:
    waiting = iter(keys)
    fixed = []
    # Of characters that other readers take for line ends there may be any.
    for line in text.rstrip("\n").split("\n"):
        row = json.loads(line)
        fixed.append({**row, KEY: row[KEY] or next(waiting), "activation_status": "1"})
    return "".join(json.dumps(row) + "\n" for row in fixed)


def expected_of(
    drawn: list[tuple[str, str, str]], found: dict[str, dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Return the rejected rows, fixed, with the values that were read before."""
    fixed: dict[str, dict[str, Any]] = {}
    for number, (_, _, defect) in enumerate(drawn):
        if defect:
            fixed[f"CODE{number:04}"] = found[f"CODE{number:04}"]
    return fixed


@given(
    drawn=rows,
    reason=reasons,
    form=st.sampled_from(["csv", "csv", "csv", "jsonl", "parquet", "xlsx"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16", "utf-16-le", "cp1252", "gb18030"]),
    delimiter=st.sampled_from(",;\t|"),
    quotechar=st.sampled_from("\"'"),
    end=st.sampled_from(["\n", "\r\n"]),
    packed=st.sampled_from(["", ".gz", ".zst"]),
)
def test_fixed_rejects_are_exactly_the_rejected_rows(
    drawn: list[tuple[str, str, str]],
    reason: str,
    form: str,
    encoding: str,
    delimiter: str,
    quotechar: str,
    end: str,
    packed: str,
) -> None:
    assume(any(defect for _, _, defect in drawn))
    table = as_table(drawn)
    whole = as_table([(lot, note, "") for lot, note, _ in drawn])
    dialect = {"delimiter": delimiter, "quotechar": quotechar, "lineterminator": end}
    options: dict[str, Any] = {}
    if form in ("csv", "jsonl"):
        marked = ("utf-8", "utf-8-sig", "utf-16")
        options["encoding"] = None if encoding in marked else encoding
    else:
        encoding = "utf-8"
    if form == "csv":
        options["quotechar"] = quotechar

    def write(table: Table) -> bytes:
        if form == "csv":
            return PACK[packed](as_csv(table, quoting=csv.QUOTE_ALL, **dialect).encode(encoding))
        if form == "jsonl":
            return PACK[packed](as_lines(table).encode(encoding))
        return as_parquet(table) if form == "parquet" else as_sheet(table)

    try:
        data = write(table)
    except UnicodeEncodeError:
        assume(False)
    refused = {f"CODE{place:04}": reason for place, (_, _, defect) in enumerate(drawn) if defect == "refused"}
    found = upload(data, f"rows.{form}", refused=refused, packed=packed, **options)
    bad = [number for number, (_, _, defect) in enumerate(drawn) if defect]
    assert len(bad) == len(found.rejected)
    if form == "xlsx":
        dialect, options = {"lineterminator": "\n"}, {}
    if form == "parquet":
        options = {}

    again = upload(found.rejects, found.rejects_name, refused=refused, **options)
    assert len(bad) == len(again.rejected)
    assert not set(again.rows) - set(refused)

    keys = [f"CODE{number:04}" for number in bad if drawn[number][2] == "key"]
    text = UNPACK[packed](found.rejects).decode(encoding)
    fixed = (
        fix_lines(text, keys)
        if found.rejects_name.startswith("rejects.jsonl")
        else fix_csv(text, keys, **dialect)
    )
    done = upload(fixed.encode(encoding), found.rejects_name, **options)
    values = upload(
        write(whole), f"rows.{form}", **{**options, **({"quotechar": quotechar} if form == "csv" else {})}
    )
    assert ([], expected_of(drawn, values.rows)) == (done.rejected, done.rows)


@pytest.mark.parametrize(
    "number", ["7.50", "1e3", "007", "12345678901234567890", "0.1e-7", "-0", "4006381333931.0"]
)
def test_number_in_rejected_json_stands_as_it_was_written(number: str) -> None:
    line = f'{{"extended_id": "CODE0001", "lot": {number}}}'
    found = upload(line + "\n", "rows.jsonl", refused={"CODE0001": "no"})
    assert 1 == len(found.rejected)
    # 007 is no JSON: the line stands as one text.
    assert (json.dumps(line) if number == "007" else f'"lot": {number}}}').encode() in found.rejects
    again = upload(found.rejects, found.rejects_name)
    assert found.rows == again.rows


broken_lines = st.text(st.sampled_from("\"'\\,; x0{}[]:\t"), min_size=1, max_size=12)


@given(
    lines=st.lists(broken_lines, min_size=1, max_size=5),
    form=st.sampled_from(["csv", "jsonl"]),
    quotechar=st.sampled_from(['"', ""]),
)
def test_rows_that_cannot_be_read_are_rejected_again_until_they_are_fixed(
    lines: list[str], form: str, quotechar: str
) -> None:
    options: dict[str, Any] = {"quotechar": quotechar} if form == "csv" else {}
    head = "extended_id,lot\nCODE0000,L0\n" if form == "csv" else '{"extended_id": "CODE0000", "lot": "L0"}\n'
    try:
        found = upload(head + "".join(line + "\n" for line in lines), f"rows.{form}", **options)
    except InvalidInput:
        return
    assume(found.rejected)
    again = upload(found.rejects, found.rejects_name, **options)
    assert (len(found.rejected), {}) == (len(again.rejected), again.rows)
    # A third time too, and nothing is added or lost.
    assert found.rejects.count(b"\n") == again.rejects.count(b"\n")


@given(
    st.lists(
        st.one_of(texts, st.integers(), st.booleans(), st.floats(), st.dates(), st.decimals()),
        min_size=1,
        max_size=5,
    )
)
def test_rejected_rows_of_a_program_keep_their_values(values: list[Any]) -> None:
    refused = {f"CODE{number:04}": "no" for number in range(len(values))}
    found = upload(
        [{KEY: key, "lot": value} for key, value in zip(refused, values, strict=True)], refused=refused
    )
    assert len(values) == len(found.rejected)
    again = upload(found.rejects, found.rejects_name)

    def as_text(row: dict[str, Any]) -> Any:
        return row["lot"] if isinstance(row["lot"], bool) else str(row["lot"])

    assert {key: as_text(row) for key, row in found.rows.items()} == {
        key: as_text(row) for key, row in again.rows.items()
    }


@pytest.mark.parametrize(
    ("kind", "first_inexact"), [("float16", 2.0**11), ("float32", 2.0**24), ("float64", 2.0**53)]
)
def test_inexact_float_of_parquet_is_rejected_again(kind: str, first_inexact: float) -> None:
    out = io.BytesIO()
    ean = pa.array([first_inexact]).cast(getattr(pa, kind)())
    pq.write_table(pa.table({KEY: ["CODE0001"], "ean": ean}), out)
    found = upload(out.getvalue(), "a.parquet")
    assert 1 == len(found.rejected)
    assert {} == upload(found.rejects, found.rejects_name).rows


@pytest.mark.parametrize("encoding", ["utf-16", "utf-8-sig", "cp1252"])
@pytest.mark.parametrize("name", ["a.csv", "a.jsonl"])
@pytest.mark.parametrize("packed", ["", ".gz"])
def test_rejects_that_are_added_to_a_file_carry_no_second_header(
    name: str, encoding: str, packed: str
) -> None:
    table = [["CODE0001", "ü", "", "1"], ["CODE0002", "é", "", "1"]]
    text = as_csv(table) if name == "a.csv" else as_lines(table)
    rejects = [(2 - (name != "a.csv") + place, "unmatched", f"no {place}") for place in range(2)]
    whole, begun = io.BytesIO(), io.BytesIO()
    with opened(text.encode(encoding), name, encoding=encoding, keep_copy=True) as source:
        assert 2 == len(list(source))
        rejects_name = f"{name}{packed}"
        write_rejects(source, rejects, whole, name=rejects_name)
        write_rejects(source, rejects[:1], begun, name=rejects_name)
        write_rejects(source, rejects[1:], begun, name=rejects_name, header=False)
    unpack = gzip.decompress if packed else bytes
    assert unpack(whole.getvalue()) == unpack(begun.getvalue())
