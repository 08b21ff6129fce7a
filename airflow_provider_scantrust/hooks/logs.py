"""Limit how often a repeated warning is logged."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from typing import Any

from airflow_provider_scantrust.transports.common import Log

_SAME_SECONDS = 60.0
# The retries of one call are all told.
FREE = 5


class RareLog:
    """
    Pass a warning on; one that comes again and again only once a minute, with how many like it there were.

    Not for what must be told each time, such as a job that may be there twice.

    :param free: How many of a kind are passed on before that begins.
    :param clock: Monotonic seconds.
    """

    def __init__(self, log: Log, clock: Callable[[], float] = time.monotonic, *, free: int = FREE) -> None:
        self._log = log
        self._free = free
        self._clock = clock
        self._lock = threading.Lock()
        self._told: dict[str, tuple[float, int]] = {}

    def info(self, event: str, *args: Any) -> None:
        """Pass on what is no trouble."""
        self._log.info(event, *args)

    def warning(self, event: str, *args: Any) -> None:
        """Pass on, or count."""
        text = event % args if args else event
        # What differs between calls of one kind are numbers and ids.
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
