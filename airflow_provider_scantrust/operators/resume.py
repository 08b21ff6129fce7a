"""
Progress of an upload over the tries of a task, in Airflow's task state store (Airflow 3.3).

Rule 1: only calls all of whose rows arrived are kept as done; the others are made again, which does no harm, so that the
        rejects file of a later try is complete.
Rule 2: what is kept is deleted when the upload has ended well, so that a task which is cleared uploads anew.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, cast

from airflow_provider_scantrust.uploads.report import Report

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.transports.common import Log

STORE_KEY = "scantrust_upload"


class Progress:
    """
    What is known to have been done, and when it has to be written down.

    At most ``max_in_flight`` calls are made again after a crash: those under way and those not yet written together.

    :param context: The task's context.
    :param fingerprint: Stands for the rows, the plan and the connection; progress under another one is forgotten.
    """

    def __init__(self, context: Context, fingerprint: str, *, max_in_flight: int, log: Log) -> None:
        self._store: Any = cast("Any", context).get("task_state_store")
        self._fingerprint = fingerprint
        self._max_in_flight = max_in_flight
        self._unsaved = 0
        self.done: set[int] = set()
        self.report = Report("", 0, 0.0)
        self._load(context, log)

    def before_call(self, in_flight: int) -> None:
        """Write down what is done before another call is under way."""
        if self._unsaved and in_flight + self._unsaved >= self._max_in_flight:
            self.save()

    def call_done(self, number: int, counted: Report) -> None:
        """Take note of a call that has ended."""
        if not counted.unmatched and not counted.rejected:
            self.done.add(number)
            self.report.add(counted)
            self._unsaved += 1

    def save(self) -> None:
        """Write everything down, where there is a store."""
        self._unsaved = 0
        if self._store is not None:
            saved = {
                "fingerprint": self._fingerprint,
                "done": write_ranges(self.done),
                "report": self.report.save(),
            }
            self._store.set(STORE_KEY, saved)

    def _load(self, context: Context, log: Log) -> None:
        if self._store is None:
            if context["ti"].try_number > 1:
                log.warning(
                    "This Airflow keeps no state between tries (3.3 does), so the upload starts over; setting the same "
                    "values again does no harm."
                )
            return
        saved = self._store.get(STORE_KEY)
        if not isinstance(saved, dict):
            return
        if saved.get("fingerprint") != self._fingerprint:
            log.warning("The source or its plan has changed since the last try, so the upload starts anew.")
            return
        self.done = read_ranges(saved["done"])
        self.report = Report.load(saved["report"])
        log.info(
            "The last try made %s calls and submitted %s jobs; going on from there.",
            len(self.done),
            len(self.report.jobs),
        )


def forget_progress(context: Context) -> None:
    """Delete what is kept: the upload has ended, or has to start anew."""
    store: Any = cast("Any", context).get("task_state_store")
    if store is not None:
        store.delete(STORE_KEY)


def write_ranges(numbers: set[int]) -> str:
    """Return numbers as text, with runs as ranges: ``0-57,60``."""
    parts: list[list[int]] = []
    for number in sorted(numbers):
        if parts and number == parts[-1][1] + 1:
            parts[-1][1] = number
        else:
            parts.append([number, number])
    return ",".join(str(first) if first == last else f"{first}-{last}" for first, last in parts)


def read_ranges(text: str) -> set[int]:
    """Return the numbers that :func:`write_ranges` wrote."""
    numbers: set[int] = set()
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        numbers.update(range(int(first), int(last or first) + 1))
    return numbers
