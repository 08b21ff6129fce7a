"""Perform conversations with ``aiohttp``, in the triggerer, where nothing may block."""

from __future__ import annotations

import asyncio
import ssl
import time
from collections.abc import Awaitable, Callable
from contextlib import closing
from types import TracebackType
from typing import TypeVar

import aiohttp

from airflow_provider_scantrust.api.messages import (
    Answer,
    Conversation,
    Fault,
    FaultKind,
    Notice,
    Pause,
    Request,
)
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.transports.common import (
    MOST_BYTES,
    Log,
    TooLong,
    check_proxy,
    check_verify,
    common_headers,
    describe_fault,
    is_plain_and_local,
    load_trust,
    make_user_agent,
    read_tls_trouble,
    say,
    speaks_tls,
    unpack,
)

T = TypeVar("T")

# Longer than the usual interval between two polls, shorter than the idle timeout of common gateways.
_KEEP_ALIVE = 30.0
# The same limit as http.client.
_LONGEST_HEADER = 65_536


class AioTransport:
    """
    Send the requests of conversations over one ``aiohttp`` session; use it with ``async with``.

    aiohttp repeats a GET once if its connection is cut, and has no public switch for this. So a poll may be
    sent twice.

    :param verify: True, False, or the path of a CA bundle, with the same meaning as in ``requests``.
    :param connections: Most connections at once.
    :param sleep: Waits for the given seconds without blocking.
    :param clock: Monotonic seconds.
    :param now: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        *,
        verify: bool | str,
        log: Log,
        user_agent: str | None = None,
        connections: int = 10,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._verify = check_verify(verify)
        self._common_headers = common_headers(user_agent or make_user_agent("aiohttp"))
        self._connections = connections
        self._log = log
        self._sleep = sleep
        self._clock = clock
        self._now = now
        self._was_probed = False
        self._session: aiohttp.ClientSession | None = None
        # Both are computed only once: thousands of polls are alike, and the proxy comes from the environment.
        self._proxies: dict[str, str | None] = {}
        self._timeouts: dict[tuple[float, float], aiohttp.ClientTimeout] = {}

    async def __aenter__(self) -> AioTransport:
        # To read a CA bundle takes about 20 ms of CPU, too long for a shared event loop.
        try:
            context = await asyncio.to_thread(make_ssl_context, self._verify)
        except OSError as error:
            raise ConfigurationError(f"The CA bundle that verify names cannot be used: {error}.") from error
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

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._session is not None:
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
                elif isinstance(step, Pause):
                    say(step, self._log)
                    await self._sleep(step.seconds)
                elif isinstance(step, Notice):
                    say(step, self._log)

    async def _send(self, request: Request) -> Answer | Fault:
        if self._session is None:
            raise RuntimeError("AioTransport is used with `async with`")
        started = self._clock()
        proxy = response = None
        try:
            proxy = self._proxy(request.url)
            async with self._session.request(
                request.method,
                request.url,
                headers={**request.headers, **self._common_headers},
                data=request.body,
                proxy=proxy,
                allow_redirects=False,
                auto_decompress=False,
                timeout=self._timeout(request.timeout),
            ) as response:
                body = bytearray()
                async for piece in response.content.iter_chunked(65_536):
                    body += piece
                    if len(body) > MOST_BYTES:
                        raise TooLong
                headers = {
                    name.lower(): ", ".join(response.headers.getall(name)) for name in response.headers
                }
                content = unpack(bytes(body), headers.get("content-encoding", ""))
        except Exception as error:
            kind = _kind(error)
            if kind is None:
                raise
            if (
                kind is FaultKind.CUT
                and not proxy
                and response is None
                and await self._speaks_tls(request.url)
            ):
                kind = FaultKind.NEEDS_TLS
            return Fault(kind, describe_fault(kind, error), self._clock() - started)
        return Answer(
            status=response.status,
            headers=headers,
            body=content,
            elapsed=self._clock() - started,
            received_at=self._now(),
        )

    async def _speaks_tls(self, url: str) -> bool:
        # One probe is enough: the answer depends only on the fields of the connection.
        was_probed, self._was_probed = self._was_probed, True
        return not was_probed and await asyncio.to_thread(speaks_tls, url)

    def _proxy(self, url: str) -> str | None:
        origin = "/".join(url.split("/", 3)[:3])
        if origin not in self._proxies:
            self._proxies[origin] = choose_proxy(url)
        return self._proxies[origin]

    def _timeout(self, seconds: tuple[float, float]) -> aiohttp.ClientTimeout:
        if seconds not in self._timeouts:
            self._timeouts[seconds] = aiohttp.ClientTimeout(total=seconds[1], sock_connect=seconds[0])
        return self._timeouts[seconds]


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


def make_ssl_context(verify: bool | str) -> ssl.SSLContext | bool:
    """Return an SSL context with which aiohttp trusts the same certificates as ``requests``."""
    if verify is False:
        return False
    return load_trust(verify)


def _kind(error: Exception) -> FaultKind | None:
    """Return the kind of network fault that an exception means, or None for any other exception."""
    if isinstance(error, aiohttp.ClientConnectorCertificateError | ssl.CertificateError):
        return FaultKind.CERTIFICATE
    if isinstance(error, aiohttp.ClientSSLError):
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
