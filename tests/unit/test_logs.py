"""What a long upload writes to the log, with a clock that the test moves."""

from __future__ import annotations

from typing import Any

from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.hooks.logs import RareLog
from airflow_provider_scantrust.uploads.kept import read_ranges, write_ranges
from airflow_provider_scantrust.uploads.progress_log import ProgressLog
from airflow_provider_scantrust.waits.pacing import Pacer


class Log:
    def __init__(self) -> None:
        self.lines: list[str] = []
        self.now = 0.0

    def info(self, event: str, *args: Any) -> None:
        self.lines.append(event % args)

    warning = info

    def clock(self) -> float:
        return self.now


def test_trouble_that_comes_again_and_again_is_told_once_a_minute() -> None:
    log = Log()
    rare = RareLog(log, clock=log.clock)
    for second in range(600):
        log.now = second / 5
        rare.warning("Scantrust answered the synchronous upload of %s items with 503.", 100 + second)
    assert 5 + 1 == len(log.lines)
    assert "(299 more like it before.)" in log.lines[5]


def test_minute_begins_with_the_last_line_that_was_told() -> None:
    log = Log()
    rare = RareLog(log, clock=log.clock)
    told = []
    for second in (0, 1, 55, 56, 57, 60, 116, 117, 176, 177):
        log.now = float(second)
        rare.warning("trouble")
        told.append(len(log.lines))
    assert [1, 2, 3, 4, 5, 5, 5, 6, 6, 7] == told


def test_different_trouble_is_told_each() -> None:
    log = Log()
    rare = RareLog(log, clock=log.clock)
    for kind in ("a", "b", "c"):
        rare.warning(f"trouble of kind {kind}")
    assert 3 == len(log.lines)


def test_progress_is_a_line_every_ten_seconds_and_says_how_long_it_takes() -> None:
    log = Log()
    lines = ProgressLog(log, Pacer(random=lambda: 0.0), rows=1000, calls=10, clock=log.clock)
    for second in range(31):
        log.now = float(second)
        lines.rows_done, lines.calls_done = second * 20, second // 5
        lines.tick(codes=second * 20)
    assert 3 == len(log.lines)
    assert "200 of 1,000 rows, 2 of 10 calls, 200 codes, 0 throttled, 20 rows/s, 40 s left." == log.lines[0]


def test_time_left_does_not_count_seconds_that_a_429_took() -> None:
    log = Log()
    pacer = Pacer(random=lambda: 0.0)
    lines = ProgressLog(log, pacer, rows=1000, calls=10, clock=log.clock)
    pacer.slow_down(now=5.0, seconds=30.0)
    for second, done in ((5, 100), (20, 100), (35, 100), (45, 300)):
        log.now, lines.rows_done = float(second), done
        lines.tick(codes=0)
    left = [line.rpartition(", ")[2] for line in log.lines]
    assert ["45 s left.", "45 s left.", "35 s left."] == left


def test_progress_without_any_progress_does_not_guess() -> None:
    log = Log()
    lines = ProgressLog(log, Pacer(random=lambda: 0.0), rows=1000, calls=10, clock=log.clock)
    log.now = 11.0
    lines.tick(codes=0)
    assert "time left unknown" in log.lines[0]


@given(st.sets(st.integers(0, 300)))
def test_call_numbers_survive_as_ranges(numbers: set[int]) -> None:
    assert numbers == read_ranges(write_ranges(numbers))


def test_ranges_are_short() -> None:
    assert "0-57,60,62-63" == write_ranges({*range(58), 60, 62, 63})
    assert len(write_ranges(set(range(1_000_000)))) < 20
