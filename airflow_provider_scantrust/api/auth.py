"""
How calls are signed: with a token that the user made, or with one that a login gives.

Rule: a secret is shown by nothing here; ``hide`` takes it out of any text that is.
"""

from __future__ import annotations

import json
from typing import Any, Protocol

from airflow_provider_scantrust.api.messages import Endpoint
from airflow_provider_scantrust.api.texts import CUT

# Assumed: Scantrust's login call is not in the public documentation. A user with an account who sees other
# names in it corrects them here.
LOGIN_FIELDS = ("username", "password")
TOKEN_FIELDS = ("token", "jwt", "access_token", "access")

# As in Airflow's own masker: hiding a letter or two would only garble every message.
_SHORTEST_SECRET = 5


class Auth(Protocol):
    """What the conversation needs to know to sign a call."""

    def header(self) -> str | None:
        """Return the value of ``Authorization``, or None when a login has to come first."""

    def renewal(self) -> Endpoint[str] | None:
        """Return the call that gives a new token, or None when no call can."""

    def renew(self, token: str | None) -> None:
        """Take a new token, or forget the one that was refused."""

    def hide(self, text: str) -> str:
        """Return the text without any secret that this signer knows."""


class TokenAuth:
    """
    Sign with a token that was made in the portal (UAT) or elsewhere (JWT).

    Scantrust: authentication with a User Authorization Token.
    """

    def __init__(self, scheme: str, token: str) -> None:
        self.scheme = scheme
        self._token = token

    def header(self) -> str | None:
        return f"{self.scheme} {self._token}"

    def renewal(self) -> Endpoint[str] | None:
        return None

    def renew(self, token: str | None) -> None:
        raise NotImplementedError("A token that a user made cannot be renewed by a call.")

    def hide(self, text: str) -> str:
        return _mask(text, [self._token])


class LoginAuth:
    """Sign with the JWT that a login gives; one that is refused costs one new login."""

    def __init__(self, user: str, password: str, login_endpoint: str) -> None:
        self._user = user
        self._password = password
        self._path = login_endpoint
        self._token: str | None = None
        self._seen: list[str] = [password]

    def header(self) -> str | None:
        return f"JWT {self._token}" if self._token else None

    def renewal(self) -> Endpoint[str] | None:
        return Endpoint(
            what="the login",
            method="POST",
            path=self._path,
            payload=dict(zip(LOGIN_FIELDS, (self._user, self._password), strict=True)),
            read=read_token,
            signed=False,
        )

    def renew(self, token: str | None) -> None:
        self._token = token
        if token:
            self._seen = [self._password, token]

    def hide(self, text: str) -> str:
        return _mask(text, self._seen)


def read_token(data: Any) -> str:
    """
    Read the answer to a login.

    :raises ValueError: It holds no usable token.
    """
    if isinstance(data, dict):
        for name in TOKEN_FIELDS:
            token = data.get(name)
            if isinstance(token, str) and token and all(32 < ord(letter) < 127 for letter in token):
                return token
    raise ValueError(f"there is no token in it (looked for {', '.join(TOKEN_FIELDS)})")


def _mask(text: str, secrets: list[str]) -> str:
    for secret in secrets:
        if len(secret) < _SHORTEST_SECRET:
            continue
        # As it is, and as it stands in JSON or in what Python shows.
        for form in {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            repr(secret)[1:-1],
        }:
            text = text.replace(form, "***")
            # Texts are cut to a length before they come here.
            if form[:_SHORTEST_SECRET] in text and CUT in text:
                for length in range(len(form) - 1, _SHORTEST_SECRET - 1, -1):
                    text = text.replace(form[:length] + CUT, "***" + CUT)
    return text
