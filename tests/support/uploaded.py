"""What becomes of a file: it is read, checked and planned, and its rejects are written, without a service."""

from __future__ import annotations

import io
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any, NamedTuple

from airflow_provider_scantrust.sources.opening import open_source
from airflow_provider_scantrust.sources.rows import RowSource
from airflow_provider_scantrust.uploads.plan import make_plan
from airflow_provider_scantrust.uploads.rejects import rejects_format, write_rejects
from airflow_provider_scantrust.uploads.spool import Spool

KEY = "extended_id"


class Result(NamedTuple):
    """What an upload would send, and what it says."""

    rows: dict[str, dict[str, Any]]
    rejected: list[tuple[int, str, str]]
    warnings: list[str]
    rejects: bytes
    # Under this name the rejects can be uploaded again.
    rejects_name: str


def upload(
    data: Any,
    name: str = "rows.csv",
    data_key: str = KEY,
    refused: Mapping[str, str] | None = None,
    packed: str = "",
    **options: Any,
) -> Result:
    """
    Read, check and plan; write the rejects in the format that the operator would use.

    :param refused: Key -> reason, of rows that the service refuses.
    :param packed: What the name of the rejects file ends in: ".gz" or ".zst".
    """
    with opened(data, name, data_key=data_key, keep_copy=True, **options) as source, Spool(data_key) as spool:
        warnings: list[str] = []
        spool.fill(source, warn=warnings.append)
        calls = make_plan(spool, mode="sync").calls() if spool.keys else ()
        rows = {row.pop(data_key): row for call in calls for row in call.rows}
        for key, reason in (refused or {}).items():
            spool.reject(key, "refused", reason)
        out = io.BytesIO()
        rejects_name = f"rejects.{rejects_format(source.format)}{packed}"
        write_rejects(source, spool.rejects(), out, name=rejects_name)
        return Result(rows, list(spool.rejects()), warnings, out.getvalue(), rejects_name)


@contextmanager
def opened(data: Any, name: str, **options: Any) -> Iterator[Any]:
    """Open bytes or text as a file, and anything else as the rows of a program."""
    data = data.encode() if isinstance(data, str) else data
    if isinstance(data, bytes):
        with open_source(name, lambda: io.BytesIO(data), **options) as file:
            yield file
    else:
        with RowSource(data, **options) as rows:
            yield rows
