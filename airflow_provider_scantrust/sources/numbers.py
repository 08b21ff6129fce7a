"""Numbers that hold their digits, and those that do not."""

from __future__ import annotations

from airflow_provider_scantrust.api.texts import show

# Every whole number below it has a float of its own.
MOST_EXACT = 2**53


def is_exact(value: float) -> bool:
    """Whether a float can hold each digit of the whole number that it stands for."""
    return abs(value) < MOST_EXACT


def not_exact(name: str, value: object) -> str:
    """Return the reason to reject a float that has lost digits."""
    return (
        f"field {show(name)}: {value} is a floating-point number that cannot hold all its digits, so it may be another number "
        "by now; write the column as text or as an integer"
    )
