"""
Scantrust's answers as Python values. Different spellings are accepted, different meanings are not.

Rule: for an answer that lacks something, the functions raise ``ValueError`` with what is wrong with it.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from functools import cached_property
from typing import Any

import pendulum

from airflow_provider_scantrust.api.extras import SCANTRUST, Dialect, spell_state
from airflow_provider_scantrust.api.texts import one_line, show


class TaskState(StrEnum):
    """The states of an asynchronous job; the values are the words that the portal shows."""

    PENDING = "Pending"
    RUNNING = "In progress"
    COMPLETE = "Complete"
    FAILED = "Failed"
    UNKNOWN = "Unknown"


# Longer than any real name, reference or state.
_LONGEST_TEXT = 200
_MOMENT = re.compile(r"\d{4}[^/]{0,60}")
_MOST = 10**18

# Scantrust's guide has pending, running and error; its public client and the portal have the other words.
_WORDS = {
    "pending": TaskState.PENDING,
    "running": TaskState.RUNNING,
    "in_progress": TaskState.RUNNING,
    "complete": TaskState.COMPLETE,
    "completed": TaskState.COMPLETE,
    "success": TaskState.COMPLETE,
    "failed": TaskState.FAILED,
    "error": TaskState.FAILED,
}


def read_state(word: str, dialect: Dialect = SCANTRUST) -> TaskState:
    """Return the state for a word in any case, with space, ``-`` or ``_``; UNKNOWN for any other word."""
    word = spell_state(word)
    if word in dialect.failed_states:
        return TaskState.FAILED
    if word in dialect.done_states:
        return TaskState.COMPLETE
    return _WORDS.get(word, TaskState.UNKNOWN)


@dataclass(frozen=True)
class Task:
    """
    One asynchronous job at Scantrust.

    :param state_word: The state as Scantrust spelled it.
    :param codes_affected: Codes updated, or None if the answer does not say.
    :param moments: The timestamps as Scantrust wrote them. They are parsed on first use, because most are
        never used.
    """

    id: str
    state: TaskState
    state_word: str
    reference: str | None = None
    codes_affected: int | None = None
    created_by: str | None = None
    moments: Mapping[str, Any] = field(default_factory=dict, repr=False)

    @cached_property
    def created_at(self) -> pendulum.DateTime | None:
        """When the job was submitted; None if the answer does not say."""
        return _moment(get_field(self.moments, "created_at"))

    @cached_property
    def started_at(self) -> pendulum.DateTime | None:
        """When Scantrust started the job."""
        return _moment(get_field(self.moments, "started_at"))

    @cached_property
    def completed_at(self) -> pendulum.DateTime | None:
        """When the job ended."""
        return _moment(get_field(self.moments, "completed_at"))

    @property
    def is_done(self) -> bool:
        """The job is complete or failed."""
        return self.state in (TaskState.COMPLETE, TaskState.FAILED)

    @property
    def is_failed(self) -> bool:
        """The job has ended and failed."""
        # From an XCom, the state is the plain text.
        return self.state == TaskState.FAILED

    def describe(self) -> str:
        """Return one line with everything that Scantrust's support needs, times as Scantrust wrote them."""
        facts = [f"task_id {self.id}", f"reference {self.reference or 'none'}", f"state {self.state_word!r}"]
        facts += [
            f"{name} {_text(get_field(self.moments, name)) or 'unknown'}"
            for name in ("created_at", "started_at", "completed_at")
        ]
        if self.codes_affected is not None:
            facts.append(f"codes_affected {self.codes_affected}")
        return ", ".join(facts)


@dataclass(frozen=True)
class UploadResult:
    """
    The answer to one synchronous upload.

    :param items: Key value -> names of the updated fields; keys that matched no code are not in it.
    """

    codes_affected: int
    total_updates: int
    items: Mapping[str, list[str]]


def read_task(task_id: str, data: Any, dialect: Dialect = SCANTRUST) -> Task:
    """Read the answer to a status poll."""
    given = get_field(data, "state")
    word = _text(given) if isinstance(given, str) else None
    if word is None:
        raise ValueError("there is no 'state' in it")
    return Task(
        id=task_id,
        state=read_state(word, dialect),
        state_word=word,
        reference=_text(get_field(data, "reference")),
        codes_affected=_count(data, "codes_affected"),
        created_by=_text(get_field(data, "created_by")),
        moments=data,
    )


def read_upload(data: Any) -> UploadResult:
    """Read the answer to a synchronous upload."""
    items = get_field(data, "items")
    if not isinstance(items, Mapping):
        raise ValueError("there is no 'items' object in it")
    for key, names in items.items():
        if not isinstance(names, list) or not all(isinstance(name, str) for name in names):
            raise ValueError(f"the updated fields of item {show(key)} are not a list of names")
    codes_affected = _count(data, "codes_affected")
    if codes_affected is None:
        raise ValueError("there is no 'codes_affected' in it")
    total_updates = _count(data, "total_updates")
    if total_updates is None:
        total_updates = sum(len(names) for names in items.values())
    return UploadResult(codes_affected=codes_affected, total_updates=total_updates, items=items)


def read_account(data: Any) -> str:
    """Read who the token belongs to. The fields of ``me`` are not documented, so likely ones are tried."""
    for name in ("email", "username", "name", "full_name", "id"):
        if (value := _text(get_field(data, name))) is not None:
            return value
    return "a user whose name the answer does not give"


def get_field(data: Any, name: str) -> Any:
    """Return a field in snake case (as assumed) or in camel case (as in Scantrust's public client)."""
    if not isinstance(data, Mapping):
        raise ValueError(f"a JSON object was expected, not {type(data).__name__}")
    if name in data:
        return data[name]
    head, *rest = name.split("_")
    return data.get(head + "".join(part.capitalize() for part in rest))


def _count(data: Any, name: str) -> int | None:
    value = get_field(data, name)
    if value is None:
        return None
    if isinstance(value, str) and value.isascii() and value.isdigit() and len(value) < 19:
        value = int(value)
    if isinstance(value, float) and value.is_integer():
        value = int(value)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < _MOST:
        raise ValueError(f"'{name}' is not a count")
    return value


def _text(value: Any) -> str | None:
    """Return a text that is safe to log, or None."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        return None
    return one_line(str(value), _LONGEST_TEXT) or None


def _moment(value: Any) -> pendulum.DateTime | None:
    """Return a time, or None if it cannot be parsed: a timestamp must not fail a task."""
    # For "now", a time alone or an interval, pendulum gives a time of today, or an error of another kind.
    if not isinstance(value, str) or not _MOMENT.fullmatch(value):
        return None
    try:
        moment = pendulum.parse(value)
    except (ValueError, OverflowError):
        return None
    return moment if isinstance(moment, pendulum.DateTime) else None
