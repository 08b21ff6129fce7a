"""
Let the threads that upload with one token take turns.

Rule: a login does not wait here. It has its own rate limit, and a throttled login must not stop uploads.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import TypeVar

from airflow_provider_scantrust.api.answers import read_retry_after
from airflow_provider_scantrust.api.flow import FIRST_BACKOFF
from airflow_provider_scantrust.api.messages import Answer, Conversation, Fault, Request
from airflow_provider_scantrust.waits.pacing import Pacer

T = TypeVar("T")


@dataclass(eq=False)
class Gate:
    """
    Make threads that share a rate limit wait for their turn.

    :param retry_seconds: The longest pause that a call's retry budget allows.
    """

    pacer: Pacer
    retry_seconds: float
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock, init=False)

    def pace(self, conversation: Conversation[T]) -> Conversation[T]:
        """Hold back the requests of a conversation until it is their turn; the wait counts as part of the request."""
        reply: Answer | Fault | None = None
        try:
            while True:
                step = conversation.send(reply)
                if isinstance(step, Request) and step.signed:
                    started = self.clock()
                    self._wait()
                    waited = self.clock() - started
                    reply = yield step
                    if reply is not None:
                        reply = replace(reply, elapsed=reply.elapsed + waited)
                    if isinstance(reply, Answer) and reply.status == 429:
                        self._slow_down(reply)
                else:
                    reply = yield step
        except StopIteration as end:
            result: T = end.value
            return result
        finally:
            conversation.close()

    def _wait(self) -> None:
        while True:
            with self._lock:
                seconds = self.pacer.take_turn(self.clock())
            if seconds <= 0:
                return
            self.sleep(seconds)

    def _slow_down(self, answer: Answer) -> None:
        seconds = read_retry_after(answer) or FIRST_BACKOFF
        with self._lock:
            # A pause longer than the budget fails the throttled call; the other calls do not wait for it.
            self.pacer.slow_down(self.clock(), seconds if seconds <= self.retry_seconds else 0.0)
