"""The log lines of a long upload."""

from __future__ import annotations

import time
from collections.abc import Callable

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.waits.pacing import Pacer

PROGRESS_SECONDS = 10.0


class ProgressLog:
    """A line every ten seconds while an upload runs, with how much of its rows and calls is done."""

    def __init__(
        self, log: Log, pacer: Pacer, rows: int, calls: int, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._log = log
        self._pacer = pacer
        self._rows, self._calls = rows, calls
        self._clock = clock
        self._told = clock()
        self._worked_from = self._worked(self._told)
        self.rows_done = self.calls_done = 0

    def tick(self, codes: int) -> None:
        """Write the line when it is due."""
        now = self._clock()
        if now - self._told < PROGRESS_SECONDS:
            return
        self._told = now
        # Without pauses after a 429, which say nothing about the speed of the remaining calls.
        worked = self._worked(now) - self._worked_from
        rate = self.rows_done / worked if worked > 0 else 0.0
        left = f"{(self._rows - self.rows_done) / rate:.0f} s left" if rate else "time left unknown"
        self._log.info(
            "%s of %s, %s of %s, %s, %s throttled, %s rows/s, %s.",
            f"{self.rows_done:,}",
            plural(self._rows, "row"),
            f"{self.calls_done:,}",
            plural(self._calls, "call"),
            plural(codes, "code"),
            self._pacer.throttled,
            f"{rate:,.0f}",
            left,
        )

    def _worked(self, now: float) -> float:
        return now - self._pacer.paused_seconds(now)
