"""The rows of an upload: from a file, or from Python. Each upload opens them once."""

from __future__ import annotations

import ast
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Set
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.operators.files import (
    check_writable,
    find_path,
    is_folder,
    is_same_place,
    open_path,
)
from airflow_provider_scantrust.sources.opening import open_source
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.uploads.options import Rows
from airflow_provider_scantrust.uploads.rejects import check_rejects_name

# A star, a question mark before an ending or a number, or a choice of letters, as in part-[0-9].csv.
_PATTERN = re.compile(r"\*|\?+\.\w+$|\[[^\]/]-[^\]/]\]")


def rows_of_file(path: str, data_key: str, options: Mapping[str, Any], rejects_path: str | None) -> Rows:
    """
    Return the rows of a file, opened with :func:`~airflow_provider_scantrust.sources.opening.open_source`.

    :raises ConfigurationError: An option or the rejects file does not fit, or the path is not a single file.
    """
    _refuse_several_files(path)
    make = partial(open_source, path, partial(open_path, path, "rb"), data_key=data_key, **options)
    if rejects_path is not None:
        if is_same_place(path, rejects_path):
            raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")
        check_rejects_name(rejects_path, make().format, options.get("delimiter"))
        check_writable(rejects_path)
    return Rows(partial(make, keep_copy=rejects_path is not None), path, options)


def rows_of_items(items: Any, data_key: str) -> Rows | None:
    """Return the rows of ``items``, which may be rendered to text or nested; None stays None."""
    rows = _flatten_rows(from_template(items, "items"))
    return None if rows is None else rows_of_program(rows, "items", data_key)


def rows_of_program(
    rows: Any, name: str, data_key: str, rejects_path: str | None = None, **options: Any
) -> Rows:
    """Return rows that Python code provides."""
    _refuse_set(rows)
    if rejects_path is not None:
        check_rejects_name(rejects_path, RowSource.format)
        check_writable(rejects_path)
    keep_copy = rejects_path is not None
    return Rows(partial(RowSource, rows, name=name, data_key=data_key, keep_copy=keep_copy, **options))


def _refuse_several_files(path: str) -> None:
    if is_folder(path):
        what = "a folder"
    elif _PATTERN.search(path) and not (isinstance(location := find_path(path), Path) and location.exists()):
        what = "a pattern for several files"
    else:
        return
    raise ConfigurationError(
        f"{path}: this is {what}, and a source is one file. List the files in a task and map the upload over them: "
        "`ScantrustUploadOperator.partial(…).expand(source=…)`."
    )


def _refuse_set(rows: Any) -> None:
    if isinstance(rows, Set):
        raise InvalidInput(
            "Rows in a set have no order, so a retry could not continue the upload. Use a list."
        )


def _flatten_rows(items: Any) -> Any:
    """Return rows as one sequence; many upstream tasks may give lists of lists."""
    _refuse_set(items)
    is_rows = isinstance(items, Iterable) and not isinstance(items, Mapping | str | bytes)
    # A data frame is iterable, too; RowSource refuses it with a message of its own.
    return _flatten(items) if is_rows and not hasattr(items, "to_dict") else items


def _flatten(items: Iterable[Any]) -> Iterator[Any]:
    for item in items:
        rows = _flatten_rows(item)
        if rows is item:
            yield item
        else:
            yield from rows


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
