"""
The conversation for one call: sign it, send it, and decide what the answer means for the next step.

Rule 1: a call is sent again only after a 401 with a renewable token, a 429, 408, 421, 425 or 5xx, no answer
        at all, or a redirect of a GET within the same origin. No other answer leads to a second request.
Rule 2: every pause and every second of sending counts against one budget, so the conversation always ends.
Rule 3: ``Authorization`` goes to the origin of the settings and to no other.
Rule 4: no error that leaves this module contains a secret.
"""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from copy import copy
from dataclasses import dataclass, replace
from typing import Any, TypeVar
from urllib.parse import urljoin, urlsplit

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.answers import read_answer
from airflow_provider_scantrust.api.auth import Auth, LoginAuth
from airflow_provider_scantrust.api.messages import (
    Answer,
    Conversation,
    Endpoint,
    Fault,
    FaultKind,
    Notice,
    Pause,
    Request,
)
from airflow_provider_scantrust.api.settings import Budget, Settings

T = TypeVar("T")
T_Transient = TypeVar("T_Transient", bound=exc.TransientError)
Random = Callable[[], float]

FIRST_BACKOFF = 1.0
LONGEST_BACKOFF = 30.0
# The shortest pause after a 429, also when Retry-After is 0.
SHORTEST_THROTTLE_PAUSE = 0.5
MOST_REDIRECTS = 5
# How often one call may renew its token: a login of another process may end the token of this process.
MOST_RENEWALS = 3
# Seconds between two checks whether another conversation's login has ended.
LOGIN_LOOK = 0.1
# What common servers answer to plain HTTP on a TLS port.
_WANTS_TLS = re.compile(rb"plain HTTP|HTTP request (was sent )?to an (HTTPS|SSL)", re.IGNORECASE)


@dataclass
class _Ledger:
    """How much of its budget one conversation has used."""

    budget: Budget
    attempts: int = 0
    throttled: int = 0
    seconds: float = 0.0

    def pause_for(self, error: exc.TransientError, random: Random) -> float | None:
        """Return the seconds to wait before the next try, or None when the budget does not allow one."""
        if isinstance(error, exc.Throttled):
            self.throttled += 1
            pause = backoff(self.throttled, random)
            if error.retry_after:
                # A little longer than asked, so that clients throttled together do not come back together.
                pause = error.retry_after + random() * min(1.0, error.retry_after / 10)
            pause = max(SHORTEST_THROTTLE_PAUSE, pause)
        else:
            self.attempts += 1
            if self.budget.attempts is not None and self.attempts >= self.budget.attempts:
                return None
            pause = max(backoff(self.attempts, random), error.retry_after or 0.0)
        return pause if self.seconds + pause <= self.budget.seconds else None


def converse(
    endpoint: Endpoint[T], settings: Settings, auth: Auth, *, random: Random, budget: Budget | None = None
) -> Conversation[T]:
    """
    Yield requests and pauses, receive answers and faults, and return the call's result.

    :param random: Returns a number in [0, 1); used for jitter only.
    :raises ScantrustError: The subclass says what to do. After a ``TransientError``, the budget is used up.
    """
    ledger = _Ledger(budget or settings.budget)
    try:
        return (yield from _converse(endpoint, settings, auth, random, ledger))
    except exc.ScantrustError as error:
        error.after_trouble = ledger.attempts > 0
        _hide_secrets(error, auth)
        raise


def send_once(
    endpoint: Endpoint[Any],
    settings: Settings,
    auth: Auth,
    *,
    headers: Mapping[str, str],
    body: bytes | None,
) -> Conversation[Answer]:
    """
    Yield one request and return its answer, with any status; for a look at the service itself.

    :raises ScantrustError: There is no answer.
    """
    request = make_request(endpoint, settings, auth)
    request = replace(request, headers={**request.headers, **headers}, body=body)
    try:
        return (yield from _exchange(request, endpoint, settings, _Ledger(settings.budget)))
    except exc.ScantrustError as error:
        _hide_secrets(error, auth)
        raise


def backoff(attempt: int, random: Random) -> float:
    """Return the seconds to wait after the n-th failed try: exponential, half of it jitter."""
    return (1.0 + random()) / 2.0 * min(LONGEST_BACKOFF, FIRST_BACKOFF * 2.0 ** min(attempt - 1, 30))


def make_request(endpoint: Endpoint[Any], settings: Settings, auth: Auth) -> Request:
    headers = {"Accept": "application/json"}
    if endpoint.signed and (signature := auth.header()):
        headers["Authorization"] = signature
    body = None
    if endpoint.payload is not None:
        headers["Content-Type"] = "application/json"
        body = _encode(endpoint.payload)
    return Request(
        method=endpoint.method,
        url=settings.base_url + endpoint.path,
        headers=headers,
        body=body,
        timeout=(settings.connect_timeout, settings.request_timeout),
        signed=endpoint.signed,
    )


def _converse(
    endpoint: Endpoint[T], settings: Settings, auth: Auth, random: Random, ledger: _Ledger
) -> Conversation[T]:
    login = auth if endpoint.signed and isinstance(auth, LoginAuth) else None
    renewals = 0
    troubles: list[str] = []
    while True:
        if login is not None and login.token is None:
            yield from _log_in(login, settings, random, ledger, again=renewals > 0)
        # Only the hash, because some tools log tracebacks with all local variables.
        signed_with = hash(login.token) if login is not None else 0
        try:
            answer = yield from _send(make_request(endpoint, settings, auth), endpoint, settings, ledger)
            result = read_answer(answer, endpoint)
        except exc.AuthenticationFailed as error:
            if login is None:
                raise
            if renewals == MOST_RENEWALS or not login.refused(signed_with):
                error.args = (
                    f"{error} The token came from a login; one of the portal needs auth_scheme UAT.",
                )
                raise
            renewals += 1
            continue
        except exc.TransientError as error:
            # Its cause is a wrong host more often than a short failure.
            if isinstance(error, exc.UnreadableAnswer):
                raise
            pause = ledger.pause_for(error, random)
            if pause is None:
                if not ledger.budget.seconds:
                    raise
                tries = ledger.attempts + ledger.throttled
                raise given_up(error, tries, ledger.seconds, ledger.budget) from error
            if not isinstance(error, exc.Throttled):
                troubles.append(auth.hide(str(error)))
            ledger.seconds += pause
            yield Pause(pause, f"{auth.hide(str(error))} Trying again in {pause:.1f} s.")
            continue
        if troubles and endpoint.submits_a_job:
            before = "the first try" if len(troubles) == 1 else f"the first of {len(troubles)} tries"
            yield Notice(
                f"A job was submitted again because {before} failed: {troubles[0]} Besides {auth.hide(str(result))}, "
                f"Scantrust may have up to {len(troubles)} more of this job, with unknown ids. All set the same values "
                "on the same codes, which does no harm."
            )
        if login is not None:
            login.accepted(signed_with)
        return result


def _log_in(
    login: LoginAuth, settings: Settings, random: Random, ledger: _Ledger, *, again: bool
) -> Conversation[None]:
    """Log in, or wait for the login of another conversation."""
    while login.token is None:
        if not login.begin():
            ledger.seconds += LOGIN_LOOK
            yield Pause(LOGIN_LOOK)
            continue
        try:
            if login.token is None:
                if again:
                    yield Notice(
                        "Scantrust no longer accepts the login's token; logging in again.", warning=False
                    )
                login.succeed((yield from _converse(login.call, settings, login, random, ledger)))
        except exc.ScantrustError as error:
            _hide_secrets(error, login)
            login.fail(error)
            raise
        finally:
            login.end()


def _exchange(
    request: Request, endpoint: Endpoint[Any], settings: Settings, ledger: _Ledger
) -> Conversation[Answer]:
    reply = yield request
    if reply is None:
        raise TypeError("a driver must reply to a Request with an Answer or a Fault")
    ledger.seconds += reply.elapsed
    if isinstance(reply, Fault):
        raise _fault_error(reply, endpoint, settings)
    return reply


def _send(
    request: Request, endpoint: Endpoint[Any], settings: Settings, ledger: _Ledger
) -> Conversation[Answer]:
    """Send once; follow redirects of a GET within its origin."""
    hops = 0
    while True:
        answer = yield from _exchange(request, endpoint, settings, ledger)
        if answer.status == 400 and request.url.startswith("http://") and _wants_tls(answer.body):
            raise _fault_error(Fault(FaultKind.NEEDS_TLS, "its answer says this"), endpoint, settings)
        target = _redirect_target(request, answer)
        if target is None or hops == MOST_REDIRECTS:
            return answer
        hops += 1
        request = replace(request, url=target)


def _wants_tls(body: bytes) -> bool:
    # Scantrust's own refusals are JSON, and may quote these words.
    return not body.lstrip().startswith((b"{", b"[")) and bool(_WANTS_TLS.search(body[:4_096]))


def _redirect_target(request: Request, answer: Answer) -> str | None:
    """Return the target of a GET's redirect, or None if it must not be followed."""
    location = answer.headers.get("location")
    if request.method != "GET" or answer.status not in (301, 302, 303, 307, 308) or not location:
        return None
    try:
        target = urljoin(request.url, location)
        is_safe = _origin(target) == _origin(request.url) and urlsplit(target).username is None
    except ValueError:
        return None
    return target if is_safe and all(32 < ord(letter) < 127 for letter in target) else None


def _origin(url: str) -> tuple[str, str | None, int]:
    parts = urlsplit(url)
    return parts.scheme, parts.hostname, parts.port or (443 if parts.scheme == "https" else 80)


def _fault_error(fault: Fault, endpoint: Endpoint[Any], settings: Settings) -> exc.ScantrustError:
    where = f"{endpoint.what} at {settings.host}"
    if fault.kind is FaultKind.CERTIFICATE:
        return exc.CertificateRejected(
            f"The TLS certificate of {settings.host} was not accepted ({fault.detail}). If it is signed by an "
            "authority of your own, put the path of its CA bundle into verify in the connection's extra."
        )
    if fault.kind is FaultKind.NEEDS_TLS:
        return exc.ConfigurationError(
            f"No answer to {where}: {fault.kind.value}. Write https://{settings.host} as the host."
        )
    if fault.kind is FaultKind.SPEAKS_NO_TLS:
        return exc.ConfigurationError(
            f"No answer to {where}: {fault.kind.value} ({fault.detail}). To connect without TLS, write "
            f"http://{settings.host} as the host; for another machine, also set allow_plain_http in the extra."
        )
    if fault.kind is FaultKind.UNUSABLE:
        return exc.ConfigurationError(f"The request for {where} could not be made: {fault.detail}.")
    if fault.kind is FaultKind.TOO_LONG:
        return exc.UnreadableAnswer(
            f"The answer to {where} is longer than any answer of the API ({fault.detail})."
        )
    return exc.ConnectionFailed(f"No answer to {where}: {fault.kind.value} ({fault.detail}).")


def given_up(error: T_Transient, attempts: int, seconds: float, budget: Budget) -> T_Transient:
    """Return the error that ends a conversation: the last error, with the number of tries."""
    most = "" if budget.attempts is None else f"{_tries(budget.attempts)} and "
    last = copy(error)
    last.args = (
        f"{error} Gave up after {_tries(attempts)} in {seconds:.0f} s: another would "
        f"exceed the retry budget of {most}{budget.seconds:.0f} s.",
    )
    return last


def _tries(number: int) -> str:
    return f"{number} {'try' if number == 1 else 'tries'}"


def _hide_secrets(error: exc.ScantrustError, auth: Auth) -> None:
    error.args = tuple(auth.hide(str(arg)) for arg in error.args)
    error.excerpt = auth.hide(error.excerpt) if error.excerpt else error.excerpt
    error.fields = {
        auth.hide(name): [auth.hide(text) for text in texts] for name, texts in error.fields.items()
    }
    cause = error.__cause__
    if isinstance(cause, exc.ScantrustError):
        _hide_secrets(cause, auth)


def _encode(payload: Mapping[str, Any]) -> bytes:
    """Return JSON as bytes. The operator checks its rows, so only direct calls of the hook can fail here."""
    try:
        return json.dumps(payload, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
    except (TypeError, ValueError, RecursionError) as error:
        raise exc.InvalidInput(f"A value cannot be written as JSON: {error}.") from error
