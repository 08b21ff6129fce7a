"""
What all sources of rows have in common: line numbers, the names of fields, constants.

Rule: a problem of one row is handed on in the row's place; a problem of the whole file is an exception.
"""

from __future__ import annotations

import importlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import islice
from typing import Any, NamedTuple

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput

# The columns that a rejects file has before its source's own. A source in which all of them stand is a mended rejects
# file: they are left out again. What could not be taken apart stands under the last name (JSON lines only).
REJECTED = ("rejected_line", "rejected_kind", "rejected_reason")
REJECTED_TEXT = "rejected_text"

_MOST_NAMED = 30

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """
    Stands in the place of a row that cannot be read.

    :param reason: What is wrong with it, for the rejects file.
    """

    reason: str


class Columns(NamedTuple):
    """
    Rows that all have the same fields, field by field: cheaper than a dict for each.

    :param lines: The line on which each row begins.
    :param values: Field -> its value in each row.
    """

    lines: Sequence[int]
    values: Mapping[str, Sequence[Any]]

    def rows(self) -> Iterator[tuple[int, Row]]:
        """Return them one by one."""
        if not self.values:
            yield from ((line, {}) for line in self.lines)
            return
        for line, values in zip(self.lines, zip(*self.values.values(), strict=True), strict=True):
            yield line, dict(zip(self.values, values, strict=True))


Batch = Columns | list[tuple[int, Any]]


def batches_of(rows: Iterable[tuple[int, Any]], size: int) -> Iterator[Batch]:
    """Return rows in pieces of at most so many; a source's own pieces where it has them."""
    if isinstance(rows, Source):
        return rows.batches(size)
    pairs = iter(rows)
    return iter(lambda: list(islice(pairs, size)), [])


class Fields:
    """
    Which SCM field each column becomes, and the constants that are added to each row.

    :param columns: Column -> SCM field, or None to leave the column out. A column that is not named here keeps its
        own name.
    :param constants: SCM field -> value.
    :raises ConfigurationError: One of them is no mapping of names.
    """

    def __init__(self, columns: Mapping[str, str | None] | None, constants: Mapping[str, Any] | None) -> None:
        for argument, what in ((columns, "columns"), (constants, "constants")):
            if argument is not None and not isinstance(argument, Mapping):
                raise ConfigurationError(f"{what} must be a dict, not {type(argument).__name__}.")
        self.columns = dict(columns or {})
        self.constants = dict(constants or {})
        for name in [*self.constants, *(field for field in self.columns.values() if field is not None)]:
            if not isinstance(name, str) or not name.strip():
                raise ConfigurationError(
                    f"columns and constants: {show(name)} is no name of an SCM field; it must be text. "
                    "To leave a column out, give None for it."
                )

    def of_header(self, header: Sequence[str], where: str) -> list[str | None]:
        """
        Return the field of each column, None for those that are left out.

        :param where: The file, for the message.
        :raises InvalidInput: A column is named that is not there, has no name, or two end in the same field.
        """
        if missing := [name for name in self.columns if name not in header]:
            raise InvalidInput(
                f"{where}: there is no column {_listed(missing)}, which columns= names. The file has {_listed(header)}."
            )
        mended = set(REJECTED) if set(REJECTED) <= set(header) else set()
        fields = [self.columns.get(name, None if name in mended else name) for name in header]
        owners: dict[str, str] = {}
        for name, field in zip(header, fields, strict=True):
            if field is None:
                continue
            if not field.strip():
                raise InvalidInput(
                    f"{where}: column {header.index(name) + 1} of {len(header)} has no name. "
                    f"Name it, or leave it out with columns={{{show(name)}: None}}."
                )
            if field in owners:
                other = owners[field]
                raise InvalidInput(
                    f"{where}: two columns are called {show(name)}."
                    if other == name
                    else f"{where}: the columns {show(other)} and {show(name)} would both become the field {show(field)}."
                )
            if field in self.constants:
                raise InvalidInput(
                    f"{where}: the column {show(name)} would be the field {show(field)}, a constant."
                )
            owners[field] = name
        return fields

    def of_records(
        self, records: Iterable[tuple[int, Row | UnreadableRow]], where: str
    ) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """
        Return records, of which each may have other names, as rows.

        :raises InvalidInput: As :meth:`of_header`. That no record has a column is known only after the last of them;
            a column to leave out need not be there.
        """
        missing = {name for name, field in self.columns.items() if field is not None}
        first: list[str] | None = None
        mended = False
        for line, record in records:
            if isinstance(record, UnreadableRow):
                yield line, record
                continue
            if first is None:
                first = list(record)
            try:
                # Of a mended rejects file nobody knows which names its source had.
                mended = mended or all(name in record for name in REJECTED)
                record = self._without_our_own(record)
                if self.columns or self.constants:
                    missing -= record.keys()
                    record = self._rename(record, f"{where}, line {line}")
            except InvalidInput:
                raise
            except Exception as error:  # anybody's names, anybody's exceptions
                yield line, UnreadableRow(f"its names cannot be read ({type(error).__name__})")
                continue
            yield line, record
        if missing and first is not None and not mended:
            raise InvalidInput(
                f"{where}: no row has {_listed(sorted(missing, key=str))}, which columns= names. The first row has {_listed(first)}."
            )

    def _without_our_own(self, record: Row) -> Row:
        if REJECTED[0] not in record or not all(name in record for name in REJECTED):
            return record
        return {name: value for name, value in record.items() if not self._is_our_own(name)}

    def _is_our_own(self, name: Any) -> bool:
        return name in (*REJECTED, REJECTED_TEXT) and name not in self.columns

    def _rename(self, record: Row, where: str) -> Row:
        row: Row = {}
        for name, value in record.items():
            field = self.columns.get(name, name)
            if field is None:
                continue
            if field in row:
                raise InvalidInput(
                    f"{where}: {show(name)} and another column would both become the field {show(field)}."
                )
            if field in self.constants:
                raise InvalidInput(f"{where}: {show(name)} would be the field {show(field)}, a constant.")
            row[field] = value
        return {**row, **self.constants}


class Source(ABC):
    """
    Rows, read one by one: each with the line on which it begins.

    :param name: For messages.
    :param format: "csv", "tsv", "jsonl" or "parquet".
    :param restartable: Whether it can be iterated again from the start.
    """

    name: str
    format: str
    restartable: bool = True
    fields: Fields

    @abstractmethod
    def __iter__(self) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """
        Return line and row, from the first one on.

        :raises InvalidInput: The file as a whole cannot be read, or goes no further than the line named.
        :raises ConfigurationError: An argument does not fit, or a library is missing.
        :raises OSError: The storage failed.
        """

    def batches(self, size: int) -> Iterator[Batch]:
        """Return the same in pieces of about so many rows."""
        pairs = iter(self)
        return iter(lambda: list(islice(pairs, size)), [])


def need(module: str, extra: str, name: str) -> Any:
    """
    Return a module that comes with an extra.

    :raises ConfigurationError: It is not installed; the message names the extra.
    """
    try:
        return importlib.import_module(module)
    except ImportError as error:
        raise ConfigurationError(
            f"{name}: this needs {module.partition('.')[0]}, which is not installed. "
            f"Install airflow-provider-scantrust[{extra}]."
        ) from error


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return ", ".join(show(name) for name in names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")
