"""Wait for service seconds or real seconds, at most until the sandbox stops."""

from __future__ import annotations

import asyncio
import time

from airflow_provider_scantrust.sandbox.errors import Stopped
from airflow_provider_scantrust.sandbox.settings import Settings


class Clock:
    """Waits on the event loop of the server; may be stopped and woken from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._woken = asyncio.Event()
        self.stopped = False

    def stop(self) -> None:
        """End all waiting, now and later."""
        self.stopped = True
        self.wake()

    def wake(self) -> None:
        """Apply a new pace to all current waits."""
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._wake)

    async def service(self, seconds: float) -> None:
        """
        Wait service seconds; a change of the pace has an effect during the wait.

        :raises Stopped: The sandbox stops or is reset.
        """
        left = seconds
        while left > 0:
            pace, began = self._settings.time_scale, time.monotonic()
            if not await self._sleep(left * pace) or not pace:
                return
            left -= (time.monotonic() - began) / pace

    async def real(self, seconds: float) -> None:
        """
        Wait real seconds.

        :raises Stopped: The sandbox stops or is reset.
        """
        until = time.monotonic() + seconds
        while await self._sleep(until - time.monotonic()):
            pass

    async def _sleep(self, seconds: float) -> bool:
        """Sleep; return whether something woke it before the end."""
        self._loop, woken = asyncio.get_running_loop(), self._woken
        if self.stopped:
            raise Stopped
        try:
            await asyncio.wait_for(woken.wait(), max(seconds, 0.0))
        except TimeoutError:
            return False
        if self.stopped:
            raise Stopped
        return True

    def _wake(self) -> None:
        woken, self._woken = self._woken, asyncio.Event()
        woken.set()
