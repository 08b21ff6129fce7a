"""What a long upload writes to the task's log: enough to follow it, and no line for each call."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_scantrust.uploads.kept import Log
from airflow_provider_scantrust.waits.pacing import Pacer

PROGRESS_SECONDS = 10.0


class ProgressLog:
    """
    A line every ten seconds while an upload runs.

    :param rows: Rows to send.
    :param calls: Calls to make.
    :param clock: Monotonic seconds.
    """

    def __init__(
        self, log: Log, pacer: Pacer, rows: int, calls: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._pacer = pacer
        self._rows, self._calls = rows, calls
        self._clock = clock
        self._started = self._told = clock()
        self.rows_done = self.calls_done = 0

    def tick(self, codes: int) -> None:
        """Write the line when it is due."""
        now = self._clock()
        if now - self._told < PROGRESS_SECONDS:
            return
        self._told = now
        rate = self.rows_done / (now - self._started)
        left = f"{(self._rows - self.rows_done) / rate:.0f} s left" if rate else "time left unknown"
        self._log.info(
            "%s of %s rows, %s of %s calls, %s codes, %s throttled, %.0f rows/s, %s.",
            self.rows_done,
            self._rows,
            self.calls_done,
            self._calls,
            codes,
            self._pacer.throttled,
            rate,
            left,
        )
