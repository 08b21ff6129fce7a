"""Turn one answer (status, headers, body) into its data or into the right error. No I/O."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import UTC
from email.utils import parsedate_to_datetime
from itertools import islice
from typing import Any, TypeVar

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.messages import Answer, Endpoint
from airflow_provider_scantrust.api.texts import CUT, EXCERPT, PAGE, one_line, read_page

T = TypeVar("T")

# A longer wait comes from a misconfigured proxy, not from a rate limit of Scantrust.
_LONGEST_PAUSE = 86_400.0
_NO_JSON = object()
_THROTTLED = re.compile(r"available in (\d+(?:\.\d+)?) second")
# HTTP has whole seconds only, but some gateways write fractions.
_SECONDS = re.compile(r"\d+(\.\d+)?", re.ASCII)

# What to do, by status. Scantrust: Errors.
_REFUSED: dict[int, tuple[type[exc.ScantrustError], str]] = {
    400: (exc.RequestRejected, "nothing of this call was processed; correct the data"),
    401: (exc.AuthenticationFailed, "the token is wrong or has expired; make a new one in the portal"),
    403: (
        exc.PermissionDenied,
        "the token lacks a permission, which a company admin can give it (uploads need codes_view, scm_bulk_edit, "
        "scm_code_edit and product_view)",
    ),
    404: (
        exc.NotFound,
        "it does not exist in the token's company, or the host is not that of Scantrust's API",
    ),
    405: (
        exc.ConfigurationError,
        "its path does not accept such a call; check the connection's host and its paths",
    ),
    406: (exc.Conflict, "a known API error; see its message"),
    409: (exc.Conflict, "a known API error; see its message"),
    413: (
        exc.RequestTooLarge,
        "the call is too large and nothing of it was processed; send fewer rows in one call",
    ),
}
_NOT_HELPFUL = (exc.RequestRejected, "sending it again will not help")

# Answers to a login are always about the connection, not about the call that needs the login.
_LOGIN_REFUSED: dict[int, tuple[type[exc.ScantrustError], str]] = {
    400: (exc.AuthenticationFailed, "the connection's user name or password is wrong"),
    401: (exc.AuthenticationFailed, "the connection's user name or password is wrong"),
    403: (exc.AuthenticationFailed, "the user may not log in; use a token from the portal (auth_scheme UAT)"),
}
_NO_LOGIN = (exc.ConfigurationError, "login_endpoint in the connection's extra is not the path of the login")
# Firewalls and gateways refuse calls as well, and know nothing of tokens and permissions.
_REFUSED_BY_PAGE = "an HTML page does not come from the API; a firewall or gateway may have refused the call"


def read_answer(answer: Answer, endpoint: Endpoint[T]) -> T:
    """
    Return the data in an answer.

    :raises ScantrustError: The subclass says what to do. Not even random bytes raise another error.
    """
    if 200 <= answer.status < 300:
        return _read_success(answer, endpoint)
    excerpt, data = make_excerpt(answer.body), _decode(answer.body)
    fields = field_messages(data)
    said = _first_line(fields, excerpt)
    cls: type[exc.ScantrustError]
    if answer.status == 504 and endpoint.gateway_timeout_is_final:
        cls = exc.UploadTimedOut
        text = (
            f"Scantrust gave up on {endpoint.what} (504 Gateway Timeout) and updated nothing: too many codes in "
            'one call. Send fewer, or send them asynchronously (mode="auto" does both by itself).'
        )
    elif answer.status == 429:
        cls, text = exc.Throttled, f"Scantrust throttled {endpoint.what}{said}."
    elif answer.is_failure:
        cls = exc.ServiceUnavailable
        text = f"Scantrust answered {endpoint.what} with {answer.status}{said}."
    elif 300 <= answer.status < 400:
        cls = exc.UnexpectedRedirect
        text = (
            f"Scantrust answered {endpoint.what} with a redirect ({answer.status}){_redirect_reason(answer, endpoint)}. "
            "Check the connection's host and its paths."
        )
    elif 400 <= answer.status < 500:
        if endpoint.signed:
            cls, advice = _REFUSED.get(answer.status, _NOT_HELPFUL)
        else:
            cls, advice = _LOGIN_REFUSED.get(answer.status, _NO_LOGIN)
        if answer.status in (401, 403) and excerpt.startswith(PAGE):
            advice = _REFUSED_BY_PAGE
        text = f"Scantrust refused {endpoint.what} ({answer.status}): {advice}{said}."
    else:
        cls = exc.UnreadableAnswer
        text = f"Scantrust answered {endpoint.what} with the unexpected status {answer.status}{said}."
    raise cls(
        text,
        status=answer.status,
        fields=fields,
        excerpt=excerpt,
        retry_after=None if cls.permanent else read_retry_after(answer),
    )


def read_retry_after(answer: Answer) -> float | None:
    """
    Return how many seconds the service asks to wait: ``Retry-After``, else the number in ``detail``.

    An HTTP date is compared with the answer's own ``Date``, so a wrong clock on this machine does no harm.
    """
    header = answer.headers.get("retry-after", "").strip()
    if _SECONDS.fullmatch(header):
        seconds: float | None = float(header[:12])
    elif (until := read_http_date(header)) is not None:
        seconds = until - (read_http_date(answer.headers.get("date", "")) or answer.received_at)
    else:
        data = _decode(answer.body)
        detail = data.get("detail") if isinstance(data, dict) else None
        match = _THROTTLED.search(detail) if isinstance(detail, str) else None
        seconds = float(match[1][:12]) if match else None
    return None if seconds is None else min(max(0.0, seconds), _LONGEST_PAUSE)


def field_messages(data: Any) -> dict[str, list[str]]:
    """Return field -> messages from an error body, ``{"field": ["message", …]}`` or ``{"detail": "…"}``."""
    if not isinstance(data, Mapping):
        return {}
    return {
        _short(name): [_short(message) for message in (value if isinstance(value, list) else [value])][:20]
        for name, value in list(data.items())[:50]
    }


def make_excerpt(body: bytes) -> str:
    """Return the beginning of a body on one line; accepts any bytes."""
    most = EXCERPT * 16
    # A secret at the cut is masked only where the cut is marked.
    return one_line(read_page(body[:most].decode("utf-8", errors="replace") + CUT * (len(body) > most)))


def _read_success(answer: Answer, endpoint: Endpoint[T]) -> T:
    data = _decode(answer.body)
    problem = "it is not JSON"
    if data is not _NO_JSON:
        try:
            return endpoint.read(data)
        except ValueError as error:
            problem = str(error)
    excerpt = make_excerpt(answer.body)
    if not endpoint.signed:
        # The answer to a login has a token under an unknown name, so only names are shown.
        names = one_line(", ".join(map(_short, islice(data, 50)))) if isinstance(data, dict) else ""
        excerpt = names or "(not shown)"
    text = f"The answer to {endpoint.what} ({answer.status}) cannot be understood, {problem}: {excerpt!r}."
    if endpoint.submits_a_job:
        text += " The job may still have been submitted; its task_id is not known."
    raise exc.UnreadableAnswer(text, status=answer.status, excerpt=excerpt)


def _decode(body: bytes) -> Any:
    """Return the JSON in a body. The parser's exceptions stay here, because they hold the whole body."""
    try:
        return json.loads(body)
    except (ValueError, RecursionError):
        return _NO_JSON


def _first_line(fields: Mapping[str, list[str]], excerpt: str) -> str:
    parts = [f"{name}: {' '.join(messages)}" for name, messages in fields.items() if messages]
    text = "; ".join(parts) if fields else excerpt
    return f". It said: {_short(text).rstrip('.')}" if text else ""


def _redirect_reason(answer: Answer, endpoint: Endpoint[Any]) -> str:
    target = one_line(answer.headers.get("location", ""))
    why = (
        "a redirected POST would lose its data" if endpoint.method != "GET" else "the token stays on its host"
    )
    return f"{f' to {target!r}' if target else ''}, which is not followed: {why}"


def _short(value: Any) -> str:
    try:
        text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False)
    except RecursionError:
        text = "(nested too deeply to show)"
    return one_line(text)


def read_http_date(text: str) -> float | None:
    """Return the seconds since the epoch, or None if the text is not a date of HTTP; it needs no time zone."""
    try:
        date = parsedate_to_datetime(text)
        # HTTP: all dates are in GMT, also in the old form that does not name it.
        return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
    except (ValueError, OverflowError, IndexError, TypeError):
        return None
