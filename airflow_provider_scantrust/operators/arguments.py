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
from functools import partial
from math import inf
from os import PathLike, fspath
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput


def check_what_is_given(items: Any, source: Any, constraints: Any, scm_data: Any, mode: str) -> None:
    """
    Check that exactly one thing to upload is given.

    :raises ValueError: None or several of items, source and constraints are given, or constraints without
        scm_data.
    """
    if sum(rows is not None for rows in (items, source, constraints)) != 1:
        raise ValueError("Give exactly one of `items`, `source`, or `constraints` (with `scm_data`).")
    if (constraints is None) != (scm_data is None):
        raise ValueError("`constraints` and `scm_data` go together.")
    if constraints is not None and mode == "sync":
        raise ValueError("`constraints` can only be submitted asynchronously; use `items` for mode='sync'.")


def refuse_options_of_source(**options: Any) -> None:
    """
    Check that no option is given that works only with ``source``.

    :raises ValueError: An option is not None.
    """
    for name, given in options.items():
        if given is not None:
            raise ValueError(f"`{name}` is for `source` only, which also accepts a list of rows.")


def check_choice(name: str, value: Any, allowed: Sequence[str]) -> None:
    """
    Check an option with a fixed list of values.

    :raises ValueError: The value is not in the list.
    """
    if value not in allowed:
        raise ValueError(f"`{name}` must be one of {', '.join(allowed)}, not {value!r}.")


def check_number(name: str, number: Any, least: float, most: float = inf) -> None:
    """
    Check a number.

    :raises ValueError: The value is not a number, or is out of range.
    """
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        wanted = f"at least {least:g}" if most == inf else f"{least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {wanted}, not {number!r}.")


@contextmanager
def name_default_args(default_args: Mapping[str, Any] | None) -> Iterator[None]:
    """Add to an option's error that it comes from ``default_args``, which many kinds of tasks share."""
    try:
        yield
    except ValueError as error:
        name = re.match(r"`(\w+)`", str(error))
        if name and name[1] in (default_args or {}):
            raise ValueError(f"{error} It comes from `default_args`; set it for this task.") from error
        raise


def refuse_iterator(name: str, rows: Any) -> None:
    """
    Refuse an iterator in a Dag file.

    :raises ValueError: The rows are an iterator: each parse of the file makes a new one.
    """
    if isinstance(rows, Iterator):
        raise ValueError(
            f"`{name}` is a {type(rows).__name__}: each parse of the Dag file makes a new one. Yield the rows in a function "
            "under @task.scantrust_upload, or give a list."
        )


def refuse_set(rows: Any) -> None:
    """
    Refuse rows in a set.

    :raises InvalidInput: The rows are a set, whose order differs between processes.
    """
    if isinstance(rows, Set):
        raise InvalidInput(
            "Rows in a set have no order, so a retry could not continue the upload. Use a list."
        )


def flatten_rows(items: Any) -> Any:
    """
    Return rows as one sequence; many upstream tasks may give lists of lists.

    :raises InvalidInput: The rows are a set, whose order differs between processes.
    """
    refuse_set(items)
    is_rows = isinstance(items, Iterable) and not isinstance(items, Mapping | str | bytes)
    # A data frame is iterable, too; RowSource refuses it with a message of its own.
    return _flatten(items) if is_rows and not hasattr(items, "to_dict") else items


def _flatten(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        rows = flatten_rows(item)
        if rows is item:
            yield item
        else:
            yield from rows


def as_path(value: Any) -> str | None:
    """Return a path or URL as text, because templates need text; None for other values, such as rows."""
    if isinstance(value, str):
        return value
    # Not on every Airflow is an ObjectStoragePath a PathLike. Its text has the connection, which os.fspath
    # leaves out.
    if hasattr(value, "protocol") and hasattr(value, "open"):
        return str(value)
    path = fspath(value) if isinstance(value, PathLike) else None
    return path if isinstance(path, str) else None


def is_template(text: str) -> bool:
    """Whether a text has a Jinja template."""
    return "{{" in text or "{%" in text


def from_template(value: Any, name: str) -> Any:
    """
    Return a value that a Jinja template may have rendered to text: to JSON or to a Python literal.

    :raises InvalidInput: The text is neither, or a dict has a name twice.
    """
    if not isinstance(value, str):
        return value
    make_dict = partial(_make_dict, name)
    try:
        with suppress(json.JSONDecodeError, RecursionError):
            return json.loads(value, object_pairs_hook=make_dict)
        tree = ast.parse(value.strip(), mode="eval")
        for node in ast.walk(tree):
            if isinstance(node, ast.Dict):
                make_dict([(ast.literal_eval(key), None) for key in node.keys if key is not None])
        return ast.literal_eval(tree)
    except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
        raise InvalidInput(
            f"{name} was rendered to text that is neither JSON nor a Python literal: {value!r:.200}. Use `| tojson` in the "
            "template, or pass the upstream task's output."
        ) from error


def ids_from_template(constraints: Any) -> Any:
    """Return constraints whose list of extended_ids a template may have rendered to text."""
    ids = constraints.get("extended_id") if isinstance(constraints, Mapping) else None
    # No extended_id begins with a bracket.
    if not isinstance(ids, str) or not ids.lstrip().startswith("["):
        return constraints
    return {**constraints, "extended_id": from_template(ids, "constraints, field 'extended_id'")}


def _make_dict(name: str, pairs: list[tuple[Any, Any]]) -> dict[Any, Any]:
    found: dict[Any, Any] = {}
    for key, value in pairs:
        if key in found:
            raise InvalidInput(f"{name}: a dict has the name {key!r} twice, so a value would be lost.")
        found[key] = value
    return found
