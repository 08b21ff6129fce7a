"""
Make the calls of an upload, several at a time, and handle 504, 413 and 400.

Rule 1: no two calls carry the same key, so they may end in any order.
Rule 2: only the thread that runs :meth:`Runner.run` counts; the other threads only send.
Rule 3: a call counts when all its parts have ended, so a call that is sent again is never counted twice.
Rule 4: however the upload ends, every answer that has arrived is counted first, and the wait for threads has
        a time limit.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from math import inf
from time import monotonic

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.exceptions import (
    DiscardedFields,
    RequestRejected,
    RequestTooLarge,
    ScantrustError,
    TooManyRejected,
    UploadInterrupted,
    UploadTimedOut,
)
from airflow_provider_scantrust.uploads.calls import Call, Steps, make_job
from airflow_provider_scantrust.uploads.check import Row
from airflow_provider_scantrust.uploads.options import Options, Service
from airflow_provider_scantrust.uploads.progress import Progress
from airflow_provider_scantrust.uploads.progress_log import ProgressLog
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.requests import Ended, Requests, Submit

Reject = Callable[[str, str, str], int]

UNMATCHED = "no code that the token sees has this key"

_HOPELESS_AFTER = 100
_TICK = 0.25
# Airflow kills a task 5 s after telling it to stop, and progress must be saved in that time, too.
_WIND_DOWN = 1.0


@dataclass(kw_only=True, eq=False, repr=False)
class Runner:
    """
    Make the calls of an upload.

    :param submit: Submits a job and returns its task_id. Like ``service.upload``, it runs in several threads.
    :param items_per_call: Rows in a synchronous call that is made instead of a refused job.
    :param reject: Called with key, kind and reason of a row that was not updated; returns how many rows have
        the key. If None, a refused call ends the upload. Otherwise a refused call is split until only the bad
        rows are refused.
    :param max_rejected: With more refused rows than this, the upload ends early.
    :param is_stopped: Called four times a second; True if the task was stopped. The upload then ends and keeps what Scantrust has answered.
    """

    options: Options
    service: Service
    submit: Submit
    report: Report
    progress: Progress
    lines: ProgressLog
    log: Log
    items_per_call: int
    is_stopped: Callable[[], bool] = lambda: False
    reject: Reject | None = None
    max_rejected: float = inf

    def __post_init__(self) -> None:
        self._data_key = self.options.data_key
        self._requests = Requests(self.service.upload, self.submit, self._data_key)
        # If every row of a file is wrong, splitting calls down to single rows takes two calls per row.
        self._hopeless_after = _HOPELESS_AFTER if self.options.max_rejected is None else inf
        self._taking: Ended | None = None
        self._cut: deque[Call] = deque()
        self._open: dict[int, int] = {}
        self._counted: dict[int, Report] = {}
        self._tasting: set[int] = set()
        self._rejected = self._refused_alone = 0
        self._last_reason = ""
        # Calls of which Scantrust has neither accepted nor refused a row yet.
        self._undecided: set[int] = set()
        # What earlier tries achieved counts as well.
        self._took_any = bool(self.report.codes_affected or self.report.jobs)

    def run(self, steps: Steps) -> None:
        """
        Make all calls.

        :raises UploadTimedOut: A call ended in 504, and the mode is "sync".
        :raises TooManyRejected: Scantrust refused more rows than allowed, or all rows, or a hundred rows, each
            sent alone, while it accepted none.
        :raises DiscardedFields: The tasting calls have shown that a field is discarded, and no job may then start.
        :raises UploadInterrupted: The upload was stopped.
        :raises ScantrustError: The first error that ends the upload, after the requests under way have ended.
        """
        failed: Exception | None = None
        try:
            while True:
                failed = failed or self._start_calls(steps)
                if self.is_stopped():
                    raise UploadInterrupted("The task was stopped before the upload had ended.")
                if not self._requests.in_flight:
                    break
                failed = self._take_arrived(_TICK, failed)
                self.lines.tick(self.report.codes_affected)
        except BaseException:
            # A time limit of the task, a stop, or a fault: a call in a long pause must not keep the task
            # alive.
            self.service.stop_uploads()
            self._wind_down()
            raise
        finally:
            self._requests.close()
        if failed is not None:
            self._count_rest()
            raise failed
        if self._seems_hopeless:
            raise self.none_taken()

    def none_taken(self) -> TooManyRejected:
        return TooManyRejected(
            f"Scantrust refused {plural(self._rejected, 'row')} and accepted none, so the data as a whole is wrong, and "
            f"the upload ended. The last reason: {self._last_reason}"
        )

    def _start_calls(self, steps: Steps) -> ScantrustError | None:
        """Send as many calls as may be in flight; return the error if no more may be sent."""
        while not self.is_stopped() and self._requests.in_flight < self.options.max_in_flight:
            try:
                call = self._next_call(steps)
            except ScantrustError as error:
                return error
            if call is None:
                break
            self.progress.before_call(call, self._requests.in_flight)
            self._requests.start(call)
        return None

    def _next_call(self, steps: Steps) -> Call | None:
        if self._cut:
            if self._cut[0].is_job:
                self._check_discarded()
            return self._cut.popleft()
        if self._seems_hopeless:
            return None
        call = next(steps.first, None)
        if call is not None:
            self._tasting.add(call.number)
        elif not self._tasting and (call := next(steps.jobs, None)) is not None:
            self._check_discarded()
        else:
            call = call or next(steps.others, None)
        if call is not None:
            self._undecided.add(call.number)
            self._open[call.number] = 1
            self._counted[call.number] = Report(rows=call.keys)
        return call

    def _check_discarded(self) -> None:
        if self.options.stop_on_discarded and self.report.discarded:
            raise DiscardedFields(f"{self.report.describe_discarded()} No job was submitted with them.")

    def _take_arrived(self, seconds: float, failed: Exception | None = None) -> Exception | None:
        """Wait for an answer, take all that have arrived, and return the first error that ends the upload."""
        ended = self._requests.take(seconds)
        while ended is not None:
            self._taking = ended
            try:
                self._take(ended)
            except Exception as error:
                failed = failed or error
            self._taking = None
            ended = self._requests.take()
        return failed

    def _wind_down(self) -> None:
        taking = self._taking
        if taking is not None and taking.call.is_job and isinstance(taking.result, str):
            # The interruption came while this answer was being counted. The task_id must not be lost.
            self.report.add_job(taking.call, taking.result)
        end = monotonic() + _WIND_DOWN
        self._take_arrived(0.0)
        while self._requests.in_flight and (left := end - monotonic()) > 0:
            self._take_arrived(min(left, _TICK))
        self._count_rest()

    def _take(self, ended: Ended) -> None:
        call, error, counted = ended.call, ended.error, self._counted[ended.call.number]
        self.progress.answered(call, error)
        if not isinstance(error, UploadTimedOut | RequestTooLarge) or (
            isinstance(error, RequestTooLarge) and call.keys == 1
        ):
            self._undecided.discard(call.number)
        counted.requests += ended.requests
        is_refusal = isinstance(error, RequestRejected | RequestTooLarge) and error.status in (400, 413)
        if call.is_probe and (error is None or is_refusal or isinstance(error, UploadTimedOut)):
            if ended.is_refused_alike:
                self._refused_alone += 2
                self._refuse(call.rows, counted, str(error))
            else:
                self._replace(call, call.parts(self.items_per_call))
        elif isinstance(error, UploadTimedOut) and self.options.mode != "sync":
            self._after_timeout(call)
        elif isinstance(error, RequestTooLarge) and call.keys > 1:
            self.log.warning(
                "A call with %s is too large (413) and updated nothing; it is halved.",
                plural(call.keys, "key"),
            )
            self._replace(call, call.parts(0))
        elif is_refusal and self.reject:
            self._after_refusal(call, counted, str(error))
        elif error is not None:
            raise error
        elif isinstance(ended.result, UploadResult):
            self._took_any = True
            for key in counted.add_answer(call.rows, self._data_key, ended.result):
                if self.reject:
                    self.reject(key, "unmatched", UNMATCHED)
        else:
            self._took_any = True
            counted.add_job(call, str(ended.result))
        self._close(call.number)
        # A slow call that is still in flight may be accepted.
        if self._seems_hopeless and not self._undecided:
            raise self.none_taken()

    def _after_timeout(self, call: Call) -> None:
        if call.keys > 1:
            self.log.warning(
                "A synchronous call of %s items timed out (504) and updated nothing; it is halved.", call.keys
            )
            self._replace(call, call.parts(0))
            return
        row = dict(call.rows[0])
        key = row.pop(self._data_key)
        self.log.warning(
            "%s %r has too many codes for a synchronous call; it becomes a job.", self._data_key, key
        )
        self._replace(call, [make_job(call.number, self._data_key, [key], row)])

    def _after_refusal(self, call: Call, counted: Report, reason: str) -> None:
        rows = call.as_rows(self._data_key)
        if call.is_job and len(rows) > 1:
            self._replace(call, [Call(call.number, rows, is_probe=True)])
        elif len(rows) > 1:
            if self._took_any or self._hopeless_after == inf:
                self._replace(call, call.parts(0))
            else:
                # The parts go to the end of the queue, so that rows of every call are tried before the upload
                # gives up, not only those of the first call.
                parts = [replace(call, rows=part) for part in _sample(rows)]
                self._open[call.number] += len(parts)
                self._cut.extend(parts)
        else:
            self._refused_alone += 1
            self._refuse(rows, counted, reason)

    def _refuse(self, rows: Sequence[Row], counted: Report, reason: str) -> None:
        if not self._last_reason:
            key = show(rows[0][self._data_key])
            self.log.warning("First refused row: %s %s. %s", self._data_key, key, reason)
        count = sum(self.reject(row[self._data_key], "refused", reason) for row in rows if self.reject)
        counted.add_rejected({"refused": count})
        self._rejected += count
        self._last_reason = reason
        if self._rejected > self.max_rejected:
            raise TooManyRejected(
                f"Scantrust refused {plural(self._rejected, 'row')}, more than max_rejected allows, so the upload ended "
                f"early. The last reason: {reason}"
            )

    @property
    def _seems_hopeless(self) -> bool:
        return self._refused_alone >= self._hopeless_after and not self._took_any

    def _replace(self, call: Call, parts: Sequence[Call]) -> None:
        """Put the parts of a call at the front of the queue, in order."""
        self._open[call.number] += len(parts)
        self._cut.extendleft(reversed(parts))

    def _close(self, number: int) -> None:
        self._open[number] -= 1
        if self._open[number] == 0:
            del self._open[number]
            counted = self._counted.pop(number)
            self._tasting.discard(number)
            self.report.add(counted)
            self.lines.calls_done += 1
            self.lines.rows_done += counted.rows
            self.progress.call_done(number, counted)

    def _count_rest(self) -> None:
        """After an error, also count what was done of calls that have not ended."""
        while self._counted:
            self.report.add(self._counted.popitem()[1])


def _sample(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Split rows: three single rows, evenly spread, and after them the parts between."""
    alone, between = [], []
    for third in range(3):
        part = rows[len(rows) * third // 3 : len(rows) * (third + 1) // 3]
        middle = len(part) // 2
        alone.append(part[middle : middle + 1])
        between += [part[:middle], part[middle + 1 :]]
    return [part for part in alone + between if part]
