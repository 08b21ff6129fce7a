"""The watcher's metrics: one line per minute in the triggerer's log, and Airflow's stats."""

from __future__ import annotations

import importlib
import time
from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.transports.common import Log

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
    :param clock: Monotonic seconds.
    """

    def __init__(
        self, where: str, conn_id: str, log: Log, clock: Callable[[], float] = time.monotonic
    ) -> None:
        self._where = where
        self._tags = {"conn_id": conn_id}
        self._log = log
        self._clock = clock
        self.polled = self.answered = self.throttled = self.failed = self.done = 0
        # Seconds between two answers about a job, summed over the answers.
        self.stretched = 0.0
        # Jobs that have ended, and when we learned it; their times are parsed later, when stats are sent.
        self._ends: list[tuple[Task, float]] = []
        self._said = self._sent = (0, 0, 0, 0, 0, 0.0)
        self.start()

    def start(self) -> None:
        """Begin a minute when the first wait joins."""
        self._said_at = self._sent_at = self._clock()
        self._said = self._now()

    def tick(self, waits: int, jobs: int) -> float:
        """Log and send what is due; return the seconds until the next time."""
        now = self._clock()
        if now - self._sent_at >= STATS_SECONDS:
            self._sent_at = now
            self.send(waits)
        if now - self._said_at >= LINE_SECONDS:
            seconds, self._said_at = now - self._said_at, now
            polled, answered, throttled, failed, done, stretched = self._since(self._said)
            self._said = self._now()
            between = f"{stretched / answered:.1f}" if answered else "unknown"
            self._log.info(
                "Jobs at %s: %s open (waits: %s). In %.0f s: polls %s, ended jobs %s, throttled %s, failed %s; seconds between "
                "two answers about a job: %s.",
                self._where,
                jobs,
                waits,
                seconds,
                polled,
                done,
                throttled,
                failed,
                between,
            )
        return max(0.0, min(self._sent_at + STATS_SECONDS, self._said_at + LINE_SECONDS) - now)

    def send(self, waits: int) -> None:
        """Send the stats."""
        polled, _, throttled, failed, *_ = self._since(self._sent)
        self._sent = self._now()
        ends, self._ends = self._ends, []
        # A failure of the metrics must not end a wait.
        with suppress(Exception):
            stats = find_stats()
            for name, count in (("polls", polled), ("polls_throttled", throttled), ("polls_failed", failed)):
                if count:
                    stats.incr(f"scantrust.{name}", count, tags=self._tags)
            stats.gauge("scantrust.waits_open", waits, tags=self._tags)
            for task, heard_at in ends:
                if (ended_at := task.completed_at) is not None:
                    delay = timedelta(seconds=max(0.0, heard_at - ended_at.timestamp()))
                    stats.timing("scantrust.detection_delay", delay, tags=self._tags)

    def ended(self, task: Task, heard_at: float) -> None:
        """
        Count a job that has ended.

        :param heard_at: When the answer arrived, in seconds since the epoch by this machine's clock.
        """
        self.done += 1
        self._ends.append((task, heard_at))

    def _now(self) -> tuple[int, int, int, int, int, float]:
        return self.polled, self.answered, self.throttled, self.failed, self.done, self.stretched

    def _since(self, then: tuple[int, int, int, int, int, float]) -> tuple[Any, ...]:
        return tuple(new - old for new, old in zip(self._now(), then, strict=True))


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
