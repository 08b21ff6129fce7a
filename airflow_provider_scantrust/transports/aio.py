"""Perform conversations with ``aiohttp``, in the triggerer, where nothing may block."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from functools import cache, partial
from typing import TypeVar

import aiohttp

from airflow_provider_scantrust.api.messages import (
    Answer,
    Conversation,
    Fault,
    FaultKind,
    Log,
    Pause,
    Request,
)
from airflow_provider_scantrust.transports.common import (
    MOST_BYTES,
    TooLong,
    Transport,
    check_proxy,
    is_plain_and_local,
    load_trust,
    read_tls_trouble,
    say,
)

T = TypeVar("T")

# Longer than the usual interval between two polls, shorter than the idle timeout of common gateways.
_KEEP_ALIVE = 30.0
# The same limit as http.client.
_LONGEST_HEADER = 65_536


class AioTransport(Transport):
    """
    Send the requests of conversations over one ``aiohttp`` session; use it with ``async with``.

    aiohttp repeats a GET once if its connection is cut, and has no public switch for this. So a poll may be
    sent twice.

    :param verify: True, False, or the path of a CA bundle, with the same meaning as in ``requests``.
    :param connections: Most connections at once.
    :param sleep: Waits for the given seconds without blocking.
    """

    def __init__(
        self,
        *,
        verify: bool | str,
        log: Log,
        connections: int = 10,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        super().__init__("aiohttp", log, time.monotonic)
        self._verify = verify
        self._connections = connections
        self._sleep = sleep
        # Made when the transport is entered.
        self._session: aiohttp.ClientSession
        # Read from the environment only once for each origin: thousands of polls are alike.
        self._choose_proxy = cache(choose_proxy)

    async def __aenter__(self) -> AioTransport:
        # To read a CA bundle takes about 20 ms of CPU, too long for a shared event loop.
        context: ssl.SSLContext | bool = False
        if self._verify is not False:
            context = await asyncio.to_thread(load_trust, self._verify)
        # No trust_env, because ~/.netrc could then replace the token. _send chooses the proxy.
        self._session = aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(
                ssl=context, limit=self._connections, keepalive_timeout=_KEEP_ALIVE
            ),
            cookie_jar=aiohttp.DummyCookieJar(),
            max_line_size=_LONGEST_HEADER,
            max_field_size=_LONGEST_HEADER,
        )
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._session.close()

    async def perform(self, conversation: Conversation[T]) -> T:
        """Drive a conversation to its end and return its result."""
        reply: Answer | Fault | None = None
        with closing(conversation):
            while True:
                try:
                    step = conversation.send(reply)
                except StopIteration as end:
                    result: T = end.value
                    return result
                reply = None
                if isinstance(step, Request):
                    reply = await self._send(step)
                else:
                    say(step, self._log)
                    if isinstance(step, Pause):
                        await self._sleep(step.seconds)

    async def _send(self, request: Request) -> Answer | Fault:
        started = self._clock()
        proxy = response = None
        try:
            proxy = self._choose_proxy("/".join(request.url.split("/", 3)[:3]))
            async with self._session.request(
                request.method,
                request.url,
                headers={**request.headers, **self._headers},
                data=request.body,
                proxy=proxy,
                allow_redirects=False,
                auto_decompress=False,
                timeout=aiohttp.ClientTimeout(sock_connect=request.timeout[0], total=request.timeout[1]),
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_chunked(65_536):
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise TooLong
                headers = {
                    name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers
                }
                return self._answer(response.status, headers, bytes(body), started)
        except Exception as error:
            kind = _kind(error)
            if kind is None:
                raise
            is_unanswered = not proxy and response is None
            fault = partial(self._fault, kind, error, started, url=request.url, is_unanswered=is_unanswered)
            # Only a probe takes time, and the threads may all be busy with other triggers.
            return await asyncio.to_thread(fault) if self._may_probe(kind, is_unanswered) else fault()


def choose_proxy(url: str) -> str | None:
    """Return the proxy that the environment names for a URL, by the rules of ``requests``."""
    from requests.utils import get_environ_proxies, select_proxy

    if is_plain_and_local(url):
        return None
    proxy = select_proxy(url, get_environ_proxies(url, no_proxy=None))
    check_proxy(proxy)
    if proxy and "://" not in proxy:
        proxy = f"http://{proxy}"
    return proxy or None


def _kind(error: Exception) -> FaultKind | None:
    """Return the kind of network fault that an exception means, or None for any other exception."""
    if isinstance(error, aiohttp.ClientSSLError | ssl.CertificateError):
        return read_tls_trouble(error)
    if isinstance(error, aiohttp.ConnectionTimeoutError | aiohttp.ClientHttpProxyError):
        return FaultKind.CONNECT
    if isinstance(error, TimeoutError):
        return FaultKind.TIMEOUT
    if isinstance(error, aiohttp.ClientConnectorError):
        return FaultKind.CONNECT
    if isinstance(error, TooLong):
        return FaultKind.TOO_LONG
    if isinstance(error, aiohttp.InvalidURL):
        return FaultKind.UNUSABLE
    if isinstance(error, aiohttp.ClientError | OSError):
        return FaultKind.CUT
    return None
