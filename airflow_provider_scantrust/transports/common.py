"""What both transports share."""

from __future__ import annotations

import os
import platform
import ssl
import zlib
from importlib.metadata import version
from typing import Any, Protocol
from urllib.parse import urlsplit

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.api.hosts import is_this_machine
from airflow_provider_scantrust.api.messages import FaultKind, Notice, Pause
from airflow_provider_scantrust.api.texts import one_line
from airflow_provider_scantrust.exceptions import ConfigurationError

# The longest answer that is known is one to 999 items; this is some 250 times that. Read as JSON it may take
# 20 times as much memory.
MOST_BYTES = 16 * 1024 * 1024
_TLS_PROBE = 1.0


class Log(Protocol):
    """What a transport needs of a logger: Airflow's are not all of one class."""

    def info(self, event: str, *args: Any) -> Any: ...

    def warning(self, event: str, *args: Any) -> Any: ...


class TooLong(Exception):
    """An answer that is longer than any of the API's can be."""

    def __init__(self) -> None:
        super().__init__(f"the answer is longer than {MOST_BYTES} bytes")


def make_user_agent(library: str) -> str:
    """Return who is asking, with the versions that are really running."""
    return (
        f"airflow-provider-scantrust/{__version__} apache-airflow/{version('apache-airflow')} "
        f"python/{platform.python_version()} {library}/{version(library)}"
    )


def common_headers(user_agent: str) -> dict[str, str]:
    """Return the headers that each request carries, in place of the library's own."""
    return {"User-Agent": user_agent, "Accept-Encoding": "identity"}


def unpack(body: bytes, encoding: str) -> bytes:
    """
    Return a body unpacked, for proxies that pack although they are asked not to.

    The libraries would unpack without a bound, so their own unpacking is off. What cannot be unpacked is
    returned as it is, and is then no JSON.

    :param encoding: The header Content-Encoding.
    :raises TooLong: It unpacks to more than any of the API's answers.
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
    Return a context that trusts the bundle of the connection, else the environment's, else certifi's, as requests does.

    :raises ConfigurationError: The bundle is not there, or holds no certificate.
    """
    from certifi import where

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
    Whether a server speaks TLS that was called without it, and has cut the connection; it takes a second at most.

    :param url: Nothing is sent there but the start of a handshake.
    """
    parts = urlsplit(url)
    if parts.scheme != "http":
        return False
    try:
        return bool(ssl.get_server_certificate((parts.hostname or "", parts.port or 80), timeout=_TLS_PROBE))
    except (OSError, ValueError):
        return False


def read_tls_trouble(error: Exception) -> FaultKind:
    """Return what went wrong with TLS; the libraries wrap OpenSSL's errors and keep no more than its words."""
    said = str(error).upper().replace(" ", "_")
    if "CERTIFICATE" in said:
        return FaultKind.CERTIFICATE
    # What OpenSSL says when it is answered in plain HTTP differs with its version.
    if any(
        word in said for word in ("WRONG_VERSION_NUMBER", "RECORD_LAYER_FAILURE", "PACKET_LENGTH_TOO_LONG")
    ):
        return FaultKind.SPEAKS_NO_TLS
    return FaultKind.CUT


def check_verify(verify: bool | str) -> bool | str:
    """
    Return ``verify`` when it can be used.

    :raises ConfigurationError: It is a path and nothing is there.
    """
    if isinstance(verify, str) and not os.path.exists(verify):
        raise ConfigurationError(
            f"verify in the connection's extra is the path {verify!r}, and there is nothing on this machine. It "
            "must be true, false, or the path of a CA bundle."
        )
    return verify


def say(step: Pause | Notice, log: Log) -> None:
    """Write to the task's log what a conversation has to say."""
    if isinstance(step, Pause):
        if step.reason:
            log.warning("%s", step.reason)
    elif step.warning:
        log.warning("%s", step.text)
    else:
        log.info("%s", step.text)


def is_plain_and_local(url: str) -> bool:
    """Whether a request would go unencrypted to this machine: allowed because it stays on this machine."""
    parts = urlsplit(url)
    return parts.scheme == "http" and is_this_machine(parts.hostname or "")


def check_proxy(proxy: str | None) -> None:
    """
    Refuse a proxy that not both transports can use.

    :raises ConfigurationError: It is no HTTP proxy.
    """
    scheme, separator, _ = (proxy or "").partition("://")
    if separator and scheme.lower() not in ("http", "https"):
        raise ConfigurationError(
            f"The environment names a proxy of the kind {scheme!r}; only http and https proxies can be used. "
            "NO_PROXY takes Scantrust's host out."
        )


def describe_fault(kind: FaultKind, error: Exception) -> str:
    """Return why no answer came; what a library says of a bad URL may hold the password of a proxy."""
    if kind is FaultKind.UNUSABLE:
        return f"{type(error).__name__}, of the host or of a proxy that the environment names"
    return describe(error)


def describe(error: Exception) -> str:
    """Return a library's exception in one short line."""
    return one_line(f"{type(error).__name__}: {error}")
