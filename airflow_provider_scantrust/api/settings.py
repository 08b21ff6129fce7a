"""
What a connection says, read once and checked: where the service is, how to sign, how long to try.

Rule: the token leaves this module only inside an :class:`~airflow_provider_scantrust.api.auth.Auth`.
"""

from __future__ import annotations

import hashlib
import ipaddress
import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_scantrust.api.auth import Auth, LoginAuth, TokenAuth
from airflow_provider_scantrust.api.texts import one_line, show
from airflow_provider_scantrust.exceptions import ConfigurationError

# Scantrust: REST API, environments.
PRODUCTION = "https://api.scantrust.com"
PORTALS = {PRODUCTION: "https://portal.scantrust.com/#/"}

# Just above the 60 s after which Scantrust's gateway answers 504 by itself.
REQUEST_TIMEOUT = 75.0
CONNECT_TIMEOUT = 10.0
RETRY_ATTEMPTS = 5
RETRY_SECONDS = 300.0
# Scantrust: rate limits, authenticated: 3000 a minute, which is 50 a second; a fifth is left to workers and people.
POLLS_PER_SECOND = 40

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
        "max_polls_per_second",
        "verify",
        "portal_url",
        "allow_plain_http",
    }
)

# Only what every library takes for the same host and path: a backslash, for one, ends a host for some of them.
_HOST_NAME = re.compile(r"[A-Za-z0-9_]([A-Za-z0-9_.-]*[A-Za-z0-9_])?\.?")
_PATH = re.compile(r"(/[A-Za-z0-9._~!$&'()*+,;=:@%-]+)*/?")
_LONGEST_PATH = 4_096
_USUAL_PORTS = {"https": 443, "http": 80}
_HIGHEST_PORT = 65_535
# About 50 ms: slow enough for whoever guesses passwords, and computed once for each upload.
_DIGEST_ROUNDS = 100_000


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
    :param polls_per_second: Questions for the state of jobs that one triggerer asks in a second, at most.
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
    polls_per_second: int = POLLS_PER_SECOND
    verify: bool | str = True
    portal_url: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Host and port, for people."""
        return urlsplit(self.base_url).netloc

    @cached_property
    def account(self) -> Settings:
        """
        The same settings without all that says how to ask rather than whom and as whom.

        Equal for two connections that share the service's rate limits, so it is a key for what they share.
        """
        return Settings(
            base_url=self.base_url,
            auth_scheme=self.auth_scheme,
            login=self.login,
            login_endpoint=self.login_endpoint,
            secret=self.secret,
            verify=self.verify,
        )

    @cached_property
    def account_digest(self) -> str:
        """
        Identify service and account in what is stored, such as an upload's progress.

        It changes with the base URL, the scheme, the token, and (with ``auth_scheme`` ``login``) the user name or password; not
        with the JWT that a login gives. Slow and salted, since a password may be guessable.
        """
        who = self.login if self.auth_scheme == "login" else None
        salt = json.dumps(["airflow-provider-scantrust", self.base_url, self.auth_scheme, who])
        digest = hashlib.pbkdf2_hmac("sha256", self.secret.encode(), salt.encode(), _DIGEST_ROUNDS, dklen=16)
        return digest.hex()

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
    if not isinstance(extra, Mapping):
        raise ConfigurationError(
            "The connection's extra must be a JSON object, with a name for each setting."
        )
    auth_scheme = _auth_scheme(extra.get("auth_scheme"))
    secret = _secret(password, auth_scheme)
    login_endpoint = None
    if auth_scheme == "login":
        if not (login or "").strip() or not _is_text(login or ""):
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
        polls_per_second=int(_seconds(extra, "max_polls_per_second", POLLS_PER_SECOND, at_least=1)),
        verify=_verify(extra.get("verify")),
        portal_url=_portal_url(extra.get("portal_url")) or PORTALS.get(base_url),
        ignored=tuple(sorted(one_line(str(name), 80) for name in extra if name not in KNOWN_EXTRAS)),
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
        host = f"{(schema or '').strip() or 'https'}://{host}"
    if host.partition("://")[0].lower() not in ("https", "http"):
        raise ConfigurationError(
            "The connection's host (or schema) says how to connect; that must be https or http."
        )
    try:
        parts = urlsplit(host)
        hostname, own_port = parts.hostname, parts.port
    except ValueError:
        # Without the reason, which may quote what stands before an @.
        raise ConfigurationError(
            "The connection's host is no URL: its port must be a number, and its brackets must hold an IPv6 address."
        ) from None
    if parts.username is not None or parts.password is not None:
        raise ConfigurationError(
            "The connection's host contains a user or password; put the token in the password."
        )
    if not hostname or "?" in host or "#" in host or not _is_host(hostname) or not _is_path(parts.path):
        raise ConfigurationError(
            "The connection's host must be a host name or a base URL such as https://api.scantrust.com, "
            "without spaces, query or fragment; a name in other letters in its xn-- form."
        )
    if own_port is not None and port and own_port != port:
        raise ConfigurationError(
            f"The connection names two ports: {own_port} in its host and {port} in its port."
        )
    chosen = port if own_port is None else own_port
    if chosen is not None and not 0 < chosen <= _HIGHEST_PORT:
        raise ConfigurationError(f"The connection's port must be from 1 to {_HIGHEST_PORT}.")
    if parts.scheme == "http" and not allow_plain_http and not is_this_machine(hostname):
        raise ConfigurationError(
            f"Plain http to {hostname} would send the token unencrypted. Use https, or set allow_plain_http "
            "in the connection's extra if the network in between is yours."
        )
    name = f"[{hostname}]" if ":" in hostname else hostname
    if chosen == _USUAL_PORTS[parts.scheme]:
        # One service has one name: for its portal, in lineage, and for those who share its limits.
        chosen = None
    return f"{parts.scheme}://{name}{f':{chosen}' if chosen else ''}{parts.path.rstrip('/')}"


def _is_host(hostname: str) -> bool:
    if ":" not in hostname:
        return bool(_HOST_NAME.fullmatch(hostname)) and ".." not in hostname
    try:
        # No zone of an interface: some libraries quote its mark, and others do not.
        return "%" not in hostname and ipaddress.ip_address(hostname).version == 6
    except ValueError:
        return False


def _is_path(path: str) -> bool:
    return (
        len(path) <= _LONGEST_PATH and bool(_PATH.fullmatch(path)) and not {".", ".."} & set(path.split("/"))
    )


def _auth_scheme(value: Any) -> str:
    word = value.strip().lower() if isinstance(value, str) else value
    if word is None or word == "":
        return "UAT"
    for scheme in ("UAT", "JWT", "login"):
        if word == scheme.lower():
            return scheme
    # Without the value: who mistakes this field for the header's value puts the token here.
    raise ConfigurationError("auth_scheme in the connection's extra must be UAT, JWT or login.")


def _secret(password: str | None, auth_scheme: str) -> str:
    if auth_scheme == "login":
        if not password:
            raise ConfigurationError('auth_scheme is "login", so the connection needs a password.')
        if not _is_text(password):
            raise ConfigurationError(
                "The connection's password holds half a character (a lone surrogate), which no request can carry."
            )
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
    path = value.strip() if isinstance(value, str) else "" if value is None else "?"
    if not path:
        raise ConfigurationError(
            "auth_scheme is \"login\", so the connection's extra needs login_endpoint: the path of Scantrust's "
            "login call, which Scantrust gives to its customers. There is no default."
        )
    path = path if path.startswith("/") else f"/{path}"
    if "://" in path or not _is_path(path):
        raise ConfigurationError(
            "login_endpoint must be a path below the host, such as /some/login/path/, without spaces."
        )
    return path


def _portal_url(value: Any) -> str | None:
    """Return where links may lead: a browser would follow ``javascript:`` too."""
    if value is None or value == "":
        return None
    if isinstance(value, str) and re.fullmatch(r"https?://[!-~]+", value.strip(), re.IGNORECASE):
        return value.strip()
    raise ConfigurationError("portal_url in the connection's extra must be a URL that begins with https://.")


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)


def _flag(extra: Mapping[str, Any], name: str, *, default: bool) -> bool:
    value = extra.get(name)
    if value is None or value == "":
        return default
    word = str(value).strip().lower()
    if word in TRUE_WORDS:
        return True
    if word in FALSE_WORDS:
        return False
    raise ConfigurationError(f"{name} in the connection's extra is {show(value)}; it must be true or false.")


def _verify(value: Any) -> bool | str:
    if value is None or value == "":
        return True
    if not isinstance(value, str | bool | int) or len(str(value)) > _LONGEST_PATH:
        raise ConfigurationError(
            "verify in the connection's extra must be true, false, or the path of a CA bundle."
        )
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
    except (TypeError, ValueError, OverflowError):
        number = float("nan")
    if isinstance(value, bool) or not at_least <= number <= 86_400:
        raise ConfigurationError(
            f"{name} in the connection's extra is {show(value)}; it must be a number of at least {at_least:g} "
            "and at most 86400."
        )
    return number
