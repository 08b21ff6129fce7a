"""What both transports share."""

from __future__ import annotations

import os
import platform
import ssl
import time
import zlib
from collections.abc import Callable, Mapping
from importlib.metadata import version
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.api.hosts import is_this_machine
from airflow_provider_scantrust.api.messages import Answer, Fault, FaultKind, Log, Notice, Pause
from airflow_provider_scantrust.api.texts import one_line
from airflow_provider_scantrust.exceptions import ConfigurationError

# About 250 times the longest known answer, which is for 999 items. Parsed JSON may need 20 times as much
# memory.
MOST_BYTES = 16 * 1024 * 1024
_TLS_PROBE = 1.0


class TooLong(Exception):
    """An answer that is longer than any answer of the API."""

    def __init__(self) -> None:
        super().__init__(f"the answer is longer than {MOST_BYTES} bytes")


class Transport:
    """
    What both drivers do in the same way: they send the same headers, and return the same values.

    :param library: The HTTP library.
    :param clock: Monotonic seconds.
    """

    def __init__(self, library: str, log: Log, clock: Callable[[], float]) -> None:
        self._headers = {"User-Agent": make_user_agent(library), "Accept-Encoding": "identity"}
        self._log = log
        self._clock = clock
        self._was_probed = False

    def _answer(self, status: int, headers: Mapping[str, str], body: bytes, started: float) -> Answer:
        return Answer(
            status=status,
            headers=headers,
            body=unpack(body, headers.get("content-encoding", "")),
            elapsed=self._clock() - started,
            received_at=time.time(),
        )

    def _fault(
        self, kind: FaultKind, error: Exception, started: float, *, url: str, is_unanswered: bool
    ) -> Fault:
        """
        Return the fault for a library's exception. With a probe, this takes up to a second.

        :param url: Where the request went.
        :param is_unanswered: The server itself got the request and sent nothing.
        """
        if self._may_probe(kind, is_unanswered):
            self._was_probed = True
            if speaks_tls(url):
                kind = FaultKind.NEEDS_TLS
        return Fault(kind, describe_fault(kind, error), self._clock() - started)

    def _may_probe(self, kind: FaultKind, is_unanswered: bool) -> bool:
        # One probe is enough: the answer depends only on the fields of the connection.
        return kind is FaultKind.CUT and is_unanswered and not self._was_probed


def make_user_agent(library: str) -> str:
    """Return the User-Agent, with the versions that are running."""
    return (
        f"airflow-provider-scantrust/{__version__} apache-airflow/{version('apache-airflow')} "
        f"python/{platform.python_version()} {library}/{version(library)}"
    )


def unpack(body: bytes, encoding: str) -> bytes:
    """
    Decompress a body, for proxies that compress although the request forbids it.

    The libraries would decompress without a limit, so this is off in them. A body that cannot be decompressed
    is returned as it is, and then is not JSON.

    :param encoding: The header Content-Encoding.
    :raises TooLong: The decompressed body is longer than any answer of the API.
    """
    kind = encoding.strip().lower()
    if kind not in ("gzip", "x-gzip", "deflate"):
        return body
    for bits in (47, -15):
        unpacker = zlib.decompressobj(wbits=bits)
        try:
            unpacked = unpacker.decompress(body, MOST_BYTES + 1)
        except zlib.error:
            continue
        if len(unpacked) > MOST_BYTES:
            raise TooLong
        if unpacker.eof:
            return unpacked
    return body


def load_trust(verify: bool | str) -> ssl.SSLContext:
    """
    Return a context that trusts the same CA bundle as requests.

    This is the bundle of the connection, else of the environment, else of certifi.

    :raises ConfigurationError: The bundle does not exist, or has no certificate.
    """
    from certifi import where

    if isinstance(verify, str) and not os.path.exists(verify):
        raise ConfigurationError(
            f"verify in the connection's extra is the path {verify!r}, which does not exist on this machine. It "
            "must be true, false, or the path of a CA bundle."
        )
    bundle = verify if isinstance(verify, str) else None
    bundle = bundle or os.environ.get("REQUESTS_CA_BUNDLE") or os.environ.get("CURL_CA_BUNDLE") or where()
    try:
        if os.path.isdir(bundle):
            return ssl.create_default_context(capath=bundle)
        return ssl.create_default_context(cafile=bundle)
    except OSError as error:
        raise ConfigurationError(
            f"The CA bundle {bundle!r} (of verify in the connection's extra, or of REQUESTS_CA_BUNDLE) cannot be used: "
            f"{describe(error)}."
        ) from error


def speaks_tls(url: str) -> bool:
    """
    Whether a server that cut a plain http connection speaks TLS. This takes at most a second.

    :param url: Where the server is; it gets only the start of a handshake.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return bool(ssl.get_server_certificate((parts.hostname or "", parts.port or 80), timeout=_TLS_PROBE))
    except (OSError, ValueError):
        return False


def read_tls_trouble(error: Exception) -> FaultKind:
    """Return the kind of TLS error, from its text: the libraries keep only the words of OpenSSL's errors."""
    said = str(error).upper().replace(" ", "_")
    if "CERTIFICATE" in said:
        return FaultKind.CERTIFICATE
    # OpenSSL's words for an answer in plain HTTP differ between its versions.
    if any(
        word in said for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
    ):
        return FaultKind.SPEAKS_NO_TLS
    return FaultKind.CUT


def say(step: Pause | Notice | None, log: Log) -> None:
    """Write a notice or the reason for a pause to the task's log, if there is one."""
    if step is None:
        return
    if isinstance(step, Pause):
        if step.reason:
            log.warning("%s", step.reason)
    elif step.warning:
        log.warning("%s", step.text)
    else:
        log.info("%s", step.text)


def is_plain_and_local(url: str) -> bool:
    """Whether a request would go unencrypted to this machine, which is allowed."""
    parts = urlsplit(url)
    return parts.scheme == "http" and is_this_machine(parts.hostname or "")


def check_proxy(proxy: str | None) -> None:
    """
    Refuse a proxy that one of the transports cannot use.

    :raises ConfigurationError: The proxy is not an HTTP proxy.
    """
    scheme, separator, _ = (proxy or "").partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"The environment names a proxy of the kind {scheme!r}; only http and https proxies can be used. "
            "To connect without a proxy, add Scantrust's host to NO_PROXY."
        )


def describe_fault(kind: FaultKind, error: Exception) -> str:
    """Return why no answer came, without a library's text on a bad URL: it may have a proxy's password."""
    if kind is FaultKind.UNUSABLE:
        return f"{type(error).__name__}, of the host or of a proxy that the environment names"
    return _find_reason(error) or describe(error)


def _find_reason(error: BaseException) -> str:
    """Return what the system says, such as "Connection refused", below what the libraries wrap around it."""
    seen: set[int] = set()
    below: list[Any] = [error]
    while below:
        if not isinstance(each := below.pop(), BaseException) or id(each) in seen:
            continue
        seen.add(id(each))
        module = type(each).__module__
        # Errors of TLS have classes of their own, and more to say. For names, the numbers are not the system's.
        if isinstance(each, OSError) and each.errno and module in ("builtins", "socket"):
            return one_line(os.strerror(each.errno) if module == "builtins" else str(each.strerror))
        below += [*each.args, each.__cause__, each.__context__, getattr(each, "reason", None)]
    return ""


def describe(error: Exception) -> str:
    """Return a library's exception in one short line."""
    return one_line(f"{type(error).__name__}: {error}")
