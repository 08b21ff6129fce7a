"""What a command writes: one result to standard output, and lines and progress bars to standard error."""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

FAILED, NOT_ALL, TEMPORARY, INTERRUPTED = 1, 3, 75, 130
# A terminal wraps; a file or a pipe does not.
_WIDE = 1000


class Output:
    """
    Where a command writes.

    It is also the log of uploads (:class:`~airflow_provider_scantrust.uploads.kept.Log`).
    """

    def __init__(self, form: str) -> None:
        self.is_json = form == "json"
        self.stdout = sys.stdout
        self._results = _console(sys.stdout)
        self._lines = _console(sys.stderr)

    def result(self, value: Any, *tables: Table) -> None:
        """Write the result: the value as JSON, or else tables."""
        if self.is_json:
            self.stdout.write(json.dumps(value, indent=2, ensure_ascii=False) + "\n")
        for table in () if self.is_json else tables:
            self._results.print(table)
        self.stdout.flush()

    def say(self, text: str) -> None:
        """Write a line to standard error."""
        self._lines.print(escape(text), soft_wrap=True, highlight=False)

    def info(self, event: str, *args: Any) -> None:
        """Write a line of an upload."""
        self.say(event % args if args else event)

    def warning(self, event: str, *args: Any) -> None:
        """Write a warning of an upload."""
        self.say(f"Warning: {event % args if args else event}")

    @property
    def is_terminal(self) -> bool:
        """Whether standard error is a terminal."""
        return self._lines.is_terminal

    @contextmanager
    def progress(self) -> Iterator[Progress]:
        """Show progress bars on a terminal; elsewhere, nothing."""
        bars = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeRemainingColumn(),
            console=self._lines,
            disable=not self.is_terminal,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        with bars:
            yield bars

    @contextmanager
    def waiting(self, what: str) -> Iterator[None]:
        """Show on a terminal that work is in progress; elsewhere, write one line."""
        if self.is_terminal:
            with self._lines.status(escape(what)):
                yield
        else:
            self.say(f"{what} …")
            yield


def facts(values: Mapping[str, Any]) -> Table:
    """Return a table of names and values."""
    table = Table(show_header=False)
    for name, value in values.items():
        table.add_row(escape(name.replace("_", " ")), escape(spell(value)))
    return table


def rows(columns: Sequence[str], values: Sequence[Sequence[Any]]) -> Table:
    """Return a table with a header."""
    table = Table(*columns)
    for row in values:
        table.add_row(*("" if value is None else escape(spell(value)) for value in row))
    return table


def spell(value: Any) -> str:
    """Return a value as text for people."""
    if value is None:
        return "unknown"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int):
        return f"{value:,}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name}: {spell(each)}" for name, each in value.items()) or "none"
    if isinstance(value, list | tuple):
        return ", ".join(map(spell, value)) or "none"
    return str(value)


def _console(file: Any) -> Console:
    console = Console(file=file, emoji=False, highlight=False)
    return console if console.is_terminal else Console(file=file, emoji=False, highlight=False, width=_WIDE)
