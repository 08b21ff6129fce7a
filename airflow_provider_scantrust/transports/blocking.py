"""Perform conversations with ``requests``: on workers, where a thread may wait."""

from __future__ import annotations

import http.client
import io
import socket
import threading
import time
from collections.abc import Callable
from dataclasses import replace
from typing import Any, Protocol, TypeVar

import requests
import requests.adapters
import requests.auth
import requests.utils
import urllib3.connection
import urllib3.exceptions

from airflow_provider_scantrust.api.answers import read_retry_after
from airflow_provider_scantrust.api.auth import Auth
from airflow_provider_scantrust.api.flow import FIRST_BACKOFF
from airflow_provider_scantrust.api.messages import (
    Answer,
    Conversation,
    Fault,
    FaultKind,
    Notice,
    Pause,
    Request,
)
from airflow_provider_scantrust.api.settings import REQUEST_TIMEOUT, RETRY_SECONDS, Settings
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
    say,
    unpack,
)
from airflow_provider_scantrust.waits.pacing import Pacer

T = TypeVar("T")


class Gate:
    """
    The turns of all threads that share a rate limit.

    :param pacer: Says how long to wait.
    """

    def __init__(
        self,
        pacer: Pacer,
        *,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self.pacer = pacer
        self._sleep = sleep
        self._clock = clock
        self._lock = threading.Lock()

    def wait(self) -> None:
        """Return when it is this thread's turn."""
        while True:
            with self._lock:
                seconds = self.pacer.take_turn(self._clock())
            if seconds <= 0:
                return
            self._sleep(seconds)

    def hear(self, answer: Answer) -> None:
        """Stop everybody when an answer says so."""
        if answer.status == 429:
            seconds = read_retry_after(answer) or FIRST_BACKOFF
            with self._lock:
                # What no budget allows for is an end and no pause: each call hears of it and gives up.
                self.pacer.slow_down(self._clock(), seconds if seconds <= RETRY_SECONDS else 0.0)


class Meter(Protocol):
    """Counts what is sent."""

    def replied(self, reply: Answer | Fault) -> None:
        """Count a request, by what came back."""

    def retried(self) -> None:
        """Count a request that is to be sent again."""


class BlockingTransport:
    """
    Send the requests of a conversation over one session.

    :param session: Its proxies, CA bundle and ``verify`` are used; its headers and its auth are not.
    :param pauses: Where the reasons for pauses are told, where that is not ``log``.
    :param gate: Where to wait before each request, when many threads share a rate limit.
    :param meter: Counts requests, and those that are sent again.
    :param connections: Connections that are kept, one for each thread that sends.
    :param sleep: Waits that many seconds.
    :param clock: Monotonic seconds.
    :param now: Wall clock, seconds since the epoch.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        log: Log,
        pauses: Log | None = None,
        gate: Gate | None = None,
        meter: Meter | None = None,
        connections: int = 64,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
        now: Callable[[], float] = time.time,
    ) -> None:
        self.session = session
        self._adapter = _Adapter(pool_maxsize=connections)
        self._gate = gate
        self._meter = meter
        self._user_agent = make_user_agent("requests")
        self._log = log
        self._pauses = pauses or log
        self._sleep = sleep
        self._clock = clock
        self._now = now

    def perform(self, conversation: Conversation[T]) -> T:
        """Drive a conversation to its end and return its result."""
        reply: Answer | Fault | None = None
        try:
            while True:
                step = conversation.send(reply)
                reply = None
                if isinstance(step, Request):
                    started = self._clock()
                    if self._gate is not None:
                        self._gate.wait()
                    waited = self._clock() - started
                    reply = self._send(step)
                    # Waiting for its turn is part of what a call may take.
                    reply = replace(reply, elapsed=reply.elapsed + waited)
                    if self._gate is not None and isinstance(reply, Answer):
                        self._gate.hear(reply)
                    if self._meter is not None:
                        self._meter.replied(reply)
                elif isinstance(step, Pause):
                    say(step, self._pauses)
                    # A pause without a reason is one between two questions about a job.
                    if step.reason and self._meter is not None:
                        self._meter.retried()
                    self._sleep(step.seconds)
                elif isinstance(step, Notice):
                    say(step, self._log)
        except StopIteration as end:
            result: T = end.value
            return result

    def _send(self, request: Request) -> Answer | Fault:
        started = self._clock()
        try:
            # Prepared without the session, which would let ~/.netrc replace the token.
            prepared = requests.Request(
                request.method,
                request.url,
                headers={**request.headers, **common_headers(self._user_agent)},
                data=request.body,
            ).prepare()
            settings: Any = self.session.merge_environment_settings(
                prepared.url, {}, stream=True, verify=self.session.verify, cert=None
            )
            check_proxy(requests.utils.select_proxy(prepared.url or "", settings["proxies"]))
            with self._adapter.send(prepared, timeout=request.timeout, **settings) as response:
                headers = {name.lower(): value for name, value in response.headers.items()}
                body = unpack(self._read(response), headers.get("content-encoding", ""))
        except Exception as error:
            kind = _kind(error)
            if kind is None:
                raise
            return Fault(kind, describe_fault(kind, error), self._clock() - started)
        return Answer(
            status=response.status_code,
            headers=headers,
            body=body,
            elapsed=self._clock() - started,
            received_at=self._now(),
        )

    def _read(self, response: requests.Response) -> bytes:
        body = bytearray()
        while piece := response.raw.read1(65_536, decode_content=False):
            body += piece
            if len(body) > MOST_BYTES:
                raise TooLong
        return bytes(body)


class _Until(io.RawIOBase):
    """
    What a socket receives, up to a moment.

    The timeout of a socket is for each piece: a server that sends a byte now and then would hold the task for ever, in
    the head of its answer, in the body, or in what follows it.
    """

    def __init__(self, connection: socket.socket) -> None:
        self._raw = connection.makefile("rb", buffering=0)
        self._socket = connection
        self._timeout = connection.gettimeout()
        self._until = time.monotonic() + (self._timeout or 0.0)
        self.ended = False

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int | None:
        if self._timeout is not None:
            left = self._until - time.monotonic()
            if left <= 0:
                raise TimeoutError("the answer trickles")
            self._socket.settimeout(left)
        try:
            size = self._raw.readinto(buffer)
            self.ended = not size
            return size
        finally:
            # The next request over this connection starts afresh.
            self._socket.settimeout(self._timeout)

    def close(self) -> None:
        self._raw.close()
        super().close()


class _Answer(http.client.HTTPResponse):
    """An answer whose last byte must come within the timeout."""

    def __init__(self, sock: socket.socket, *args: Any, **options: Any) -> None:
        super().__init__(sock, *args, **options)
        self.fp.close()
        self._until = _Until(sock)
        self.fp = io.BufferedReader(self._until)

    def _read_status(self) -> tuple[str, int, str]:
        while True:
            version, status, reason = super()._read_status()  # type: ignore[misc]
            # http.client passes over 100 alone, and takes any other interim answer for the answer.
            if not 100 < status < 200 or status == 101:
                return version, status, reason
            http.client.parse_headers(self.fp)

    def begin(self) -> None:
        super().begin()
        # http.client takes the end of the connection for the end of the head.
        if self._until.ended:
            raise http.client.RemoteDisconnected("the head of the answer is cut")


class _Sender(urllib3.connection.HTTPConnection):
    """
    A connection that has ``seconds`` to send a request and hear the answer.

    To send, urllib3 allows for as many as to connect; and afterwards for all of them once more.
    """

    response_class = _Answer

    def __init__(self, *args: Any, seconds: float, **options: Any) -> None:
        super().__init__(*args, **options)
        self._seconds = seconds
        self._until = 0.0

    def connect(self) -> None:
        super().connect()
        self._until = time.monotonic() + self._seconds
        self.sock.settimeout(self._seconds)

    def request(self, *args: Any, **options: Any) -> None:
        if self.sock is not None:
            self._until = time.monotonic() + self._seconds
            self.timeout = self._seconds
        super().request(*args, **options)

    def getresponse(self) -> Any:
        self.timeout = max(0.001, self._until - time.monotonic())
        return super().getresponse()


class _Plain(_Sender):
    pass


class _Secure(_Sender, urllib3.connection.HTTPSConnection):
    pass


class _Adapter(requests.adapters.HTTPAdapter):
    """
    The connections of the conversations: beside those of the session, whose users may want answers that take longer.

    ``seconds`` are for a request and its answer, the same for all calls of a hook.
    """

    seconds = REQUEST_TIMEOUT

    def send(
        self,
        request: Any,
        stream: bool = False,
        timeout: Any = None,
        verify: Any = True,
        cert: Any = None,
        proxies: Any = None,
    ) -> requests.Response:
        self.seconds = timeout[1]
        return super().send(request, stream, timeout, verify, cert, proxies)

    def get_connection_with_tls_context(self, *args: Any, **options: Any) -> Any:
        pool: Any = super().get_connection_with_tls_context(*args, **options)
        pool.ConnectionCls = _Secure if pool.scheme == "https" else _Plain
        pool.conn_kw["seconds"] = self.seconds
        return pool


class _SignForOrigin(requests.auth.AuthBase):
    """Sign the requests that a user makes on the session, as long as they go to the service."""

    def __init__(self, base_url: str, auth: Auth) -> None:
        self._prefix = base_url + "/"
        self._auth = auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if (request.url or "").startswith(self._prefix) and (signature := self._auth.header()):
            request.headers["Authorization"] = signature
        return request


class _Session(requests.Session):
    """A session whose own ``verify`` outranks an environment's CA bundle, also in calls that do not name it."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return what a request is sent with."""
        given = dict(proxies or {})
        settings: Any = super().merge_environment_settings(
            url, proxies, stream, self.verify if verify is None else verify, cert
        )
        # Unencrypted is allowed because it stays on this machine, so no proxy may be in between.
        if is_plain_and_local(url):
            settings["proxies"] = given
        return settings


def make_session(settings: Settings, auth: Auth, connections: int = 64) -> requests.Session:
    """
    Return a session that signs calls to the service, and no others.

    :param connections: Connections that are kept, one for each thread that uses the session.
    :raises ConfigurationError: ``verify`` names a CA bundle that is not there.
    """
    session = _Session()
    session.verify = check_verify(settings.verify)
    if settings.verify is not False and settings.base_url.startswith("https://"):
        # Left to requests, a bundle without a certificate would look like a broken connection.
        load_trust(settings.verify)
    session.auth = _SignForOrigin(settings.base_url, auth)
    session.headers["User-Agent"] = make_user_agent("requests")
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=connections))
    return session


def _kind(error: Exception) -> FaultKind | None:
    """Return what an exception means, or None for one that is no fault of the network."""
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return FaultKind.CERTIFICATE if "CERTIFICATE" in str(error).upper() else FaultKind.CUT
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return FaultKind.CONNECT
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError):
        return FaultKind.TIMEOUT
    if isinstance(error, requests.exceptions.ConnectionError):
        reason = getattr(error.args[0] if error.args else None, "reason", None)
        refused = isinstance(reason, urllib3.exceptions.NewConnectionError)
        return FaultKind.CONNECT if refused else FaultKind.CUT
    if isinstance(error, TooLong):
        return FaultKind.TOO_LONG
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader):
        return FaultKind.UNUSABLE
    if isinstance(error, requests.exceptions.RequestException | urllib3.exceptions.HTTPError | OSError):
        return FaultKind.CUT
    return None
