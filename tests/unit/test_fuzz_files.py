"""Whatever a file is: rows, or one error that names the file; never another library's, never without an end."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import random
import tracemalloc
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput, ScantrustError
from airflow_provider_scantrust.sources import delimited
from airflow_provider_scantrust.sources import text as text_module
from airflow_provider_scantrust.sources.opening import FORMATS, open_source
from airflow_provider_scantrust.uploads.rejects import write_rejects
from airflow_provider_scantrust.uploads.spool import Spool

pa: Any = pytest.importorskip("pyarrow")
pq: Any = pytest.importorskip("pyarrow.parquet")
zstandard: Any = pytest.importorskip("zstandard")

ROWS = [
    {"extended_id": f"SBX{number:08d}", "lot": f"L-{number % 7}", "note": "ä;\n\"'"} for number in range(60)
]


def as_csv() -> bytes:
    out = io.StringIO(newline="")
    writer = csv.DictWriter(out, list(ROWS[0]))
    writer.writeheader()
    writer.writerows(ROWS)
    return out.getvalue().encode()


def as_jsonl() -> bytes:
    return "".join(json.dumps(row, ensure_ascii=False) + "\n" for row in ROWS).encode()


def as_parquet(**options: Any) -> bytes:
    out = io.BytesIO()
    pq.write_table(pa.Table.from_pylist(ROWS), out, **options)
    return out.getvalue()


FILES: dict[str, bytes] = {
    "rows.csv": as_csv(),
    "rows.jsonl": as_jsonl(),
    "rows.parquet": as_parquet(),
    "plain.parquet": as_parquet(compression="none", use_dictionary=False, data_page_version="2.0"),
    "rows.csv.gz": gzip.compress(as_csv()),
    "rows.jsonl.gz": gzip.compress(as_jsonl()),
    "rows.csv.zst": zstandard.compress(as_csv()),
    "rows.jsonl.zst": zstandard.compress(as_jsonl()),
}


def load(name: str, data: bytes, **options: Any) -> tuple[list[dict[str, Any]], list[tuple[int, str, str]]]:
    """
    Return the rows that can be sent, and the rejects; raise as an upload would.

    The rejects are written too, as an upload does it.
    """
    source = open_source(name, lambda: io.BytesIO(data), **options)
    with Spool("extended_id") as spool:
        spool.fill(source, warn=lambda text: None)
        rejects = list(spool.rejects())
        assert spool.rows == spool.keys + spool.merged + spool.rejected
        rows = spool.decode(spool.read())
    if rejects:
        out = io.BytesIO()
        assert len(rejects) == write_rejects(source, lambda: rejects, out, name=f"rejects.{source.format}")
    return rows, rejects


def check_error(name: str, error: ScantrustError) -> None:
    assert isinstance(error, InvalidInput | ConfigurationError)
    assert str(error).startswith((name, "encoding="))
    assert len(str(error)) < 10_000
    str(error).encode()


def try_to_load(name: str, data: bytes, **options: Any) -> list[dict[str, Any]] | None:
    try:
        rows, rejects = load(name, data, **options)
    except ScantrustError as error:
        check_error(name, error)
        return None
    for _, _, reason in rejects:
        reason.encode()
    return rows


@pytest.mark.parametrize("name", FILES)
def test_file_cut_anywhere_is_refused_or_was_whole_up_to_there(name: str) -> None:
    """Only text can be cut between two records without leaving a trace."""
    data = FILES[name]
    step = max(1, len(data) // 150)
    for size in range(0, len(data), step):
        rows = try_to_load(name, data[:size])
        if name.endswith((".csv", ".jsonl")):
            # What was read is a part of what was meant. The last cell may be cut.
            assert rows is None or rows[:-1] == ROWS[: max(0, len(rows) - 1)]
        elif rows is not None:
            # Packed data has an end of its own.
            assert [] == rows


@pytest.mark.parametrize("name", FILES)
def test_damaged_file_is_rows_or_one_error(name: str) -> None:
    chance = random.Random(4711)
    for _ in range(int(os.environ.get("DAMAGES", "150"))):
        data = bytearray(FILES[name])
        for _ in range(chance.choice([1, 1, 3, 20])):
            start = chance.randrange(len(data))
            kind = chance.randrange(4)
            if kind == 0:
                data[start] = chance.randrange(256)
            elif kind == 1:
                data[start : start + chance.randrange(50)] = b""
            elif kind == 2:
                data[start:start] = chance.choice(
                    [b"\0", b"\xff", b'"', b"\r", b",", b"\xed\xa0\x80", b"\n\n", b"["]
                )
            else:
                data[start : start + 8] = bytes(8)
            if not data:
                break
        try_to_load(name, bytes(data))


@pytest.mark.parametrize("format", FORMATS)
@pytest.mark.parametrize("other", FILES)
def test_file_with_a_wrong_name_is_rows_or_one_error(format: str, other: str) -> None:
    rows = try_to_load(f"wrong.{format}", FILES[other])
    assert rows in (None, [], ROWS)


JUNK = [
    b"",
    b"\0",
    b"\n" * 1_000,
    b"PK\x03\x04" + bytes(100),
    b"%PDF-1.7\n%\xe2\xe3\xcf\xd3\n",
    b"PAR1PAR1",
    b"PAR1" + bytes(100) + b"\xff\xff\xff\x7fPAR1",
    b"\x1f\x8b",
    b"\x1f\x8b\x08\0" + bytes(100),
    b"\x28\xb5\x2f\xfd",
    b"\x28\xb5\x2f\xfd" + b"\xff" * 100,
    b"\xff\xfe",
    b"\xfe\xff\xd8\x00",
    b'extended_id,lot\nA,1\nA\n\n,\nB,1,2\n"C,1\n',
    b"extended_id,extended_id\nA,1\n",
    b"extended_id,lot\rA,1\rB,\0\r",
    b"extended_id,lot\nA,\xff\n",
    b"\xef\xbb\xbf\xef\xbb\xbfextended_id\nA\n",
    b",,,\nA,B,C,D\n",
    b'"' * 1_001,
    b"," * 10_000 + b"\n",
    b"<html>maintenance</html>",
    b"{}\n[]\n1\nnull\n" + b"[" * 100_000 + b"\n",
    b'{"extended_id": "A", "extended_id": "B"}\n{"extended_id": NaN}\n{"extended_id": "\\ud800", "lot": "\\u0000"}\n',
    b'{"extended_id": ' + b"9" * 10_000 + b', "lot": 1e999}\n',
    b'{"extended_id": "A", "lot": ' + b'{"a":' * 50_000 + b"1" + b"}" * 50_000 + b"}\n",
]


@pytest.mark.parametrize("junk", JUNK, ids=lambda junk: repr(junk[:20]))
@pytest.mark.parametrize("format", FORMATS)
def test_junk_is_rows_or_one_error(format: str, junk: bytes) -> None:
    try_to_load(f"junk.{format}", junk)
    if format != "parquet":
        try_to_load(f"junk.{format}", gzip.compress(junk))
        for encoding in (
            "utf-16",
            "cp1252",
            "utf-7",
            "unicode_escape",
            "idna",
            "punycode",
            "undefined",
            "shift_jis",
        ):
            try_to_load(f"junk.{format}", junk, encoding=encoding)


@given(
    data=st.binary(max_size=200) | st.text(max_size=100).map(lambda text: text.encode(errors="surrogatepass"))
)
@settings(max_examples=200)
def test_any_bytes_are_rows_or_one_error(data: bytes) -> None:
    for format in FORMATS:
        try_to_load(f"any.{format}", data)


# Parquet that lies


def forge(said: int) -> Iterator[bytes]:
    """Return Parquet files whose footer says another number of rows in one place, and in all of them."""
    data = as_parquet(compression="none")
    size = int.from_bytes(data[-8:-4], "little")
    footer = data[-8 - size : -8]
    # Thrift's compact form: zigzag, seven bits at a time.
    places = [
        place
        for place in range(size)
        if footer.startswith(varint(len(ROWS)), place) and not footer[place - 1 : place].isalpha()
    ]
    assert len(places) >= 3
    for place in places:
        changed = footer[:place] + varint(said) + footer[place + 1 :]
        yield data[: -8 - size] + changed + len(changed).to_bytes(4, "little") + data[-4:]


def varint(number: int) -> bytes:
    number <<= 1
    out = bytearray()
    while number > 127:
        out.append(number & 127 | 128)
        number >>= 7
    return bytes([*out, number])


@pytest.mark.parametrize("said", [0, 1, 59, 61, 1_000, 2**31, 2**60])
def test_parquet_that_lies_about_its_rows_is_refused_or_read_whole(said: int) -> None:
    refused = 0
    for data in forge(said):
        rows = try_to_load("rows.parquet", data)
        assert rows in (None, ROWS)
        refused += rows is None
    assert refused


def test_parquet_types_that_are_no_values_are_refused_by_column() -> None:
    columns = {
        "list": pa.array([["a"]]),
        "struct": pa.array([{"a": 1}]),
        "map": pa.array([[("a", 1)]], pa.map_(pa.string(), pa.int64())),
        "lists": pa.array([[["a"]]]),
    }
    for name, column in columns.items():
        out = io.BytesIO()
        pq.write_table(pa.table({"extended_id": ["A"], name: column}), out)
        with pytest.raises(InvalidInput, match=f"rows.parquet, column '{name}'"):
            load("rows.parquet", out.getvalue())
        assert 1 == len(load("rows.parquet", out.getvalue(), columns={name: None}, constants={"lot": "1"})[0])


@pytest.mark.parametrize("name", ["a.b", "a", ".", "ä\n", "x" * 100_000, "\0"])
def test_parquet_columns_of_any_name_are_read(name: str) -> None:
    out = io.BytesIO()
    pq.write_table(pa.table({"extended_id": ["A"], name: ["1"], "a.c": ["2"]}), out)
    rows = try_to_load("rows.parquet", out.getvalue())
    assert rows in ([], [{"extended_id": "A", name: "1", "a.c": "2"}])


def test_parquet_text_that_is_no_utf8_names_its_column() -> None:
    bad = pa.StringArray.from_buffers(1, pa.py_buffer(b"\0\0\0\0\2\0\0\0"), pa.py_buffer(b"\xff\xfe"))
    out = io.BytesIO()
    pq.write_table(pa.table({"extended_id": ["A"], "lot": bad}), out)
    with pytest.raises(InvalidInput, match="column 'lot'"):
        load("rows.parquet", out.getvalue())


def test_parquet_time_out_of_all_calendars_names_its_column() -> None:
    for column in (pa.array([2**62], pa.timestamp("us")), pa.array([2**30], pa.int32()).cast(pa.date32())):
        out = io.BytesIO()
        pq.write_table(pa.table({"extended_id": ["A"], "day": column}), out)
        assert not try_to_load("rows.parquet", out.getvalue())


# Bombs


@pytest.fixture
def little_room(monkeypatch: pytest.MonkeyPatch) -> None:
    """All bounds small, so that a test need not unpack 256 MiB."""
    monkeypatch.setattr(text_module, "UNPACKED_FREELY", 1024 * 1024)


BOMBS: dict[str, Callable[[], bytes]] = {
    "rows": lambda: b"extended_id,lot\n" + b"A,1\n" * 5_000_000,
    "empty lines": lambda: b"extended_id,lot\n" + b"\n" * 20_000_000,
    "objects": lambda: b'{"extended_id":"A"}\n' * 1_000_000,
}


@pytest.mark.usefixtures("little_room")
@pytest.mark.parametrize("pack", [gzip.compress, zstandard.compress], ids=["gzip", "zstd"])
@pytest.mark.parametrize("bomb", BOMBS)
def test_bomb_of_good_rows_is_refused_by_what_it_unpacks_to(
    pack: Callable[[bytes], bytes], bomb: str
) -> None:
    packed = pack(BOMBS[bomb]())
    name = "rows.jsonl" if bomb == "objects" else "rows.csv"
    with pytest.raises(InvalidInput, match="unpacks to more than 300 times its size"):
        exhaust(open_source(name, lambda: io.BytesIO(packed)))


@pytest.mark.usefixtures("little_room")
def test_file_that_packs_well_is_no_bomb() -> None:
    text = "Some long constant text about the product that is the same on each and every row of the file"
    data = b"extended_id,text\n" + b"".join(
        b"SBX%08d,%s\n" % (number, text.encode()) for number in range(12_000)
    )
    for packed in (gzip.compress(data, 9), zstandard.compress(data, 19)):
        assert 12_000 == len(list(open_source("rows.csv", partial(io.BytesIO, packed))))


@pytest.mark.usefixtures("little_room")
def test_parquet_bomb_is_refused() -> None:
    out = io.BytesIO()
    rows = 1_000_000
    pq.write_table(
        pa.table({"extended_id": pa.array(["A" * 100], pa.string()).take(pa.array([0] * rows))}), out
    )
    assert len(out.getvalue()) < 100_000
    with pytest.raises(InvalidInput, match="unpacks to more than 300 times its size"):
        load("rows.parquet", out.getvalue())


def exhaust(rows: Iterable[Any]) -> None:
    for _ in rows:
        pass


class Endless(io.RawIOBase):
    """A file without an end, made as it is read."""

    def __init__(self, start: bytes, piece: bytes) -> None:
        self._next = start
        self._piece = piece * (256 * 1024 // len(piece))
        self.given = 0

    def read(self, size: int = -1) -> bytes:
        while len(self._next) < size:
            self._next += self._piece
        data, self._next = self._next[:size], self._next[size:]
        self.given += len(data)
        return data


@pytest.mark.parametrize(
    ("format", "start", "piece"),
    [
        ("csv", b"extended_id", b"x"),
        ("csv", b"extended_id,lot\nA,1\n", b","),
        ("csv", b'extended_id,lot\nA,"', b"x\n"),
        ("csv", b'extended_id,lot\nA,"', b'x\n","'),
        ("csv", b'"', b'x\n","'),
        ("csv", b'extended_id,"', b"x" * 4_095 + b"\n"),
        ("csv", b"extended_id,lot\nA,", b"\0"),
        ("jsonl", b'{"extended_id": "', b"x"),
        ("jsonl", b"", b"["),
    ],
)
def test_file_without_an_end_does_not_fill_the_memory(
    format: str, start: bytes, piece: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    for module in (text_module, delimited):
        monkeypatch.setattr(module, "LONGEST_LINE", 1024 * 1024)
    endless = Endless(start, piece)
    tracemalloc.start()
    try:
        with pytest.raises(InvalidInput):
            exhaust(open_source(f"endless.{format}", lambda: endless))  # type: ignore[arg-type, return-value]
        most = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert endless.given < 20 * 1024 * 1024
    assert most < 200 * 1024 * 1024
