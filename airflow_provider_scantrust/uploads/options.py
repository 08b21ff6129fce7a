"""The options of an upload, as one small value."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, BinaryIO, Literal, Protocol

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.mode import DANGER_ZONE, FEW_CODES
from airflow_provider_scantrust.uploads.plan import Mode
from airflow_provider_scantrust.waits.pacing import Pacer

Write = Callable[[BinaryIO], int]
# Also given the name that tells the packing, and whether to write rows or only what stands before them.
Append = Callable[[BinaryIO, str, bool], int]


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
    dry_run: bool = False


class Service(Protocol):
    """What is used of the hook."""

    @property
    def pacer(self) -> Pacer:
        """The pace of the upload calls."""

    @property
    def items_per_call(self) -> int:
        """The most rows that the service takes in one synchronous call."""

    def upload(self, items: Sequence[Mapping[str, Any]], data_key: str) -> UploadResult:
        """Make a synchronous call."""

    def stop_uploads(self) -> None:
        """Let calls that pause end early."""


class RejectsFile(Protocol):
    """Where rows that were not updated go."""

    path: str

    def write(self, write: Write, mine: Mapping[str, str] | None) -> dict[str, str]:
        """Write a file, in the place of mine if there is one; return what it is."""

    def append(self, write: Append, mine: Mapping[str, str] | None) -> dict[str, str]:
        """Add to mine."""

    def remove(self, mine: Mapping[str, str]) -> None:
        """Remove mine."""


@dataclass(frozen=True)
class Rows:
    """
    What an upload reads its rows from.

    :param open: Opens it; a missing file may also show when it is read.
    :param name: Its path or URL; None for rows of a program.
    """

    open: Callable[[], AbstractContextManager[Source]]
    name: str | None = None
