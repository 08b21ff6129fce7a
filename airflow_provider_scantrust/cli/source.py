"""The file of `plan` and `upload`, opened and planned as the operator does."""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.operators.rows import rows_of_file
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.options import Options

# Options with the same name here and in the readers.
_PLAIN = ("encoding", "delimiter", "quotechar", "skip_rows")


class SourceFile:
    """
    The rows that a command names.

    :param source: The opened source, once an upload has opened it.
    """

    def __init__(self, arguments: argparse.Namespace) -> None:
        self.path: str = arguments.file
        self._inner = rows_of_file(self.path, arguments.data_key, _file_options(arguments), arguments.rejects)
        self.source: Source | None = None
        self.rows = replace(self._inner, open=self._open)

    @contextmanager
    def _open(self) -> Iterator[Source]:
        with self._inner.open() as self.source:
            yield self.source


def make_options(arguments: argparse.Namespace) -> Options:
    """Return the options of the upload."""
    chosen: dict[str, Any] = {
        "data_key": arguments.data_key,
        "mode": arguments.mode,
        "codes_per_key": arguments.codes_per_key,
        "on_duplicate": arguments.on_duplicate,
        "items_per_call": arguments.items_per_call,
        "ids_per_job": arguments.ids_per_job,
        "max_rejected": getattr(arguments, "max_rejected", None),
        "max_in_flight": getattr(arguments, "max_in_flight", None),
        "stop_on_discarded": getattr(arguments, "on_discarded", "") == "fail",
    }
    return Options(**{name: value for name, value in chosen.items() if value is not None})


def _file_options(arguments: argparse.Namespace) -> dict[str, Any]:
    """Return the options that are given; the readers have defaults for the others."""
    given: dict[str, Any] = {name: getattr(arguments, name) for name in _PLAIN}
    given |= {
        "format": arguments.source_format,
        "null_values": arguments.null_value,
        "sheet": arguments.sheet,
        "columns": {column: field or None for column, field in _pairs(arguments.column, "--column")},
        "constants": dict(_pairs(arguments.constant, "--constant")),
    }
    return {name: value for name, value in given.items() if value not in (None, {})}


def _pairs(pairs: list[tuple[str, str]], flag: str) -> list[tuple[str, str]]:
    names = [name for name, _ in pairs]
    if repeated := sorted({name for name in names if names.count(name) > 1}):
        raise ConfigurationError(f"{flag} names {', '.join(map(repr, repeated))} twice.")
    return pairs
