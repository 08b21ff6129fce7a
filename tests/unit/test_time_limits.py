"""Airflow's time limit raises between any two lines of the main thread; what is stored then must be whole."""

from __future__ import annotations

import logging
import sys
from types import FrameType
from typing import Any

from airflow_provider_scantrust.uploads import progress as module
from airflow_provider_scantrust.uploads.calls import Call
from airflow_provider_scantrust.uploads.kept import Try
from airflow_provider_scantrust.uploads.progress import Progress
from airflow_provider_scantrust.uploads.report import Report
from stores import Store

LOG = logging.getLogger(__name__)
JOBS = range(2, 5)


class TimeLimit(BaseException):
    """What Airflow's signal handler raises."""


def make_progress(store: Store, number: int) -> Progress:
    this_try = Try((2, 2), number, f"try {number}")
    progress = Progress(store, this_try, account="a", options="o", max_in_flight=1, log=LOG)
    progress.take_up("f", JOBS)
    return progress


def note_calls(progress: Progress, submitted: set[int]) -> None:
    """Note two synchronous calls with a discarded field, and three jobs; add the jobs that Scantrust has."""
    for number in range(5):
        counted = Report(requests=number + 1, codes_affected=10**number if number < 2 else 0)
        call = Call(number)
        if number in JOBS:
            call = Call(number, constraints={"extended_id": ["A"]}, example="A")
        else:
            counted.discarded = {"cellar": 1}
        progress.before_call(call, 0)
        if number in JOBS:
            submitted.add(number)
            counted.add_job(call, f"t-{number}")
        progress.answered(call, None)
        progress.call_done(number, counted)


def strike_at(line: int, progress: Progress, submitted: set[int]) -> bool:
    """Note calls until so many lines of the progress have run; return whether there were as many."""
    lines = 0

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal lines
        if frame.f_code.co_filename != module.__file__:
            return None
        if event == "line":
            lines += 1
            if lines == line:
                raise TimeLimit
        return trace

    before = sys.gettrace()
    sys.settrace(trace)
    try:
        note_calls(progress, submitted)
    except TimeLimit:
        return True
    finally:
        sys.settrace(before)
    return False


def test_time_limit_at_any_line_keeps_whole_calls() -> None:
    line = 0
    is_struck = True
    while is_struck:
        line += 1
        store = Store()
        progress = make_progress(store, 1)
        submitted: set[int] = set()
        is_struck = strike_at(line, progress, submitted)
        progress.close()
        again = make_progress(store, 2)
        report, done = again.report, again.done
        assert {f"t-{number}" for number in JOBS if number in done} == set(report.jobs), line
        assert sum(number + 1 for number in done) == report.requests, line
        assert sum(10**number for number in done if number < 2) == report.codes_affected, line
        assert len(done.difference(JOBS)) == report.discarded.get("cellar", 0), line
        assert len(submitted - done) <= report.possibly_twice, line
    assert line > 100
    assert {0, 1, 2, 3, 4} == done
