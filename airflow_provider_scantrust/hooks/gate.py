"""
Let the threads that upload with one token take turns.

Rule: a login does not wait here. It has its own rate limit, and a throttled login must not stop uploads.
"""

from __future__ import annotations

import threading
from dataclasses import replace
from typing import Any

from airflow_provider_scantrust.api.answers import read_retry_after
from airflow_provider_scantrust.api.flow import FIRST_BACKOFF
from airflow_provider_scantrust.api.messages import Answer, Fault, Request
from airflow_provider_scantrust.transports.blocking import BlockingTransport
from airflow_provider_scantrust.waits.pacing import Pacer


class GatedTransport(BlockingTransport):
    """
    Make threads that share a rate limit wait for their turn; the wait counts as part of the request.

    :param retry_seconds: The longest pause that a call's retry budget allows.
    """

    def __init__(self, *about: Any, pacer: Pacer, retry_seconds: float, **options: Any) -> None:
        super().__init__(*about, **options)
        self._pacer = pacer
        self._retry_seconds = retry_seconds
        self._lock = threading.Lock()

    def _send(self, request: Request) -> Answer | Fault:
        if not request.signed:
            return super()._send(request)
        started = self._clock()
        self._wait()
        waited = self._clock() - started
        reply = super()._send(request)
        if isinstance(reply, Answer) and reply.status == 429:
            self._slow_down(reply)
        return replace(reply, elapsed=reply.elapsed + waited)

    def _wait(self) -> None:
        while True:
            with self._lock:
                seconds = self._pacer.take_turn(self._clock())
            if seconds <= 0:
                return
            self._sleep(seconds)

    def _slow_down(self, answer: Answer) -> None:
        seconds = read_retry_after(answer) or FIRST_BACKOFF
        with self._lock:
            # A pause longer than the budget fails the throttled call; the other calls do not wait for it.
            self._pacer.slow_down(self._clock(), seconds if seconds <= self._retry_seconds else 0.0)
