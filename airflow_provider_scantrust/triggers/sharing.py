"""
What the triggers of one event loop share: connection lookups and watchers.

Rule 1: triggers that start together make one lookup; it is made anew when it failed, when it has aged, and when Scantrust
        refuses the token, which may have been replaced.
Rule 2: one watcher for each service and credentials, whatever the connections are called.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import time
from collections.abc import Callable
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.transports.common import Log
from airflow_provider_scantrust.triggers.watcher import SharedWait, Watcher
from airflow_provider_scantrust.waits.jobs import Jobs

# Seconds for which a lookup is good.
_GOOD_FOR = 300.0
# Seconds between two lookups because of refused tokens: a thousand refused questions are not a thousand lookups.
_APART = 1.0
# "Not found" may also be a passing fault of Airflow's API.
_CONNECTION_PAUSES = (1.0, 2.0, 4.0)
# A triggerer that was away when the time was up asks all the same, as a worker does; so many seconds are for the answer.
_GRACE = 120.0
# An idle watcher keeps its login and what it knows of the rate.
_KEPT_IDLE = 600.0

log = logging.getLogger(__name__)


class _Lookup:
    settings: Settings | None = None
    at: float = -inf
    flight: asyncio.Task[Settings] | None = None
    # When it was last made because a token had been refused.
    refused_at: float = -inf


class Watchers:
    """
    The watchers of one event loop.

    :param clock: Monotonic seconds.
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._lookups: dict[str, _Lookup] = {}
        self._watchers: dict[Settings, Watcher] = {}

    async def join(self, wait: SharedWait) -> None:
        """
        Give a wait to its watcher.

        :raises ConfigurationError: There is no such connection, or it cannot work.
        """
        settings = await self._look_up(wait.conn_id, self._clock() - _GOOD_FOR)
        self._watcher(settings, wait.conn_id).join(wait)

    async def _refused(self, wait: SharedWait, asked_at: float) -> bool:
        """Move the waits of a connection when it has changed since its token was used; return whether it has."""
        lookup = self._lookups[wait.conn_id]
        if lookup.at < asked_at and self._clock() >= lookup.refused_at + _APART:
            lookup.refused_at = self._clock()
            settings = await self._look_up(wait.conn_id, not_before=asked_at)
        else:
            settings = await self._look_up(wait.conn_id, not_before=-inf)
        old = wait.watcher
        if old is None or settings.account == old.settings.account:
            return False
        log.info("The connection %s has changed; its waits go on with it as it is now.", wait.conn_id)
        same = {other for other in old.waits if other.conn_id == wait.conn_id}
        old.hand_over(same, self._watcher(settings, wait.conn_id))
        return True

    def _watcher(self, settings: Settings, conn_id: str) -> Watcher:
        old = self._clock() - _KEPT_IDLE
        for account, watcher in list(self._watchers.items()):
            if not watcher.waits and watcher.idle_since < old:
                del self._watchers[account]
        found = self._watchers.get(settings.account)
        if found is None:
            found = self._watchers[settings.account] = Watcher(settings, conn_id, self._refused)
        return found

    async def _look_up(self, conn_id: str, not_before: float) -> Settings:
        lookup = self._lookups.setdefault(conn_id, _Lookup())
        if lookup.flight is None:
            if lookup.settings is not None and lookup.at >= not_before:
                return lookup.settings
            lookup.flight = asyncio.get_running_loop().create_task(
                self._fly(conn_id, lookup), name=f"scantrust-lookup {conn_id}", context=contextvars.Context()
            )
        return await asyncio.shield(lookup.flight)

    async def _fly(self, conn_id: str, lookup: _Lookup) -> Settings:
        at = self._clock()
        try:
            lookup.settings, lookup.at = await read_connection(conn_id), at
            return lookup.settings
        finally:
            lookup.flight = None


_WATCHERS: WeakKeyDictionary[asyncio.AbstractEventLoop, Watchers] = WeakKeyDictionary()


async def wait_shared(
    jobs: Jobs,
    conn_id: str,
    poll_interval: float,
    longest_poll_interval: float | None,
    task_log: Log,
    *,
    ask_first: bool = False,
) -> dict[str, int | None]:
    """
    Wait for jobs beside all other waits of this event loop; return the codes affected by each.

    :param task_log: Told what is new, in the context of whoever waits.
    :param ask_first: The first question does not wait for an interval. It never does once the deadline has passed.
    :raises ScantrustError: As ``Watch.wait``.
    """
    left = jobs.deadline - time.time()
    if not jobs.open:
        await asyncio.sleep(max(0.0, min(left, poll_interval)))
        return jobs.outcome()
    if left <= 0:
        left, ask_first = _GRACE, True
    loop = asyncio.get_running_loop()
    wait = SharedWait(
        jobs,
        poll_interval,
        longest_poll_interval,
        conn_id=conn_id,
        log=task_log,
        left=left,
        ask_first=ask_first,
    )
    timer = loop.call_later(left, _time_is_up, wait, context=wait.context)
    try:
        await _watchers_of(loop).join(wait)
        error = await wait.ended
    finally:
        timer.cancel()
        if wait.watcher is not None and (closing := wait.watcher.leave(wait)) is not None:
            await asyncio.wait([closing])
    if error is not None:
        raise error
    return jobs.outcome()


def _watchers_of(loop: asyncio.AbstractEventLoop) -> Watchers:
    found = _WATCHERS.get(loop)
    if found is None:
        found = _WATCHERS[loop] = Watchers()
    return found


def _time_is_up(wait: SharedWait) -> None:
    wait.end(wait.jobs.timed_out())


async def read_connection(conn_id: str) -> Settings:
    """
    Look a connection up, and again when it is not found.

    :raises ConfigurationError: It is not there, or cannot work.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
    from asgiref.sync import sync_to_async

    from airflow_provider_scantrust.hooks.connection import settings_of

    connection: Any = None
    for pause in (*_CONNECTION_PAUSES, None):
        try:
            connection = await get_async_connection(conn_id)
            break
        except AirflowNotFoundException as error:
            if pause is not None:
                await asyncio.sleep(pause)
                continue
            try:
                # In `dag.test()` of Airflow 3.3 only this way leads to Airflow's database.
                connection = await sync_to_async(BaseHook.get_connection, thread_sensitive=False)(conn_id)
            except Exception:
                raise ConfigurationError(
                    f"The triggerer does not find the connection {conn_id!r}."
                ) from error
    # In a thread: it registers the secret with Airflow's masker, which asks Airflow's supervisor.
    return await asyncio.to_thread(settings_of, connection, log)
