"""What Python's csv, pandas, openpyxl and pyarrow write arrives exactly as written, or a message says what does not."""

from __future__ import annotations

import csv
import datetime
import io
import json
import uuid
from decimal import Decimal
from typing import Any, Literal

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import unwrap
from uploaded import KEY, Result, upload

openpyxl: Any = pytest.importorskip("openpyxl")
pa: Any = pytest.importorskip("pyarrow")
pd: Any = pytest.importorskip("pandas")
pq: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("python_calamine")

FIELDS = ["lot", "note"]
# What has a meaning in one of the formats, what tools add, and letters of several lengths in bytes.
ODD = "aB07 \t\n\r\"'`\\,;|:=#-_.\u00a0\ufeff\u200b\u0085\u2028\x1a\x1e\x1f\x0b\x0céßİ漢😀"
texts = st.text(
    st.sampled_from(ODD) | st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=8
)
tables = st.lists(st.tuples(texts, texts), min_size=1, max_size=5)
ENCODINGS = [
    "utf-8",
    "utf-8-sig",
    "utf-16",
    "utf-32",
    "utf-16-le",
    "utf-16-be",
    "cp1252",
    "latin-1",
    "shift_jis",
    "gb18030",
]


def keyed(table: list[tuple[Any, ...]]) -> dict[str, dict[str, Any]]:
    return {f"CODE{number:04}": dict(zip(FIELDS, row, strict=True)) for number, row in enumerate(table)}


def as_sent(table: list[tuple[str, str]]) -> dict[str, dict[str, str]]:
    """Return what is to arrive: the text of Excel's text formula is its value."""
    return keyed([(unwrap(lot), unwrap(note)) for lot, note in table])


def csv_bytes(table: list[tuple[Any, ...]], encoding: str = "utf-8", **dialect: Any) -> bytes:
    out = io.StringIO(newline="")
    writer = csv.writer(out, **dialect)
    writer.writerow([KEY, *FIELDS])
    writer.writerows([key, *row.values()] for key, row in keyed(table).items())
    # Python before 3.13 leaves a line end bare where it is not the file's own, and no reader can know it from
    # one.
    again = list(csv.reader(io.StringIO(out.getvalue(), newline=""), **dialect))
    assume(
        [list(map(str, (key, *row.values()))) for key, row in keyed(table).items()]
        == [list(map(str, row)) for row in again[1:]]
    )
    return out.getvalue().encode(encoding)


@given(
    table=tables,
    encoding=st.sampled_from(ENCODINGS),
    delimiter=st.sampled_from(",;\t|:~^ "),
    quotechar=st.sampled_from("\"'$"),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC]),
    lineterminator=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_every_dialect_of_csv_with_doubled_quotes_arrives_as_written(
    table: list[tuple[str, str]], encoding: str, delimiter: str, quotechar: str, **dialect: Any
) -> None:
    try:
        data = csv_bytes(table, encoding, delimiter=delimiter, quotechar=quotechar, **dialect)
    except UnicodeEncodeError:
        assume(False)
    options: dict[str, Any] = {
        "encoding": None if encoding in ("utf-8", "utf-8-sig", "utf-16", "utf-32") else encoding,
        "delimiter": None if delimiter in ",;\t|" else delimiter,
        "quotechar": None if quotechar == '"' else quotechar,
    }
    found = upload(data, **options)
    assert (as_sent(table), []) == (found.rows, found.rejected)


@given(table=tables, quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL, csv.QUOTE_NONE]))
def test_escapes_of_csv_are_never_taken_for_values_without_a_word(
    table: list[tuple[str, str]], quoting: int
) -> None:
    # Both a line and an escape are at an end there; Python's own reader loses the escape, too.
    assume(not any("\n" in text or "\r" in text for row in table for text in row))
    data = csv_bytes(table, doublequote=False, escapechar="\\", quoting=quoting, lineterminator="\n")
    try:
        found = upload(data)
    except InvalidInput:
        return
    assert_nothing_is_silent(as_sent(table), found)


def assert_nothing_is_silent(written: dict[str, dict[str, str]], found: Result) -> None:
    """Each row is sent as written, or is rejected, or its field is warned about."""
    assert set(found.rows) <= set(written)
    assert len(written) - len(found.rows) <= len(found.rejected)
    for key, row in found.rows.items():
        for field, value in row.items():
            assert value == written[key][field] or any(f"Field '{field}'" in text for text in found.warnings)


@given(
    table=st.lists(st.tuples(texts, texts), min_size=3, max_size=6),
    quoting=st.sampled_from([csv.QUOTE_MINIMAL, csv.QUOTE_ALL]),
    data=st.data(),
)
def test_stray_character_in_one_row_of_csv_never_changes_another_without_a_word(
    table: list[tuple[str, str]], quoting: int, data: st.DataObject
) -> None:
    # A line of a value that looks like a row, or is one half of a line end, is the matter of other tests.
    assume(not any("\r" in text or "," in text for row in table for text in row))
    parts = [csv_bytes([row], quoting=quoting, lineterminator="\n").decode().split("\n", 1) for row in table]
    lines = [line.replace("CODE0000", f"CODE{number:04}") for number, (_, line) in enumerate(parts)]
    broken = data.draw(st.integers(0, len(lines) - 1))
    line = lines[broken]
    place = data.draw(st.integers(0, len(line) - 1))
    lines[broken] = line[:place] + data.draw(st.sampled_from(['"', ",", "\\", "'", "\n"])) + line[place:]
    try:
        found = upload(f"{parts[0][0]}\n{''.join(lines)}")
    except InvalidInput:
        return
    expected = as_sent(table)
    others = expected.keys() - {f"CODE{broken:04}"}
    assert {key: expected[key] for key in others & found.rows.keys()} == {
        key: found.rows[key] for key in others & found.rows.keys()
    }
    assert (
        others <= found.rows.keys()
        or found.rejected
        or any("inside quotes" in text for text in found.warnings)
    )


@given(
    table=tables,
    is_ascii=st.booleans(),
    encoding=st.sampled_from(ENCODINGS),
    end=st.sampled_from(["\n", "\r\n", "\r"]),
)
def test_json_lines_arrive_as_written(
    table: list[tuple[str, str]], is_ascii: bool, encoding: str, end: str
) -> None:
    lines = [json.dumps({KEY: key, **row}, ensure_ascii=is_ascii) for key, row in keyed(table).items()]
    try:
        data = "".join(line + end for line in lines).encode(encoding)
    except UnicodeEncodeError:
        assume(False)
    known = ("utf-8", "utf-8-sig", "utf-16", "utf-32")
    found = upload(data, "rows.jsonl", encoding=None if encoding in known else encoding)
    assert (as_sent(table), []) == (found.rows, found.rejected)


numbers = st.integers(-(10**30), 10**30)
EXACT = 2**53


@given(st.lists(st.tuples(numbers, st.floats(allow_nan=False, allow_infinity=False)), min_size=1, max_size=5))
def test_numbers_of_json_keep_each_digit_or_are_rejected(table: list[tuple[int, float]]) -> None:
    data = "".join(json.dumps({KEY: key, **row}) + "\n" for key, row in keyed(table).items())
    found = upload(data, "rows.jsonl")
    for key, row in keyed(table).items():
        if abs(row["note"]) < EXACT:
            assert str(row["lot"]) == found.rows[key]["lot"]
            assert row["note"] == float(found.rows[key]["note"])
        else:
            assert key not in found.rows
    assert len(table) == len(found.rows) + len(found.rejected)


@given(table=tables, data=st.data())
def test_what_pandas_writes_arrives_as_written(table: list[tuple[str, str]], data: st.DataObject) -> None:
    frame = pd.DataFrame([{KEY: key, **row} for key, row in keyed(table).items()])
    out = io.BytesIO()
    form = data.draw(st.sampled_from(["rows.csv", "rows.jsonl", "rows.parquet"]))
    if form == "rows.csv":
        encoding = data.draw(st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]))
        end = data.draw(st.sampled_from(["\n", "\r\n"]))
        frame.to_csv(
            out,
            index=False,
            encoding=encoding,
            lineterminator=end,
            quoting=data.draw(st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_NONNUMERIC])),
        )
    elif form == "rows.jsonl":
        frame.to_json(out, orient="records", lines=True, force_ascii=data.draw(st.booleans()))
    else:
        frame.to_parquet(out, index=data.draw(st.sampled_from([None, True, False])))
    found = upload(out.getvalue(), form)
    assert (as_sent(table), []) == (found.rows, found.rejected)


MOMENTS = st.datetimes(datetime.datetime(1900, 3, 1), datetime.datetime(2200, 1, 1))


def iso(moment: datetime.datetime) -> str:
    return moment.date().isoformat() if moment.time() == datetime.time() else moment.isoformat()


def iso_of_nanoseconds(number: int) -> str:
    moment = datetime.datetime(1970, 1, 1) + datetime.timedelta(microseconds=number // 1000)
    rest = number % 1000
    return f"{moment.isoformat(timespec='microseconds')}{rest:03}" if rest else iso(moment)


# Type of Arrow, its values, and the text that Scantrust is to store.
ARROW: dict[str, tuple[Any, st.SearchStrategy[Any], Any]] = {
    "string": (pa.string(), texts, unwrap),
    "large_string": (pa.large_string(), texts, unwrap),
    "string_view": (pa.string_view(), texts, unwrap),
    "binary": (pa.binary(), texts.map(str.encode), lambda value: unwrap(value.decode())),
    "dictionary": (pa.dictionary(pa.int32(), pa.string()), texts, unwrap),
    "int8": (pa.int8(), st.integers(-128, 127), str),
    "int64": (pa.int64(), st.integers(-(2**63), 2**63 - 1), str),
    "uint64": (pa.uint64(), st.integers(0, 2**64 - 1), str),
    "bool": (pa.bool_(), st.booleans(), lambda value: str(value).lower()),
    "decimal": (
        pa.decimal128(38, 6),
        st.decimals(-(10**30), 10**30, places=6) | st.integers(-9, 9).map(Decimal),
        lambda value: str(int(value)) if value == int(value) else format(value, "f"),
    ),
    "date32": (pa.date32(), st.dates(), datetime.date.isoformat),
    "date64": (pa.date64(), st.dates(), datetime.date.isoformat),
    "us": (pa.timestamp("us"), st.datetimes(), iso),
    "ms": (pa.timestamp("ms"), MOMENTS.map(lambda value: value.replace(microsecond=0)), iso),
    "ns": (pa.timestamp("ns"), st.integers(-(2**63) + 1, 2**63 - 1), iso_of_nanoseconds),
    "zoned": (
        pa.timestamp("us", "+02:00"),
        MOMENTS.map(lambda value: value.replace(tzinfo=datetime.timezone(datetime.timedelta(hours=2)))),
        iso,
    ),
    "time": (
        pa.time64("us"),
        st.times(),
        lambda value: value.isoformat().rstrip("0").rstrip(".") if value.microsecond else value.isoformat(),
    ),
    "uuid": (pa.uuid(), st.uuids().map(lambda value: value.bytes), lambda value: str(uuid.UUID(bytes=value))),
}


@given(
    data=st.data(),
    kind=st.sampled_from(sorted(ARROW)),
    compression=st.sampled_from(["snappy", "gzip", "zstd", "none"]),
    version=st.sampled_from(["1.0", "2.4", "2.6"]),
)
def test_each_type_of_arrow_arrives_as_written(
    data: st.DataObject, kind: str, compression: str, version: str
) -> None:
    arrow, values, as_text = ARROW[kind]
    column = data.draw(st.lists(values | st.none(), min_size=1, max_size=5))
    keys = [f"CODE{number:04}" for number in range(len(column))]
    out = io.BytesIO()
    table = pa.table({KEY: keys, "lot": pa.array(column, arrow), "market": ["FR"] * len(keys)})
    # Older versions of the format have no nanoseconds.
    version = "2.6" if kind == "ns" else version
    pq.write_table(table, out, compression=compression, version=version, row_group_size=2)
    found = upload(out.getvalue(), "rows.parquet")
    expected = {
        key: {"market": "FR"} | ({} if value is None else {"lot": as_text(value)})
        for key, value in zip(keys, column, strict=True)
    }
    assert (expected, []) == (found.rows, found.rejected)


@pytest.mark.parametrize(("arrow", "width", "exact"), [("float32", 32, 2**24), ("float64", 64, EXACT)])
@given(data=st.data())
def test_floats_of_arrow_mean_the_same_number_or_are_rejected(
    data: st.DataObject, arrow: str, width: Literal[32, 64], exact: int
) -> None:
    column = data.draw(st.lists(st.floats(width=width), min_size=1, max_size=5))
    out = io.BytesIO()
    keys = [f"CODE{number:04}" for number in range(len(column))]
    pq.write_table(pa.table({KEY: keys, "lot": pa.array(column, getattr(pa, arrow)())}), out)
    found = upload(out.getvalue(), "rows.parquet")
    for key, value in zip(keys, column, strict=True):
        if abs(value) < exact:
            text = found.rows[key]["lot"]
            assert pa.scalar(value, getattr(pa, arrow)()) == pa.scalar(float(text), pa.float64()).cast(
                getattr(pa, arrow)(), safe=False
            )
            assert not value.is_integer() or str(int(value)) == text
            assert "e+" not in text
        else:
            assert key not in found.rows
    assert len(column) == len(found.rows) + len(found.rejected)


# openpyxl refuses what XML cannot hold. A bare return is a line feed in XML, and a text of blanks an empty
# one: openpyxl marks neither of them as text to keep.
NOT_IN_SHEETS = openpyxl.cell.cell.ILLEGAL_CHARACTERS_RE
sheet_texts = texts.filter(
    lambda text: not (NOT_IN_SHEETS.search(text) or "\r" in text or text.isspace() or text.startswith("="))
)
CELLS: list[tuple[st.SearchStrategy[Any], Any]] = [
    (sheet_texts, str),
    (st.integers(-(10**15) + 1, 10**15 - 1), str),
    (st.booleans(), lambda value: str(value).lower()),
    (st.dates(datetime.date(1900, 3, 1), datetime.date(9999, 12, 31)), datetime.date.isoformat),
    (MOMENTS.map(lambda value: value.replace(microsecond=0)), iso),
    (st.none(), lambda value: ""),
]
cells = st.one_of([st.tuples(values, st.just(as_text)) for values, as_text in CELLS])


@given(st.lists(st.tuples(cells, cells), min_size=1, max_size=5))
def test_what_openpyxl_writes_arrives_as_written(table: list[tuple[Any, Any]]) -> None:
    book = openpyxl.Workbook()
    book.active.append([KEY, *FIELDS])
    for key, row in keyed(table).items():
        book.active.append([key, *(value for value, _ in row.values())])
    out = io.BytesIO()
    book.save(out)
    found = upload(out.getvalue(), "rows.xlsx")
    expected = keyed([tuple(as_text(value) for value, as_text in row) for row in table])
    assert (expected, []) == (found.rows, found.rejected)


@given(table=st.lists(st.tuples(sheet_texts, st.integers(-(10**15) + 1, 10**15 - 1)), min_size=1, max_size=5))
def test_sheet_of_pandas_arrives_as_written(table: list[tuple[str, int]]) -> None:
    out = io.BytesIO()
    pd.DataFrame([{KEY: key, **row} for key, row in keyed(table).items()]).to_excel(out, index=False)
    found = upload(out.getvalue(), "rows.xlsx")
    assert (keyed([(lot, str(note)) for lot, note in table]), []) == (found.rows, found.rejected)


@given(
    st.lists(
        st.one_of(
            texts,
            numbers,
            st.booleans(),
            st.dates(),
            MOMENTS,
            st.uuids(),
            st.decimals(-(10**20), 10**20, places=3),
        ),
        min_size=1,
        max_size=5,
    )
)
def test_values_of_a_program_arrive_as_they_are(values: list[Any]) -> None:
    found = upload([{KEY: f"CODE{number:04}", "lot": value} for number, value in enumerate(values)])
    assert [] == found.rejected
    for value, row in zip(values, found.rows.values(), strict=True):
        sent = row["lot"]
        if isinstance(value, Decimal):
            assert value == Decimal(repr(sent) if isinstance(sent, float) else sent)
        elif isinstance(value, datetime.datetime):
            assert iso(value) == sent
        elif isinstance(value, datetime.date):
            assert value.isoformat() == sent
        elif isinstance(value, uuid.UUID):
            assert str(value) == sent
        else:
            assert (unwrap(value) if isinstance(value, str) else value) == sent
