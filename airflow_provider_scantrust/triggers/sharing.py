"""
What the triggers of one event loop share: connection lookups and watchers.

Rule 1: triggers that start together share one lookup. The lookup is repeated after five minutes, and when a
        changed connection could explain an error.
Rule 2: a failed lookup does not end a wait before its error budget has passed, because Airflow also says
        "not found" when a secrets backend is down. Until then the wait uses the last good settings, if there
        are any.
Rule 3: connections with the same service and credentials share one watcher.
"""

from __future__ import annotations

import asyncio
import contextvars
import logging
import random
import time
from math import inf
from typing import Any
from weakref import WeakKeyDictionary

from airflow_provider_scantrust.api.flow import backoff
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.exceptions import ConfigurationError, ScantrustError, TransientError
from airflow_provider_scantrust.hooks.connection import not_found, settings_of
from airflow_provider_scantrust.triggers.watcher import TriggerWait, Watcher
from airflow_provider_scantrust.waits.jobs import changed_since
from airflow_provider_scantrust.waits.outcome import Outcome

# Seconds for which a lookup is valid.
_GOOD_FOR = 300.0
# Seconds between two lookups because of errors, so that a thousand refused polls do not make as many lookups.
_APART = 0.2
# Seconds for which an idle watcher is kept: it has a login and has learned the rate.
_KEPT_IDLE = 600.0

log = logging.getLogger(__name__)


class _Lookup:
    settings: Settings | None = None
    at: float = -inf
    flight: asyncio.Task[Settings] | None = None
    # When an error last caused this lookup.
    doubted_at: float = -inf


class Watchers:
    """The watchers of one event loop."""

    def __init__(self) -> None:
        self._lookups: dict[str, _Lookup] = {}
        self._watchers: dict[Settings, Watcher] = {}

    async def join(self, wait: TriggerWait) -> None:
        """
        Give a wait to its watcher.

        :raises ConfigurationError: A field of the connection is wrong, or the connection does not exist.
        :raises TransientError: The connection was not found within the error budget; a retry may find it.
        :raises WaitTimedOut: The deadline has passed.
        """
        ends_at = wait.joined + wait.jobs.error_budget
        failures = 0
        while True:
            try:
                now = time.monotonic()
                async with asyncio.timeout(wait.until - now):
                    settings = await self._look_up(wait.conn_id, now - _GOOD_FOR)
                break
            except Exception as error:
                if isinstance(error, ScantrustError) and error.permanent:
                    raise
                if (last := self._lookups[wait.conn_id].settings) is not None:
                    log.warning("%s The last good settings are used.", error)
                    settings = last
                    break
                now = time.monotonic()
                if now >= wait.until:
                    raise wait.jobs.timed_out() from error
                if now >= ends_at:
                    raise _not_looked_up(error, wait.conn_id) from error
                failures += 1
                if failures == 1:
                    text = f"{error} The lookup is repeated for up to {wait.jobs.error_budget:.0f} s."
                    wait.context.run(wait.log.warning, "%s", text)
                await asyncio.sleep(min(backoff(failures, random.random), wait.until - now, ends_at - now))
        self._watcher(settings, wait.conn_id).join(wait)

    def forget(self, conn_id: str) -> None:
        """Let the next wait look up a connection again."""
        self._lookups[conn_id].at = -inf

    async def _look_again(
        self, wait: TriggerWait, error: ScantrustError, polled_at: float
    ) -> ScantrustError | None:
        """
        Look up the connection again, and return the error to use.

        Return None if the connection has changed since the poll: its waits have moved to another watcher.
        """
        lookup = self._lookups[wait.conn_id]
        if lookup.at < polled_at:
            if (pause := lookup.doubted_at + _APART - time.monotonic()) > 0:
                await asyncio.sleep(pause)
            lookup.doubted_at = time.monotonic()
        settings = await self._look_up(wait.conn_id, not_before=polled_at)
        old = wait.watcher
        if old is not None and settings.account != old.settings.account:
            log.info("The connection %r has changed; its waits use it as it is now.", wait.conn_id)
            old.hand_over(wait.conn_id, self._watcher(settings, wait.conn_id))
            return None
        has_changed = wait.has_moved
        if wait.account is not None and error.permanent:
            # In a thread: the digest is slow on purpose.
            has_changed = wait.account != await asyncio.to_thread(lambda: settings.account_digest)
        return changed_since(error, wait.conn_id) if has_changed else error

    def _watcher(self, settings: Settings, conn_id: str) -> Watcher:
        old = time.monotonic() - _KEPT_IDLE
        for account, watcher in list(self._watchers.items()):
            if not watcher.waits and watcher.idle_since < old:
                del self._watchers[account]
        if settings.account not in self._watchers:
            self._watchers[settings.account] = Watcher(settings, conn_id, self._look_again)
        return self._watchers[settings.account]

    async def _look_up(self, conn_id: str, not_before: float) -> Settings:
        lookup = self._lookups.setdefault(conn_id, _Lookup())
        # A lookup under way may have begun too early, and have read the connection before its change.
        while lookup.settings is None or lookup.at < not_before:
            if lookup.flight is None:
                lookup.flight = asyncio.get_running_loop().create_task(
                    self._fly(conn_id, lookup),
                    name=f"scantrust-lookup {conn_id}",
                    context=contextvars.Context(),
                )
            await asyncio.shield(lookup.flight)
        return lookup.settings

    async def _fly(self, conn_id: str, lookup: _Lookup) -> Settings:
        at = time.monotonic()
        try:
            lookup.settings, lookup.at = await read_connection(conn_id), at
            return lookup.settings
        finally:
            lookup.flight = None


_WATCHERS: WeakKeyDictionary[asyncio.AbstractEventLoop, Watchers] = WeakKeyDictionary()


async def wait_shared(wait: TriggerWait) -> Outcome:
    """
    Wait together with all other waits of this event loop.

    :raises ScantrustError: As for ``WorkerWait.wait``.
    """
    if not wait.jobs.open:
        return wait.jobs.outcome()
    found = _WATCHERS.setdefault(asyncio.get_running_loop(), Watchers())
    try:
        await found.join(wait)
        error = await wait.ended
    finally:
        if wait.watcher is not None and (closing := wait.watcher.leave(wait)) is not None:
            await asyncio.wait([closing])
    if isinstance(error, ConfigurationError):
        # The connection may be corrected before the next wait.
        found.forget(wait.conn_id)
    if error is not None:
        raise error
    return wait.jobs.outcome()


async def read_connection(conn_id: str) -> Settings:
    """
    Look up a connection.

    :raises ConfigurationError: A field of the connection is wrong.
    :raises TransientError: The connection was not found, or Airflow failed to read it.
    """
    from airflow.providers.common.compat.connection import get_async_connection
    from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook
    from asgiref.sync import sync_to_async

    connection: Any = None
    try:
        connection = await get_async_connection(conn_id)
    except AirflowNotFoundException:
        try:
            # In `dag.test()` of Airflow 3.3, only this call reaches Airflow's database.
            connection = await sync_to_async(BaseHook.get_connection, thread_sensitive=False)(conn_id)
        except Exception as error:
            raise TransientError(
                f"The triggerer does not find the connection {conn_id!r}, or a secrets backend is down."
            ) from error
    # settings_of registers the secret with Airflow's masker, which calls Airflow's supervisor. This must run
    # in a thread of asgiref: from another thread, Airflow 3.0 reads the answer in a second event loop, and
    # its triggerer dies.
    return await sync_to_async(settings_of, thread_sensitive=False)(connection, log)


def _not_looked_up(error: Exception, conn_id: str) -> ScantrustError:
    """Return the error that ends a wait whose connection could not be looked up within the error budget."""
    if isinstance(error, TransientError):
        return not_found(conn_id)
    return TransientError(
        f"The connection {conn_id!r} cannot be looked up in the triggerer: {type(error).__name__}: {error}"
    )
