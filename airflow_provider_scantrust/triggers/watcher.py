"""
The watcher polls for all waits in a triggerer that use the same service and credentials.

Rule 1: ``waits`` decides when to poll and when a wait ends. This module has the clock, the HTTP session and
        the tasks.
Rule 2: an error in this module does not end a wait: it costs one poll, or a pause of all polls.
Rule 3: the watcher keeps no state but that of its waits, and ends with the last of them.
Rule 4: the watcher logs to the triggerer's log; news about a job goes to the log of the task that waits for
        it.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from dataclasses import dataclass, field
from math import inf
from typing import TYPE_CHECKING

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.models import Task
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ScantrustError,
    Throttled,
    TransientError,
)
from airflow_provider_scantrust.hooks.logs import RareLog
from airflow_provider_scantrust.transports.common import say
from airflow_provider_scantrust.triggers.counters import Counters
from airflow_provider_scantrust.waits.jobs import calls_for_lookup, poll_job
from airflow_provider_scantrust.waits.queue import MOST_AT_ONCE, Job, Queue, Wait, make_pacer

if TYPE_CHECKING:
    from airflow_provider_scantrust.transports.aio import AioTransport

_FIRST_RESTART, _LONGEST_RESTART = 1.0, 60.0

log = logging.getLogger(__name__)
# Keeps a reference, because an asyncio task without one may be garbage-collected before it runs.
_MASKING: set[asyncio.Future[None]] = set()


@dataclass(eq=False, slots=True, kw_only=True)
class TriggerWait(Wait):
    """
    The wait of a trigger, with a future that reports its end to the trigger.

    :param conn_id: The connection that its settings come from.
    :param account: Digest of the account that the jobs were submitted to, if it is known.
    :param log: Gets news about the jobs, in the context in which the wait was made; this context tells
        Airflow the task.
    :param ended: Its result is the error that ended the wait, or None.
    """

    conn_id: str
    account: str | None
    log: Log
    context: contextvars.Context = field(default_factory=contextvars.copy_context)
    ended: asyncio.Future[ScantrustError | None] = field(default_factory=asyncio.Future)
    watcher: Watcher | None = None
    has_moved: bool = False

    def end(self, error: ScantrustError | None) -> None:
        """Let the trigger continue; the error is in ``ended``."""
        if not self.ended.done():
            self.ended.set_result(error)


class Watcher:
    """
    Poll for waits as long as there are any.

    :param settings: The settings of the connection that the watcher was made for.
    :param conn_id: This connection, for metrics.
    :param look_up: Called with a wait, an error that a changed connection could explain, and the time of the
        poll; returns the error to use, or None if the wait has moved to another watcher.
    """

    def __init__(
        self,
        settings: Settings,
        conn_id: str,
        look_up: Callable[[TriggerWait, ScantrustError, float], Awaitable[ScantrustError | None]],
    ) -> None:
        self.settings = settings
        self.idle_since = time.monotonic()
        self._look_up = look_up
        self._auth = settings.make_auth(time.monotonic, _mask)
        self._queue = Queue(make_pacer(settings.polls_per_second, random.random), random=random.random)
        self._log = RareLog(log, free=1)
        self._conn_id = conn_id
        self._counters: Counters
        self._task: asyncio.Task[None] | None = None
        self._alarm = asyncio.Event()
        self._sleeps_until = inf

    @property
    def waits(self) -> set[Wait]:
        """The waits that are not over."""
        return self._queue.waits

    def join(self, wait: TriggerWait) -> None:
        """Add a wait."""
        wait.watcher = self
        self._start(min(self._queue.add(wait), wait.until))

    def leave(self, wait: TriggerWait) -> asyncio.Task[None] | None:
        """Remove a wait; if it was the last, return the asyncio task that is closing."""
        self._queue.leave(wait)
        return self._stop_if_idle()

    def hand_over(self, conn_id: str, other: Watcher) -> None:
        """Move the waits of a connection to another watcher; each job keeps its turn."""
        waits: set[Wait] = set()
        for wait in self.waits:
            if isinstance(wait, TriggerWait) and wait.conn_id == conn_id:
                wait.watcher, wait.has_moved = other, True
                waits.add(wait)
        self._queue.move(waits, other._queue)
        other._start(-inf)
        self._stop_if_idle()

    def _start(self, first_due: float) -> None:
        if self._task is None or self._task.done():
            # An empty context, because the watcher works for many tasks and its log lines belong to none.
            self._task = asyncio.get_running_loop().create_task(
                self._run(), name=f"scantrust-watcher {self.settings.host}", context=contextvars.Context()
            )
        else:
            self._wake(first_due)

    def _stop_if_idle(self) -> asyncio.Task[None] | None:
        if self.waits:
            return None
        task, self._task = self._task, None
        self.idle_since = time.monotonic()
        if task is not None:
            task.cancel()
        return task

    async def _run(self) -> None:
        """Watch until cancelled; after an internal error, pause and continue."""
        pause = _FIRST_RESTART
        self._counters = Counters(self.settings.host, self._conn_id, self._queue, log)
        # In a thread: for the first stats of a process, Airflow reads a file, which blocks the event loop.
        await asyncio.to_thread(self._counters.send)
        while True:
            started = time.monotonic()
            try:
                await self._open_and_watch()
            except ConfigurationError as error:
                # Without a session there are no polls.
                for wait in list(self.waits):
                    self._queue.end(wait, error)
                return
            except Exception:
                log.exception(
                    "The watcher of jobs at %s had an internal error; it continues.", self.settings.host
                )
                if time.monotonic() - started > _LONGEST_RESTART:
                    pause = _FIRST_RESTART
                await asyncio.sleep(pause)
                pause = min(_LONGEST_RESTART, pause * 2)
            finally:
                self._queue.put_back_all()
                self._counters.send()

    async def _open_and_watch(self) -> None:
        from airflow_provider_scantrust.transports.aio import AioTransport

        transport = AioTransport(verify=self.settings.verify, log=self._log, connections=MOST_AT_ONCE)
        # The group cancels the polls in flight when the watcher stops.
        async with transport, asyncio.TaskGroup() as polls:
            await self._watch(transport, polls)

    async def _watch(self, transport: AioTransport, polls: asyncio.TaskGroup) -> None:
        while True:
            now = time.monotonic()
            seconds = min(self._counters.tick(), self._queue.expire(now))
            # Without a token, only one poll starts: it logs in first.
            turn = self._queue.take(now, MOST_AT_ONCE if self._auth.header() else 1)
            if isinstance(turn, Job):
                polls.create_task(self._poll(transport, turn))
            else:
                # A change of the queue before then wakes the watcher.
                self._sleeps_until = now + turn
                await self._sleep(min(seconds, turn))

    async def _sleep(self, seconds: float) -> None:
        self._alarm.clear()
        with suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._alarm.wait()

    def _wake(self, due: float = -inf) -> None:
        if due < self._sleeps_until:
            self._alarm.set()

    async def _poll(self, transport: AioTransport, job: Job) -> None:
        """Poll a job once, and take what came back."""
        sent_at = time.monotonic()
        self._counters.add("polls")
        was_silent = self._queue.silent_since < inf
        result: Task | ScantrustError | None
        try:
            result = await transport.perform(
                poll_job(job.task_id, self.settings, self._auth, random=random.random)
            )
        except ScantrustError as error:
            result = await self._judge(job, error, sent_at)
        except Exception as error:
            result = self._own_error(error)
        # The wait may have ended, or have moved, in the meantime.
        if result is not None and self._queue.holds(job):
            try:
                self._take(job, result)
            except Exception as error:
                self._queue.take_result(job, self._own_error(error), time.monotonic())
        self._wake(-inf if was_silent else job.due)

    def _take(self, job: Job, result: Task | ScantrustError) -> None:
        wait, now = job.wait, time.monotonic()
        assert isinstance(wait, TriggerWait)  # noqa: S101 - the queue gives back what it was given
        waited = now - job.due + job.interval
        notice = self._queue.take_result(job, result, now)
        if isinstance(result, Task):
            self._counters.answered(waited)
            # Logging comes last, so that an error in it does not delay the wait.
            if notice is not None:
                wait.context.run(say, notice, wait.log)
            if result.is_done:
                self._counters.ended(result)
        elif isinstance(result, TransientError):
            self._log.warning(
                "%s: a status poll at %s failed and is repeated. %s",
                type(result).__name__,
                self.settings.host,
                result,
            )
            self._counters.add("polls_throttled" if isinstance(result, Throttled) else "polls_failed")

    async def _judge(self, job: Job, error: ScantrustError, sent_at: float) -> ScantrustError | None:
        """Return the error to use, or None if the connection has changed and the wait has moved."""
        wait = job.wait
        assert isinstance(wait, TriggerWait)  # noqa: S101 - the queue gives back what it was given
        if not calls_for_lookup(error) or not self._queue.holds(job):
            return error
        try:
            return await self._look_up(wait, error, sent_at)
        except Exception as fault:
            # Whether the connection has changed is unknown, so the poll is repeated.
            return TransientError(f"{error} The connection cannot be looked up: {type(fault).__name__}.")

    def _own_error(self, error: Exception) -> TransientError:
        log.exception("The watcher of jobs at %s had an internal error; it continues.", self.settings.host)
        return TransientError(f"The provider did not understand an answer ({type(error).__name__}: {error}).")


def _mask(token: str) -> None:
    """Register a login's token with Airflow's masker, in a thread of asgiref (see ``read_connection``)."""
    from airflow.providers.common.compat.sdk import mask_secret
    from asgiref.sync import sync_to_async

    masking = asyncio.ensure_future(sync_to_async(mask_secret, thread_sensitive=False)(token))
    _MASKING.add(masking)
    masking.add_done_callback(_MASKING.discard)
