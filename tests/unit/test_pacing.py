"""Pacing, with a clock that only waits move."""

from __future__ import annotations

from collections import deque
from itertools import pairwise
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust.waits.pacing import Pacer


class Service:
    """Allows so many calls in any window of a second, as Scantrust does."""

    def __init__(self, limit: int = 10) -> None:
        self.limit = limit
        self.calls = self.refused = 0
        self._seen: deque[float] = deque()

    def call(self, now: float) -> float | None:
        """Return the seconds to wait when the call is refused."""
        self.calls += 1
        while self._seen and self._seen[0] <= now - 1.0:
            self._seen.popleft()
        if len(self._seen) >= self.limit:
            self.refused += 1
            return 1.0
        self._seen.append(now)
        return None


def run(clients: int, seconds: float, service: Service, delay: float = 0.0) -> list[int]:
    """Let clients call as fast as their pacers allow; return how many calls of each passed."""
    chance = Random(7)
    pacers = [Pacer(random=chance.random) for _ in range(clients)]
    done = [0] * clients
    due = [0.001 * index for index in range(clients)]
    while (now := min(due)) < seconds:
        index = due.index(now)
        wait = pacers[index].take_turn(now)
        if wait:
            due[index] = now + wait
            continue
        told = service.call(now + delay)
        if told is None:
            done[index] += 1
        else:
            pacers[index].slow_down(now, told)
        due[index] = now + 1e-6
    return done


def test_one_client_keeps_just_below_the_limit() -> None:
    service = Service()
    (done,) = run(1, 100.0, service)
    assert 0 == service.refused
    assert 970 <= done <= 1000


@pytest.mark.parametrize(("clients", "seconds"), [(2, 30), (3, 30), (4, 30), (8, 60), (4, 300), (8, 300)])
def test_several_clients_settle_together_below_the_limit(clients: int, seconds: int) -> None:
    service = Service()
    done = run(clients, seconds, service, delay=0.01)
    assert service.refused / service.calls < 0.05
    assert sum(done) > 0.7 * 10 * seconds


def test_nobody_is_starved_by_the_others() -> None:
    done = run(4, 300.0, Service())
    assert min(done) > 0.25 * max(done)


def test_what_others_have_left_is_taken_within_two_minutes() -> None:
    pacer, now = Pacer(random=lambda: 0.0), 0.0
    for _ in range(5):
        while pacer.take_turn(now):
            now += 0.01
        pacer.slow_down(now, 1.0)
        now += 1.0
    turns = 0
    start = now
    while now < start + 130.0:
        if pacer.take_turn(now) == 0.0:
            turns += now >= start + 120.0
        now += 0.001
    assert turns >= 98


def test_a_throttle_stops_everybody_for_the_time_that_was_named() -> None:
    pacer = Pacer(random=lambda: 0.0)
    assert 0.0 == pacer.take_turn(0.0)
    pacer.slow_down(0.1, 7.0)
    assert 7.0 == pacer.take_turn(0.1)
    assert 0.0 == pacer.take_turn(7.1)


def test_calls_that_are_hit_together_are_one_sign() -> None:
    one, many = Pacer(random=lambda: 0.0), Pacer(random=lambda: 0.0)
    for pacer, times in ((one, 1), (many, 16)):
        pacer.take_turn(0.0)
        for _ in range(times):
            pacer.slow_down(0.5, 1.0)
        pacer.take_turn(2.0)
    assert one.take_turn(2.0) == many.take_turn(2.0)
    assert (1, 16) == (one.throttled, many.throttled)


def test_rate_recovers_step_by_step() -> None:
    pacer = Pacer(random=lambda: 0.0)
    pacer.slow_down(0.0, 1.0)
    turns = [0] * 200
    now = 1.0
    while now < 200.0:
        wait = pacer.take_turn(now)
        if not wait:
            turns[int(now)] += 1
        now += wait or 1e-9
    tens = [sum(turns[start : start + 10]) for start in range(0, 200, 10)]
    assert all(later >= earlier - 1 for earlier, later in pairwise(tens))
    assert tens[1] < tens[-1] - 5
    assert tens[-1] in (98, 99)


@pytest.mark.parametrize("seconds", [1_900.0, 20_000.0, 1e9])
def test_rate_is_back_after_any_time_without_a_turn(seconds: float) -> None:
    pacer = Pacer(random=lambda: 0.0)
    for _ in range(10):
        pacer.take_turn(0.0)
    pacer.slow_down(0.0, 1.0)
    assert 0.0 == pacer.take_turn(30.0)
    now, turns = seconds, 0
    while now < seconds + 10.0:
        wait = pacer.take_turn(now)
        turns += not wait
        now += wait or 1e-6
    assert turns in (98, 99)


def test_late_turns_are_made_up_for() -> None:
    pacer = Pacer(random=lambda: 0.0)
    now, turns, chance = 0.0, 0, Random(1)
    while now < 100.0:
        wait = pacer.take_turn(now)
        turns += not wait
        # A thread that waits wakes up to 5 ms late.
        now += wait + chance.random() * 0.005 if wait else 1e-9
    assert turns > 970


@given(st.lists(st.tuples(st.floats(0, 5), st.booleans(), st.floats(0, 100)), max_size=60))
def test_turns_never_come_faster_than_the_limit(events: list[tuple[float, bool, float]]) -> None:
    pacer, now = Pacer(random=lambda: 0.0), 0.0
    taken: list[float] = []
    for step, throttled, seconds in events:
        now += step
        if throttled:
            pacer.slow_down(now, seconds)
        for _ in range(5):
            if pacer.take_turn(now) == 0.0:
                taken.append(now)
    for index, moment in enumerate(taken):
        assert len([other for other in taken[index:] if other < moment + 1.0]) <= 10
