"""
What the operator's arguments may be, and what templates make of them.

Rule: what is wrong in the Dag's own text is a ``ValueError`` when the Dag is read; what a template renders is looked at when
the task runs.
"""

from __future__ import annotations

import ast
import json
from collections.abc import Sequence
from contextlib import suppress
from datetime import timedelta
from os import PathLike, fspath
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput


def check_what_is_given(items: Any, source: Any, constraints: Any, scm_data: Any, mode: str) -> None:
    """
    Check that it is clear what to upload.

    :raises ValueError: There are none, or several, of items, source and constraints, or what belongs to them is missing.
    """
    if sum(rows is not None for rows in (items, source, constraints)) != 1:
        raise ValueError("Give exactly one of `items`, `source`, or `constraints` (with `scm_data`).")
    if (constraints is None) != (scm_data is None):
        raise ValueError("`constraints` and `scm_data` go together.")
    if constraints is not None and mode == "sync":
        raise ValueError("`constraints` can only be submitted asynchronously; use `items` for mode='sync'.")


def refuse_options_of_source(**options: Any) -> None:
    """
    Check that no option is given that would have no effect.

    :raises ValueError: One of them is not None.
    """
    for name, given in options.items():
        if given is not None:
            raise ValueError(f"`{name}` is for `source` only, which also takes a list of rows.")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """
    Check an option that is one of a few words.

    :raises ValueError: It is another.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, not {value!r}.")


def check_at_least_one(name: str, number: float) -> None:
    """
    Check a number of things.

    :raises ValueError: It is below 1.
    """
    if number < 1:
        raise ValueError(f"`{name}` must be at least 1, not {number!r}.")


def positive_seconds(name: str, value: timedelta | float) -> float:
    """
    Return seconds.

    :raises ValueError: There are none.
    """
    seconds = value.total_seconds() if isinstance(value, timedelta) else float(value)
    if not seconds > 0:
        raise ValueError(f"`{name}` must be above 0 seconds, not {value!r}.")
    return seconds


def as_path(value: Any) -> str | None:
    """Return a path or URL as text, which templates need it to be; None for what is none, such as rows."""
    if isinstance(value, str):
        return value
    # An ObjectStoragePath is no PathLike on every Airflow. As text it has its connection, which os.fspath leaves out.
    if hasattr(value, "protocol") and hasattr(value, "open"):
        return str(value)
    path = fspath(value) if isinstance(value, PathLike) else None
    return path if isinstance(path, str) else None


def from_template(value: Any, name: str) -> Any:
    """
    Return a value that a Jinja template may have rendered to text: JSON, or what Python shows for lists and dicts.

    :raises InvalidInput: It is some other text.
    """
    if not isinstance(value, str):
        return value
    with suppress(ValueError, RecursionError):
        return json.loads(value)
    try:
        return ast.literal_eval(value)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidInput(
            f"{name} was rendered to text that is neither JSON nor Python's for plain values: {value!r:.200}. Use "
            "`| tojson` in the template, or pass the upstream task's output."
        ) from error
