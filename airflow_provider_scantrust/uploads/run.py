"""
Performing an upload: several calls at once, and what a 504 or a 400 asks for.

Rule 1: no two calls carry the same key, so they may end in any order.
Rule 2: everything is counted in the thread that runs :meth:`Runner.run`; the others only send.
Rule 3: a call counts when all its pieces have ended, so that a call which is sent again is never counted twice.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from math import inf
from typing import Any

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import (
    RequestRejected,
    ScantrustError,
    TooManyRejected,
    UploadTimedOut,
)
from airflow_provider_scantrust.uploads.calls import Job, make_jobs
from airflow_provider_scantrust.uploads.check import Row
from airflow_provider_scantrust.uploads.mode import FEW_CODES
from airflow_provider_scantrust.uploads.report import Report

Upload = Callable[[Sequence[Row], str], UploadResult]
Submit = Callable[[Mapping[str, Any], Mapping[str, Any]], str]
Reject = Callable[[str, str, str], int]

UNMATCHED = "no code that the token sees has this key"

_TICK = 1.0


@dataclass(frozen=True)
class Piece:
    """
    One request to make: a call of the plan, or a part of one that had to be cut.

    :param number: The call's number in the plan.
    :param alike: The rows carry identical data, since they come from a job that was refused.
    """

    number: int
    rows: Sequence[Row] = ()
    job: Job | None = None
    alike: bool = False


@dataclass(frozen=True)
class _Ended:
    piece: Piece
    result: UploadResult | str | None = None
    error: ScantrustError | None = None
    requests: int = 1
    refused_alike: bool = False


class Runner:
    """
    Make the calls of an upload.

    :param data_key: The field that selects codes.
    :param report: Counts what became of the rows.
    :param upload: Makes a synchronous call; runs in several threads.
    :param submit: Submits a job and returns its task_id; runs in several threads.
    :param warn: Called with what a human should know.
    :param max_in_flight: Requests at once.
    :param split: Halve a call that times out, and submit a single item that still does.
    :param reject: Called with key, kind and reason of what did not arrive; returns how many rows have the key. When None,
        a call that Scantrust refuses ends the upload; otherwise it is cut until the rows that are refused stand alone.
    :param max_rejected: Refused rows after which the upload ends early.
    :param hopeless_after: Rows refused alone after which it does when Scantrust has taken none.
    :param before_call: Called before each request with what it carries and the number of requests under way.
    :param call_done: Called with the number of each call that has ended, and what became of it.
    :param tick: Called at least every second.
    :param stop: Makes calls that pause end early.
    """

    def __init__(
        self,
        data_key: str,
        report: Report,
        *,
        upload: Upload,
        submit: Submit,
        warn: Callable[[str], None],
        max_in_flight: int = 1,
        split: bool = True,
        reject: Reject | None = None,
        max_rejected: float = inf,
        hopeless_after: float = inf,
        before_call: Callable[[Piece, int], None] = lambda piece, in_flight: None,
        call_done: Callable[[int, Report], None] = lambda number, counted: None,
        tick: Callable[[], None] = lambda: None,
        stop: Callable[[], None] = lambda: None,
    ) -> None:
        self._data_key = data_key
        self._report = report
        self._upload = upload
        self._submit = submit
        self._warn = warn
        self._max_in_flight = max_in_flight
        self._split = split
        self._reject = reject
        self._max_rejected = max_rejected
        self._hopeless_after = hopeless_after
        self._before_call = before_call
        self._call_done = call_done
        self._tick = tick
        self._stop = stop
        self._cut: deque[Piece] = deque()
        self._open: dict[int, int] = {}
        self._counted: dict[int, Report] = {}
        self._rejected = self._refused_alone = 0
        self._last_reason = ""
        # Calls of which nothing was taken or refused yet.
        self._undecided: set[int] = set()
        # What earlier tries got through counts as well.
        self._took_any = bool(report.codes_affected or report.jobs)

    def run(self, calls: Iterable[Piece]) -> None:
        """
        Make all calls.

        :raises UploadTimedOut: A call ended in 504 and ``split`` is off.
        :raises TooManyRejected: More rows were refused than allowed; or all of them, or so many before any was taken.
        :raises ScantrustError: The first error that ends the upload, after the requests under way have ended.
        """
        waiting = iter(calls)
        under_way: set[Future[_Ended]] = set()
        failed: ScantrustError | None = None
        pool = ThreadPoolExecutor(self._max_in_flight, thread_name_prefix="scantrust-upload")
        try:
            while True:
                while failed is None and len(under_way) < self._max_in_flight:
                    piece = self._next_piece(waiting)
                    if piece is None:
                        break
                    self._before_call(piece, len(under_way))
                    under_way.add(pool.submit(self._send, piece))
                if not under_way:
                    break
                ended, under_way = wait(under_way, timeout=_TICK, return_when=FIRST_COMPLETED)
                self._tick()
                for future in ended:
                    try:
                        self._take(future.result())
                    except ScantrustError as error:
                        failed = failed or error
        except BaseException:
            # The task's own time limit, or a fault of ours: whoever is in a long pause must not keep the task alive.
            self._stop()
            raise
        finally:
            pool.shutdown(wait=True, cancel_futures=True)
        if failed is not None:
            self._count_what_is_left()
            raise failed

    def none_taken(self) -> TooManyRejected:
        """Return the error for an upload of which Scantrust has refused all that it was sent."""
        return TooManyRejected(
            f"Scantrust refused {self._rejected} rows and took none, so the file as a whole is wrong, and the upload "
            f"ended. The last one: {self._last_reason}"
        )

    def _next_piece(self, waiting: Any) -> Piece | None:
        if self._cut:
            return self._cut.popleft()
        if self._seems_hopeless:
            return None
        piece: Piece | None = next(waiting, None)
        if piece is not None:
            self._undecided.add(piece.number)
            self._open[piece.number] = 1
            self._counted[piece.number] = Report(self._report.mode, 0, 0.0)
        return piece

    def _send(self, piece: Piece) -> _Ended:
        """Make one request; the errors that the upload survives come back as values."""
        try:
            if piece.job is not None:
                return _Ended(piece, self._submit(piece.job.constraints, piece.job.scm_data))
            if piece.alike:
                return self._send_alike(piece)
            return _Ended(piece, self._upload(piece.rows, self._data_key))
        except ScantrustError as error:
            return _Ended(piece, error=error)

    def _send_alike(self, piece: Piece) -> _Ended:
        """
        Find out whether it is the data of many rows that Scantrust refuses, or the keys of some.

        When the first and the last row are refused alone, with the same words, it is what they share.
        """
        said: list[ScantrustError] = []
        requests = 0
        for row in (piece.rows[0], piece.rows[-1]):
            requests += 1
            try:
                self._upload([row], self._data_key)
            except RequestRejected as error:
                said.append(error)
            except ScantrustError as error:
                return _Ended(piece, error=error, requests=requests)
            else:
                break
        alike = len(said) == 2 and said[0].fields == said[1].fields
        return _Ended(piece, error=said[0] if said else None, requests=requests, refused_alike=alike)

    def _take(self, ended: _Ended) -> None:
        piece, counted = ended.piece, self._counted[ended.piece.number]
        if not isinstance(ended.error, UploadTimedOut):
            self._undecided.discard(piece.number)
        counted.requests += ended.requests
        if piece.alike and (ended.error is None or isinstance(ended.error, RequestRejected)):
            if ended.refused_alike:
                self._refused_alone += 2
                self._refuse(piece.rows, counted, str(ended.error))
            else:
                size = FEW_CODES - 1
                self._replace(piece, [piece.rows[i : i + size] for i in range(0, len(piece.rows), size)])
        elif isinstance(ended.error, UploadTimedOut) and self._split:
            self._after_timeout(piece)
        elif isinstance(ended.error, RequestRejected) and ended.error.status == 400 and self._reject:
            self._after_refusal(piece, counted, ended.error)
        elif ended.error is not None:
            raise ended.error
        elif piece.job is not None:
            self._took_any = True
            counted.add_job(piece.job, str(ended.result), piece.number)
        elif isinstance(ended.result, UploadResult):
            self._took_any = True
            for key in counted.add_answer(piece.rows, self._data_key, ended.result):
                if self._reject:
                    self._reject(key, "unmatched", UNMATCHED)
        self._close(piece.number)
        # A call that is slower than those that were refused may still be taken.
        if self._seems_hopeless and not self._undecided:
            raise self.none_taken()

    def _after_timeout(self, piece: Piece) -> None:
        rows = piece.rows
        if len(rows) > 1:
            self._warn(
                f"A synchronous call of {len(rows)} items timed out and updated nothing; it is halved."
            )
            self._replace(piece, [rows[: len(rows) // 2], rows[len(rows) // 2 :]])
            return
        key = rows[0][self._data_key]
        self._warn(f"{self._data_key} {key!r} is on too many codes for a synchronous call; it goes async.")
        self._open[piece.number] += 1
        (job,) = make_jobs(rows, self._data_key)
        self._cut.appendleft(Piece(piece.number, job=job))

    def _after_refusal(self, piece: Piece, counted: Report, error: RequestRejected) -> None:
        rows = piece.job.as_rows(self._data_key) if piece.job else piece.rows
        if piece.job is not None and len(rows) > 1:
            self._open[piece.number] += 1
            self._cut.appendleft(Piece(piece.number, rows, alike=True))
        elif len(rows) > 1:
            if self._took_any or self._hopeless_after == inf:
                half = len(rows) // 2
                self._replace(piece, [rows[:half], rows[half:]])
            else:
                # Last in line, so that what is found is true of all that was sent and not of its beginning.
                parts = _sample(rows)
                self._open[piece.number] += len(parts)
                self._cut.extend(Piece(piece.number, part) for part in parts)
        else:
            self._refused_alone += 1
            self._refuse(rows, counted, str(error))

    def _refuse(self, rows: Sequence[Row], counted: Report, reason: str) -> None:
        count = sum(self._reject(row[self._data_key], "refused", reason) for row in rows if self._reject)
        counted.add_rejected("refused", count)
        self._rejected += count
        self._last_reason = reason
        if self._rejected > self._max_rejected:
            raise TooManyRejected(
                f"Scantrust refused {self._rejected} rows, more than max_rejected allows, so the upload ended early. "
                f"The last one: {reason}"
            )

    @property
    def _seems_hopeless(self) -> bool:
        return self._refused_alone >= self._hopeless_after and not self._took_any

    def _replace(self, piece: Piece, parts: Sequence[Sequence[Row]]) -> None:
        """Put the parts of a piece first in line, in their order."""
        self._open[piece.number] += len(parts)
        self._cut.extendleft(Piece(piece.number, part) for part in reversed(parts))

    def _close(self, number: int) -> None:
        self._open[number] -= 1
        if self._open[number] == 0:
            del self._open[number]
            counted = self._counted.pop(number)
            self._report.add(counted)
            self._call_done(number, counted)

    def _count_what_is_left(self) -> None:
        """After an error, count also what was done of calls that did not end."""
        for counted in self._counted.values():
            self._report.add(counted)
        self._counted.clear()


def _sample(rows: Sequence[Row]) -> list[Sequence[Row]]:
    """Cut three rows out that stand alone, evenly spread; after them come the rows between."""
    alone, between = [], []
    for third in range(3):
        part = rows[len(rows) * third // 3 : len(rows) * (third + 1) // 3]
        middle = len(part) // 2
        alone.append(part[middle : middle + 1])
        between += [part[:middle], part[middle + 1 :]]
    return [part for part in alone + between if part]
