"""
Where an upload reads its rows: a file, or rows of a program.

Rule: both are read once. With a ``rejects_path``, what was read is copied to a file without a name, which later looks go to.
"""

from __future__ import annotations

import os
import pickle
import shutil
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import IO, Any, BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.operators.arguments import refuse_set
from airflow_provider_scantrust.operators.files import is_same_place, open_path
from airflow_provider_scantrust.sources.opening import RowSource, Source, UnreadableRow, open_source
from airflow_provider_scantrust.uploads.options import Rows
from airflow_provider_scantrust.uploads.rejects import check_rejects_name


def rows_of_file(path: str, options: Mapping[str, Any], rejects_path: str | None) -> Rows:
    """
    Return the rows of a file.

    :param options: Of :func:`~airflow_provider_scantrust.sources.opening.open_source`.
    :raises ConfigurationError: An option, or the name of the rejects file, does not fit.
    """
    source = open_source(path, partial(open_path, path, "rb"), **options)
    if rejects_path is not None:
        check_rejects_name(rejects_path, source.format, options.get("delimiter"))
        if is_same_place(path, rejects_path):
            raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")

    @contextmanager
    def opened() -> Iterator[Source]:
        if rejects_path is None:
            yield source
            return
        with tempfile.TemporaryFile(prefix="scantrust-") as copy:
            with open_path(path, "rb") as file:
                shutil.copyfileobj(file, copy)
            yield open_source(path, partial(_from_the_start, copy), **options)

    return Rows(opened, path)


def rows_of_program(rows: Any, name: str, rejects_path: str | None = None, **options: Any) -> Rows:
    """
    Return rows that a program hands over.

    :raises InvalidInput: They are a set, whose order is another in each process.
    """
    refuse_set(rows)
    source = RowSource(rows, name=name, **options)
    if rejects_path is not None:
        check_rejects_name(rejects_path, source.format)

    @contextmanager
    def opened() -> Iterator[Source]:
        if rejects_path is None:
            yield source
            return
        with tempfile.TemporaryFile(prefix="scantrust-") as copy:
            yield RowSource(_KeptRows(rows, copy), name=name, **options)

    return Rows(opened)


def _from_the_start(copy: IO[bytes]) -> BinaryIO:
    copy.flush()
    os.lseek(copy.fileno(), 0, os.SEEK_SET)
    return os.fdopen(os.dup(copy.fileno()), "rb")


class _KeptRows:
    """Rows that are iterated once, and then come from a copy."""

    def __init__(self, rows: Iterable[Any], copy: IO[bytes]) -> None:
        self._rows = rows
        self._copy = copy
        self._count: int | None = None

    def __iter__(self) -> Iterator[Any]:
        if self._count is not None:
            with _from_the_start(self._copy) as copy:
                # Written by this process to a file that no other one can open.
                yield from (pickle.load(copy) for _ in range(self._count))  # noqa: S301
            return
        count = 0
        for row in self._rows:
            self._copy.write(_pickled(row))
            count += 1
            yield row
        self._count = count


def _pickled(row: Any) -> bytes:
    try:
        return pickle.dumps(dict(row) if isinstance(row, Mapping) else row)
    except Exception as error:  # anybody's object, anybody's exception
        return pickle.dumps(UnreadableRow(f"it cannot be copied ({type(error).__name__})"))
