"""Read the members of a JSON object as text: 007.50 stays 007.50 in the rejects file."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.sources.fields import REJECTED, REJECTED_TEXT, UnreadableRow
from airflow_provider_scantrust.sources.values import is_missing, plain_moment, plain_number

# Allowed before an object: a byte order mark (in joined files) and the mark that `jq --seq` writes.
MARKS = "\ufeff\x1e"
_LONGEST_REPR = 100_000
_DECODER = json.JSONDecoder(parse_int=str, parse_float=str)

# The name, and the whole member as JSON text.
Member = tuple[str, str]


def write_line(line: int | str, kind: str, reason: str, members: list[Member]) -> str:
    names = {name for name, _ in members}
    if names.issuperset(REJECTED):
        # A rejects file that is uploaded again already has these columns.
        members = [member for member in members if member[0] not in REJECTED]
    elif not names.isdisjoint(REJECTED):
        # The source has one of these names itself, and an object must not have a name twice.
        text = "{" + ", ".join(member for _, member in members) + "}"
        members = [(REJECTED_TEXT, make_member(REJECTED_TEXT, text))]
    added = zip(REJECTED, (line, kind, " ".join(reason.split())), strict=True)
    parts = [*(make_member(*pair) for pair in added), *(member for _, member in members)]
    return "{" + ", ".join(parts) + "}\n"


def make_member(name: Any, value: Any) -> str:
    """Return a member as JSON text; a name or value that JSON cannot have raises ``TypeError``."""
    if not isinstance(name, str):
        raise TypeError("a name in JSON is text")
    text = json.dumps(value, ensure_ascii=False, allow_nan=False, default=_make_plain)
    if not text.isascii():
        try:
            text.encode()
        except UnicodeEncodeError:
            text = json.dumps(value, allow_nan=False, default=_make_plain)
    return f"{json.dumps(name)}: {text}"


def members_of_text(text: str) -> list[Member]:
    """Return the members of a line of JSON; a line that is not an object becomes one member."""
    members: list[Member] = []
    text = text.strip(" \t\r\n" + MARKS)
    try:
        if not isinstance(_DECODER.decode(text), dict):
            raise ValueError("no object")
        start = _skip(text, 1)
        while text[start] != "}":
            name, end = _DECODER.raw_decode(text, start)
            _, end = _DECODER.raw_decode(text, _skip(text, end))
            members.append((name, text[start:end]))
            start = _skip(text, end)
    except (ValueError, RecursionError):
        return [(REJECTED_TEXT, make_member(REJECTED_TEXT, text))]
    return members


def members_of_row(row: Any, is_key: Callable[[Any], bool]) -> list[Member]:
    if isinstance(row, UnreadableRow):
        return []
    members: list[Member] = []
    try:
        if not isinstance(row, Mapping):
            raise TypeError("no row")
        for name, value in row.items():
            # A date is not a key, but its text would pass as one.
            if is_key(name) and not isinstance(plain_number(value), str | int | None):
                raise TypeError(f"a key of type {type(value).__name__}")
            members.append((name, make_member(name, value)))
    except Exception:  # a user's objects may raise anything
        return [(REJECTED_TEXT, make_member(REJECTED_TEXT, show(row, _LONGEST_REPR)))]
    return members


def _skip(text: str, position: int) -> int:
    """Return where the next name or value begins, or the end of the object."""
    while text[position] in " \t\r\n,:":
        position += 1
    return position


def _make_plain(value: Any) -> Any:
    # A value that cannot be sent must not become a value that can be sent.
    if is_missing(value) or (plain := plain_number(plain_moment(value))) is value:
        raise TypeError
    return plain
