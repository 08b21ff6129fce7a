"""Read the bodies of the upload calls, and refuse an invalid body with a 400 that names all errors."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_scantrust.sandbox.checks import UNSTORABLE
from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL

# Scantrust, "Special fields": the allowed values.
RANGES = {"activation_status": range(3), "blacklist_reason": range(11)}
_IsField = Callable[[str], bool]


@dataclass
class Upload:
    """A sync upload."""

    data_key: str
    items: list[dict[str, Any]]


@dataclass
class Submission:
    """An async upload."""

    constraints: dict[str, str | list[str]]
    scm_data: dict[str, Any]


@dataclass
class Errors:
    """The errors, by field."""

    messages: dict[str, list[str]] = field(default_factory=dict)

    def add(self, name: str, message: str) -> None:
        """Add a message."""
        self.messages.setdefault(name, []).append(message)

    def check(self) -> None:
        """
        Do nothing if there is no error.

        :raises Refused: 400, with all errors.
        """
        if self.messages:
            raise Refused(400, self.messages)


def read_upload(body: Any, is_field: _IsField) -> Upload:
    """
    Read a sync upload.

    :raises Refused: 400.
    """
    body = _object(body)
    errors = Errors()
    data_key = body.get("data_key", IDENTITY)
    if data_key is None:
        errors.add("data_key", "This field may not be null.")
    elif not isinstance(data_key, str) or not _selects(data_key, is_field):
        errors.add("data_key", f'"{data_key}" is not a valid choice.')
    items = body.get("items")
    if items is None:
        errors.add(
            "items", "This field is required." if "items" not in body else "This field may not be null."
        )
    elif not isinstance(items, list):
        errors.add("items", f'Expected a list of items but got type "{_type(items)}".')
    elif not items:
        errors.add("items", "This list may not be empty.")
    errors.check()
    read = [
        _item(item, f"items[{number}]: ", data_key, is_field, errors) for number, item in enumerate(items)
    ]
    errors.check()
    return Upload(data_key, read)


def read_submission(body: Any, is_field: _IsField) -> Submission:
    """
    Read an async upload.

    :raises Refused: 400.
    """
    body = _object(body)
    errors = Errors()
    parts: dict[str, dict[str, Any]] = {}
    for name in ("constraints", "scm_data"):
        part = body.get(name)
        if name not in body:
            errors.add(name, "This field is required.")
        elif not isinstance(part, dict):
            errors.add(name, f'Expected a dictionary of items but got type "{_type(part)}".')
        elif not part:
            errors.add(name, "This dictionary may not be empty.")
        else:
            parts[name] = part
    errors.check()
    constraints = {
        name: _constraint(name, value, is_field, errors) for name, value in parts["constraints"].items()
    }
    scm_data = _values(parts["scm_data"], "", is_field, errors)
    errors.check()
    return Submission(constraints, scm_data)


def read_value(name: str, value: Any, where: str, errors: Errors) -> Any:
    """Return a value to store: text, or the number of a special field."""
    allowed = RANGES.get(name)
    if allowed is None:
        return _text(name, value, where, errors)
    # Real clients send every value as a string.
    digits = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (digits.isascii() and digits.isdigit()):
        errors.add(name, f"{where}A valid integer is required.")
    elif len(digits) > 9 or int(digits) not in allowed:
        errors.add(name, f'{where}"{digits}" is not a valid choice.')
    else:
        return int(digits)
    return 0


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        message = f"Invalid data. Expected a dictionary, but got {_type(body)}."
        raise Refused(400, {"non_field_errors": [message]})
    return body


def _item(item: Any, where: str, data_key: str, is_field: _IsField, errors: Errors) -> dict[str, Any]:
    if not isinstance(item, dict):
        errors.add("items", f"{where}Invalid data. Expected a dictionary, but got {_type(item)}.")
        return {}
    key = item.get(data_key)
    if data_key not in item:
        errors.add(data_key, f"{where}This field is required.")
    elif key == "":
        errors.add(data_key, f"{where}This field may not be blank.")
    else:
        key = _text(data_key, key, where, errors)
    values = {name: value for name, value in item.items() if name != data_key}
    return {data_key: key, **_values(values, where, is_field, errors)}


def _values(values: dict[str, Any], where: str, is_field: _IsField, errors: Errors) -> dict[str, Any]:
    # Fields that will be discarded are not checked.
    return {
        name: read_value(name, value, where, errors) if name in SPECIAL or is_field(name) else value
        for name, value in values.items()
    }


def _constraint(name: str, value: Any, is_field: _IsField, errors: Errors) -> str | list[str]:
    if not _selects(name, is_field):
        errors.add("constraints", f'"{name}" is not a valid choice.')
        return ""
    if name == IDENTITY and isinstance(value, list):
        if not value:
            errors.add(name, "This list may not be empty.")
        if "" in value:
            errors.add(name, "This field may not be blank.")
        return [_text(name, each, "", errors) for each in value]
    if value == "":
        errors.add(name, "This field may not be blank.")
    return _text(name, value, "", errors)


def _text(name: str, value: Any, where: str, errors: Errors) -> str:
    if value is None:
        errors.add(name, f"{where}This field may not be null.")
    elif (
        isinstance(value, bool) or not isinstance(value, str | int | float) or value in (math.inf, -math.inf)
    ):
        errors.add(name, f"{where}Not a valid string.")
    elif isinstance(value, str) and UNSTORABLE.search(value):
        errors.add(name, f"{where}Null characters and lone surrogates are not allowed.")
    else:
        return str(value)
    return ""


def _selects(name: str, is_field: _IsField) -> bool:
    return name in (IDENTITY, "serial_number") or is_field(name)


def _type(value: Any) -> str:
    return "NoneType" if value is None else type(value).__name__
