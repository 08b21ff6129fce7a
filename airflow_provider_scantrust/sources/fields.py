"""Map columns to SCM fields, add constants, and explain a header that does not fit."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput

# The columns that a rejects file has before those of its source. A source with all of them is a fixed rejects
# file: they are left out again. A row that could not be split into cells or members is under REJECTED_TEXT.
REJECTED = ("rejected_line", "rejected_kind", "rejected_reason")
REJECTED_TEXT = "rejected_text"

Row = dict[str, Any]

_MOST_NAMED = 30
_MOST_KNOWN = 1_000
# Invisible marks. A byte order mark may remain from another encoding or from joined files, and marks of
# direction, joiners and soft hyphens from a text that was copied.
INVISIBLE = "\ufeff\u00ad\u061c\u180e\u200b\u200c\u200d\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2060\u2066\u2067\u2068\u2069"
# Removed around a name or an extended_id.
_BLANKS = INVISIBLE + "".join(filter(str.isspace, map(chr, range(0x3001))))
_FORMULA = re.compile(r'="((?:[^"]|"")*)"', re.DOTALL)
# The same, with the quotes doubled for CSV and the quotes around it missing.
_DOUBLED_FORMULA = re.compile(r'=""([^"]+)""')
# As a code, or a number, looks: no name of a field.
_VALUE = re.compile(
    r"(?=.*\d)[A-Z0-9_-]{8,40}|(?=(?:.*\d){4})[A-Za-z0-9-]{8,40}|\d{4}-\d\d-\d\d|\d+([.,]\d+)?"
)


@dataclass(frozen=True, slots=True)
class UnreadableRow:
    """Takes the place of a row that cannot be read, or that has a value that would be stored wrongly."""

    reason: str
    kind: str = "unreadable"


class Fields:
    """
    The names of a source's fields; without ``data_key``, its column is not checked.

    :raises ConfigurationError: An argument is not a mapping of names, or not a list of texts.
    """

    def __init__(
        self,
        columns: Mapping[str, str | None] | None = None,
        constants: Mapping[str, Any] | None = None,
        data_key: str | None = None,
        null_values: Sequence[str] | None = None,
    ) -> None:
        for argument, what in ((columns, "columns"), (constants, "constants")):
            if argument is not None and not isinstance(argument, Mapping):
                raise ConfigurationError(f"{what} must be a dict, not {type(argument).__name__}.")
        self.columns = {_clean(name): field for name, field in (columns or {}).items()}
        self.constants = dict(constants or {})
        self.data_key = data_key.strip() if isinstance(data_key, str) else data_key
        if isinstance(null_values, str | Mapping) or not all(
            isinstance(each, str) for each in null_values or ()
        ):
            raise ConfigurationError(f"null_values must be a list of texts, not {show(null_values)}.")
        self.null_values = frozenset(null_values or ())
        for name in [*self.constants, *(field for field in self.columns.values() if field is not None)]:
            if not isinstance(name, str) or not name.strip():
                raise ConfigurationError(
                    f"columns and constants: {show(name)} is not the name of an SCM field; it must be text. "
                    "To leave a column out, give None for it."
                )

    def of_header(
        self,
        given: Sequence[str],
        where: str,
        *,
        about: str = "",
        below: Sequence[tuple[int, Sequence[Any]]] = (),
    ) -> list[str | None]:
        """
        Return the field of each column, None for columns that are left out.

        :param where: The file, for the message; ``about`` tells how it was read.
        :param below: The first rows below the header, each with the number of lines above it, to find the
            cause if the header is wrong.
        :raises InvalidInput: The key or a named column is missing, a column has no name, or two columns
            become the same field.
        """
        header = [clean_name(name) for name in given]
        seen = f"The file has {_listed(header)}{about}."
        if missing := [name for name in self.columns if name not in header]:
            raise InvalidInput(
                f"{where}: there is no column {_listed(missing)}, which columns= names. {seen}"
                f"{self._cause(header, missing, below, about)}"
            )
        ours = REJECTED if _is_fixed(header) else ()
        fields = [self.columns.get(name, None if name in ours else name) for name in header]
        if self.data_key is not None and self.data_key not in [*fields, *self.constants]:
            raise InvalidInput(
                f"{where}: there is no column {show(self.data_key)} (data_key). {seen}"
                f"{self._cause(header, [self.data_key], below, about)}"
            )
        if "" in fields:
            raise InvalidInput(
                f"{where}: column {fields.index('') + 1} of {len(header)} has no name. "
                f"Name it, or leave it out with columns={{'': None}}."
            )
        self._check_fields(header, fields, where)
        return fields

    def _check_fields(self, names: Sequence[Any], fields: Sequence[Any], where: str) -> None:
        """Check that each field is set once."""
        owners: dict[Any, Any] = {}
        for name, field in zip(names, fields, strict=True):
            if field in owners:
                other = owners[field]
                raise InvalidInput(
                    f"{where}: two columns are called {show(name)}."
                    if other == name
                    else f"{where}: the columns {show(other)} and {show(name)} would both become the field {show(field)}."
                )
            if field in self.constants:
                raise InvalidInput(
                    f"{where}: the column {show(name)} and constants= would both set the field {show(field)}. "
                    f"Leave the column out with columns={{{show(name)}: None}}, or remove the constant."
                )
            if field is not None:
                owners[field] = name

    def of_records(
        self, records: Iterable[tuple[int, Row | UnreadableRow]], where: str
    ) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """
        Return records as rows; each record may have other names.

        :raises InvalidInput: As for :meth:`of_header`. Whether a named column is missing is known only after
            the last record; a column to leave out may be missing.
        """
        missing = {name for name, field in self.columns.items() if field is not None}
        first: list[str] | None = None
        is_plain = not (self.columns or self.constants)
        # The names of a record -> what its fields are called.
        known: dict[tuple[Any, ...], dict[Any, Any]] = {}
        for line, record in records:
            if isinstance(record, UnreadableRow):
                yield line, record
                continue
            if first is None:
                first = list(record)
            # Nothing to rename, which would take a fifth of the time if each record has other names.
            if is_plain and REJECTED[0] not in record:
                yield line, record
                continue
            try:
                names = tuple(record)
                if (fields := known.get(names)) is None:
                    if len(known) >= _MOST_KNOWN:
                        known.clear()
                    fields = known[names] = self._fields_of(names, f"{where}, line {line}")
                    # A fixed rejects file may have other names than its source.
                    missing = set() if _is_fixed(names) else missing.difference(map(_clean, names))
                row = {field: record[name] for name, field in fields.items()}
            except InvalidInput:
                raise
            except Exception as error:  # a user's names may raise anything
                yield line, UnreadableRow(f"its names cannot be read ({type(error).__name__})")
                continue
            yield line, row
        if missing and first is not None:
            raise InvalidInput(
                f"{where}: no row has {_listed(sorted(missing, key=str))}, which columns= names. "
                f"The first row has {_listed(first)}."
            )

    def complete(
        self, rows: Iterator[tuple[int, Row | UnreadableRow]]
    ) -> Iterator[tuple[int, Row | UnreadableRow]]:
        """Return rows without the fields whose text means "no value", and with the constants."""
        nulls, constants = self.null_values, self.constants
        for line, row in rows:
            if not isinstance(row, UnreadableRow):
                if nulls:
                    row = {
                        name: value
                        for name, value in row.items()
                        if not (isinstance(value, str) and value in nulls)
                    }
                row.update(constants)
            yield line, row

    def key_column(self, header: Sequence[str]) -> int | None:
        fields = [self.columns.get(name, name) for name in map(clean_name, header)]
        return fields.index(self.data_key) if self.data_key in fields else None

    def repeats_header(self, cells: Sequence[str], header: Sequence[str], where: str) -> bool:
        """
        Return whether a row is the header again, in any spelling.

        :raises InvalidInput: It is a header with other columns, so the rows below it have others, too.
        """
        place = self.key_column(header)
        spelled, again = [*map(spell, header)], [*map(spell, cells)]
        if place is None or spelled[place] not in again:
            return False
        if spelled != again:
            raise InvalidInput(
                f"{where}: this is a header with other columns than the first one, {_listed([*map(clean_name, cells)])}. It looks "
                "as if files were joined: upload them one by one."
            )
        return True

    def resembles_key(self, name: str) -> bool:
        """Whether a column is the key, or the key with another spelling."""
        wanted = [self.data_key, *(name for name, field in self.columns.items() if field == self.data_key)]
        return any(isinstance(field, str) and spell(name) == spell(field) for field in wanted)

    def _cause(
        self,
        header: Sequence[str],
        missing: Sequence[str],
        below: Sequence[tuple[int, Sequence[Any]]],
        about: str,
    ) -> str:
        wanted = {spell(name) for name in (*missing, *self.columns) if isinstance(name, str)}
        for name in header:
            if name.startswith(("ï»¿", "þÿ", "ÿþ", "п»ї", "\ufffd")):
                return " The file's byte order mark does not fit encoding=: leave encoding= out."
            for field in missing:
                if isinstance(field, str) and spell(name) and spell(name) == spell(field):
                    return f" Names must match exactly: rename the column, or use columns={{{name!r}: {field!r}}}."
        for above, cells in below:
            if wanted & {spell(cell) for cell in cells if isinstance(cell, str)}:
                return f" The names are below a title: use skip_rows={above}."
        if header and header[0].startswith("{"):
            return " This looks like JSON: give source_format='jsonl'."
        if header and header[0].startswith("["):
            return " This looks like a JSON array: write one object per line, and give source_format='jsonl'."
        found = re.search(rf"\b{re.escape(str(missing[0]))}\"?(\W)", header[0]) if len(header) == 1 else None
        if found and about and repr(found[1]) not in about:
            return f" If {found[1]!r} separates the cells, give delimiter={found[1]!r}."
        if header and any(_VALUE.fullmatch(name) for name in header):
            return " The first line looks like a row: is the header missing? Add a line with the names."
        return ""

    def _fields_of(self, names: Sequence[Any], where: str) -> dict[Any, Any]:
        """Return name -> field of a record, without the names that are left out."""
        left_out = {name for name, field in self.columns.items() if field is None}
        if _is_fixed(names):
            left_out.update({*REJECTED, REJECTED_TEXT}.difference(self.columns))
        clean = _clean if self.columns or self.constants else lambda name: name
        kept = {name: given for name in names if (given := clean(name)) not in left_out}
        fields = {name: self.columns.get(cleaned, cleaned) for name, cleaned in kept.items()}
        self._check_fields([*kept.values()], [*fields.values()], where)
        return fields


def _is_fixed(names: Sequence[Any]) -> bool:
    return set(REJECTED) <= set(names)


def clean_name(name: str) -> str:
    """Return a column's name without the blanks around it, a stray byte order mark, and Excel's text formula."""
    name = strip_blanks(name)
    return strip_blanks(unwrap(name)) if name.startswith('="') else name


def strip_blanks(text: str) -> str:
    return text.strip(_BLANKS)


@lru_cache(_MOST_KNOWN, typed=True)
def _clean(name: Any) -> Any:
    return clean_name(name) if isinstance(name, str) else name


def unwrap(text: str) -> str:
    """Return the text in Excel's text formula, ``="00123"``; any other text as it is."""
    found = _FORMULA.fullmatch(text) or _DOUBLED_FORMULA.fullmatch(text)
    return found[1].replace('""', '"') if found else text


def spell(name: str) -> str:
    """Return a name without case, blanks and signs, which people often get wrong."""
    return "".join(filter(str.isalnum, name)).lower()


def _listed(names: Sequence[str]) -> str:
    more = len(names) - _MOST_NAMED
    return (", ".join(show(name) for name in names[:_MOST_NAMED]) or "no columns") + (
        f" and {more} more" if more > 0 else ""
    )
