"""The options of an upload, as one small value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from typing import Any, BinaryIO, Literal, Protocol

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.mode import DANGER_ZONE, FEW_CODES
from airflow_provider_scantrust.uploads.plan import Mode
from airflow_provider_scantrust.waits.pacing import Pacer

Write = Callable[[BinaryIO], None]
# Is also told whether to write a header.
Append = Callable[[BinaryIO, bool], None]


@dataclass(frozen=True)
class Options:
    """
    How to upload; see :class:`~airflow_provider_scantrust.operators.scantrust.ScantrustUploadOperator`.

    :param is_strict: A row that cannot be sent, or that Scantrust refuses, ends the upload.
    :param stop_on_discarded: Submit no job when the tasting calls have shown that a field is discarded.
    """

    data_key: str = "extended_id"
    mode: Mode = "auto"
    codes_per_key: float | None = None
    ids_per_job: int = DANGER_ZONE
    items_per_call: int = FEW_CODES - 1
    max_in_flight: int = 16
    on_duplicate: Literal["last", "fail"] = "last"
    max_rejected: float | None = None
    is_strict: bool = False
    stop_on_discarded: bool = False


class Service(Protocol):
    """The part of the hook that an upload uses."""

    @property
    def pacer(self) -> Pacer: ...
    @property
    def settings(self) -> Settings: ...
    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult: ...
    def stop_uploads(self) -> None: ...


class RejectsFile(Protocol):
    """Where rows that were not updated go."""

    path: str

    @property
    def mine(self) -> dict[str, str] | None:
        """Path and digest of the file that this task instance has written."""

    def write(self, write: Write, *, beside: bool = False) -> str:
        """Write a file in place of :attr:`mine`, or beside it; return its path."""

    def append(self, write: Append) -> str:
        """Add rows to :attr:`mine`, or to a new file; return its path."""

    def remove(self) -> None:
        """Remove :attr:`mine`."""


@dataclass(frozen=True)
class Rows:
    """
    What an upload reads its rows from.

    :param open: Opens the source; for a missing file, the first read may raise instead.
    :param name: The path or URL; None for rows from a program.
    :param options: How a file is read.
    """

    open: Callable[[], AbstractContextManager[Source]]
    name: str | None = None
    options: Mapping[str, Any] = field(default_factory=dict)
