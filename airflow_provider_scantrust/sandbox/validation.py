"""Reads the bodies of the upload calls; refuses with 400 what cannot be processed, all errors at once."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.store import IDENTITY

# Scantrust, "Special fields": the values that are defined.
_RANGES = {"activation_status": range(3), "blacklist_reason": range(11)}
# What JSON can carry and no database takes.
_UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")


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


class _Errors:
    def __init__(self) -> None:
        self._messages: dict[str, list[str]] = {}

    def add(self, field: str, message: str) -> None:
        self._messages.setdefault(field, []).append(message)

    def check(self) -> None:
        if self._messages:
            raise Refused(400, self._messages)


def read_upload(body: Any, is_field: Callable[[str], bool]) -> Upload:
    """
    Read a sync upload.

    :raises Refused: 400.
    """
    body = _object(body)
    errors = _Errors()
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
    read = [_item(item, f"items[{number}]: ", data_key, errors) for number, item in enumerate(items)]
    errors.check()
    return Upload(data_key, read)


def read_submission(body: Any, is_field: Callable[[str], bool]) -> Submission:
    """
    Read an async upload.

    :raises Refused: 400.
    """
    body = _object(body)
    errors = _Errors()
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
        field: _constraint(field, value, is_field, errors) for field, value in parts["constraints"].items()
    }
    scm_data = {field: _value(field, value, "", errors) for field, value in parts["scm_data"].items()}
    errors.check()
    return Submission(constraints, scm_data)


def _object(body: Any) -> dict[str, Any]:
    if not isinstance(body, dict):
        message = f"Invalid data. Expected a dictionary, but got {_type(body)}."
        raise Refused(400, {"non_field_errors": [message]})
    return body


def _item(item: Any, where: str, data_key: str, errors: _Errors) -> dict[str, Any]:
    if not isinstance(item, dict):
        errors.add("items", f"{where}Invalid data. Expected a dictionary, but got {_type(item)}.")
        return {}
    if data_key not in item:
        errors.add(data_key, f"{where}This field is required.")
    elif item[data_key] == "":
        errors.add(data_key, f"{where}This field may not be blank.")
    return {
        field: _text(field, value, where, errors)
        if field == data_key
        else _value(field, value, where, errors)
        for field, value in item.items()
    }


def _constraint(field: str, value: Any, is_field: Callable[[str], bool], errors: _Errors) -> str | list[str]:
    if not _selects(field, is_field):
        errors.add("constraints", f'"{field}" is not a valid choice.')
        return ""
    if field == IDENTITY and isinstance(value, list):
        if not value:
            errors.add(field, "This list may not be empty.")
        if "" in value:
            errors.add(field, "This field may not be blank.")
        return [_text(field, each, "", errors) for each in value]
    if value == "":
        errors.add(field, "This field may not be blank.")
    return _text(field, value, "", errors)


def _value(field: str, value: Any, where: str, errors: _Errors) -> Any:
    allowed = _RANGES.get(field)
    if allowed is None:
        return _text(field, value, where, errors)
    # Real clients send every value as a string.
    digits = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (digits.isascii() and digits.isdigit()):
        errors.add(field, f"{where}A valid integer is required.")
    elif len(digits) > 9 or int(digits) not in allowed:
        errors.add(field, f'{where}"{digits}" is not a valid choice.')
    else:
        return int(digits)
    return 0


def _text(field: str, value: Any, where: str, errors: _Errors) -> str:
    if value is None:
        errors.add(field, f"{where}This field may not be null.")
    elif isinstance(value, bool) or not isinstance(value, str | int | float):
        errors.add(field, f"{where}Not a valid string.")
    elif isinstance(value, str) and _UNSTORABLE.search(value):
        errors.add(field, f"{where}Null characters and lone surrogates are not allowed.")
    else:
        return str(value)
    return ""


def _selects(field: str, is_field: Callable[[str], bool]) -> bool:
    return field in (IDENTITY, "serial_number") or is_field(field)


def _type(value: Any) -> str:
    return "NoneType" if value is None else type(value).__name__
