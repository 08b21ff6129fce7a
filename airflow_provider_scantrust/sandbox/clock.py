"""Waiting: in service seconds or real seconds, and never past the end of the sandbox."""

from __future__ import annotations

import asyncio

from airflow_provider_scantrust.sandbox.settings import Settings


class Stopped(Exception):
    """The sandbox stops; what waited is dropped."""


class Clock:
    """Waits on the event loop of the server."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._stopping = asyncio.Event()

    def stop(self) -> None:
        """End all waiting; to be called on the event loop."""
        self._stopping.set()

    async def service(self, seconds: float) -> None:
        """
        Wait service seconds.

        :raises Stopped: The sandbox stops.
        """
        await self.real(seconds * self._settings.time_scale)

    async def real(self, seconds: float) -> None:
        """
        Wait real seconds.

        :raises Stopped: The sandbox stops.
        """
        try:
            await asyncio.wait_for(self._stopping.wait(), max(seconds, 0.0))
        except TimeoutError:
            return
        raise Stopped
