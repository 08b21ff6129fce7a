"""
Convert values of Python, numpy, pandas and databases into values that can be sent.

Rule: a value that would lose digits is refused.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from datetime import date, datetime, time
from decimal import Decimal
from numbers import Integral, Real
from typing import Any
from uuid import UUID

# Floats can hold every whole number below this; for numpy's shorter floats, by their size in bytes.
MOST_EXACT = 2**53
_MOST_EXACT_SHORT = {2: 2**11, 4: 2**24}
INEXACT = (
    "is a floating-point number that cannot hold all its digits; write the column as text or as an integer"
)


def is_exact(value: float, size: int = 8) -> bool:
    """Whether a float of some bytes can hold each digit of its whole number."""
    return abs(value) < _MOST_EXACT_SHORT.get(size, MOST_EXACT)


def is_missing(value: Any) -> bool:
    """Whether a value is missing: None, NaN, NaT or NA, of Python, numpy or pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str | bytes | Mapping | list | tuple | set | frozenset):
        return False
    try:
        # Only a missing value is not equal to itself.
        return bool(value != value)
    except Exception:  # a user's object may raise anything
        return False


def plain_moment(value: Any) -> Any:
    """
    Return a date or a datetime as text in ISO 8601, and any other value unchanged.

    A datetime at midnight in its own time zone becomes a date; any other keeps its time, its zone and all
    its digits.

    :raises ValueError: The date is outside the calendar.
    """
    if _numpy_kind(value) == "M":
        return _plain_datetime64(value)
    if isinstance(value, datetime):
        return iso_moment(value, int(getattr(value, "nanosecond", 0)))
    if isinstance(value, date):
        return date.isoformat(value)
    if isinstance(value, time):
        return time.isoformat(value)
    return value


def iso_moment(value: datetime, nanoseconds: int) -> str:
    """Return a datetime as text, at midnight only its date; nanoseconds are the digits 7 to 9."""
    # Not the value's own isoformat: a subclass may return something else.
    if nanoseconds:
        text = datetime.isoformat(value, timespec="microseconds")
        return f"{text[:26]}{nanoseconds:03}{text[26:]}"
    if datetime.timetz(value).replace(tzinfo=None) == time():
        return date.isoformat(value)
    return datetime.isoformat(value)


def plain_number(value: Any) -> Any:
    """
    Turn a number of another library, a decimal or a UUID into a plain Python value; return others unchanged.

    :raises ValueError: JSON cannot carry the number, or its type cannot hold all its digits.
    """
    if isinstance(value, bool | str):
        return value
    kind = _numpy_kind(value)
    if kind in ("m", "M"):
        # numpy registers timedelta64 as an integer type, but it is not a number.
        return value
    if kind == "b":
        return bool(value)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _plain_float(value, getattr(value, "itemsize", 8))
    return value


def _numpy_kind(value: Any) -> str | None:
    """Return numpy's letter for the type of a numpy scalar; None for any other value."""
    if type(value).__module__ != "numpy" or getattr(value, "shape", None) != ():
        return None
    return str(value.dtype.kind)


def _plain_float(value: Any, size: int) -> int | float:
    number = float(value)
    if not math.isfinite(number):
        raise ValueError(f"{number!r} is a number that JSON cannot carry")
    if number.is_integer():
        if not is_exact(number, size):
            raise ValueError(f"{value} {INEXACT}")
        return int(number)
    if size < 8:
        # The shortest text for this number: 0.1, where float() gives 0.10000000149011612.
        return float(str(value))
    if value != number:
        raise ValueError(f"{value} is a number whose digits a float cannot hold; turn it into text")
    return number


def _plain_decimal(value: Decimal) -> int | float | str:
    if not value.is_finite():
        raise ValueError(f"{value} is a number that JSON cannot carry")
    if abs(value.adjusted()) < 1_000 and value == value.to_integral_value():
        return int(value)
    # A float if it holds all digits; otherwise text with all digits.
    return float(value) if Decimal(repr(float(value))) == value else format(value, "f")


def _plain_datetime64(value: Any) -> str:
    text = str(value)
    day, _, clock = text.partition("T")
    # A value with only a year or a month is not a date and is left unchanged.
    if len(day) == 10:
        date.fromisoformat(day)
    elif "T" in text or len(day) > 7:
        raise ValueError(f"{text} is outside the calendar")
    clock = trim_zeros(clock)
    return f"{day}T{clock}" if clock.strip("0:") else day


def trim_zeros(clock: str) -> str:
    return clock.rstrip("0").rstrip(".") if "." in clock else clock
