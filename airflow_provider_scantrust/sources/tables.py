"""
What all sources share: they are read once, and keep a copy for rejects.

Rule: a problem of one row is returned in place of the row; a problem of the whole file is an exception.
"""

from __future__ import annotations

import importlib
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from typing import Any, BinaryIO, Self, cast

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.sources.fields import Fields, Row, UnreadableRow


class Source(ABC):
    """
    Rows, read one by one, each with its first line. A context manager that can be iterated once.

    :param keep_copy: Keep what is read in a private temporary file, for rejects.
    :param notes: Warnings about the file as a whole; complete after the last row.
    """

    name: str
    format: str

    def __init__(self, name: str, fields: Fields, *, keep_copy: bool) -> None:
        self.name = name
        self.fields = fields
        self.notes: list[str] = []
        self._stack = ExitStack()
        self._copy = self._temporary_file() if keep_copy else None
        self._was_read = False

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        self._stack.close()

    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """
        Return line and row, from the first row on.

        :raises InvalidInput: The file as a whole cannot be read, or is truncated; the message names the line.
        :raises ConfigurationError: The source was already read, or a library is missing.
        """
        if self._was_read:
            raise ConfigurationError(f"{self.name}: a source can be read only once.")
        self._was_read = True
        rows = self._read()
        return self.fields.complete(rows) if self.fields.null_values or self.fields.constants else rows

    @abstractmethod
    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """Return line and row, the row without constants, for :meth:`__iter__`."""

    def reopen(self) -> BinaryIO:
        """Return the copy, from its start, after the rows were read."""
        if self._copy is None:
            raise ConfigurationError(f"{self.name}: no copy of these rows was kept.")
        self._copy.seek(0)
        return self._copy

    def _temporary_file(self) -> BinaryIO:
        return cast("BinaryIO", self._stack.enter_context(tempfile.TemporaryFile(prefix="scantrust-")))


@dataclass(eq=False, repr=False)
class FileSource(Source):
    """
    A source of bytes; its copy has the bytes as stored.

    The arguments are those of :func:`~airflow_provider_scantrust.sources.opening.open_source`, which checks
    them.
    """

    name: str
    open_file: Callable[[], BinaryIO]
    fields: Fields
    format: str
    encoding: str | None
    delimiter: str | None
    quotechar: str
    skip_rows: int
    sheet: str | int | None
    keep_copy: bool

    def __post_init__(self) -> None:
        super().__init__(self.name, self.fields, keep_copy=self.keep_copy)

    def open(self) -> BinaryIO:
        raw = self._stack.enter_context(self.open_file())
        return raw if self._copy is None else cast("BinaryIO", _Tee(raw, self._copy))

    def open_whole(self, unpack: Callable[[str, BinaryIO], Iterable[bytes]]) -> BinaryIO:
        """Copy the file, for a format that is not read from front to back, and return the copy."""
        self._copy = self._copy or self._temporary_file()
        with self.open_file() as raw:
            for block in unpack(self.name, raw):
                self._copy.write(block)
        return self.reopen()


class _Tee:
    """Reads a file and writes what it read to another."""

    def __init__(self, raw: BinaryIO, copy: BinaryIO) -> None:
        self._raw = raw
        self._copy = copy

    def read(self, size: int = -1) -> bytes:
        data = self._raw.read(size)
        self._copy.write(data)
        return data


def need(module: str, extra: str, name: str) -> Any:
    """Return a module that belongs to an extra of this package; if it is not installed, name the extra."""
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{name}: this needs {module.partition('.')[0]}, which is not installed. "
            f"Install airflow-provider-scantrust[{extra}]."
        ) from error
