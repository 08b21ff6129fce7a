"""
Checking rows before anything is sent: every problem is named with its row and field, and nothing is guessed.

Rule: what passes here can be written as JSON and read back by Scantrust as the same values.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import date
from operator import itemgetter
from typing import Any, NamedTuple

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import InvalidInput

# Scantrust: SCM fields, special fields.
SPECIAL_FIELDS: dict[str, tuple[range, str]] = {
    "activation_status": (range(3), "0 (inactive), 1 (active) or 2 (blacklisted)"),
    "blacklist_reason": (range(11), "0 (none) to 10 (maximum scan count exceeded)"),
}

# Assumed: no field of a code holds more. Calls of 999 rows stay within what a process can hold.
LONGEST_TEXT = 65_536
# Python refuses to write numbers of more than 4300 digits.
_MOST_BITS = 4_096
_MOST_NAMED = 20
_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATE_LIKE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?:[T ]\d{1,2}:\d{2}\S*)?"
)
# Between the values of a column, to look at all of them at once: where none matches, none of them is a date.
BETWEEN = "\x1f"
_DATE_HINT = re.compile(r"\x1f[^\S\x1f]*\d{1,4}[-/.]\d")

_MISSING = object()

Row = dict[str, Any]


def check_rows(items: Iterable[Any], data_key: str, *, warn: Callable[[str], None]) -> tuple[list[Row], int]:
    """
    Return the rows to send, one for each key, and how many rows came in.

    Date and datetime objects become YYYY-MM-DD, keys become text, rows that repeat another are sent once.

    :param items: Mappings of field to value.
    :param data_key: The field that selects codes.
    :param warn: Called with each thing that a human should know and that is no error.
    :raises InvalidInput: Some rows cannot be sent; the message names the first of them with field and reason.
    """
    check = RowCheck(data_key)
    if isinstance(items, Mapping | str | bytes) or not isinstance(items, Iterable):
        raise InvalidInput(f"items must be a list of rows, each a dict, not {type(items).__name__}.")
    problems: list[str] = []
    first_with: dict[str, tuple[int, Row]] = {}
    count = repeated = 0
    for count, item in enumerate(items, start=1):
        row, found = check.one(item, count)
        problems += [f"row {count}, {problem}" for problem in found]
        if row is None:
            continue
        before, known = first_with.setdefault(row[data_key], (count, row))
        if known is row:
            continue
        if _as_json(known) == _as_json(row):
            repeated += 1
        else:
            problems.append(
                f"row {count}, field {show(data_key)}: {show(row[data_key])} is also the key of row {before}, with other data"
            )
    if problems:
        more = len(problems) - _MOST_NAMED
        raise InvalidInput(
            f"Nothing was sent, because {len(problems)} things in {count} rows must be mended first: "
            + "; ".join(problems[:_MOST_NAMED])
            + (f"; and {more} more." if more > 0 else ".")
        )
    if repeated:
        warn(f"{repeated} rows repeat another row to the letter and are sent once.")
    check.dates.report(warn)
    return [row for _, row in first_with.values()], count


def check_values(fields: Any, what: str, *, warn: Callable[[str], None]) -> Row:
    """
    Return one set of values to send, as :func:`check_rows` does for each row.

    :param what: The argument's name, for the message.
    :raises InvalidInput: It is empty, or a value cannot be sent.
    """
    if not isinstance(fields, Mapping) or not (fields := copy_mapping(fields, what)):
        raise InvalidInput(f"{what} must be a dict with at least one field.")
    dates = OddDates()
    row, problems = _check_fields(fields, dates, None)
    if problems:
        raise InvalidInput(f"Nothing was sent, because {what} must be mended first: {'; '.join(problems)}.")
    dates.report(warn)
    return row


def copy_mapping(given: Mapping[Any, Any], what: str) -> dict[Any, Any]:
    """
    Return what is in a mapping.

    :raises InvalidInput: It cannot be read.
    """
    try:
        return dict(given)
    except Exception as error:  # anybody's mapping, anybody's exception
        raise InvalidInput(f"{what} cannot be read ({type(error).__name__}).") from error


def read_key(value: Any) -> str:
    """
    Return a key as the text that Scantrust knows it by.

    :raises ValueError: It cannot select codes; the reason is in it.
    """
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"a key must be text, not {type(value).__name__}")
    text = str(_check_digits(_plain(value)))
    if not text.strip():
        raise ValueError("the key is empty")
    return read_text(text)


def read_text(text: str) -> str:
    """
    Return text that JSON can carry and a database can hold.

    :raises ValueError: It holds half a character (a lone surrogate), or a NUL, or is longer than any field.
    """
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the text has {len(text)} characters; {LONGEST_TEXT} are the most that can be sent")
    return _check_letters(text)


def _check_letters(text: str) -> str:
    # Assumed: Scantrust is a Django service, which refuses NUL.
    if "\x00" in text:
        raise ValueError("the text holds a NUL character, which cannot be stored")
    try:
        text.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            "the text holds half a character (a lone surrogate), which JSON cannot carry"
        ) from error
    return text


class Table(NamedTuple):
    """
    Checked rows that all have the same fields.

    :param names: Their fields but for the key, sorted.
    :param columns: The values of each field, row by row.
    """

    keys: Sequence[str]
    names: tuple[str, ...]
    columns: Sequence[Sequence[Any]]


class RowCheck:
    """
    The check of one upload's rows: one by one, or many at once, which is faster and comes to the same.

    :param data_key: The field that selects codes.
    :raises InvalidInput: ``data_key`` is no name.
    """

    def __init__(self, data_key: str) -> None:
        if not isinstance(data_key, str) or not data_key.strip():
            raise InvalidInput(
                "data_key must be the name of the field that selects codes, such as extended_id."
            )
        self.data_key = data_key
        self.dates = OddDates()

    def one(self, item: Any, number: int) -> tuple[Row | None, list[str]]:
        """
        Return a row as it is sent, or None and what must be mended.

        :param number: Where the row is, for the report on dates.
        """
        if not isinstance(item, Mapping):
            return None, [f"which is no dict but {type(item).__name__}"]
        try:
            fields = dict(item)
            key = fields.pop(self.data_key, _MISSING)
        except Exception as error:  # anybody's mapping, anybody's exception
            return None, [f"which cannot be read ({type(error).__name__})"]
        if key is _MISSING:
            return None, [f"field {show(self.data_key)}: the key is missing"]
        try:
            key = read_key(key)
        except ValueError as error:
            return None, [f"field {show(self.data_key)}: {error}"]
        if not fields:
            return None, [f"field {show(self.data_key)}: the row has a key and nothing to set"]
        row, problems = _check_fields(fields, self.dates, number)
        if self.data_key in row:
            problems.append(f"field {show(self.data_key)}: the field is there twice")
        return (None, problems) if problems else ({self.data_key: key, **row}, [])

    def many(self, items: Sequence[Any], numbers: Sequence[int]) -> Table | None:
        """Return rows as they are sent, or None if not all are good or alike, and :meth:`one` must look at them."""
        names = tuple(items[0]) if type(items[0]) is dict else ()
        if len(names) < 2 or set(map(type, items)) != {dict} or set(map(len, items)) != {len(names)}:
            return None
        try:
            columns = zip(*map(itemgetter(*names), items), strict=True)
            values = dict(zip(names, columns, strict=True))
        except Exception:  # anybody's names, anybody's exceptions
            return None
        return self.columns(values, numbers)

    def columns(self, values: Mapping[Any, Sequence[Any]], numbers: Sequence[int]) -> Table | None:
        """
        Return rows as :meth:`many` does.

        :param values: Field -> its value in each row.
        """
        try:
            names = {read_name(name): name for name in values if name != self.data_key}
            if not names or self.data_key in names or len(names) + 1 != len(values):
                return None
            fields = tuple(sorted(names))
            keys = values[self.data_key]
            if set(map(type, keys)) == {str} and all(map(str.strip, keys)):
                if len(_check_letters("".join(keys))) > LONGEST_TEXT:
                    _check_lengths(keys)
            else:
                keys = tuple(map(read_key, keys))
            checked = [_read_column(name, values[names[name]]) for name in fields]
        except Exception:  # anybody's values, anybody's exceptions: `one` names the field
            return None
        for name, (column, odd_dates) in zip(fields, checked, strict=True):
            if odd_dates:
                for number, value in zip(numbers, column, strict=True):
                    if value in odd_dates:
                        self.dates.add(name, value, number)
        return Table(keys, fields, [column for column, _ in checked])


class OddDates:
    """Dates that Scantrust stores as given, and that then break its portal's display and editor."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Any]] = {}

    def add(self, field: str, value: str, row: int | None) -> None:
        seen = self._seen.setdefault(field, [0, value, row])
        seen[0] += 1

    def report(self, warn: Callable[[str], None]) -> None:
        for field, (count, value, row) in self._seen.items():
            where = "" if row is None else f" in {count} rows, first in row {row}"
            warn(
                f"Field {show(field)} holds dates that are not YYYY-MM-DD{where}: {show(value)}. Scantrust stores them as "
                "they are, and its portal then cannot show or edit them."
            )


def _as_json(row: Row) -> str:
    """Return a row as it is sent: to Python 1 and True are equal, to Scantrust they are not."""
    return json.dumps(row, sort_keys=True)


def _check_fields(fields: Mapping[Any, Any], dates: OddDates, number: int | None) -> tuple[Row, list[str]]:
    row: Row = {}
    problems: list[str] = []
    for name, value in fields.items():
        try:
            plain = read_name(name)
            if plain in row:
                raise ValueError("the field is there twice")
            row[plain] = read = _read_value(plain, value)
        except ValueError as error:
            problems.append(f"field {show(name)}: {error}")
            continue
        except Exception as error:  # anybody's object, anybody's exception
            problems.append(f"field {show(name)}: the value cannot be read ({type(error).__name__})")
            continue
        if isinstance(value, str) and _is_odd_date(read):
            dates.add(plain, read, number)
    return row, problems


def read_name(name: Any) -> str:
    """
    Return the name of a field.

    :raises ValueError: It is no text, or text that cannot be sent.
    """
    if not isinstance(name, str) or not str.strip(name):
        raise ValueError("a field's name must be text")
    return read_text(_plain(name))


def _plain(value: Any) -> Any:
    """Return what a value is without what its class makes of it: the text of a member of an enumeration, say."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__pos__(value)
    if isinstance(value, float):
        return float.__pos__(value)
    return value


def _check_digits(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("the number has more than a thousand digits; turn it into text")
    return value


def _check_lengths(texts: Sequence[str]) -> None:
    if max(map(len, texts)) > LONGEST_TEXT:
        raise ValueError("one of the texts is too long")


def _read_column(name: str, column: Sequence[Any]) -> tuple[Sequence[Any], set[str]]:
    """
    Return one field's values in many rows as they are sent, and those of them that are odd dates.

    :raises ValueError: One of them cannot be sent.
    """
    try:
        text = BETWEEN + BETWEEN.join(column)
    except TypeError:
        # Dates become text here, and only what was text before can be an odd one.
        given = {value for value in column if isinstance(value, str)}
        return [_read_value(name, value) for value in column], set(filter(_is_odd_date, given))
    _check_letters(text)
    if len(text) > LONGEST_TEXT:
        _check_lengths(column)
    if name in SPECIAL_FIELDS:
        for value in set(column):
            _read_value(name, value)
    return column, set(filter(_is_odd_date, set(column))) if _DATE_HINT.search(text) else set()


def _read_value(name: str, value: Any) -> Any:
    if value is None:
        raise ValueError('there is no value (None); send "" to clear the field, or leave it out')
    if isinstance(value, date):
        # A missing value of a data frame is a datetime that is not equal to itself.
        if value != value:
            raise ValueError("the date is missing (NaT); leave the field out")
        return f"{value.year:04}-{value.month:02}-{value.day:02}"
    value = _plain(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValueError(f"{value!r} is a number that JSON cannot carry")
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"a value of type {type(value).__name__} is neither text, number, true/false nor date; turn it into text"
        )
    if isinstance(value, str):
        read_text(value)
    _check_digits(value)
    if name in SPECIAL_FIELDS:
        allowed, meaning = SPECIAL_FIELDS[name]
        if isinstance(value, bool) or str(value) not in {str(number) for number in allowed}:
            raise ValueError(f"{show(value)} is out of range; it must be {meaning}")
    return value


def _is_odd_date(value: str) -> bool:
    text = value.strip()
    if len(text) > 40 or not _DATE_LIKE.fullmatch(text):
        return False
    if _DATE.fullmatch(value):
        try:
            date.fromisoformat(value)
        except ValueError:
            return True
        return False
    return True
