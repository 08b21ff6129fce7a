"""
The settings in a connection, read once and checked: where the service is, how to sign, how long to retry.

Rule 1: the token leaves this module only inside an :class:`~airflow_provider_scantrust.api.auth.Auth`.
Rule 2: no message quotes a value, because a user may have put the token into the wrong field.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_scantrust.api.auth import Auth, LoginAuth, TokenAuth
from airflow_provider_scantrust.api.extras import EXTRAS, SCANTRUST, Dialect
from airflow_provider_scantrust.api.hosts import PRODUCTION, read_base_url
from airflow_provider_scantrust.api.texts import one_line
from airflow_provider_scantrust.exceptions import ConfigurationError

RETRY_SECONDS: float = EXTRAS["retry_seconds"].default
PORTALS = {PRODUCTION: "https://portal.scantrust.com/#/"}

# The settings that identify service and credentials.
_ACCOUNT = ("base_url", "auth_scheme", "login", "login_endpoint", "secret", "dialect", "verify")

# About 50 ms: slow for an attacker who guesses passwords, and computed once for each upload.
_DIGEST_ROUNDS = 100_000


@dataclass(frozen=True)
class Budget:
    """
    How long to retry after temporary errors.

    :param attempts: Maximum number of tries with 5xx or no answer; None for no limit but the seconds. A 429 is not a
        failed try and counts only against the seconds.
    :param seconds: Seconds for the whole conversation, pauses included. With 0, there is one try, and its
        error does not tell how many there were.
    """

    attempts: int | None = EXTRAS["retry_attempts"].default
    seconds: float = RETRY_SECONDS

    def at_most(self, seconds: float) -> Budget:
        return replace(self, seconds=min(self.seconds, max(0.0, seconds)))


@dataclass(frozen=True)
class Settings:
    """
    The settings of a connection, parsed and checked.

    :param base_url: Scheme, host, port and path prefix, without a trailing slash.
    :param verify: True, False, or the path of a CA bundle.
    :param polls_per_second: Maximum number of status polls that one triggerer sends in a second.
    :param ignored: Unknown names in the connection's extra.
    """

    base_url: str
    auth_scheme: str
    login: str | None
    login_endpoint: str | None
    secret: str = field(repr=False)
    connect_timeout: float = EXTRAS["connect_timeout"].default
    request_timeout: float = EXTRAS["request_timeout"].default
    budget: Budget = Budget()
    polls_per_second: int = EXTRAS["max_polls_per_second"].default
    items_per_call: int = EXTRAS["items_per_call"].default
    dialect: Dialect = SCANTRUST
    verify: bool | str = True
    portal_url: str | None = None
    ignored: tuple[str, ...] = ()

    @property
    def host(self) -> str:
        """Host and port, for logs and messages."""
        return urlsplit(self.base_url).netloc

    @cached_property
    def account(self) -> Settings:
        """The settings that identify service and credentials: a key for objects that share a rate limit."""
        return Settings(**{name: getattr(self, name) for name in _ACCOUNT})

    @cached_property
    def account_digest(self) -> str:
        """
        A digest of service and account, for stored data such as an upload's progress.

        It changes with the base URL, the scheme, the token, and (with ``auth_scheme`` ``login``) the user
        name or password; not with the JWT that a login gives. It is slow and salted, because a password may
        be guessable.
        """
        who = self.login if self.auth_scheme == "login" else None
        salt = json.dumps(["airflow-provider-scantrust", self.base_url, self.auth_scheme, who])
        digest = hashlib.pbkdf2_hmac("sha256", self.secret.encode(), salt.encode(), _DIGEST_ROUNDS, dklen=16)
        return digest.hex()

    def make_auth(
        self,
        clock: Callable[[], float] = lambda: 0.0,
        register: Callable[[str], object] = lambda token: None,
    ) -> Auth:
        """
        Return a signer with the token; with ``auth_scheme`` ``login``, it logs in for the first call.

        Calls with the same signer share the login. Without a clock, a failed login is not repeated.

        :param register: Called with each token that a login gives, so that logs can mask it. Must not block.
        """
        if self.auth_scheme == "login":
            return LoginAuth(
                str(self.login), self.secret, str(self.login_endpoint), clock=clock, register=register
            )
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
    Read the fields of an Airflow connection; empty or absent ones have the defaults of its form.

    :raises ConfigurationError: A field is wrong; the message names it.
    """
    if not isinstance(extra or {}, Mapping):
        raise ConfigurationError(
            "The connection's extra must be a JSON object, with a name for each setting."
        )
    given = {name: _read_extra(name, (extra or {}).get(name)) for name in EXTRAS}
    login = (login or "").strip() or None
    if given["auth_scheme"] == "login":
        secret = _read_password(password)
        if login is None or not _is_text(login):
            raise ConfigurationError(
                'auth_scheme is "login", so the connection needs a login (the user name).'
            )
        if given["login_endpoint"] is None:
            raise ConfigurationError(
                "auth_scheme is \"login\", so the connection's extra needs login_endpoint: the path of Scantrust's "
                "login call, which Scantrust gives to its customers. There is no default."
            )
    else:
        secret, given["login_endpoint"] = _read_token(password), None
    base_url = read_base_url(host, schema, port, allow_plain_http=given.pop("allow_plain_http"))
    return Settings(
        base_url=base_url,
        login=login,
        secret=secret,
        budget=Budget(attempts=given.pop("retry_attempts"), seconds=given.pop("retry_seconds")),
        polls_per_second=given.pop("max_polls_per_second"),
        dialect=Dialect(**{name: given.pop(name) for name in vars(SCANTRUST)}),
        portal_url=given.pop("portal_url") or PORTALS.get(base_url),
        ignored=tuple(sorted(one_line(str(name), 80) for name in extra or {} if name not in EXTRAS)),
        **given,
    )


def _read_extra(name: str, value: Any) -> Any:
    if value is None or (isinstance(value, str) and not value.strip()):
        return EXTRAS[name].default
    try:
        return EXTRAS[name].read(value)
    except ValueError as error:
        raise ConfigurationError(f"{name} in the connection's extra must be {error}.") from None


def _read_password(password: str | None) -> str:
    # A secret mounted as a file ends with a line break; a typed password cannot have one.
    secret = (password or "").rstrip("\r\n")
    if not secret:
        raise ConfigurationError('auth_scheme is "login", so the connection needs a password.')
    if not _is_text(secret):
        raise ConfigurationError(
            "The connection's password holds half a character (a lone surrogate), which no request can carry."
        )
    return secret


def _read_token(password: str | None) -> str:
    token = (password or "").strip()
    if not token:
        raise ConfigurationError(
            "The connection has no token. Make a User Authorization Token in the Scantrust portal and put it "
            "in the connection's password."
        )
    if any(not 32 < ord(letter) < 127 for letter in token):
        raise ConfigurationError(
            "The token in the connection's password contains a space, a line break or another character that "
            "no token has. Put the token alone there; a word such as UAT before it belongs in auth_scheme."
        )
    return token


def _is_text(value: str) -> bool:
    return not any("\ud800" <= letter <= "\udfff" for letter in value)
