"""The messages of a conversation: it yields requests and pauses, and receives answers and faults."""

from __future__ import annotations

from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Any, Generic, Protocol, TypeVar

T = TypeVar("T")


@dataclass(frozen=True)
class Request:
    """
    One HTTP request, to be sent once and without following redirects.

    :param timeout: Seconds to connect, and seconds for the whole exchange.
    :param signed: Whether it carries the token. A login does not, and has its own rate limit.
    """

    method: str
    url: str
    headers: Mapping[str, str] = field(repr=False)
    body: bytes | None = field(repr=False)
    timeout: tuple[float, float]
    signed: bool = True


@dataclass(frozen=True)
class Pause:
    seconds: float
    reason: str = ""


@dataclass(frozen=True)
class Notice:
    """A line for the task's log; with ``warning`` if a user may have to act."""

    text: str
    warning: bool = True


@dataclass(frozen=True)
class Answer:
    """
    The server's answer; header names are in lower case.

    :param elapsed: Seconds from the first byte sent to the last byte received, plus the wait for its turn.
    :param received_at: Wall clock, seconds since the epoch.
    """

    status: int
    headers: Mapping[str, str] = field(repr=False)
    body: bytes = field(repr=False)
    elapsed: float = 0.0
    received_at: float = 0.0

    @property
    def is_failure(self) -> bool:
        """Whether the service failed (5xx), or a gateway did not pass the request on (408, 421, 425)."""
        return self.status >= 500 or self.status in (408, 421, 425)


class Log(Protocol):
    """What gets the lines for a user; the loggers of Airflow and of the commands have different classes."""

    def info(self, event: str, *args: Any) -> Any: ...

    def warning(self, event: str, *args: Any) -> Any: ...


class FaultKind(StrEnum):
    """Why there is no answer."""

    CONNECT = "could not connect"
    TIMEOUT = "no answer in time"
    CUT = "the connection was cut"
    NEEDS_TLS = "the server speaks TLS, and the host in the connection begins with http://"
    SPEAKS_NO_TLS = "the server does not speak TLS, and the host in the connection means https://"
    CERTIFICATE = "the TLS certificate was not accepted"
    UNUSABLE = "the request could not be made"
    TOO_LONG = "the answer is longer than any answer of the API"


@dataclass(frozen=True)
class Fault:
    """No answer came."""

    kind: FaultKind
    detail: str
    elapsed: float = 0.0


@dataclass(frozen=True)
class Endpoint(Generic[T]):
    """
    One call of the API as a value.

    :param what: The name of the call in logs and errors ("the synchronous upload of 40 items").
    :param path: Path below the base URL, with its trailing slash.
    :param payload: JSON body, or None for a GET.
    :param read: Turns the decoded JSON into the result; raises ``ValueError`` with the reason.
    :param submits_a_job: If it is sent again and its first result is unknown, it may leave two jobs.
    :param gateway_timeout_is_final: A 504 means "too many codes", so the same call must not be sent again.
    :param signed: Whether the call carries ``Authorization``.
    """

    what: str
    method: str
    path: str
    read: Callable[[Any], T]
    payload: Mapping[str, Any] | None = field(default=None, repr=False)
    submits_a_job: bool = False
    gateway_timeout_is_final: bool = False
    signed: bool = True


Step = Request | Pause | Notice
Conversation = Generator[Step, "Answer | Fault | None", T]
