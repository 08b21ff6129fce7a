"""Wait for service seconds or real seconds, at most until the sandbox stops."""

from __future__ import annotations

import asyncio
from contextlib import suppress

from airflow_provider_scantrust.sandbox.errors import Stopped
from airflow_provider_scantrust.sandbox.settings import Settings


class Clock:
    """Waits on the event loop of the server; may be stopped from any thread."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._loop: asyncio.AbstractEventLoop | None = None
        self._end = asyncio.Event()
        self.stopped = False

    def stop(self) -> None:
        """End all waiting, now and later."""
        self.stopped = True
        if self._loop is not None and not self._loop.is_closed():
            self._loop.call_soon_threadsafe(self._end.set)

    async def service(self, seconds: float) -> None:
        """
        Wait service seconds.

        :raises Stopped: The sandbox stops or is reset.
        """
        await self.real(seconds * self._settings.time_scale)

    async def real(self, seconds: float) -> None:
        """
        Wait real seconds.

        :raises Stopped: The sandbox stops or is reset.
        """
        self._loop = asyncio.get_running_loop()
        if not self.stopped:
            with suppress(TimeoutError):
                await asyncio.wait_for(self._end.wait(), seconds)
        if self.stopped:
            raise Stopped
