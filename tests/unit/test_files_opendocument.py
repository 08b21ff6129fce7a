"""Sheets of OpenDocument: each value arrives as a person sees it, or the file is refused."""

from __future__ import annotations

import io
import zipfile

import pytest

from airflow_provider_scantrust.exceptions import InvalidInput
from uploaded import KEY, upload

pytest.importorskip("python_calamine")

PICTURE = "<draw:frame><draw:image><text:p>seen</text:p></draw:image></draw:frame>"


def ods(cells: str, more: str = "") -> bytes:
    """Return an .ods file of a header and one row, whose second cell and following ones are given as XML; and more sheets."""
    text = '<table:table-cell office:value-type="string"><text:p>{}</text:p></table:table-cell>'
    names = "".join(text.format(name) for name in (KEY, "a", "b"))
    spaces = " ".join(
        f'xmlns:{name}="urn:oasis:names:tc:opendocument:xmlns:{name}:1.0"'
        for name in ("office", "table", "text", "draw")
    )
    content = (
        f"<office:document-content {spaces}><office:body><office:spreadsheet><table:table table:name='S'>"
        f"<table:table-row>{names}</table:table-row><table:table-row>{text.format('CODE0001')}{cells}</table:table-row>"
        f"</table:table>{more}</office:spreadsheet></office:body></office:document-content>"
    )
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w") as archive:
        archive.writestr("mimetype", "application/vnd.oasis.opendocument.spreadsheet")
        archive.writestr("content.xml", content)
        archive.writestr("META-INF/manifest.xml", "<manifest/>")
    return out.getvalue()


@pytest.mark.parametrize(
    "cells",
    [
        '<table:table-cell table:number-columns-spanned="2" table:number-rows-spanned="1"/><table:covered-table-cell/>',
        '<table:table-cell table:formula="of:=[.A1]"/>',
        '<table:table-cell table:formula="of:=1/0" office:value-type="error"/>',
        # As odfpy writes text without a type, and as LibreOffice writes a tab.
        "<table:table-cell><text:p>L1</text:p></table:table-cell>",
        '<table:table-cell office:value-type="string"><text:p>a<text:tab/>b</text:p></table:table-cell>',
        '<table:table-cell office:value-type="string"><text:p><![CDATA[a]]></text:p></table:table-cell>',
        '<table:table-cell office:value-type="string"><text:p>a<text:s/>b<text:line-break/>c</text:p></table:table-cell>',
        # A picture or a shape in the cell, before or behind its text.
        f'<table:table-cell office:value-type="string">{PICTURE}<text:p>L1</text:p></table:table-cell>',
        f'<table:table-cell office:value-type="string"><text:p>L1</text:p>{PICTURE}</table:table-cell>',
        # An error, as LibreOffice writes it without its extensions, and as OpenOffice did.
        '<table:table-cell table:formula="of:=NA()" office:value-type="string" office:string-value=""><text:p>#N/A</text:p></table:table-cell>',
        '<table:table-cell table:formula="of:=A9" office:value-type="float" office:value="0"><text:p>Err:502</text:p></table:table-cell>',
    ],
)
def test_sheet_of_opendocument_that_hides_values_is_refused(cells: str) -> None:
    with pytest.raises(InvalidInput, match=r"save the file as \.xlsx"):
        upload(ods(cells), "a.ods")


def test_time_of_opendocument_is_invalid_and_other_cells_are_read() -> None:
    number = '<table:table-cell office:value-type="float" office:value="42"/>'
    time = '<table:table-cell office:value-type="time" office:time-value="PT32H30M00S"/>'
    assert {"CODE0001": {"a": "42", "b": "42"}} == upload(ods(number * 2), "a.ods").rows
    found = upload(ods(number + time), "a.ods")
    assert [(2, "invalid")] == [(line, kind) for line, kind, _ in found.rejected]


def test_picture_beside_a_number_or_in_an_empty_cell_of_opendocument_does_no_harm() -> None:
    number = f'<table:table-cell office:value-type="float" office:value="42">{PICTURE}</table:table-cell>'
    text = '<table:table-cell office:value-type="string"><text:p>#N1</text:p></table:table-cell>'
    empty = f"<table:table-cell>{PICTURE}</table:table-cell>"
    assert {"CODE0001": {"a": "42", "b": "#N1"}} == upload(ods(number + text), "a.ods").rows
    assert {"CODE0001": {"a": "#N1", "b": ""}} == upload(ods(text + empty), "a.ods").rows


def test_text_of_opendocument_that_is_also_an_attribute_keeps_its_lines() -> None:
    empty = "<table:table-cell><text:p/></table:table-cell>"
    text = (
        '<table:table-cell office:value-type="string" office:string-value="a&#10;b">'
        "<text:p>a<text:line-break/>b</text:p></table:table-cell>"
    )
    assert {"CODE0001": {"a": "", "b": "a\nb"}} == upload(ods(empty + text), "a.ods").rows


def test_other_sheet_with_cells_is_named() -> None:
    row = "<table:table-row><table:table-cell office:value-type='string'><text:p>x</text:p></table:table-cell></table:table-row>"
    more = f"<table:table table:name='T'>{row}</table:table><table:table table:name='Empty'/>"
    (warning,) = upload(
        ods("", more), "a.ods", constants={"lot": "L1"}, columns={"a": None, "b": None}
    ).warnings
    assert "only the first sheet, 'S', is read; there are cells in 'T', too" in warning
