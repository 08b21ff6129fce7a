"""Opening what is to be uploaded: files of any supported format, and rows that a program hands over."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.delimited import DelimitedSource
from airflow_provider_scantrust.sources.jsonlines import JsonLinesSource, RowSource
from airflow_provider_scantrust.sources.parquet import ParquetSource
from airflow_provider_scantrust.sources.tables import Fields, Row, Source, UnreadableRow

__all__ = ["FORMATS", "Row", "RowSource", "Source", "UnreadableRow", "find_format", "open_source"]

FORMATS = {
    "csv": (".csv",),
    "tsv": (".tsv", ".tab"),
    "jsonl": (".jsonl", ".ndjson", ".json"),
    "parquet": (".parquet", ".pq"),
}
PACKED = (".gz", ".zst")


def find_format(name: str) -> str | None:
    """Return the format that a file's name says, ``.gz`` and ``.zst`` put aside, or None."""
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
) -> Source:
    """
    Return the rows of a file. It is opened when they are iterated, and anew each time.

    A rejects file that was mended can be opened as it is: the columns that were added to it are left out.

    :param name: The file's name, for messages and for its format.
    :param open_file: Opens it for reading bytes; Parquet needs one that can seek. gzip and zstd are unpacked.
    :param format: "csv", "tsv", "jsonl" or "parquet"; None to go by the name.
    :param columns: Column of the file -> SCM field, or None to leave it out. A column that is not named keeps its own
        name.
    :param constants: SCM field -> value, added to each row.
    :param encoding: Of text files; None for what the byte order mark says, or else utf-8.
    :param delimiter: Of CSV; None to find it in the header.
    :param quotechar: Of CSV; None for ``"``, and "" when nothing is quoted.
    :raises ConfigurationError: An argument does not fit. What is wrong with the file itself is raised when it is read.
    """
    found = format or find_format(name)
    fields = Fields(columns, constants)
    if found in ("csv", "tsv"):
        return DelimitedSource(
            name,
            open_file,
            fields,
            format=found,
            encoding=encoding,
            delimiter=delimiter,
            quotechar='"' if quotechar is None else quotechar,
        )
    for option, given in (("delimiter", delimiter), ("quotechar", quotechar)):
        if given is not None:
            raise ConfigurationError(f"{name}: {option}= is for csv and tsv, not for {found}.")
    if found == "jsonl":
        return JsonLinesSource(name, open_file, fields, encoding=encoding)
    if found == "parquet":
        if encoding is not None:
            raise ConfigurationError(f"{name}: encoding= is for text files, and Parquet says its own.")
        return ParquetSource(name, open_file, fields)
    raise ConfigurationError(
        f"{name}: {f'source_format={format!r} is not known' if format else 'the name does not tell the format'}. "
        f"Give source_format=, one of {', '.join(FORMATS)}."
    )
