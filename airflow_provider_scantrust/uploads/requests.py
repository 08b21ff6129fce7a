"""The requests in flight, each in its own thread; one thread takes their results."""

from __future__ import annotations

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue
from typing import Any

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import RequestRejected
from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.check import Row

Upload = Callable[[Sequence[Row], str], UploadResult]
Submit = Callable[[Mapping[str, Any], Mapping[str, Any]], str]


@dataclass(frozen=True)
class Ended:
    """
    The outcome of a request.

    :param result: The answer to a synchronous call, or the task_id of a job.
    :param requests: How many requests it took; a probe takes two.
    :param is_refused_alike: For a probe: Scantrust refuses the data that all rows share.
    """

    call: Call
    result: UploadResult | str | None = None
    error: Exception | None = None
    requests: int = 1
    is_refused_alike: bool = False


class Requests:
    """Send calls, each in its own thread."""

    def __init__(self, upload: Upload, submit: Submit, data_key: str) -> None:
        self.in_flight = 0
        self._upload = upload
        self._submit = submit
        self._data_key = data_key
        self._threads = 0
        self._todo: SimpleQueue[Call | None] = SimpleQueue()
        self._arrived: SimpleQueue[Ended] = SimpleQueue()

    def start(self, call: Call) -> None:
        self.in_flight += 1
        if self._threads < self.in_flight:
            self._threads += 1
            # A daemon thread, so that a call that hangs does not keep the task alive.
            threading.Thread(target=self._work, name="scantrust-upload", daemon=True).start()
        self._todo.put(call)

    def take(self, seconds: float = 0.0) -> Ended | None:
        """Return a request that has ended, or None if there is none within so many seconds."""
        try:
            ended = self._arrived.get(timeout=seconds)
        except Empty:
            return None
        self.in_flight -= 1
        return ended

    def close(self) -> None:
        """Let each thread end after its request, without waiting for it."""
        for _ in range(self._threads):
            self._todo.put(None)

    def _work(self) -> None:
        while (call := self._todo.get()) is not None:
            self._arrived.put(self._send(call))

    def _send(self, call: Call) -> Ended:
        """Make one request; its errors come back as values."""
        try:
            if call.constraints is not None:
                return Ended(call, self._submit(call.constraints, call.scm_data))
            if call.is_probe:
                return self._probe(call)
            return Ended(call, self._upload(call.rows, self._data_key))
        except Exception as error:  # raised again where calls are counted
            return Ended(call, error=error)

    def _probe(self, call: Call) -> Ended:
        """
        Find out whether Scantrust refuses the data that all rows share, or only some keys.

        If the first and the last row, each sent alone, are refused for the same reason, it is the data.
        """
        refusals: list[RequestRejected] = []
        requests = 0
        for row in (call.rows[0], call.rows[-1]):
            requests += 1
            try:
                self._upload([row], self._data_key)
            except RequestRejected as error:
                refusals.append(error)
            except Exception as error:
                return Ended(call, error=error, requests=requests)
            else:
                break
        # The body of a refusal that names no field is text, a list or a page.
        reasons = [refusal.fields or refusal.excerpt for refusal in refusals]
        alike = len(reasons) == 2 and reasons[0] == reasons[1]
        return Ended(call, error=refusals[0] if refusals else None, requests=requests, is_refused_alike=alike)
