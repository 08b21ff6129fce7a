"""Write the files of this folder that are no text; run it to change one. Only ``old-cells.xls`` is of another library."""

from __future__ import annotations

import bz2
import datetime
import gzip
import io
import lzma
import uuid
import zipfile
from decimal import Decimal
from pathlib import Path
from typing import Any

import openpyxl  # type: ignore[import-untyped, unused-ignore]
import pandas as pd  # type: ignore[import-untyped, unused-ignore]
import pyarrow as pa
import pyarrow.parquet as pq

HERE = Path(__file__).parent
KEY = "extended_id"
CSV = b"extended_id,lot\nCODE0001,L1\n"
DAY = datetime.date(2026, 12, 31)


def main() -> None:
    """Write all of them."""
    for name, data in {**packed(), **sheets()}.items():
        (HERE / name).write_bytes(data)
    for name, table in tables().items():
        pq.write_table(table, HERE / name)


def packed() -> dict[str, bytes]:
    """Return files that hold others."""
    return {
        "packed.csv.gz": gzip.compress(CSV, mtime=0),
        "packed-twice.csv.gz": gzip.compress(gzip.compress(CSV, mtime=0), mtime=0),
        "two-members.csv.gz": gzip.compress(CSV, mtime=0) + gzip.compress(CSV.replace(b"1", b"2"), mtime=0),
        "cut.csv.gz": gzip.compress(CSV * 50, mtime=0)[:-9],
        "damaged.csv.gz": gzip.compress(CSV, mtime=0)[:-8] + b"\1\2\3\4\5\6\7\10",
        "not-packed.csv.gz": CSV,
        "one-file.zip.csv": archive({"rows.csv": CSV, "__MACOSX/._rows.csv": b"x"}),
        "two-files.zip.csv": archive({"a.csv": CSV, "b.csv": CSV}),
        "bzip2.csv": bz2.compress(CSV),
        "xz.csv": lzma.compress(CSV),
        "7z.csv": b"7z\xbc\xaf\x27\x1c\0\4" + bytes(24),
        "old-excel.csv": b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1" + bytes(504),
    }


def archive(members: dict[str, bytes]) -> bytes:
    """Return a zip archive."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as file:
        for name, data in members.items():
            file.writestr(zipfile.ZipInfo(name), data)
    return out.getvalue()


def sheets() -> dict[str, bytes]:
    """Return workbooks."""
    book = openpyxl.Workbook()
    rows: list[list[Any]] = [
        [KEY, "lot", "ean", "bottled", "time", "ok", "note"],
        ["CODE0001", "00123", 4006381333931, DAY, datetime.datetime(2026, 12, 31, 8, 30), True, None],
        ["CODE0002", '="00123"', 1.5, DAY, datetime.time(8, 30), False, " x "],
        [None, None, None, None, None, None, None],
        ["CODE0003", "a\nb", 4006381333931555, DAY, None, True, "digits"],
        ["CODE0004", "L4", "#N/A", DAY, None, True, "error"],
        ["CODE0005", "=A1", 1, DAY, None, True, "formula"],
        [12345, "L6", 1, DAY, None, True, "key"],
    ]
    for row in rows:
        book.active.append(row)
    book.active["B3"].data_type = "s"
    book.active["C6"].data_type = "e"
    other = book.create_sheet("Bottles 2026")
    other.append(["A title"])
    other.append([KEY, "lot"])
    other.append(["CODE0009", "L9"])
    out = io.BytesIO()
    book.save(out)
    plain = openpyxl.Workbook()
    plain.active.append([KEY, "lot"])
    plain.active.append(["CODE0001", "L1"])
    one = io.BytesIO()
    plain.save(one)
    return {
        "workbook.xlsx": out.getvalue(),
        "workbook-named.csv": one.getvalue(),
        "merged-cells.xlsx": merged_cells(),
        "shown-zeros.xlsx": shown_zeros(),
    }


def merged_cells() -> bytes:
    """Return a workbook with a title, a lot of two rows and an empty row, each of merged cells."""
    book = openpyxl.Workbook()
    rows = [["Bottles", None, None], [KEY, "lot", "note"], ["CODE0001", "L1", "a"], ["CODE0002", None, "b"]]
    for row in [*rows, [None, None, None], ["CODE0003", "L3", "c"]]:
        book.active.append(row)
    for place in ("A1:C1", "B3:B4", "A5:C5"):
        book.active.merge_cells(place)
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def shown_zeros() -> bytes:
    """Return a workbook, its first sheet hidden, with numbers that Excel shows with zeros before them."""
    book = openpyxl.Workbook()
    book.active.append([KEY, "lot", "weight"])
    for row, key in enumerate(["WINE", "BEER"], start=2):
        book.active.append([key, 123456 if row == 2 else 123, 0.5])
        book.active.cell(row, 2).number_format = '"L-"000-000'
        book.active.cell(row, 3).number_format = "0.00"
    book.create_sheet("Seen")
    book.active.sheet_state = "hidden"
    out = io.BytesIO()
    book.save(out)
    return out.getvalue()


def tables() -> dict[str, pa.Table]:
    """Return tables for Parquet."""
    frame = pd.DataFrame({KEY: ["CODE0001", "CODE0002"], "lot": ["L1", None]}, index=[7, 9])
    identity = uuid.UUID("12345678-1234-5678-1234-567812345678").bytes
    types = pa.table(
        {
            KEY: pa.array([b"CODE0001", b"CODE0002", b"CODE0003"]),
            "ean": pa.array([4006381333931.0, 1e17, 1.5]),
            "fixed": pa.array([b"ABCD", b"EFGH", b"\xff\xfe\0\1"], pa.binary(4)),
            "id": pa.array([identity] * 3, pa.uuid()),
            "price": pa.array([Decimal("1.50"), Decimal("2.50"), Decimal("3.50")]),
            "day": pa.array([DAY] * 3),
            "at": pa.array([datetime.datetime(2026, 12, 31), None, datetime.datetime(2026, 12, 31, 1)]),
            "nan": pa.array([None, None, float("nan")]),
        }
    )
    return {
        "pandas-index.parquet": pa.Table.from_pandas(frame),
        "pandas-key-index.parquet": pa.Table.from_pandas(frame.set_index(KEY)),
        "pandas-named-index.parquet": pa.Table.from_pandas(frame.rename_axis("serial")),
        "types.parquet": types,
        "wrong-case.parquet": pa.table({"Extended_ID": ["CODE0001"], "lot": ["L1"]}),
        "lists.parquet": pa.table({KEY: ["CODE0001"], "lot": [["a", "b"]]}),
    }


if __name__ == "__main__":
    main()
