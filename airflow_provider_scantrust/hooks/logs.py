"""Limit how often a repeated warning is logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_scantrust.api.messages import Log

_SAME_SECONDS = 60.0
# Enough for all retries of one call.
FREE = 5


class RareLog:
    """
    Pass warnings on; after ``free`` of the same kind, only one a minute, with the number of those left out.

    Not for warnings that must appear each time, such as about a job that may have been submitted twice.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic, *, free: int = FREE) -> None:
        self._log = log
        self._free = free
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def info(self, event: str, *args: Any) -> None:
        self._log.info(event, *args)

    def warning(self, event: str, *args: Any) -> None:
        text = event % args if args else event
        # Warnings of one kind differ only in numbers and ids.
        kind = "".join(letter for letter in text[:60] if not letter.isdigit())
        with self._lock:
            now = self._clock()
            told_at, seen = self._told.get(kind, (now, 0))
            more = 0
            if seen >= self._free and now - told_at >= _SAME_SECONDS:
                more, seen = seen - self._free, self._free - 1
            is_told = seen < self._free
            self._told[kind] = (now if is_told else told_at, seen + 1)
            if not is_told:
                return
        self._log.warning("%s%s", text, f" ({more} more like it before.)" if more else "")
