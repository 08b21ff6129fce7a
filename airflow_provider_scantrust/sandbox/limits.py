"""Rate limits over a sliding window, counted as Django REST Framework counts them."""

from __future__ import annotations

import math
import time
from collections import deque
from collections.abc import Callable

from airflow_provider_scantrust.sandbox.errors import throttled
from airflow_provider_scantrust.sandbox.settings import Settings


class Throttle:
    """Counts requests per scope and client: a user, or an address."""

    def __init__(self, settings: Settings, clock: Callable[[], float] = time.monotonic) -> None:
        self._settings = settings
        self._clock = clock
        self._seen: dict[tuple[str, str], deque[float]] = {}

    def count(self, scope: str, client: str) -> None:
        """
        Count a request.

        :raises Refused: 429; the request is over the limit and is not counted.
        """
        if not self._settings.rate_limits:
            return
        requests, window = self._settings.limits[scope]
        now = self._clock()
        seen = self._seen.setdefault((scope, client), deque())
        while seen and seen[0] <= now - window:
            seen.popleft()
        if len(seen) >= requests:
            # Rounded up to whole seconds, so that a client that waits this long is not refused again for the
            # same reason.
            wait = window - (now - seen[0]) if seen else window
            raise throttled(max(1, math.ceil(wait)))
        seen.append(now)
