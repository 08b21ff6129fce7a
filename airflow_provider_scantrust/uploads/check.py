"""
Check rows before anything is sent. Every problem names its row and field; nothing is guessed.

Rule: a value that passes can be written as JSON, and Scantrust reads the same value back.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, NamedTuple

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.fields import UnreadableRow, clean_name, spell, strip_blanks, unwrap
from airflow_provider_scantrust.sources.values import is_missing, plain_moment, plain_number
from airflow_provider_scantrust.uploads.doubts import BETWEEN, LONGEST_TEXT, Doubts, are_plain

# Scantrust: SCM fields, special fields.
SPECIAL_FIELDS: dict[str, tuple[range, str]] = {
    "activation_status": (range(3), "0 (inactive), 1 (active) or 2 (blacklisted)"),
    "blacklist_reason": (range(11), "0 (none) to 10 (maximum scan count exceeded)"),
}

# Python refuses to write numbers of more than 4300 digits.
_MOST_BITS = 4_096
_MOST_SHAPES = 10_000
# The first rows are checked value by value, to learn which fields hold dates.
_LOOK_AT_EACH = 100
_MOST_NAMED = 20

Row = dict[str, Any]


class BadRow(Exception):
    """A row that cannot be sent; its kind is "unreadable", "key missing" or "invalid"."""

    def __init__(self, kind: str, reason: str) -> None:
        super().__init__(reason)
        self.kind = kind


class _Shape(NamedTuple):
    """
    What all rows with the same field names share.

    :param names: The fields without the key.
    :param get: Returns the key and the values of a row, in the order of ``names``.
    :param is_plain: No field is special, and each name is a ``str``, not a subclass.
    """

    names: tuple[str, ...]
    get: Callable[[Any], tuple[Any, ...]]
    is_plain: bool


class RowCheck:
    """The check of one upload's rows; ``InvalidInput`` if ``data_key`` is not a name."""

    def __init__(self, data_key: str) -> None:
        if not isinstance(data_key, str) or not data_key.strip():
            raise InvalidInput(
                "data_key must be the name of the field that selects codes, such as extended_id."
            )
        self.data_key = data_key
        self.doubts = Doubts()
        self._shapes: dict[tuple[Any, ...], _Shape] = {}
        self._last: _Shape | None = None
        self._looked_at = 0

    def read_plain(self, items: Sequence[Any]) -> tuple[tuple[str, ...], list[str], list[str]] | None:
        """
        Return names, keys and, after BETWEEN, the joined values of rows; None unless all are plain text.

        Most rows are plain text. One check of many rows together costs a tenth of a check of each value.
        """
        shape = self._last
        if shape is None:
            return None
        width, get = len(shape.names) + 1, shape.get
        try:
            # So many fields, and each of the names among them: they are the same names.
            rows = [get(item) for item in items if type(item) is dict and len(item) == width]
            texts = [*map(BETWEEN.join, rows)]
        except (KeyError, TypeError):
            return None
        keys = [row[0] for row in rows]
        if len(rows) != len(items) or not all(keys) or not are_plain(texts, width):
            return None
        return shape.names, keys, [text[len(key) :] for key, text in zip(keys, texts, strict=True)]

    def read(self, item: Row | UnreadableRow, number: int) -> tuple[str, tuple[str, ...], Sequence[Any]]:
        """
        Return a row as it is sent: the key, the names of the other fields (sorted), and their values.

        :param number: The row's number, for warnings.
        :raises BadRow: The row cannot be sent.
        """
        self._looked_at += 1
        if isinstance(item, UnreadableRow):
            raise BadRow(item.kind, item.reason)
        names = tuple(item)
        shape = self._shapes.get(names) or self._read_shape(names)
        given, *values = shape.get(item)
        self._last = shape if shape.is_plain and self._looked_at > _LOOK_AT_EACH else None
        key = self._read_key(given, number)
        problems: list[str] = []
        values = _read_values(shape.names, values, number, self.doubts, problems)
        if problems:
            raise BadRow("invalid", list_problems(problems))
        return key, shape.names, values

    def _read_key(self, given: Any, number: int) -> str:
        if is_missing(given) or (isinstance(given, str) and not strip_blanks(given)):
            raise BadRow("key missing", f"field {show(self.data_key)}: the key is empty")
        try:
            key = read_key(given, self.data_key)
        except ValueError as error:
            raise BadRow("invalid", f"field {show(self.data_key)}: {error}") from error
        self.doubts.look(self.data_key, key, number)
        return key

    def _read_shape(self, given: tuple[Any, ...]) -> _Shape:
        problems: list[str] = []
        fields = read_names(given, problems)
        wanted = self.data_key.strip()
        if wanted not in fields:
            near = next(
                (name for name in given if isinstance(name, str) and spell(name) == spell(wanted)), None
            )
            hint = "" if near is None else f"; the row has {show(near)}, and names must match exactly"
            raise BadRow("key missing", f"field {show(self.data_key)}: the key is missing{hint}")
        key = fields.pop(wanted)
        if problems:
            raise BadRow("invalid", list_problems(problems))
        if not fields:
            raise BadRow("invalid", f"the row has a key and nothing to set besides {show(self.data_key)}")
        names = tuple(sorted(fields))
        get = itemgetter(key, *(fields[name] for name in names))
        plain = all(type(name) is str for name in given) and SPECIAL_FIELDS.keys().isdisjoint(names)
        shape = _Shape(names, get, plain)
        if len(self._shapes) < _MOST_SHAPES:
            self._shapes[given] = shape
        return shape


def check_values(fields: Any, what: str, *, warn: Callable[[str], None]) -> Row:
    """
    Return one set of values as it is sent, checked like those of a row.

    :raises InvalidInput: There is no value, or a value cannot be sent; ``what`` names the argument.
    """
    if not isinstance(fields, Mapping) or not fields:
        raise InvalidInput(f"{what} must be a dict with at least one field.")
    doubts = Doubts()
    problems: list[str] = []
    names = read_names(fields, problems)
    values = _read_values([*names], [fields[name] for name in names.values()], None, doubts, problems)
    if problems:
        raise InvalidInput(
            f"Nothing was sent, because {what} must be fixed first: {list_problems(problems)}."
        )
    doubts.report(warn)
    return dict(zip(names, values, strict=True))


def read_names(given: Iterable[Any], problems: list[str]) -> dict[str, Any]:
    """Return field -> name as it is given; a name that cannot be sent, or comes again, is a problem."""
    fields: dict[str, Any] = {}
    for name in given:
        try:
            field = read_name(name)
            if field in fields:
                raise ValueError("the field appears twice")
            fields[field] = name
        except ValueError as error:
            problems.append(f"field {show(name)}: {error}")
    return fields


def _read_values(
    fields: Sequence[str], values: Sequence[Any], number: int | None, doubts: Doubts, problems: list[str]
) -> list[Any]:
    """Return the values as they are sent; a value that cannot be sent is a problem."""
    found: list[Any] = []
    for field, value in zip(fields, values, strict=True):
        try:
            found.append(read := read_value(field, value))
        except ValueError as error:
            problems.append(f"field {show(field)}: {error}")
        except Exception as error:  # a user's object may raise anything
            problems.append(f"field {show(field)}: the value cannot be read ({type(error).__name__})")
        else:
            if isinstance(read, str) and isinstance(value, str):
                doubts.look(field, read, number)
    return found


def list_problems(problems: Sequence[str]) -> str:
    """Return the first problems as one text, and how many more there are."""
    more = len(problems) - _MOST_NAMED
    return "; ".join(problems[:_MOST_NAMED]) + (f"; and {more} more" if more > 0 else "")


def read_key(value: Any, data_key: str) -> str:
    """Return a key as text, as Scantrust stores it; a ``ValueError`` says why a value cannot be one."""
    value = plain_number(value)
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError(f"a key must be text, not {type(value).__name__}")
    text = str(_check_digits(_plain(value)))
    # Scantrust: an extended_id holds no blanks, so blanks around it are removed.
    text = clean_name(text) if data_key == "extended_id" else unwrap(text)
    if not strip_blanks(text):
        raise ValueError("the key is empty")
    return read_text(text)


def read_name(name: Any) -> str:
    """Return the name of a field, without blanks around it; a ``ValueError`` says why it cannot be sent."""
    if not isinstance(name, str) or not (cleaned := clean_name(str.__str__(name))):
        raise ValueError("a field's name must be text")
    return read_text(cleaned)


def read_text(text: str) -> str:
    """Return the text; a ``ValueError`` says why JSON cannot carry it or a database cannot store it."""
    if len(text) > LONGEST_TEXT:
        raise ValueError(f"the text has {len(text)} characters; at most {LONGEST_TEXT} can be sent")
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


def read_value(field: str, value: Any) -> Any:
    """
    Return a value as it is sent.

    A date is sent as YYYY-MM-DD. So is a datetime at midnight in its own time zone; any other datetime is
    sent with its time, as in ISO 8601. Numbers of any library are sent as numbers; a float that is a whole
    number is sent as an integer.

    :raises ValueError: The value cannot be sent; the message says why.
    """
    if is_missing(value):
        raise ValueError(f'there is no value ({value}); leave the field out, or send "" to clear it')
    value = plain_number(_plain(plain_moment(value)))
    if not isinstance(value, str | int | float):
        raise ValueError(
            f"a value of type {type(value).__name__} cannot be sent; use text, a number, true or false, or a date"
        )
    if isinstance(value, str):
        value = read_text(unwrap(value))
    _check_digits(value)
    if field in SPECIAL_FIELDS:
        allowed, meaning = SPECIAL_FIELDS[field]
        if isinstance(value, bool) or str(value) not in {str(number) for number in allowed}:
            raise ValueError(f"{show(value)} is out of range; it must be {meaning}")
    return value


def _plain(value: Any) -> Any:
    """Return the plain text or number of a subclass of str or int, such as a member of an enum."""
    if isinstance(value, str):
        return str.__str__(value)
    if isinstance(value, int) and not isinstance(value, bool):
        return int.__pos__(value)
    return value


def _check_digits(value: Any) -> Any:
    if isinstance(value, int) and value.bit_length() > _MOST_BITS:
        raise ValueError("the number has more than a thousand digits; turn it into text")
    return value
