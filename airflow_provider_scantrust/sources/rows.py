"""Rows from Python."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import Fields, Row, UnreadableRow, clean_name
from airflow_provider_scantrust.sources.members import Member, members_of_row
from airflow_provider_scantrust.sources.tables import Source


class RowSource(Source):
    """
    Rows from any iterable of dicts, such as the result of a decorated task; they are numbered from 1.

    Values stay as they are. A copy has each row in the form for a rejects file.

    :param fields: The arguments of :class:`~airflow_provider_scantrust.sources.fields.Fields`.
    :raises InvalidInput: The argument is not an iterable of rows.
    """

    format = "jsonl"

    def __init__(
        self, rows: Iterable[Any], *, name: str = "rows", keep_copy: bool = False, **fields: Any
    ) -> None:
        if hasattr(rows, "columns") and not isinstance(rows, Mapping):
            raise InvalidInput(
                f'{name} is a {type(rows).__name__}; give its rows: df.to_dict("records") (polars: df.to_dicts(), '
                "pyarrow: table.to_pylist())."
            )
        if hasattr(rows, "readline"):
            raise InvalidInput(f"{name} is an open file; give its path, or its rows: csv.DictReader(file).")
        if isinstance(rows, Mapping | str | bytes) or not isinstance(rows, Iterable):
            advice = ". Put the row into a list" if isinstance(rows, Mapping) else ""
            raise InvalidInput(
                f"{name} must be a list of rows, each a dict, not {type(rows).__name__}{advice}."
            )
        super().__init__(name, Fields(**fields), keep_copy=keep_copy)
        self._rows = rows

    def _read(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        return self.fields.of_records(self._numbered(), self.name)

    def rejected_members(self) -> Iterator[list[Member]]:
        for line in self.reopen():
            yield [(name, member) for name, member in json.loads(line)]

    def _numbered(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        for number, row in enumerate(self._rows, start=1):
            if number == 1 and isinstance(row, str | PathLike):
                advice = (
                    "To upload several files, map the task: `.expand(source=…)`"
                    if self.name != "items"
                    else 'Each row must be a dict, such as {"extended_id": "…", "market": "FR"}'
                )
                raise InvalidInput(f"{self.name} is a list of {type(row).__name__}, not of rows. {advice}.")
            row = _as_dict(row)
            if self._copy is not None:
                members = members_of_row(row, self._is_key)
                self._copy.write(json.dumps(members).encode() + b"\n")
            if isinstance(row, Mapping):
                try:
                    yield number, dict(row)
                except Exception as error:  # a user's mapping may raise anything
                    yield number, UnreadableRow(f"it cannot be read ({type(error).__name__})")
            else:
                hint = "; give rows of mapped tasks as `items`" if isinstance(row, list) else ""
                yield number, UnreadableRow(f"it is not a dict but {type(row).__name__}{hint}")

    def _is_key(self, name: Any) -> bool:
        name = clean_name(name) if isinstance(name, str) else name
        return bool(self.fields.columns.get(name, name) == self.fields.data_key)


def _as_dict(row: Any) -> Any:
    """Return a database driver's row, which has names and values, as a dict."""
    # A named tuple, or a row of SQLAlchemy, which is no tuple.
    if isinstance(row, Sequence) and hasattr(row, "_asdict"):
        return row._asdict()
    if type(row).__name__ == "Row" and hasattr(row, "keys"):
        return dict(zip(row.keys(), row, strict=True))
    return row
