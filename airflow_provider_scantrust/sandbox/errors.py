"""Answers other than 200, as Django REST Framework and the gateway in front of it spell them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class Stopped(Exception):
    """The sandbox stops or is reset; what was in progress is dropped."""


class Refused(Exception):
    """A request is answered with an error."""

    def __init__(self, status: int, body: Any, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(f"{status} {body}")
        self.status = status
        self.body = body
        self.headers = dict(headers or {})


def detail(status: int, text: str, headers: Mapping[str, str] | None = None) -> Refused:
    return Refused(status, {"detail": text}, headers)


def unauthenticated(text: str = "Authentication credentials were not provided.") -> Refused:
    return detail(401, text, {"WWW-Authenticate": 'UAT realm="api"'})


def throttled(seconds: int) -> Refused:
    """Make a 429; Scantrust documents its body."""
    text = f"Request was throttled. Expected available in {seconds} second{'' if seconds == 1 else 's'}."
    return Refused(429, {"detail": text, "code": "throttled"}, {"Retry-After": str(seconds)})


def gateway(status: int) -> Refused:
    """Make an error of the gateway, which answers in HTML."""
    title = f"{status} {_GATEWAY_TITLES[status]}"
    html = f"<html>\r\n<head><title>{title}</title></head>\r\n<body>\r\n<center><h1>{title}</h1></center>\r\n"
    return Refused(status, f"{html}</body>\r\n</html>\r\n", {"Content-Type": "text/html"})


def plausible(status: int, retry_after: str | None = None) -> Refused:
    """Make the error that fits a status, and a Retry-After, which a fault was scripted with."""
    if status in _GATEWAY_TITLES:
        return gateway(status)
    if status == 401:
        return unauthenticated()
    if status == 429:
        return throttled(int(retry_after) if retry_after and retry_after.isdecimal() else 1)
    if status in _DETAILS:
        return detail(status, _DETAILS[status])
    return Refused(status, "" if status < 400 else {"detail": f"Scripted answer {status}."})


_GATEWAY_TITLES = {
    413: "Request Entity Too Large",
    500: "Internal Server Error",
    502: "Bad Gateway",
    503: "Service Temporarily Unavailable",
    504: "Gateway Time-out",
}
_DETAILS = {
    400: "Bad request.",
    403: "You do not have permission to perform this action.",
    404: "Not found.",
    406: "Conflict.",
    409: "Conflict.",
}
