"""
What it costs to read, check and plan a workbook: 300,000 rows of six columns, as Excel writes them, in 400 MB.

Memory is the peak of a fresh process on one core, with all that it imports.
"""

from __future__ import annotations

import argparse
import io
import subprocess
import sys
import tempfile
import time
import zipfile
from collections.abc import Iterator
from functools import partial

from spool import COLUMNS, peak_memory

MOST_MEGABYTES = 400.0
_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006"
_PARTS = {
    "[Content_Types].xml": f'<Types xmlns="{_PACKAGE}/content-types"><Default Extension="xml" ContentType="application/xml"/></Types>',
    "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type="{_LINKS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
    "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets><sheet name="Bottles" sheetId="1" r:id="r1"/></sheets></workbook>',
    "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}/relationships"><Relationship Id="r1" Type="{_LINKS}/worksheet" Target="worksheets/sheet1.xml"/><Relationship Id="r2" Type="{_LINKS}/styles" Target="styles.xml"/><Relationship Id="r3" Type="{_LINKS}/sharedStrings" Target="sharedStrings.xml"/></Relationships>',
    "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}"><cellXfs><xf numFmtId="0"/><xf numFmtId="14"/></cellXfs></styleSheet>',
}


def main() -> int:
    """Print the figures; return 1 when they are over the budget."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=300_000)
    parser.add_argument("--measure", metavar="FILE", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.measure:
        measure(options.measure)
        return 0
    with tempfile.TemporaryDirectory() as folder:
        path = f"{folder}/rows.xlsx"
        write_workbook(path, options.rows)
        output = subprocess.check_output([sys.executable, __file__, "--measure", path], text=True)
    rows, seconds, megabytes = map(float, output.split())
    print(f"{rows:,.0f} rows of a workbook: {rows / seconds:,.0f} rows/s, peak memory {megabytes:.0f} MB")
    print(f"budget: {MOST_MEGABYTES:g} MB")
    return int(rows != options.rows or megabytes > MOST_MEGABYTES)


def measure(path: str) -> None:
    """Print rows, seconds and megabytes of this process."""
    from airflow_provider_scantrust.sources.opening import open_source
    from airflow_provider_scantrust.uploads.plan import make_plan
    from airflow_provider_scantrust.uploads.spool import Spool

    started = time.perf_counter()
    with (
        Spool("extended_id") as spool,
        open_source(path, partial(io.FileIO, path), data_key="extended_id") as source,
    ):
        spool.fill(source, warn=print)
        keys = make_plan(spool).keys
    print(keys, time.perf_counter() - started, peak_memory())


def write_workbook(path: str, rows: int) -> None:
    """Write texts that are shared, as Excel does, a day and a number in each row."""
    texts = [*COLUMNS]
    places: dict[str, int] = {name: place for place, name in enumerate(texts)}

    def place_of(text: str) -> int:
        if text not in places:
            places[text] = len(texts)
            texts.append(text)
        return places[text]

    def lines() -> Iterator[str]:
        yield f'<worksheet xmlns="{_MAIN}"><sheetData><row r="1">'
        yield "".join(f'<c r="{chr(65 + place)}1" t="s"><v>{place}</v></c>' for place in range(len(COLUMNS)))
        yield "</row>"
        for number in range(2, rows + 2):
            key, lot = place_of(f"WINE{number:08}"), place_of(f"L-{number // 500:05}")
            product, tag = place_of(f"prod_{number % 50}"), place_of(f"E28{number:09}")
            yield (
                f'<row r="{number}"><c r="A{number}" t="s"><v>{key}</v></c><c r="B{number}" t="s"><v>{lot}</v></c>'
                f'<c r="C{number}" s="1"><v>{46000 + number % 300}</v></c><c r="D{number}" t="s"><v>{product}</v></c>'
                f'<c r="E{number}"><v>{number % 7}</v></c><c r="F{number}" t="s"><v>{tag}</v></c></row>'
            )
        yield "</sheetData></worksheet>"

    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive:
        for name, text in _PARTS.items():
            archive.writestr(name, text)
        with archive.open("xl/worksheets/sheet1.xml", "w") as part:
            for line in lines():
                part.write(line.encode())
        with archive.open("xl/sharedStrings.xml", "w") as part:
            part.write(f'<sst xmlns="{_MAIN}">'.encode())
            part.writelines(f"<si><t>{text}</t></si>".encode() for text in texts)
            part.write(b"</sst>")


if __name__ == "__main__":
    sys.exit(main())
