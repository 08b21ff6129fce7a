"""
Sign calls: with the user's token, or with a token from a login.

Rule: nothing here shows a secret; ``hide`` removes secrets from a text.
"""

from __future__ import annotations

import html
import json
from collections import deque
from collections.abc import Callable
from copy import copy
from threading import Lock
from typing import Any
from urllib.parse import quote

from airflow_provider_scantrust.api.messages import Endpoint
from airflow_provider_scantrust.api.texts import CUT
from airflow_provider_scantrust.exceptions import ScantrustError

# Assumed: Scantrust's login call is not in the public documentation. If the real call has other names,
# correct them here.
LOGIN_FIELDS = ("username", "password")
TOKEN_FIELDS = ("token", "jwt", "access_token", "access")

# Seconds until a login is repeated: after a refusal, because repeated refusals may lock the user out; and
# after a temporary error. Scantrust: rate limits, login actions: 10 a minute.
PAUSE_AFTER_REFUSAL = 60.0
PAUSE_AFTER_TROUBLE = 6.0

# As in Airflow's own masker: to hide a secret of a letter or two would garble every message.
_SHORTEST_SECRET = 5


class TokenAuth:
    """Sign with a token that was made in the portal (UAT, as Scantrust documents) or elsewhere (JWT)."""

    def __init__(self, scheme: str, token: str) -> None:
        self.scheme = scheme
        self._token = token

    def header(self) -> str | None:
        return f"{self.scheme} {self._token}"

    def hide(self, text: str) -> str:
        """Return the text without any secret that this signer knows."""
        return _mask(text, [self._token])


class LoginAuth:
    """
    Sign with the JWT that a login gives.

    All conversations that need a login at the same time share one: its token, or its failure. Threads and
    tasks of one process share it. Processes cannot: each of them logs in once.

    :param register: Called with each token, so that logs can mask it.
    """

    def __init__(
        self,
        user: str,
        password: str,
        login_endpoint: str,
        *,
        clock: Callable[[], float],
        register: Callable[[str], object],
    ) -> None:
        self._password = password
        self.call = Endpoint(
            what="the login",
            method="POST",
            path=login_endpoint,
            payload=dict(zip(LOGIN_FIELDS, (user, password), strict=True)),
            read=read_token,
            signed=False,
        )
        self.token: str | None = None
        # The last tokens, because answers to calls in flight may still show an earlier token.
        self._given: deque[str] = deque(maxlen=3)
        self._clock = clock
        self._register = register
        self._turn, self._state = Lock(), Lock()
        self._given_at = self._again_at = 0.0
        self._has_worked = False
        self._failure: ScantrustError | None = None

    def header(self) -> str | None:
        """Return the value of ``Authorization``, or None if a login must come first."""
        return f"JWT {token}" if (token := self.token) else None

    def hide(self, text: str) -> str:
        return _mask(text, [self._password, *self._given])

    def begin(self) -> bool:
        """
        Return whether the caller must log in; if not, another conversation is logging in.

        After each ``begin`` that returned True, call :meth:`end`.

        :raises ScantrustError: The last login failed a moment ago. Each caller gets its own error object.
        """
        if not self._turn.acquire(blocking=False):
            return False
        failure = self._failure
        if failure is not None and self._clock() < self._again_at:
            self._turn.release()
            raise copy(failure)
        return True

    def succeed(self, token: str) -> None:
        self._register(token)
        self._given.append(token)
        with self._state:
            self._given_at, self._has_worked, self._failure = self._clock(), False, None
            self.token = token

    def fail(self, error: ScantrustError) -> None:
        """Take the error of the login, without secrets in it."""
        pause = PAUSE_AFTER_REFUSAL if error.permanent else max(PAUSE_AFTER_TROUBLE, error.retry_after or 0.0)
        self._failure, self._again_at = error, self._clock() + pause

    def end(self) -> None:
        self._turn.release()

    def accepted(self, seen: int) -> None:
        """
        Note that the service has accepted a token.

        :param seen: Hash of the token. The token itself could appear in a traceback with local variables.
        """
        self._has_worked = self._has_worked or seen == hash(self.token)

    def refused(self, seen: int) -> bool:
        """
        Note that the service has refused a token; return whether to try with another one.

        A token that has never worked is not replaced: the next one would not work either.
        """
        with self._state:
            if seen == hash(self.token):
                if not self._has_worked and self._clock() <= self._given_at + PAUSE_AFTER_REFUSAL:
                    return False
                self.token = None
            return True


Auth = TokenAuth | LoginAuth


def read_token(data: Any) -> str:
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
        # As it is, as it appears in JSON, and as in Python's repr, in HTML and in a URL.
        for form in {
            secret,
            json.dumps(secret)[1:-1],
            json.dumps(secret, ensure_ascii=False)[1:-1],
            repr(secret)[1:-1],
            html.escape(secret),
            quote(secret, safe=""),
        }:
            text = text.replace(form, "***")
            # Texts are cut to a length before they come here.
            if form[:_SHORTEST_SECRET] in text and CUT in text:
                for length in range(len(form) - 1, _SHORTEST_SECRET - 1, -1):
                    text = text.replace(form[:length] + CUT, "***" + CUT)
    return text
