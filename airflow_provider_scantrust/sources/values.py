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

# Every whole number below it has a float of its own; of numpy's short floats by their size in bytes.
MOST_EXACT = 2**53
_MOST_EXACT_SHORT = {2: 2**11, 4: 2**24}
INEXACT = (
    "is a floating-point number that cannot hold all its digits; write the column as text or as an integer"
)


def is_exact(value: float, size: int = 8) -> bool:
    """
    Whether a float can hold each digit of the whole number that it stands for.

    :param size: Its bytes.
    """
    return abs(value) < _MOST_EXACT_SHORT.get(size, MOST_EXACT)


def is_missing(value: Any) -> bool:
    """Whether a value stands for none: None, NaN, NaT and NA, of Python, numpy and pandas."""
    if value is None or type(value).__name__ in ("NAType", "NaTType"):
        return True
    if isinstance(value, str | bytes | Mapping | list | tuple | set | frozenset):
        return False
    try:
        # Only what is missing differs from itself.
        return bool(value != value)
    except Exception:  # any object, any exception
        return False


def plain_moment(value: Any) -> Any:
    """
    Return a date or a time as in ISO 8601, and anything else as it is.

    Midnight is a date, in the value's own zone; any other time of day is kept, with its zone and all its
    digits.

    :raises ValueError: It is outside the calendar.
    """
    if _numpy_kind(value) == "M":
        return _plain_datetime64(value)
    if isinstance(value, datetime):
        # Not the class's own isoformat: what a subclass makes of it is not known to be a date.
        nanoseconds = int(getattr(value, "nanosecond", 0))
        if datetime.timetz(value).replace(tzinfo=None) == time() and not nanoseconds:
            return date.isoformat(value)
        if not nanoseconds:
            return datetime.isoformat(value)
        text = datetime.isoformat(value, timespec="microseconds")
        return f"{text[:26]}{nanoseconds:03}{text[26:]}"
    if isinstance(value, date):
        return date.isoformat(value)
    if isinstance(value, time):
        return time.isoformat(value)
    return value


def plain_number(value: Any) -> Any:
    """
    Return a number of another library, a decimal or a UUID as Python's own value; anything else as it is.

    A whole number that arrives as a float becomes an integer.

    :raises ValueError: JSON cannot carry it, or it cannot hold its digits.
    """
    if isinstance(value, bool | str):
        return value
    kind = _numpy_kind(value)
    if kind in ("m", "M"):
        # A span of time is registered as an integer.
        return value
    if kind == "b":
        return bool(value)
    if kind in ("i", "u"):
        return int(value)
    if kind == "f":
        return _plain_float(value, value.dtype.itemsize)
    if isinstance(value, UUID):
        return str(value)
    if isinstance(value, Decimal):
        return _plain_decimal(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        return _plain_float(value, 8)
    return value


def _numpy_kind(value: Any) -> str | None:
    """Return numpy's letter for the type of one of its scalars."""
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
        # The shortest text that means this number: 0.1, where float() gives 0.10000000149011612.
        return float(str(value))
    if value != number:
        raise ValueError(f"{value} is a number whose digits a float cannot hold; turn it into text")
    return number


def _plain_decimal(value: Decimal) -> int | float | str:
    if not value.is_finite():
        raise ValueError(f"{value} is a number that JSON cannot carry")
    if abs(value.adjusted()) < 1_000 and value == value.to_integral_value():
        return int(value)
    # A number where a float holds all its digits; else its text, digit by digit.
    return float(value) if Decimal(repr(float(value))) == value else format(value, "f")


def _plain_datetime64(value: Any) -> str:
    text = str(value)
    day, _, clock = text.partition("T")
    # Years and months are no dates, and stay what they are.
    if len(day) == 10:
        date.fromisoformat(day)
    elif "T" in text or len(day) > 7:
        raise ValueError(f"{text} is outside the calendar")
    clock = clock.rstrip("0").rstrip(".") if "." in clock else clock
    return f"{day}T{clock}" if clock.strip("0:") else day
