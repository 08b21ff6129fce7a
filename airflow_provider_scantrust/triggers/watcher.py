"""
The watcher: asks for all waits of a triggerer that talk to Scantrust with the same credentials.

Rule 1: what is asked and when is decided in ``waits.queue``, what an answer means in ``waits.jobs``; this is the clock,
        the session and the tasks.
Rule 2: a wait ends only by its own jobs, by a permanent error, by its deadline or by its error budget; never by an
        error in here, which costs one question its turn, or all of them a pause.
Rule 3: it holds nothing that the triggers do not bring, and ends with the last of them.
Rule 4: its own lines go to the triggerer's log; what is new about a job goes to the log of the job's own task.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Awaitable, Callable
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_scantrust.api.endpoints import get_scm_task
from airflow_provider_scantrust.api.flow import converse
from airflow_provider_scantrust.api.settings import Budget, Settings
from airflow_provider_scantrust.exceptions import (
    AuthenticationFailed,
    ConfigurationError,
    ScantrustError,
    Throttled,
    TransientError,
)
from airflow_provider_scantrust.hooks.logs import RareLog
from airflow_provider_scantrust.transports.common import Log, say
from airflow_provider_scantrust.triggers.counters import Counters
from airflow_provider_scantrust.waits.jobs import Jobs
from airflow_provider_scantrust.waits.queue import MOST_AT_ONCE, Job, Queue, Wait, make_pacer

if TYPE_CHECKING:
    from airflow_provider_scantrust.api.models import Task
    from airflow_provider_scantrust.transports.aio import AioTransport

# A question that fails is asked again in its turn, not by its own conversation.
_ONE_TRY = Budget(attempts=1, seconds=0.0, retry_unreadable=True)
_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0
_SILENT_LOOK = 1.0
# Failures that are a run. In a long queue they are minutes apart, so that few of them are mere chance: where every third answer
# is broken, one wait of two hundred meets five in a row. Within the usual budget of 600 s there is time for twenty.
_RUN = 20

log = logging.getLogger(__name__)


class SharedWait(Wait):
    """
    A wait of a trigger, with what it takes to tell the trigger.

    :param conn_id: Where its settings come from.
    :param log: Told what is new, in the context in which the wait was made: Airflow takes the task from that.
    """

    __slots__ = ("conn_id", "context", "ended", "log", "watcher")

    def __init__(
        self,
        jobs: Jobs,
        interval: float,
        longest: float | None,
        *,
        conn_id: str,
        log: Log,
        left: float,
        ask_first: bool = False,
    ) -> None:
        joined = time.monotonic()
        super().__init__(jobs, interval, longest, joined=joined, until=joined + left, ask_first=ask_first)
        self.conn_id = conn_id
        self.log = log
        self.context = contextvars.copy_context()
        # Its result is the error that ended the wait, or None.
        self.ended: asyncio.Future[ScantrustError | None] = asyncio.get_running_loop().create_future()
        self.watcher: Watcher | None = None

    def end(self, error: ScantrustError | None = None) -> None:
        """Ask no more, and let the trigger go on."""
        if self.watcher is not None:
            self.watcher.forget(self)
        if not self.ended.done():
            self.ended.set_result(error)


class Watcher:
    """
    Asks for its waits while it has any.

    :param settings: Of the connection that it was made for.
    :param refused: Called with a wait whose question was answered with 401 and the time at which it was asked; returns
        whether the wait has moved to another watcher.
    """

    def __init__(
        self,
        settings: Settings,
        conn_id: str,
        refused: Callable[[SharedWait, float], Awaitable[bool]],
        *,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.settings = settings
        self.waits: set[SharedWait] = set()
        self.idle_since = clock()
        self._refused = refused
        self._clock = clock
        self._now = now
        self._random = random.random
        self._auth = settings.make_auth(clock, _mask)
        self._queue = Queue(make_pacer(settings.polls_per_second, self._random), random=self._random)
        self._log = RareLog(log, free=1)
        self._counters = Counters(settings.host, conn_id, log)
        self._task: asyncio.Task[None] | None = None
        self._alarm: asyncio.Future[None] | None = None
        self._sleeps_until = inf
        self._looked_at = -inf
        self._last_error: TransientError | None = None

    def join(self, wait: SharedWait) -> None:
        """Take a wait on; its first question comes one interval later."""
        self._welcome(wait)
        self._start(min((job.due for job in self._queue.add(wait)), default=inf))

    def forget(self, wait: SharedWait) -> None:
        """Ask no more for a wait."""
        if wait in self.waits:
            self.waits.remove(wait)
            self._queue.leave(wait)

    def leave(self, wait: SharedWait) -> asyncio.Task[None] | None:
        """Let a wait go; return the task that is closing down, when it was the last."""
        self.forget(wait)
        return self._stop_if_idle()

    def hand_over(self, waits: set[SharedWait], other: Watcher) -> None:
        """Let another watcher go on with some of the waits; each job keeps its turn."""
        jobs = self._queue.take_out(set(waits))
        self.waits -= waits
        for wait in waits:
            other._welcome(wait)
        other._queue.put_back(jobs)
        other._start(-inf)
        self._stop_if_idle()

    def _welcome(self, wait: SharedWait) -> None:
        self.waits.add(wait)
        wait.watcher = self

    def _start(self, first_due: float) -> None:
        if self._task is None or self._task.done():
            # In an empty context: it works for many tasks, and its lines belong to none of them.
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"scantrust-watcher {self.settings.host}", context=contextvars.Context()
            )
        else:
            self._wake(first_due)

    def _stop_if_idle(self) -> asyncio.Task[None] | None:
        if self.waits:
            return None
        task, self._task = self._task, None
        self.idle_since = self._clock()
        if task is not None:
            task.cancel()
        return task

    async def _run(self) -> None:
        """Watch until cancelled; an error of its own costs a pause."""
        pause = _FIRST_RESTART
        self._counters.start()
        # For the first stats of a process Airflow reads a file, which takes too long for an event loop.
        await asyncio.to_thread(self._counters.send, len(self.waits))
        while True:
            started = self._clock()
            try:
                await self._open_and_watch()
            except ConfigurationError as error:
                # Without a session nobody can be asked about anything.
                for wait in list(self.waits):
                    wait.end(error)
                return
            except Exception:
                log.exception(
                    "The watcher of jobs at %s met an error of its own; it goes on.", self.settings.host
                )
                if self._clock() - started > _LONGEST_RESTART:
                    pause = _FIRST_RESTART
                await asyncio.sleep(pause)
                pause = min(_LONGEST_RESTART, pause * 2)
            finally:
                self._queue.put_back_all()
                self._counters.send(len(self.waits))

    async def _open_and_watch(self) -> None:
        from airflow_provider_scantrust.transports.aio import AioTransport

        async with AioTransport(
            verify=self.settings.verify, log=self._log, connections=MOST_AT_ONCE
        ) as transport:
            questions: set[asyncio.Task[None]] = set()
            try:
                await self._watch(transport, questions)
            finally:
                for question in questions:
                    question.cancel()
                await asyncio.gather(*questions, return_exceptions=True)

    async def _watch(self, transport: AioTransport, questions: set[asyncio.Task[None]]) -> None:
        loop = asyncio.get_running_loop()
        while True:
            seconds = self._counters.tick(len(self.waits), self._queue.open)
            now = self._clock()
            if self._queue.silent_since < inf:
                self._end_the_impatient(now)
                seconds = min(seconds, _SILENT_LOOK)
            # One alone may have to log in first.
            turn = self._queue.take(now, MOST_AT_ONCE if self._auth.header() else 1)
            if isinstance(turn, Job):
                question = loop.create_task(self._ask(transport, turn))
                questions.add(question)
                question.add_done_callback(questions.discard)
            else:
                # Who has something for the queue before that wakes it.
                self._sleeps_until = now + turn
                await self._sleep(min(seconds, turn))

    async def _sleep(self, seconds: float) -> None:
        loop = asyncio.get_running_loop()
        self._alarm = loop.create_future()
        timer = loop.call_later(seconds, self._wake)
        try:
            await self._alarm
        finally:
            timer.cancel()
            self._alarm = None

    def _wake(self, due: float = -inf) -> None:
        if due < self._sleeps_until and self._alarm is not None and not self._alarm.done():
            self._alarm.set_result(None)

    async def _ask(self, transport: AioTransport, job: Job) -> None:
        """Ask one question once, and take the answer."""
        asked_at = self._clock()
        self._counters.asked += 1
        was_silent = self._queue.silent_since < inf
        question = converse(
            get_scm_task(job.task_id, self.settings.dialect),
            self.settings,
            self._auth,
            random=self._random,
            budget=_ONE_TRY,
        )
        try:
            task = await transport.perform(question)
            # The job's wait may have left, or have moved, in the meantime.
            if self._queue.holds(job):
                self._take(job, task)
        except AuthenticationFailed as error:
            await self._end_unless_renewed(job, error, asked_at)
        except TransientError as error:
            if self._queue.holds(job):
                self._take_trouble(job, error)
        except ScantrustError as error:
            if self._queue.holds(job):
                self._queue.heard()
                _wait_of(job).end(error)
        except Exception as error:
            self._take_own_error(job, error)
        finally:
            self._queue.settle(job)
        self._wake(-inf if was_silent else job.due)

    def _take(self, job: Job, task: Task) -> None:
        wait, now = _wait_of(job), self._clock()
        self._counters.answered += 1
        self._counters.stretched += now - job.due + job.interval
        notice = wait.jobs.take(task)
        self._queue.answered(job, now, ended=task.is_done)
        if not wait.jobs.open:
            wait.end()
        # Telling comes last: what goes wrong there must not hold the wait up.
        if notice is not None:
            wait.context.run(say, notice, wait.log)
        if task.is_done:
            self._counters.ended(task, self._now())

    def _take_trouble(self, job: Job, error: TransientError) -> None:
        now = self._clock()
        # Without what the conversation says about its single try.
        if isinstance(error.__cause__, TransientError):
            error = error.__cause__
        self._last_error = error
        self._log.warning(
            "%s: a question to %s was not answered and comes again in its turn. %s",
            type(error).__name__,
            self.settings.host,
            error,
        )
        if isinstance(error, Throttled):
            self._counters.throttled += 1
            self._queue.throttled(job, now, error.retry_after)
            return
        self._counters.failed += 1
        self._queue.failed(job, now, error.retry_after)
        wait = _wait_of(job)
        if job.failures >= _RUN and now - job.failing_since > wait.jobs.error_budget:
            wait.end(wait.jobs.given_up(error, job.failures, now - job.failing_since))

    def _take_own_error(self, job: Job, error: Exception) -> None:
        log.exception("The watcher of jobs at %s met an error of its own; it goes on.", self.settings.host)
        if self._queue.holds(job):
            name = type(error).__name__
            self._take_trouble(
                job, TransientError(f"The provider did not understand an answer ({name}: {error}).")
            )

    async def _end_unless_renewed(self, job: Job, error: AuthenticationFailed, asked_at: float) -> None:
        """End a wait whose token is refused, unless the connection has a new one by now."""
        wait = _wait_of(job)
        try:
            moved = wait.watcher is not self or await self._refused(wait, asked_at)
        except Exception as fault:
            # Nobody knows whether there is a new token: the question comes again.
            if self._queue.holds(job):
                self._take_trouble(
                    job,
                    TransientError(f"{error} The connection cannot be looked up: {type(fault).__name__}."),
                )
            return
        if not moved and self._queue.holds(job):
            self._queue.heard()
            wait.end(error)

    def _end_the_impatient(self, now: float) -> None:
        """End the waits for whose error budget nobody has got a readable answer."""
        error, since = self._last_error, self._queue.silent_since
        if error is None or now < self._looked_at + _SILENT_LOOK:
            return
        self._looked_at = now
        for wait in list(self.waits):
            seconds = now - max(since, wait.joined)
            if seconds > wait.jobs.error_budget:
                wait.end(wait.jobs.given_up(error, self._queue.failures_in_a_row, seconds))


def _mask(token: str) -> None:
    """Register a login's token with Airflow's masker: in a thread, since that may ask Airflow's supervisor."""
    from airflow.providers.common.compat.sdk import mask_secret

    asyncio.get_running_loop().run_in_executor(None, mask_secret, token)


def _wait_of(job: Job) -> SharedWait:
    assert isinstance(job.wait, SharedWait)  # noqa: S101 - the queue gives back what it was given
    return job.wait
