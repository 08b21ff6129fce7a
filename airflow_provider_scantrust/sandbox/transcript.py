"""Requests and their answers, with the secrets masked."""

from __future__ import annotations

import json
import threading
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

MASK = "***"
_SECRET_HEADERS = {"authorization", "proxy-authorization", "cookie", "set-cookie"}
_SECRET_KEYS = {"password", "token", "access", "refresh"}
# Enough for 100,000 polls or thousands of uploads, but not too much for a laptop.
_KEPT_BYTES = 100_000_000


@dataclass
class Exchange:
    """A request that reached the API, and its answer; a status of None means that there was no answer."""

    method: str
    path: str
    headers: Mapping[str, str]
    address: str
    body: bytes
    query: str
    number: int = 0
    at: datetime = field(default_factory=lambda: datetime.now(UTC))
    began: float = field(default_factory=time.monotonic)
    status: int | None = None
    response_headers: Mapping[str, str] = field(default_factory=dict)
    response_body: bytes = b""
    seconds: float = 0.0
    fault: str | None = None

    @property
    def size(self) -> int:
        """About how many bytes of memory it uses."""
        return 1000 + len(self.body)

    def show(self) -> dict[str, Any]:
        """Return it as JSON, with the secrets masked."""
        return {
            "number": self.number,
            "method": self.method,
            "path": self.path,
            "query": self.query,
            "headers": _masked_headers(self.headers),
            "body": _readable(self.path, self.body),
            "status": self.status,
            "response_headers": _masked_headers(self.response_headers),
            "response_body": _readable(self.path, self.response_body),
            "at": self.at.isoformat(),
            "seconds": round(self.seconds, 6),
            "fault": self.fault,
        }


class Transcript:
    """Keeps the newest exchanges."""

    def __init__(self) -> None:
        self._exchanges: deque[Exchange] = deque()
        self._bytes = 0
        self._lock = threading.Lock()
        self.number = 0

    def record(self, exchange: Exchange) -> None:
        """Record a request, before it is answered."""
        with self._lock:
            self.number += 1
            exchange.number = self.number
            self._exchanges.append(exchange)
            self._bytes += exchange.size
            while self._bytes > _KEPT_BYTES:
                self._bytes -= self._exchanges.popleft().size

    def show(self) -> list[dict[str, Any]]:
        """Return the exchanges, oldest first."""
        with self._lock:
            exchanges = list(self._exchanges)
        # Parsed only here: to parse a large body while answering would delay all other answers.
        return [exchange.show() for exchange in exchanges]

    def clear(self) -> None:
        with self._lock:
            self._exchanges.clear()
            self._bytes = self.number = 0


def _readable(path: str, body: bytes) -> Any:
    try:
        value = json.loads(body, object_hook=_masked) if body else None
        # NaN, and numbers that are too large, cannot be shown as JSON.
        json.dumps(value, allow_nan=False)
    except (ValueError, RecursionError):
        # A body that cannot be parsed cannot be masked in part.
        return MASK if "login" in path else body.decode("utf-8", "replace")
    return value


def _masked(value: dict[str, Any]) -> dict[str, Any]:
    return {key: MASK if key.lower() in _SECRET_KEYS else each for key, each in value.items()}


def _masked_headers(headers: Mapping[str, str]) -> dict[str, str]:
    masked = dict(headers)
    for name, value in headers.items():
        if name.lower() in _SECRET_HEADERS:
            # The scheme is not a secret, and tests of the client check it.
            scheme, space, _ = value.partition(" ")
            masked[name] = f"{scheme} {MASK}" if space and name.lower() == "authorization" else MASK
    return masked
