"""The two transports, to be driven alike."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from typing import Any

from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.flow import converse
from airflow_provider_scantrust.api.messages import Endpoint
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.exceptions import ScantrustError
from airflow_provider_scantrust.transports.aio import AioTransport
from airflow_provider_scantrust.transports.blocking import BlockingTransport, make_session

LOG = logging.getLogger(__name__)
ME = endpoints.get_me()


def by_requests(endpoint: Endpoint[Any], settings: Settings, pauses: list[float]) -> Any:
    auth = settings.make_auth()
    transport = BlockingTransport(make_session(settings, auth), log=LOG, sleep=pauses.append)
    with transport.session:
        return transport.perform(converse(endpoint, settings, auth, random=lambda: 0.5))


def by_aiohttp(endpoint: Endpoint[Any], settings: Settings, pauses: list[float]) -> Any:
    async def sleep(seconds: float) -> None:
        pauses.append(seconds)

    async def perform() -> Any:
        async with AioTransport(verify=settings.verify, log=LOG, sleep=sleep) as transport:
            return await transport.perform(
                converse(endpoint, settings, settings.make_auth(), random=lambda: 0.5)
            )

    return asyncio.run(perform())


DRIVERS: list[Callable[..., Any]] = [by_requests, by_aiohttp]


def outcome(driver: Callable[..., Any], endpoint: Endpoint[Any], settings: Settings) -> tuple[Any, ...]:
    pauses: list[float] = []
    try:
        result = driver(endpoint, settings, pauses)
    except ScantrustError as error:
        # What the library calls a fault stands in brackets and differs, as do the seconds that all tries took.
        text = re.sub(r" in \d+ s:", ":", str(error).partition(" (")[0])
        return type(error), text, error.status, error.fields, error.excerpt, pauses
    return result, pauses
