"""Open a file of any supported format."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.delimited import DelimitedSource
from airflow_provider_scantrust.sources.excel import EXCEL_FORMATS, ExcelSource
from airflow_provider_scantrust.sources.fields import Fields
from airflow_provider_scantrust.sources.jsonlines import JsonLinesSource
from airflow_provider_scantrust.sources.packing import find_other_kind
from airflow_provider_scantrust.sources.parquet import ParquetSource
from airflow_provider_scantrust.sources.tables import FileSource
from airflow_provider_scantrust.sources.text import check_encoding

FORMATS = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
    "xlsx": (".xlsx", ".xlsm"),
    "xlsb": (".xlsb",),
    "ods": (".ods",),
    "xls": (".xls",),
}
PACKED = (".gz", ".zst", ".zip")


def find_format(name: str) -> str | None:
    """Return the format for a file name, ignoring ``.gz``, ``.zst`` and ``.zip``; None if not known."""
    name = name.lower()
    for suffix in PACKED:
        name = name.removesuffix(suffix)
    return next((format for format, suffixes in FORMATS.items() if name.endswith(suffixes)), None)


def open_source(
    name: str,
    open_file: Callable[[], BinaryIO],
    *,
    format: str | None = None,
    columns: Mapping[str, str | None] | None = None,
    constants: Mapping[str, Any] | None = None,
    encoding: str | None = None,
    delimiter: str | None = None,
    quotechar: str | None = None,
    skip_rows: int | None = None,
    sheet: str | int | None = None,
    null_values: Sequence[str] | None = None,
    data_key: str | None = None,
    keep_copy: bool = False,
) -> FileSource:
    """
    Return the rows of a file. The file is opened when the rows are iterated, which is possible only once.

    A fixed rejects file can be opened as it is: its additional columns are left out. The options are those of
    :class:`~airflow_provider_scantrust.operators.scantrust.ScantrustUploadOperator`.

    :param name: The file's name, for messages and for its format.
    :param open_file: Opens the file for reading bytes. gzip, zstd and a zip archive of one file are unpacked.
    :param data_key: A table without this column is refused.
    :param keep_copy: Keep a copy, which is needed to write rejected rows.
    :raises ConfigurationError: An argument does not fit. Errors in the file are raised when it is read.
    """
    found = format or find_format(name)
    if found not in FORMATS:
        if format is None and (what := find_other_kind(name)):
            raise ConfigurationError(
                f"{name}: the name says {what}. If the content is another, give source_format=."
            )
        raise ConfigurationError(
            f"{name}: {f'source_format={format!r} is not known' if format else 'the name does not tell the format'}. "
            f"Give source_format=, one of {', '.join(FORMATS)}. If this is a folder, list its files and upload them with "
            "`.expand(source=…)`."
        )
    is_table, is_sheet = found in ("csv", "tsv"), found in EXCEL_FORMATS
    for option, given, fits, where in (
        ("delimiter", delimiter, is_table, "csv and tsv"),
        ("quotechar", quotechar, is_table, "csv and tsv"),
        ("skip_rows", skip_rows, is_table or is_sheet, "csv, tsv and Excel"),
        ("sheet", sheet, is_sheet, "Excel"),
        ("encoding", encoding, is_table or found == "jsonl", "text files"),
    ):
        if given is not None and not fits:
            raise ConfigurationError(f"{name}: {option}= is for {where}, not for {found}.")
    if skip_rows is not None and (
        isinstance(skip_rows, bool) or not isinstance(skip_rows, int) or skip_rows < 0
    ):
        raise ConfigurationError(f"{name}: skip_rows must be a number of rows, not {skip_rows!r}.")
    if delimiter == "\\t" or (delimiter is None and found == "tsv"):
        delimiter = "\t"
    if delimiter is not None and (
        not isinstance(delimiter, str) or not re.fullmatch(r'[^"\w\r\n\0]', delimiter)
    ):
        raise ConfigurationError(
            f"delimiter={delimiter!r} must be one character, and neither quote, line end, letter nor digit."
        )
    quotechar = '"' if quotechar is None else quotechar
    if not isinstance(quotechar, str) or not re.fullmatch(r"[^\s\0]?", quotechar) or quotechar == delimiter:
        raise ConfigurationError(
            f"quotechar={quotechar!r} must be one character and not the delimiter, or empty when nothing is quoted."
        )
    check_encoding(encoding)
    readers = {"jsonl": JsonLinesSource, "parquet": ParquetSource}
    reader = DelimitedSource if is_table else ExcelSource if is_sheet else readers[found]
    return reader(
        name,
        open_file,
        Fields(columns, constants, data_key, null_values),
        format=found,
        encoding=encoding,
        delimiter=delimiter,
        quotechar=quotechar,
        skip_rows=skip_rows or 0,
        sheet=sheet,
        keep_copy=keep_copy,
    )
