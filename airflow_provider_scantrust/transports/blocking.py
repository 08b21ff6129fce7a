"""
Perform conversations with ``requests``, on workers, where a thread may wait.

Rule: this module decides nothing and uses only the public interface of requests and urllib3. Their read
timeout is for each piece of an answer, so this module checks the deadline of the request between two pieces
of the body. It cannot do so while the headers arrive: a server that sends them byte by byte can exceed the
deadline.
"""

from __future__ import annotations

import io
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any, TypeVar

import requests
import requests.adapters
import requests.auth
import requests.utils
import urllib3.exceptions

from airflow_provider_scantrust.api.auth import Auth
from airflow_provider_scantrust.api.messages import (
    Answer,
    Conversation,
    Fault,
    FaultKind,
    Log,
    Pause,
    Request,
)
from airflow_provider_scantrust.api.settings import Settings
from airflow_provider_scantrust.transports.common import (
    MOST_BYTES,
    TooLong,
    Transport,
    check_proxy,
    is_plain_and_local,
    load_trust,
    make_user_agent,
    read_tls_trouble,
    say,
)

T = TypeVar("T")

_INTERIM = range(100, 200)
# How many connections are kept; each thread needs one.
_KEPT_CONNECTIONS = 64


class BlockingTransport(Transport):
    """
    Send the requests of a conversation over one session.

    :param session: Its connections, proxies, CA bundle and ``verify`` are used; its headers and its auth are
        not.
    :param pauses: Gets the reasons for pauses; by default ``log``.
    :param meter: Called with each reply, and with each pause before a retry; for counts.
    :param sleep: Waits for the given seconds.
    :param clock: Monotonic seconds.
    """

    def __init__(
        self,
        session: requests.Session,
        *,
        log: Log,
        pauses: Log | None = None,
        meter: Callable[[Answer | Fault | Pause], object] = lambda step: None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        super().__init__("requests", log, clock)
        self.session = session
        self._meter = meter
        self._pauses = pauses or log
        self._sleep = sleep

    def perform(self, conversation: Conversation[T]) -> T:
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
                    reply = self._send(step)
                    self._meter(reply)
                elif isinstance(step, Pause):
                    say(step, self._pauses)
                    # Only a pause with a reason is a retry.
                    if step.reason:
                        self._meter(step)
                    self._sleep(step.seconds)
                else:
                    say(step, self._log)

    def _send(self, request: Request) -> Answer | Fault:
        started = self._clock()
        proxy = response = None

        def check_time() -> None:
            if self._clock() > started + request.timeout[1]:
                raise TimeoutError("the time limit of the request has passed")

        try:
            # Not prepared by the session: it would let ~/.netrc replace the token.
            prepared = requests.Request(
                request.method,
                request.url,
                headers={**request.headers, **self._headers},
                data=_Body(request.body, check_time) if request.body else None,
            ).prepare()
            url = prepared.url or ""
            settings: Any = self.session.merge_environment_settings(
                url, {}, stream=True, verify=self.session.verify, cert=None
            )
            proxy = requests.utils.select_proxy(url, settings["proxies"])
            check_proxy(proxy)
            # Not sent by the session: it follows redirects, keeps cookies and reads the whole answer.
            with self.session.get_adapter(url).send(
                prepared, timeout=request.timeout, **settings
            ) as response:
                if response.status_code in _INTERIM:
                    # http.client takes an interim answer for the final one. The error closes the connection,
                    # so that the next call does not get the final answer of this one.
                    raise requests.exceptions.ConnectionError(f"an interim answer ({response.status_code})")
                headers = {name.lower(): value for name, value in response.headers.items()}
                return self._answer(response.status_code, headers, _read(response, check_time), started)
        except Exception as error:
            kind = _kind(error)
            if kind is None:
                raise
            is_unanswered = not proxy and response is None
            return self._fault(kind, error, started, url=request.url, is_unanswered=is_unanswered)


class _Body(io.BytesIO):
    """
    A body that is sent in blocks.

    urllib3 uses the connect timeout also for sending: bytes must be sent within it as a whole, but a file
    only block by block.
    """

    def __init__(self, body: bytes, check_time: Callable[[], None]) -> None:
        super().__init__(body)
        self._check_time = check_time

    def read(self, size: int | None = -1, /) -> bytes:
        self._check_time()
        return super().read(size)


def _read(response: requests.Response, check_time: Callable[[], None]) -> bytes:
    body = bytearray()
    while piece := response.raw.read1(65_536, decode_content=False):
        body += piece
        if len(body) > MOST_BYTES:
            raise TooLong
        check_time()
    return bytes(body)


class _SignForOrigin(requests.auth.AuthBase):
    """Sign the requests that a user makes with the session, if they go to the service."""

    def __init__(self, base_url: str, auth: Auth) -> None:
        self._prefix = base_url + "/"
        self._auth = auth

    def __call__(self, request: requests.PreparedRequest) -> requests.PreparedRequest:
        if (request.url or "").startswith(self._prefix) and (signature := self._auth.header()):
            request.headers["Authorization"] = signature
        return request


class _Session(requests.Session):
    """A session whose ``verify`` has priority over the environment's CA bundle in every call."""

    def merge_environment_settings(self, url: Any, proxies: Any, stream: Any, verify: Any, cert: Any) -> Any:
        """Return the settings for a request."""
        given = dict(proxies or {})
        settings: Any = super().merge_environment_settings(
            url, proxies, stream, self.verify if verify is None else verify, cert
        )
        # Plain http is allowed only because it stays on this machine, so it must not use a proxy.
        if is_plain_and_local(url):
            settings["proxies"] = given
        return settings


def make_session(settings: Settings, auth: Auth) -> requests.Session:
    """
    Return a session that signs calls to the service, and no other calls.

    :raises ConfigurationError: ``verify`` is the path of a CA bundle that does not exist.
    """
    session = _Session()
    session.verify = settings.verify
    if isinstance(settings.verify, str) or (settings.verify and settings.base_url.startswith("https://")):
        # With requests alone, a bundle without a certificate would look like a broken connection.
        load_trust(settings.verify)
    session.auth = _SignForOrigin(settings.base_url, auth)
    session.headers["User-Agent"] = make_user_agent("requests")
    for scheme in ("https://", "http://"):
        session.mount(scheme, requests.adapters.HTTPAdapter(pool_maxsize=_KEPT_CONNECTIONS))
    return session


def _kind(error: Exception) -> FaultKind | None:
    """Return the kind of network fault that an exception means, or None for any other exception."""
    if isinstance(error, requests.exceptions.SSLError | urllib3.exceptions.SSLError):
        return read_tls_trouble(error)
    if isinstance(error, requests.exceptions.ConnectTimeout | requests.exceptions.ProxyError):
        return FaultKind.CONNECT
    if isinstance(error, requests.exceptions.Timeout | urllib3.exceptions.TimeoutError | TimeoutError):
        return FaultKind.TIMEOUT
    if isinstance(error, requests.exceptions.ConnectionError):
        reason = error.args[0] if error.args else None
        if isinstance(getattr(reason, "reason", None), urllib3.exceptions.NewConnectionError):
            return FaultKind.CONNECT
        # While a request is sent, urllib3 reports the timeout as a broken connection.
        is_late = isinstance(reason, urllib3.exceptions.ProtocolError) and isinstance(
            reason.args[-1], TimeoutError
        )
        return FaultKind.TIMEOUT if is_late else FaultKind.CUT
    if isinstance(error, TooLong):
        return FaultKind.TOO_LONG
    if isinstance(error, requests.exceptions.InvalidURL | requests.exceptions.InvalidHeader):
        return FaultKind.UNUSABLE
    if isinstance(error, requests.exceptions.RequestException | urllib3.exceptions.HTTPError | OSError):
        return FaultKind.CUT
    return None
