"""Where an upload reads its rows: a file, or rows of a program."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import nullcontext
from functools import partial
from typing import Any

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.operators.arguments import refuse_set
from airflow_provider_scantrust.operators.files import is_same_place, open_path
from airflow_provider_scantrust.sources.opening import RowSource, open_source
from airflow_provider_scantrust.uploads.options import Rows
from airflow_provider_scantrust.uploads.rejects import check_rejects_name


def rows_of_file(path: str, options: Mapping[str, Any], rejects_path: str | None) -> Rows:
    """
    Return the rows of a file.

    :param options: Of :func:`~airflow_provider_scantrust.sources.opening.open_source`.
    :raises ConfigurationError: An option, or the name of the rejects file, does not fit.
    """
    source = open_source(path, partial(open_path, path, "rb"), **options)
    if rejects_path is not None:
        check_rejects_name(rejects_path, source.format, options.get("delimiter"))
        if is_same_place(path, rejects_path):
            raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")
    return Rows(lambda: nullcontext(source), path)


def rows_of_program(rows: Any, name: str, rejects_path: str | None = None, **options: Any) -> Rows:
    """
    Return rows that a program hands over.

    :raises InvalidInput: They are a set, whose order is another in each process.
    """
    refuse_set(rows)
    source = RowSource(rows, name=name, **options)
    if rejects_path is not None:
        check_rejects_name(rejects_path, source.format)
    return Rows(lambda: nullcontext(source))
