"""
What a connection says, read once and checked: where the service is, how to sign, how long to try.

Rule: the token leaves this module only inside an :class:`~airflow_provider_scantrust.api.auth.Auth`.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_scantrust.api.auth import Auth, LoginAuth, TokenAuth
from airflow_provider_scantrust.exceptions import ConfigurationError

# Scantrust: REST API, environments.
PRODUCTION = "https://api.scantrust.com"
PORTALS = {PRODUCTION: "https://portal.scantrust.com/#/"}

# Just above the 60 s after which Scantrust's gateway answers 504 by itself.
REQUEST_TIMEOUT = 75.0
CONNECT_TIMEOUT = 10.0
RETRY_ATTEMPTS = 5
RETRY_SECONDS = 300.0

TRUE_WORDS = {"true", "yes", "on", "1"}
FALSE_WORDS = {"false", "no", "off", "0"}
KNOWN_EXTRAS = frozenset(
    {
        "auth_scheme",
        "login_endpoint",
        "request_timeout",
        "connect_timeout",
        "retry_attempts",
        "retry_seconds",
        "verify",
        "portal_url",
        "allow_plain_http",
    }
)


@dataclass(frozen=True)
class Budget:
    """
    How long to go on after answers that may pass.

    :param attempts: Tries in all for 5xx and missing answers; None for no limit but the seconds. Being throttled
        is no failed try and counts against the seconds alone.
    :param seconds: Seconds for the whole conversation, pauses included.
    :param retry_unreadable: Ask again after an answer that cannot be read: right while waiting for a job, where
        a proxy's error page must not end the wait.
    """

    attempts: int | None = RETRY_ATTEMPTS
    seconds: float = RETRY_SECONDS
    retry_unreadable: bool = False

    def at_most(self, seconds: float) -> Budget:
        """Return the same budget, cut to that many seconds."""
        return replace(self, seconds=min(self.seconds, max(0.0, seconds)))


@dataclass(frozen=True)
class Settings:
    """
    A connection, understood.

    :param base_url: Scheme, host, port and path prefix, without a trailing slash.
    :param verify: True, False, or the path of a CA bundle.
    :param ignored: Names in the connection's extra that mean nothing here.
    """

    base_url: str
    auth_scheme: str
    login: str | None
    login_endpoint: str | None
    secret: str = field(repr=False)
    connect_timeout: float = CONNECT_TIMEOUT
    request_timeout: float = REQUEST_TIMEOUT
    budget: Budget = Budget()
    verify: bool | str = True
    portal_url: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self.base_url).netloc

    def make_auth(self) -> Auth:
        """Return a fresh signer: it holds the token, or logs in with the password when first asked."""
        if self.auth_scheme == "login":
            return LoginAuth(str(self.login), self.secret, str(self.login_endpoint))
        return TokenAuth(self.auth_scheme, self.secret)


def read_settings(
    *,
    host: str | None = None,
    schema: str | None = None,
    port: int | None = None,
    login: str | None = None,
    password: str | None = None,
    extra: Mapping[str, Any] | None = None,
) -> Settings:
    """
    Read the fields of an Airflow connection.

    :param host: Base URL, with or without a scheme (https is meant); empty means production.
    :param schema: ``http`` or ``https``, where the host names no scheme (as in a connection URI).
    :param password: The token, or the password when ``auth_scheme`` is ``login``.
    :param extra: See the connection's form; every value may also be text, as in a connection URI.
    :raises ConfigurationError: A field cannot work; the message names it.
    """
    extra = extra or {}
    auth_scheme = _auth_scheme(extra.get("auth_scheme"))
    secret = _secret(password, auth_scheme)
    login_endpoint = None
    if auth_scheme == "login":
        if not (login or "").strip():
            raise ConfigurationError(
                'auth_scheme is "login", so the connection needs a login (the user name).'
            )
        login_endpoint = _login_endpoint(extra.get("login_endpoint"))
    base_url = _base_url(host, schema, port, allow_plain_http=_flag(extra, "allow_plain_http", default=False))
    return Settings(
        base_url=base_url,
        auth_scheme=auth_scheme,
        login=(login or "").strip() or None,
        login_endpoint=login_endpoint,
        secret=secret,
        connect_timeout=_seconds(extra, "connect_timeout", CONNECT_TIMEOUT),
        request_timeout=_seconds(extra, "request_timeout", REQUEST_TIMEOUT),
        budget=Budget(
            attempts=int(_seconds(extra, "retry_attempts", RETRY_ATTEMPTS, at_least=1)),
            seconds=_seconds(extra, "retry_seconds", RETRY_SECONDS),
        ),
        verify=_verify(extra.get("verify")),
        portal_url=str(extra.get("portal_url") or "") or PORTALS.get(base_url),
        ignored=tuple(sorted(str(name) for name in extra if name not in KNOWN_EXTRAS)),
    )


def is_this_machine(hostname: str) -> bool:
    """Whether a host name is the loopback of this machine, as far as can be told without asking DNS."""
    if hostname == "localhost":
        return True
    try:
        return ipaddress.ip_address(hostname).is_loopback
    except ValueError:
        return False


def _base_url(host: str | None, schema: str | None, port: int | None, *, allow_plain_http: bool) -> str:
    host = (host or "").strip().rstrip("/")
    if not host:
        if port or (schema or "").strip():
            raise ConfigurationError("The connection has a port or a schema but no host.")
        return PRODUCTION
    if "://" not in host:
        scheme = (schema or "").strip().lower() or "https"
        host = f"{scheme}://{host}"
    try:
        parts = urlsplit(host)
        hostname, own_port = parts.hostname, parts.port
    except ValueError as error:
        raise ConfigurationError(f"The connection's host is no URL: {error}.") from error
    if parts.scheme not in ("https", "http"):
        raise ConfigurationError(
            f"The connection's host (or schema) says {parts.scheme!r}; it must be https or http."
        )
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "The connection's host contains a user or password; put the token in the password."
        )
    if not hostname or any(not 32 < ord(letter) < 127 for letter in host) or parts.query or parts.fragment:
        raise ConfigurationError(
            "The connection's host must be a host name or a base URL such as https://api.scantrust.com, "
            "without spaces, query or fragment."
        )
    if own_port and port and own_port != port:
        raise ConfigurationError(
            f"The connection names two ports: {own_port} in its host and {port} in its port."
        )
    if parts.scheme == "http" and not allow_plain_http and not is_this_machine(hostname):
        raise ConfigurationError(
            f"Plain http to {hostname} would send the token unencrypted. Use https, or set allow_plain_http "
            "in the connection's extra if the network in between is yours."
        )
    name = f"[{hostname}]" if ":" in hostname else hostname
    chosen = own_port or port
    return f"{parts.scheme}://{name}{f':{chosen}' if chosen else ''}{parts.path.rstrip('/')}"


def _auth_scheme(value: Any) -> str:
    word = str(value or "UAT").strip()
    for scheme in ("UAT", "JWT", "login"):
        if word.lower() == scheme.lower():
            return scheme
    raise ConfigurationError(f"auth_scheme is {word!r}; it must be UAT, JWT or login.")


def _secret(password: str | None, auth_scheme: str) -> str:
    if auth_scheme == "login":
        if not password:
            raise ConfigurationError('auth_scheme is "login", so the connection needs a password.')
        return password
    token = (password or "").strip()
    if not token:
        raise ConfigurationError(
            "The connection has no token. Make a User Authorization Token in the Scantrust portal and put it "
            "in the connection's password."
        )
    if any(not 32 < ord(letter) < 127 for letter in token):
        raise ConfigurationError(
            "The token in the connection's password contains a space, a line break or another character that "
            "no token has. Put the token alone there; the word before it belongs into auth_scheme."
        )
    return token


def _login_endpoint(value: Any) -> str:
    path = str(value or "").strip()
    if not path:
        raise ConfigurationError(
            "auth_scheme is \"login\", so the connection's extra needs login_endpoint: the path of Scantrust's "
            "login call, which Scantrust gives to its customers. There is no default."
        )
    if "://" in path or path.startswith("//") or any(not 32 < ord(letter) < 127 for letter in path):
        raise ConfigurationError(
            "login_endpoint must be a path below the host, such as /some/login/path/, without spaces."
        )
    return "/" + path.lstrip("/")


def _flag(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name)
    if value is None or value == "":
        return default
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ConfigurationError(f"{name} in the connection's extra is {value!r}; it must be true or false.")


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    word = str(value).strip()
    if word.lower() in TRUE_WORDS:
        return True
    return False if word.lower() in FALSE_WORDS else word


def _seconds(extra: Mapping[str, Any], name: str, default: float, *, at_least: float = 0.001) -> float:
    value = extra.get(name)
    if value is None or value == "":
        return default
    try:
        number = float(value)
    except (TypeError, ValueError):
        number = float("nan")
    if isinstance(value, bool) or not at_least <= number <= 86_400:
        raise ConfigurationError(
            f"{name} in the connection's extra is {value!r}; it must be a number of at least {at_least:g} "
            "and at most 86400."
        )
    return number
