"""Check the arguments of control calls: return the value, or raise an error that names the argument."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping
from typing import Any

# Characters that JSON can carry but a database refuses.
UNSTORABLE = re.compile(r"[\x00\ud800-\udfff]")
_MOST = 1_000_000_000


class WrongValue(ValueError):
    """A control call got an invalid value; nothing has changed."""

    def __init__(self, field: str, why: str) -> None:
        super().__init__(f"{field}: {why}")
        self.field = field


def truth(field: str, value: Any) -> bool:
    if not isinstance(value, bool):
        raise _wrong(field, "true or false", value)
    return value


def whole(field: str, value: Any, low: int = 0, high: int = _MOST) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not low <= value <= high:
        raise _wrong(field, f"a whole number from {low} to {high}", value)
    return value


def number(field: str, value: Any, low: float = 0.0, high: float = _MOST) -> float:
    is_number = isinstance(value, int | float) and not isinstance(value, bool)
    if not is_number or not math.isfinite(value) or not low <= value <= high:
        raise _wrong(field, f"a number from {low:g} to {high:g}", value)
    return float(value)


def text(field: str, value: Any) -> str:
    """Check a text that is not empty and can be stored."""
    if not isinstance(value, str) or not value or UNSTORABLE.search(value):
        raise _wrong(field, "a text that is not empty", value)
    return value


def several(field: str, value: Any) -> Iterable[Any]:
    """Check a list or another iterable; a text is refused, because Python would iterate over its letters."""
    if isinstance(value, str | bytes | Mapping) or not isinstance(value, Iterable):
        raise _wrong(field, "a list", value)
    return value


def texts(field: str, value: Any) -> list[str]:
    return [text(field, each) for each in several(field, value)]


def choice(field: str, value: Any, choices: Iterable[Any]) -> Any:
    allowed = list(choices)
    if not any(each is value or (isinstance(each, str) and each == value) for each in allowed):
        raise _wrong(field, " or ".join(repr(each) for each in allowed), value)
    return value


def mapping(field: str, value: Any) -> dict[str, Any]:
    """Check an object with texts as keys."""
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise _wrong(field, "an object", value)
    return dict(value)


def _wrong(field: str, expected: str, value: Any) -> WrongValue:
    shown = repr(value)
    return WrongValue(field, f"must be {expected}, not {shown if len(shown) <= 60 else shown[:57] + '...'}")
