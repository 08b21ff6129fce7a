"""The rows of an upload: from a file, or from Python. Each upload opens them once."""

from __future__ import annotations

import re
from collections.abc import Mapping
from functools import partial
from pathlib import Path
from typing import Any

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.operators.arguments import flatten_rows, from_template, refuse_set
from airflow_provider_scantrust.operators.files import check_writable, find_path, is_same_place, open_path
from airflow_provider_scantrust.sources.opening import open_source
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.uploads.options import Rows
from airflow_provider_scantrust.uploads.rejects import check_rejects_name

# A star, a question mark before an ending or a number, or a choice of letters, as in part-[0-9].csv.
_PATTERN = re.compile(r"\*|\?+\.\w+$|\[[^\]/]-[^\]/]\]")


def rows_of_file(path: str, data_key: str, options: Mapping[str, Any], rejects_path: str | None) -> Rows:
    """
    Return the rows of a file.

    :param options: Passed to :func:`~airflow_provider_scantrust.sources.opening.open_source`.
    :raises ConfigurationError: An option or the name of the rejects file does not fit, or the path is not a
        single file.
    """
    _refuse_several_files(path)
    make = partial(open_source, path, partial(open_path, path, "rb"), data_key=data_key, **options)
    if rejects_path is not None:
        if is_same_place(path, rejects_path):
            raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")
        check_rejects_name(rejects_path, make().format, options.get("delimiter"))
        check_writable(rejects_path)
    return Rows(partial(make, keep_copy=rejects_path is not None), path)


def rows_of_items(items: Any, data_key: str) -> Rows | None:
    """Return the rows of ``items``, which may be rendered to text or nested; None stays None."""
    rows = flatten_rows(from_template(items, "items"))
    return None if rows is None else rows_of_program(rows, "items", data_key)


def rows_of_program(
    rows: Any, name: str, data_key: str, rejects_path: str | None = None, **options: Any
) -> Rows:
    """
    Return rows that Python code provides.

    :raises InvalidInput: The rows are a set, whose order differs between processes.
    """
    refuse_set(rows)
    if rejects_path is not None:
        check_rejects_name(rejects_path, RowSource.format)
        check_writable(rejects_path)
    keep_copy = rejects_path is not None
    return Rows(partial(RowSource, rows, name=name, data_key=data_key, keep_copy=keep_copy, **options))


def _refuse_several_files(path: str) -> None:
    location = find_path(path)
    is_local = isinstance(location, Path)
    if path.endswith("/") or (is_local and location.is_dir()):
        what = "a folder"
    elif _PATTERN.search(path) and not (is_local and location.exists()):
        what = "a pattern for several files"
    else:
        return
    raise ConfigurationError(
        f"{path}: this is {what}, and a source is one file. List the files in a task and map the upload over them: "
        "`ScantrustUploadOperator.partial(…).expand(source=…)`."
    )
