"""Durations that users give to operators and sensors."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

# Ten years. Airflow adds timeouts to today's date, and in some databases, dates end in 2038.
LONGEST_SECONDS = 3.2e8


def read_seconds(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 < seconds <= LONGEST_SECONDS
    ):
        raise ValueError(
            f"`{name}` must be a number of seconds or a timedelta, above 0 and at most ten years, not {value!r}."
        )
    return float(seconds)
