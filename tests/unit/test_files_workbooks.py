"""Cells of a workbook whose value is not what they seem to hold: it arrives as Excel shows it, or the row is rejected."""

from __future__ import annotations

import io
import zipfile
from collections.abc import Callable

import pytest

from uploaded import KEY, upload

pytest.importorskip("python_calamine")

_MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
_LINKS = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"
_PACKAGE = "http://schemas.openxmlformats.org/package/2006/relationships"
# Style 0 is General; the others are dates, an East Asian date of Excel's own, a time, and a number.
STYLES = (
    '<numFmts><numFmt numFmtId="165" formatCode="yyyy\\-mm\\-dd"/><numFmt numFmtId="166" formatCode="0 &quot;days&quot;"/>'
    "</numFmts><cellXfs>"
    + "".join(f'<xf numFmtId="{number}"/>' for number in (0, 14, 165, 57, 20, 166))
    + "</cellXfs>"
)


def inline(place: str, text: str) -> str:
    return f'<c r="{place}" t="inlineStr"><is><t>{text}</t></is></c>'


def workbook(cell: str) -> bytes:
    """Return an .xlsx file with two rows; the cell of the first one, B2, is given as XML."""
    rows = [
        inline("A1", KEY) + inline("B1", "lot"),
        inline("A2", "CODE0001") + cell,
        inline("A3", "CODE0002") + inline("B3", "L2"),
    ]
    links = "".join(
        f'<Relationship Id="r{number}" Type="{_LINKS}/{kind}" Target="{target}"/>'
        for number, (kind, target) in enumerate(
            [
                ("worksheet", "worksheets/sheet1.xml"),
                ("styles", "styles.xml"),
                ("sharedStrings", "sharedStrings.xml"),
            ],
            start=1,
        )
    )
    parts = {
        "_rels/.rels": f'<Relationships xmlns="{_PACKAGE}"><Relationship Id="r1" Type="{_LINKS}/officeDocument" Target="xl/workbook.xml"/></Relationships>',
        "xl/workbook.xml": f'<workbook xmlns="{_MAIN}" xmlns:r="{_LINKS}"><sheets><sheet name="S" sheetId="1" r:id="r1"/></sheets></workbook>',
        "xl/_rels/workbook.xml.rels": f'<Relationships xmlns="{_PACKAGE}">{links}</Relationships>',
        "xl/styles.xml": f'<styleSheet xmlns="{_MAIN}">{STYLES}</styleSheet>',
        "xl/sharedStrings.xml": f'<sst xmlns="{_MAIN}"><si><t>the first text of the workbook</t></si></sst>',
        "xl/worksheets/sheet1.xml": f'<worksheet xmlns="{_MAIN}"><sheetData>'
        + "".join(f'<row r="{number}">{row}</row>' for number, row in enumerate(rows, start=1))
        + "</sheetData></worksheet>",
    }
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        for name, text in parts.items():
            archive.writestr(name, text)
    return out.getvalue()


@pytest.mark.parametrize(
    ("cell", "lot"),
    [
        ('<c r="B2" t="s"><v/></c>', ""),
        ('<c r="B2" t="s"/>', ""),
        ('<c r="B2" t="inlineStr"/>', ""),
        ('<c r="B2" t="inlineStr"><is><t><![CDATA[a & b]]></t></is></c>', "a & b"),
        ('<c r="B2" s="1"><v>45678</v></c>', "2025-01-21"),
        ('<c r="B2" s="2"><f>C2</f><v>45678</v></c>', "2025-01-21"),
        ('<c r="B2" s="3"><v>45678</v></c>', "2025-01-21"),
        ('<c r="B2" s="4"><v>0</v></c>', "00:00:00"),
        ('<c r="B2" s="5"><v>0</v></c>', "0"),
        ('<c r="B2" s="2" t="str"><f>C2</f><v>0</v></c>', "0"),
        ('<c r="B2"><v>-1</v></c>', "-1"),
    ],
)
def test_cell_arrives_as_excel_shows_it(cell: str, lot: str) -> None:
    found = upload(workbook(cell), "a.xlsx")
    assert {"CODE0001": {"lot": lot}, "CODE0002": {"lot": "L2"}} == found.rows


@pytest.mark.parametrize(
    ("cell", "reason"),
    [
        ('<c r="B2" t="inlineStr"><v>1.</v></c>', "cannot be read"),
        ('<c r="B2" t="inlineStr"><is><r><t>L</t></r></is><v>1</v></c>', "cannot be read"),
        ('<c r="B2" t="str"><v><![CDATA[L1]]></v></c>', "cannot be read"),
        ('<c r="B2"><f>C2</f><v><![CDATA[1]]></v></c>', "cannot be read"),
        ('<c r="B2" s="1"><v>0</v></c>', "formatted as a date"),
        ('<c r="B2" s="2"><f>C2</f><v>0</v></c>', "formatted as a date"),
        ('<c s="3" r="B2" t="n"><v>-1</v></c>', "formatted as a date"),
    ],
)
def test_cell_whose_value_would_be_lost_or_be_another_is_rejected(cell: str, reason: str) -> None:
    found = upload(workbook(cell), "a.xlsx")
    assert {"CODE0002": {"lot": "L2"}} == found.rows
    ((line, kind, said),) = found.rejected
    assert (2, "invalid") == (line, kind)
    assert f"column 'lot': the cell B2 {said.partition('B2 ')[2]}" == said
    assert reason in said
    # The row that was not fixed is rejected again.
    assert not upload(found.rejects, found.rejects_name).rows


@pytest.mark.parametrize(
    "spell", [lambda name: name.replace("/", "\\"), lambda name: name.replace("xl/w", "xl/W")]
)
def test_parts_may_have_names_that_only_some_tools_write(spell: Callable[[str], str]) -> None:
    out = io.BytesIO()
    data = workbook('<c r="B2" t="e"><v>#N/A</v></c>')
    with zipfile.ZipFile(io.BytesIO(data)) as archive, zipfile.ZipFile(out, "w") as other:
        for name in archive.namelist():
            other.writestr(spell(name), archive.read(name))
    found = upload(out.getvalue(), "a.xlsx")
    assert {"CODE0002": {"lot": "L2"}} == found.rows
    assert "the cell B2 holds an error" in found.rejected[0][2]
