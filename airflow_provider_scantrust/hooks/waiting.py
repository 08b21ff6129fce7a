"""
Wait for jobs on a worker: a queue of ``waits`` with a single wait, which polls one job at a time.

Rule: ``waits`` decides when to poll and when a wait ends. This module has the clock, the connection and the
log.
"""

from __future__ import annotations

import random
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_scantrust.api.models import Task
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    ScantrustError,
    TransientError,
)
from airflow_provider_scantrust.hooks.logs import RareLog
from airflow_provider_scantrust.transports.common import say
from airflow_provider_scantrust.waits.jobs import Jobs, calls_for_lookup, changed_since
from airflow_provider_scantrust.waits.outcome import Outcome
from airflow_provider_scantrust.waits.queue import Job, Queue, Wait, make_pacer

if TYPE_CHECKING:
    from airflow_provider_scantrust.api.messages import Notice
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

# Seconds for the polls before a deferral. After that, the triggerer polls anyway.
_BEFORE_DEFERRAL = 10.0
# Seconds between two lookups of the connection while its host does not answer.
_LOOKUPS_APART = 10.0


@dataclass(eq=False, repr=False)
class WorkerWait:
    """Polls the jobs of one task; ``clock`` is monotonic, and ``now`` is the wall clock."""

    hook: ScantrustHook
    jobs: Jobs
    clock: Callable[[], float] = time.monotonic
    now: Callable[[], float] = time.time
    sleep: Callable[[float], None] = time.sleep

    def __post_init__(self) -> None:
        self._log = RareLog(self.hook.log)
        self._looked_up_at = self.clock()
        self._has_changed = False
        self._queue: Queue | None = None

    def wait(self, poll_interval: float) -> Outcome:
        """
        Poll until all jobs have ended; the first poll is sent immediately.

        :param poll_interval: Seconds between two polls of one job, with a jitter of 10%.
        :raises TaskFailed: At least one job failed.
        :raises WaitTimedOut: The deadline has passed.
        :raises TransientError: No readable answer came within the error budget.
        :raises ScantrustError: A permanent error: no permission, no such job.
        """
        for _, notice in self._drive(poll_interval):
            say(notice, self.hook.log)
        return self.jobs.outcome()

    def poke(self, poll_interval: float) -> Outcome | None:
        """
        Poll until there is a readable answer about each open job; return None while a job has not ended.

        :param poll_interval: Seconds after which, at the latest, a failed poll is repeated.
        :raises ScantrustError: As for :meth:`wait`.
        """
        for _, notice in self._drive(poll_interval, once=True):
            say(notice, self.hook.log)
        if not self.jobs.open:
            return self.jobs.outcome()
        if self.now() >= self.jobs.deadline:
            raise self.jobs.timed_out()
        return None

    def poll_before_deferral(self) -> Outcome | None:
        """
        Poll each job once; return None as soon as a job has not ended or a temporary error occurs.

        Then no answer is logged: the triggerer polls the same jobs and logs what is new.
        """
        started = self.clock()
        notices = []
        for result, notice in self._drive(_BEFORE_DEFERRAL, once=True):
            if isinstance(result, TransientError):
                self.hook.log.info("The wait continues in the triggerer: %s", result)
                return None
            if isinstance(result, Task) and not result.is_done:
                return None
            notices.append(notice)
            if self.clock() >= started + _BEFORE_DEFERRAL and self.jobs.open:
                return None
        for notice in notices:
            say(notice, self.hook.log)
        return self.jobs.outcome()

    def _drive(
        self, poll_interval: float, *, once: bool = False
    ) -> Iterator[tuple[Task | ScantrustError, Notice | None]]:
        """Poll one job after the other until the wait is over or, with ``once``, each job has an answer."""
        left = self.jobs.deadline - self.now()
        wait = Wait(self.jobs, poll_interval, joined=self.clock(), left=left, once=once, poll_first=True)
        if not self.jobs.open:
            return
        # The pacer stays the same over pokes; the failures of the last poke are forgotten.
        self._queue = queue = self._queue or Queue(
            make_pacer(self._polls_per_second(), random.random), random=random.random
        )
        queue.add(wait)
        try:
            while wait in queue.waits:
                seconds = queue.expire(self.clock())
                turn = queue.take(self.clock())
                if isinstance(turn, Job):
                    result = self._poll(turn)
                    yield result, queue.take_result(turn, result, self.clock())
                elif turn == inf:
                    break
                else:
                    self.sleep(min(turn, seconds))
        finally:
            queue.leave(wait)
        if wait.error is not None:
            raise wait.error

    def _poll(self, job: Job) -> Task | ScantrustError:
        try:
            return self.hook.poll(job.task_id)
        except ScantrustError as error:
            result = self._look_up(error) if calls_for_lookup(error) else error
        except Exception as error:
            # For example, Airflow failed to read the connection.
            result = TransientError(f"The poll of job {job.task_id} failed: {type(error).__name__}: {error}")
        if isinstance(result, TransientError):
            self._log.warning("%s: a status poll failed and is repeated. %s", type(result).__name__, result)
        return result

    def _look_up(self, error: ScantrustError) -> ScantrustError:
        """Look up the connection again; return the error to use if the connection has changed."""
        now = self.clock()
        if isinstance(error, ConnectionFailed) and now < self._looked_up_at + _LOOKUPS_APART:
            return error
        self._looked_up_at = now
        try:
            has_changed = self.hook.reload()
        except Exception as fault:
            # Whether the connection has changed is unknown, so the poll is repeated.
            return TransientError(
                f"{error} The connection cannot be looked up: {type(fault).__name__}: {fault}"
            )
        if has_changed:
            self._has_changed = True
            return TransientError(
                f"The connection {self.hook.scantrust_conn_id!r} has changed; the wait uses it as it is now."
            )
        return changed_since(error, self.hook.scantrust_conn_id) if self._has_changed else error

    def _polls_per_second(self) -> int:
        try:
            return self.hook.settings.polls_per_second
        except ConfigurationError:
            # No poll can be sent with this connection.
            raise
        except Exception:
            # The polls will report what is wrong with the connection.
            return Settings.polls_per_second
