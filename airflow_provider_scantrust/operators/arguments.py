"""
Check the operator's arguments, before and after templates are rendered.

Rule: a wrong argument in the Dag's own text raises ``ValueError`` when Airflow reads the Dag. A value that
a template produces is checked when the task runs.
"""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence, Set
from contextlib import contextmanager, suppress
from math import inf
from os import PathLike, fspath
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput


def check_what_is_given(items: Any, source: Any, constraints: Any, scm_data: Any, mode: str) -> None:
    """
    Check that it is clear what to upload.

    :raises ValueError: There are none, or several, of items, source and constraints, or what belongs to them
        is missing.
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
            raise ValueError(f"`{name}` is for `source` only, which also accepts a list of rows.")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """
    Check an option that is one of a few words.

    :raises ValueError: It is another.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, not {value!r}.")


def check_number(name: str, number: Any, least: float, most: float = inf) -> None:
    """
    Check a number of things.

    :raises ValueError: It is out of range.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        wanted = f"at least {least:g}" if most == inf else f"{least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {wanted}, not {number!r}.")


@contextmanager
def name_default_args(default_args: Mapping[str, Any] | None) -> Iterator[None]:
    """Say of a wrong option that it comes from ``default_args``, which many kinds of tasks share."""
    try:
        yield
    except ValueError as error:
        name = re.match(r"`(\w+)`", str(error))
        if name and name[1] in (default_args or {}):
            raise ValueError(f"{error} It comes from `default_args`; set it for this task.") from error
        raise


def refuse_iterator(name: str, rows: Any) -> None:
    """
    Check that rows in a Dag file are there each time the file is read.

    :raises ValueError: They are an iterator: it would be another one at each parse, and empty when the task
        runs.
    """
    if isinstance(rows, Iterator):
        raise ValueError(
            f"`{name}` is a {type(rows).__name__}, which is made at each parse of the Dag file. Yield the rows in a function "
            "under @task.scantrust_upload, or give a list."
        )


def refuse_set(rows: Any) -> None:
    """
    Check that rows have an order.

    :raises InvalidInput: They are a set, whose order is another in each process.
    """
    if isinstance(rows, Set):
        raise InvalidInput(
            "Rows in a set have no order, so a retry could not continue the upload. Use a list."
        )


def flatten_rows(items: Any) -> Any:
    """
    Return rows that may come from many upstream tasks, as lists of lists, as one sequence.

    :raises InvalidInput: They are a set, whose order is another in each process.
    """
    if isinstance(items, Set):
        raise InvalidInput(
            "Rows in a set have no order, so a retry could not continue the upload. Use a list."
        )
    is_rows = isinstance(items, Iterable) and not isinstance(items, Mapping | str | bytes)
    # A data frame is iterable, too; what it is told is in RowSource.
    return _flatten(items) if is_rows and not hasattr(items, "to_dict") else items


def _flatten(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        rows = flatten_rows(item)
        if rows is item:
            yield item
        else:
            yield from rows


def as_path(value: Any) -> str | None:
    """Return a path or URL as text, which templates need it to be; None for what is none, such as rows."""
    if isinstance(value, str):
        return value
    # An ObjectStoragePath is no PathLike on every Airflow. As text it has its connection, which os.fspath
    # leaves out.
    if hasattr(value, "protocol") and hasattr(value, "open"):
        return str(value)
    path = fspath(value) if isinstance(value, PathLike) else None
    return path if isinstance(path, str) else None


def is_template(text: str) -> bool:
    """Whether Jinja has anything to do in a text."""
    return "{{" in text or "{%" in text


def from_template(value: Any, name: str) -> Any:
    """
    Return a value that a Jinja template may have rendered to text: JSON, or what Python shows for lists and dicts.

    :raises InvalidInput: It is some other text, or a name stands twice in one of its dicts.
    """
    if not isinstance(value, str):
        return value
    try:
        with suppress(json.JSONDecodeError, RecursionError):
            return json.loads(value, object_pairs_hook=_to_dict)
        tree = ast.parse(value.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                _to_dict([(ast.literal_eval(key), None) for key in node.keys if key is not None])
        return ast.literal_eval(tree)
    except _Repeated as error:
        raise InvalidInput(
            f"{name}: a dict has the name {error.args[0]!r} twice, so a value would be lost."
        ) from error
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidInput(
            f"{name} was rendered to text that is neither JSON nor Python's for plain values: {value!r:.200}. Use "
            "`| tojson` in the template, or pass the upstream task's output."
        ) from error


class _Repeated(Exception):
    """A name stands twice in a dict."""


def _to_dict(pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for name, value in pairs:
        if name in found:
            raise _Repeated(name)
        found[name] = value
    return found
