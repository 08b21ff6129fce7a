"""The watcher's metrics: one line per minute in the triggerer's log, and Airflow's stats."""

from __future__ import annotations

import importlib
import time
from collections import Counter
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.waits.queue import Queue

if TYPE_CHECKING:
    from airflow_provider_scantrust.api.models import Task

LINE_SECONDS = 60.0
STATS_SECONDS = 10.0


class Counters:
    """
    The counts of one watcher.

    They are sent together: a packet of stats for each poll would cost more than the poll.

    :param where: The service, for the log.
    :param conn_id: The tag ``conn_id`` of the stats: the connection that the watcher was made for.
    """

    def __init__(self, where: str, conn_id: str, queue: Queue, log: Log) -> None:
        self._where = where
        self._tags = {"conn_id": conn_id}
        self._queue = queue
        self._log = log
        # The counts since the last stats.
        self._unsent: Counter[str] = Counter()
        # Jobs that have ended, and when we learned it; their times are parsed later, when stats are sent.
        self._ends: list[tuple[Task, float]] = []
        self._said_at = self._sent_at = time.monotonic()
        # The counts since the last line, and the sum of the seconds between two answers about a job.
        self._unsaid: Counter[str] = Counter()
        self._between = 0.0

    def add(self, name: str) -> None:
        """Add one to a count."""
        self._unsaid[name] += 1
        self._unsent[name] += 1

    def answered(self, seconds: float) -> None:
        """Count an answer; it came so many seconds after the last one about the job."""
        self.add("answered")
        self._between += seconds

    def ended(self, task: Task) -> None:
        """Count a job whose end was learned now."""
        self.add("ended")
        self._ends.append((task, time.time()))

    def tick(self) -> float:
        """Log and send what is due; return the seconds until the next time."""
        now = time.monotonic()
        if now - self._sent_at >= STATS_SECONDS:
            self._sent_at = now
            self.send()
        if now - self._said_at >= LINE_SECONDS:
            counts, seconds = self._unsaid, now - self._said_at
            between = f"{self._between / counts['answered']:.1f}" if counts["answered"] else "unknown"
            text = (
                f"Jobs at {self._where}: {self._queue.open} open (waits: {len(self._queue.waits)}). In {seconds:.0f} s: "
                f"polls {counts['polls']}, ended jobs {counts['ended']}, throttled {counts['polls_throttled']}, failed "
                f"{counts['polls_failed']}; seconds between two answers about a job: {between}."
            )
            self._log.info("%s", text)
            self._said_at, self._unsaid, self._between = now, Counter(), 0.0
        return max(0.0, min(self._sent_at + STATS_SECONDS, self._said_at + LINE_SECONDS) - now)

    def send(self) -> None:
        """Send the stats."""
        counts, self._unsent = self._unsent, Counter()
        ends, self._ends = self._ends, []
        # A failure of the metrics must not end a wait.
        with suppress(Exception):
            stats = find_stats()
            for name in ("polls", "polls_throttled", "polls_failed"):
                if counts[name]:
                    stats.incr(f"scantrust.{name}", counts[name], tags=self._tags)
            stats.gauge("scantrust.waits_open", len(self._queue.waits), tags=self._tags)
            for task, heard_at in ends:
                if (ended_at := task.completed_at) is not None:
                    delay = timedelta(seconds=max(0.0, heard_at - ended_at.timestamp()))
                    stats.timing("scantrust.detection_delay", delay, tags=self._tags)


def find_stats() -> Any:
    """
    Return the ``Stats`` that the triggerer has set up.

    Not the one of common.compat: on Airflow 3.2 and later that is the task SDK's, which the triggerer does
    not reliably set up.
    """
    try:
        return importlib.import_module("airflow.observability.stats").Stats
    except ImportError:
        return importlib.import_module("airflow.stats").Stats
