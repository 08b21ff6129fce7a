"""The watcher's queue, with a clock that only the simulation moves."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from heapq import heappop, heappush
from itertools import count
from math import inf
from random import Random
from weakref import ref

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.models import Task, TaskState
from airflow_provider_scantrust.waits.jobs import Jobs
from airflow_provider_scantrust.waits.pacing import Pacer
from airflow_provider_scantrust.waits.queue import POLLS_PER_MINUTE, Job, Queue, Wait, make_pacer

RATE = 40
# What becomes of a question: "answered", "failed", or seconds to wait.
Verdict = str | float


def task(task_id: str, state: TaskState = TaskState.RUNNING) -> Task:
    return Task(id=task_id, state=state, state_word=state.value)


def answer(queue: Queue, job: Job, now: float, state: TaskState = TaskState.RUNNING) -> None:
    queue.take_result(job, task(job.task_id, state), now)


def fail(queue: Queue, job: Job, now: float, retry_after: float | None = None) -> None:
    queue.take_result(job, exc.ServiceUnavailable("down", retry_after=retry_after), now)


def throttle(queue: Queue, job: Job, now: float, retry_after: float | None) -> None:
    queue.take_result(job, exc.Throttled("throttled", retry_after=retry_after), now)


class Watched:
    """A watcher without sockets: its queue, the questions under way, and what happened when."""

    def __init__(
        self,
        serve: Callable[[float], Verdict],
        *,
        rate: int = RATE,
        windows: list[tuple[int, float]] | None = None,
        seed: int = 1,
    ) -> None:
        chance = Random(seed).random
        pacer = make_pacer(rate, chance)
        if windows:
            pacer = Pacer(rate, random=chance, windows=windows, closer=0.8)
        self.queue = Queue(pacer, random=chance)
        self.serve = serve
        self.asked: list[float] = []
        self.delays: list[float] = []
        # Questions that were asked between the moment a job was due and its turn, beside repeated ones.
        self.passed_over: list[int] = []
        self.count = {"answered": 0, "failed": 0, "throttled": 0}
        self.most_open = 0
        self.left: list[Wait] = []
        self._under_way: list[tuple[float, int, Job]] = []
        self._number = count()

    def join(self, now: float, jobs: int = 1, interval: float = 10.0) -> Wait:
        known = Jobs([f"t-{number}" for number in range(jobs)], deadline=inf)
        wait = Wait(known, interval, None, joined=now, left=inf)
        self.queue.add(wait)
        self.most_open = max(self.most_open, self.queue.open)
        return wait

    def leave(self, wait: Wait) -> None:
        self.queue.leave(wait)
        self.left.append(wait)

    def step(self, now: float, latency: float = 0.02) -> float:
        """Do what is to be done now; return when to come again."""
        while self._under_way and self._under_way[0][0] <= now:
            self._settle(now, heappop(self._under_way)[2])
        turn = self.queue.take(now)
        if not isinstance(turn, Job):
            return min(now + turn, self._under_way[0][0] if self._under_way else inf)
        assert turn.wait not in self.left
        assert turn.due <= now
        since = sum(moment >= turn.due for moment in self.asked[-3 * self.most_open - 100 :])
        self.passed_over.append(since)
        self.delays.append(now - turn.due)
        self.asked.append(now)
        heappush(self._under_way, (now + latency, next(self._number), turn))
        return now

    def _settle(self, now: float, job: Job) -> None:
        if not self.queue.holds(job):
            return
        verdict = self.serve(now)
        if verdict == "answered":
            answer(self.queue, job, now)
        elif verdict == "failed":
            fail(self.queue, job, now)
        else:
            assert isinstance(verdict, float)
            throttle(self.queue, job, now, verdict)
            verdict = "throttled"
        self.count[verdict] += 1


def run(
    watched: Watched, until: float, events: list[tuple[float, Callable[[], object]]] | None = None
) -> None:
    events = sorted(events or [], key=lambda event: event[0])
    now = 0.0
    while now < until:
        while events and events[0][0] <= now:
            events.pop(0)[1]()
        following = watched.step(now)
        now = max(now, min(following, events[0][0] if events else inf))
        # Timers come a little late.
        now += 1e-4 if following > now else 0.0
        if following == inf and not events:
            break


def most_in(asked: list[float], seconds: float) -> int:
    window: deque[float] = deque()
    most = 0
    for moment in asked:
        window.append(moment)
        while window[0] <= moment - seconds:
            window.popleft()
        most = max(most, len(window))
    return most


def answered(now: float) -> Verdict:
    return "answered"


@settings(deadline=None, max_examples=40)
@given(
    joins=st.lists(
        st.tuples(st.floats(0, 60), st.integers(1, 120), st.floats(1, 20)), min_size=1, max_size=12
    ),
    leaves=st.lists(st.tuples(st.floats(0, 90), st.integers(0, 11)), max_size=8),
    failing=st.floats(0, 0.5),
    throttles=st.lists(st.floats(0, 90), max_size=4),
    seed=st.integers(0, 1000),
)
def test_no_job_starves_and_the_budget_holds_for_any_mix(
    joins: list[tuple[float, int, float]],
    leaves: list[tuple[float, int]],
    failing: float,
    throttles: list[float],
    seed: int,
) -> None:
    chance = Random(seed)
    coming = sorted(throttles)

    def serve(now: float) -> Verdict:
        if coming and coming[0] <= now:
            coming.pop(0)
            return 2.0
        return "failed" if chance.random() < failing else "answered"

    rate, windows = 20, [(150, 10.0)]
    watched = Watched(serve, rate=rate, windows=windows, seed=seed)
    waits: list[Wait] = []
    events: list[tuple[float, Callable[[], object]]] = [
        (at, lambda at=at, jobs=jobs, interval=interval: waits.append(watched.join(at, jobs, interval)))  # type: ignore[misc]
        for at, jobs, interval in joins
    ]

    def leave(which: int) -> None:
        if which < len(waits) and waits[which] in watched.queue.waits:
            watched.leave(waits[which])

    events += [(at, lambda which=which: leave(which)) for at, which in leaves]  # type: ignore[misc]
    run(watched, 100.0, events)
    assert most_in(watched.asked, 1.0) <= rate
    assert most_in(watched.asked, 10.0) <= 150
    # While a job waits for its turn, every other one is polled once at most, and again after a 429 or a
    # failure.
    again = watched.count["throttled"] + watched.count["failed"]
    assert max(watched.passed_over, default=0) <= watched.most_open + again
    present = sum(len(wait.jobs.open) for wait in waits if wait.error is None and wait not in watched.left)
    assert present == watched.queue.open


@pytest.mark.parametrize("jobs", [100, 1000, 2000])
def test_worst_delay_stays_near_jobs_by_rate(jobs: int) -> None:
    watched = Watched(answered)
    for _ in range(jobs):
        watched.join(0.0)
    run(watched, 10.0 + 3 * jobs / RATE + 30)
    assert max(watched.delays) + 10 <= max(12.0, 1.15 * jobs / RATE + 11)
    if jobs > 10 * RATE:
        # All intervals stretch alike: from a job's turn to its next, about jobs / rate.
        late = watched.delays[2 * jobs :]
        assert max(late) - min(late) < 3.0


@settings(deadline=None, max_examples=20)
@given(
    joins=st.lists(
        st.tuples(st.floats(0, 40), st.integers(1, 300), st.floats(1, 30)), min_size=1, max_size=8
    ),
    failing=st.floats(0, 0.3),
    seed=st.integers(0, 1000),
)
def test_delay_is_bounded_for_any_arrivals_and_failures(
    joins: list[tuple[float, int, float]], failing: float, seed: int
) -> None:
    chance = Random(seed)
    in_a_row = 0

    def serve(now: float) -> Verdict:
        nonlocal in_a_row
        # Fewer in a row than what is taken for an outage.
        in_a_row = in_a_row + 1 if chance.random() < failing and in_a_row < 3 else 0
        return "failed" if in_a_row else "answered"

    watched = Watched(serve, seed=seed)
    run(
        watched,
        100.0,
        [
            (at, lambda at=at, jobs=jobs, interval=interval: watched.join(at, jobs, interval))  # type: ignore[misc]
            for at, jobs, interval in joins
        ],
    )
    assert max(watched.delays) <= 1.15 * watched.most_open / RATE + 0.2


def test_a_minute_holds_where_the_second_would_allow_more() -> None:
    watched = Watched(answered, rate=100)
    for _ in range(200):
        watched.join(0.0, jobs=5, interval=1.0)
    run(watched, 150.0)
    assert POLLS_PER_MINUTE >= most_in(watched.asked, 60.0) > 0.95 * POLLS_PER_MINUTE
    assert most_in(watched.asked, 1.0) <= 100


def test_questions_that_a_busy_loop_delayed_are_made_up_for() -> None:
    watched, chance, now = Watched(answered), Random(5), 0.0
    watched.join(0.0, jobs=2000)
    while now < 60.0:
        following = watched.step(now)
        # Each timer comes up to 8 ms late.
        now = following + chance.random() * 0.008 if following > now else now
    assert len(watched.asked) > 0.95 * 50 * RATE
    assert most_in(watched.asked, 1.0) <= RATE


class Limited:
    """Allows so many questions in a sliding window, and says when the next may come, as Scantrust does."""

    def __init__(self, limit: int, seconds: float) -> None:
        self.limit, self.seconds = limit, seconds
        self._seen: deque[float] = deque()

    def __call__(self, now: float) -> Verdict:
        while self._seen and self._seen[0] <= now - self.seconds:
            self._seen.popleft()
        if len(self._seen) >= self.limit:
            return float(int(self._seen[0] + self.seconds - now) + 1)
        self._seen.append(now)
        return "answered"


@pytest.mark.parametrize(("limit", "seconds"), [(50, 1.0), (3000, 60.0)])
def test_two_watchers_on_one_token_settle_below_the_limit(limit: int, seconds: float) -> None:
    service = Limited(limit, seconds)
    pair = [Watched(service, seed=seed) for seed in (1, 2)]
    for watched in pair:
        watched.join(0.0, jobs=1500)
    due, until = [0.0, 0.0], 250.0
    while (now := min(due)) < until:
        index = due.index(now)
        following = pair[index].step(now)
        due[index] = following + 1e-4 if following > now else now
    asked = [len(watched.asked) for watched in pair]
    throttled = sum(watched.count["throttled"] for watched in pair)
    assert throttled / sum(asked) < 0.02
    assert sum(watched.count["answered"] for watched in pair) > 0.75 * (until - 20) * 50
    assert min(asked) > 0.4 * max(asked)


def test_a_429_stops_all_questions_and_the_job_keeps_its_place() -> None:
    verdicts: list[Verdict] = ["answered", 7.0]
    watched = Watched(lambda now: verdicts.pop(0) if verdicts else "answered")
    watched.join(0.0, jobs=20, interval=1.0)
    run(watched, 30.0)
    assert 1 <= watched.count["throttled"] <= 3
    gaps = [
        (later - earlier, later) for earlier, later in zip(watched.asked, watched.asked[1:], strict=False)
    ]
    assert max(gaps)[0] >= 6.9
    assert 0 == watched.count["failed"]


def test_an_outage_is_probed_not_hammered_and_ends_with_the_first_answer() -> None:
    watched = Watched(lambda now: "failed" if now < 300 else "answered")
    watched.join(0.0, jobs=2000)
    run(watched, 400.0)
    during = [moment for moment in watched.asked if 30 < moment < 300]
    # Pauses of up to 15 s, fully jittered: 7.5 on average.
    assert 20 < len(during) < 80
    after = [moment for moment in watched.asked if 330 < moment < 400]
    assert len(after) > 0.9 * 70 * RATE


def test_failures_here_and_there_do_not_slow_the_others() -> None:
    chance = Random(3)
    watched = Watched(lambda now: "failed" if chance.random() < 0.05 else "answered")
    watched.join(0.0, jobs=1000)
    run(watched, 100.0)
    assert len(watched.asked) > 0.95 * 90 * RATE


def queue(random: Callable[[], float] = lambda: 0.5) -> Queue:
    return Queue(make_pacer(RATE, random), random=random)


def take(queue: Queue, now: float) -> Job:
    turn = queue.take(now)
    assert isinstance(turn, Job)
    return turn


class WeakJobs(Jobs):
    """Jobs with which a test sees that nothing keeps them."""


def wait_for(
    *task_ids: str, interval: float = 10.0, longest: float | None = None, until: float = inf
) -> Wait:
    return Wait(Jobs(task_ids, deadline=inf), interval, longest, joined=0.0, left=until)


def test_first_question_comes_one_interval_after_the_wait() -> None:
    asking = queue()
    asking.add(wait_for("a"))
    assert 10.0 == asking.take(0.0)
    assert "a" == take(asking, 10.0).task_id


def test_interval_doubles_up_to_the_longest() -> None:
    asking, now, gaps = queue(), 0.0, []
    asking.add(wait_for("a", longest=35.0))
    for _ in range(4):
        seconds = asking.take(now)
        assert isinstance(seconds, float)
        gaps.append(seconds)
        now += seconds
        answer(asking, take(asking, now), now)
    assert [10.0, 20.0, 35.0, 35.0] == gaps


def test_a_failed_poll_is_repeated_soon_and_later_within_half_a_minute() -> None:
    asking = queue()
    asking.add(wait_for("a", interval=3600.0))
    job, now, pauses = take(asking, 3600.0), 3600.0, []
    for _ in range(5):
        fail(asking, job, now)
        asking._quiet_until = now
        seconds = asking.take(now)
        assert isinstance(seconds, float)
        pauses.append(seconds)
        now += seconds
        assert job is take(asking, now)
    # A back-off of 1, 2 and 4 seconds with half of it jitter.
    assert [0.75, 1.5, 3.0, 30.0, 30.0] == pauses
    assert (5, 3600.0) == (job.failures, job.failing_since)
    answer(asking, job, now)
    assert (0, inf, inf) == (job.failures, job.failing_since, asking.silent_since)
    assert 3600.0 == asking.take(now)


def test_a_repeated_poll_goes_before_all_that_are_due() -> None:
    asking = queue()
    asking.add(wait_for("broken", interval=1.0))
    asking.add(wait_for(*(f"t-{number}" for number in range(100)), interval=2.0))
    fail(asking, take(asking, 1.0), 1.0)
    assert "broken" == take(asking, 20.0).task_id


def test_broken_jobs_do_not_hold_up_the_others() -> None:
    watched = Watched(answered)
    watched.join(0.0, jobs=300)
    bad = watched.join(0.0, jobs=300)
    real = watched._settle

    def settle(now: float, job: Job) -> None:
        watched.serve = (lambda now: "failed") if job.wait is bad else answered
        real(now, job)

    watched._settle = settle  # type: ignore[method-assign]
    run(watched, 200.0)
    good = watched.count["answered"]
    # Nearly half of all turns.
    assert good > 0.35 * len(watched.asked)
    assert good > 3 * 300


class Detection:
    """Jobs that end at one moment; what the delay to their report is."""

    def __init__(self, jobs: int, failing: float, seed: int = 1) -> None:
        chance = Random(seed)
        self.queue = Queue(make_pacer(47, chance.random), random=chance.random)
        self.waits = [
            Wait(Jobs([f"t-{number}"], deadline=inf), 10.0, joined=chance.random() * 30, left=inf)
            for number in range(jobs)
        ]
        for wait in self.waits:
            self.queue.add(wait)
        # In the middle of the second round.
        self.end_at = 60.0 + 1.5 * jobs / 47
        self.delays: list[float] = []
        self.errors = 0
        now = 0.0
        while self.queue.waits:
            turn = self.queue.take(now)
            if not isinstance(turn, Job):
                now += max(turn, 1e-4)
                continue
            if chance.random() < failing:
                fail(self.queue, turn, now)
            elif now >= self.end_at:
                answer(self.queue, turn, now, TaskState.COMPLETE)
                self.delays.append(now - self.end_at)
            else:
                answer(self.queue, turn, now)
            self.queue.expire(now)
        self.errors = sum(wait.error is not None for wait in self.waits)


@pytest.mark.parametrize("waits", [3000, 10_000])
def test_waits_end_as_fast_as_the_service_allows_with_one_bad_gateway_in_a_hundred(waits: int) -> None:
    seen = Detection(waits, failing=0.01)
    delays = sorted(seen.delays)
    assert (waits, 0) == (len(delays), seen.errors)
    assert delays[-1] <= 1.1 * waits / 50
    assert delays[waits // 2] <= 0.55 * waits / 50


def wait_until_over(queue: Queue, wait: Wait, serve: Callable[[float], exc.TransientError]) -> float:
    """Let each poll fail; return when the wait is over."""
    now = 0.0
    while True:
        seconds = queue.expire(now)
        if wait not in queue.waits:
            return now
        turn = queue.take(now)
        if isinstance(turn, Job):
            queue.take_result(turn, serve(now), now)
        else:
            now += min(turn, seconds)


def test_a_pause_that_the_service_names_ends_no_wait_before_its_deadline_or_budget() -> None:
    for error in (exc.Throttled("429", retry_after=900.0), exc.ServiceUnavailable("503", retry_after=900.0)):
        asking = queue()
        wait = wait_for("a", until=300.0)
        wait.poll_first = True
        asking.add(wait)
        assert 300.0 == wait_until_over(asking, wait, lambda now, error=error: error)  # type: ignore[misc]
        assert isinstance(wait.error, exc.WaitTimedOut)
        asking = queue()
        wait = wait_for("a", until=7200.0)
        asking.add(wait)
        over = wait_until_over(asking, wait, lambda now, error=error: error)  # type: ignore[misc]
        assert 600.0 <= over <= 611.0
        assert type(error) is type(wait.error)


def test_waits_with_a_shorter_budget_end_earlier_in_an_outage() -> None:
    asking = queue()
    waits = [
        Wait(
            Jobs([f"t-{budget}"], deadline=inf, error_budget=budget),
            10.0,
            joined=0.0,
            left=inf,
            poll_first=True,
        )
        for budget in (50.0, 500.0)
    ]
    for wait in waits:
        asking.add(wait)
    assert 50.0 <= wait_until_over(asking, waits[0], lambda now: exc.ConnectionFailed("cut")) <= 52.0
    assert {waits[1]} == asking.waits
    assert isinstance(waits[0].error, exc.ConnectionFailed)


@pytest.mark.parametrize("joins_later", [False, True])
def test_failures_of_a_wait_that_has_left_end_no_other_wait(joins_later: bool) -> None:
    asking = queue()
    broken, other = wait_for("broken", interval=1.0), wait_for("other", interval=3600.0)
    asking.add(broken)
    if not joins_later:
        asking.add(other)
    fail(asking, take(asking, 1.0), 1.0)
    asking.leave(broken)
    if joins_later:
        asking.add(other)
    job = take(asking, 2.5)
    assert ("other", 2.5) == (job.task_id, job.due)
    answer(asking, job, 2.6)
    asking.expire(1000.0)
    assert (None, True) == (other.error, other in asking.waits)


def test_a_permanent_error_ends_its_own_wait_alone() -> None:
    asking = queue()
    one, other = wait_for("a"), wait_for("b")
    asking.add(one)
    asking.add(other)
    job = take(asking, 10.0)
    asking.take_result(job, exc.NotFound("gone"), 10.0)
    assert isinstance(job.wait.error, exc.NotFound)
    assert {one, other} - {job.wait} == asking.waits
    assert 1 == asking.open


def test_a_wait_that_begins_after_its_deadline_polls_once_more() -> None:
    asking = queue()
    wait = Wait(Jobs(["a"], deadline=0.0), 10.0, joined=5.0, left=-60.0)
    asking.add(wait)
    answer(asking, take(asking, 5.0), 5.0, TaskState.COMPLETE)
    assert (set(), None) == (asking.waits, wait.error)


def test_no_time_that_is_named_keeps_the_queue_quiet_for_hours() -> None:
    asking = queue()
    asking.add(wait_for("a"))
    fail(asking, take(asking, 10.0), 10.0, retry_after=3600.0)
    assert 300.0 == asking.take(10.0)
    throttle(asking, take(asking, 310.0), 310.0, 7200.0)
    seconds = asking.take(310.0)
    assert isinstance(seconds, float)
    assert 300.0 <= seconds < 301.0


def test_last_question_comes_just_before_the_deadline() -> None:
    asking = queue()
    asking.add(wait_for("a", until=15.0))
    answer(asking, take(asking, 10.0), 10.0)
    assert 4.0 == asking.take(10.0)
    answer(asking, take(asking, 14.0), 14.0)
    assert 10.0 == asking.take(14.0)


def test_waits_that_leave_are_not_asked_and_do_not_pile_up() -> None:
    asking = queue()
    waits = [wait_for(f"t-{number}") for number in range(1000)]
    for wait in waits:
        asking.add(wait)
    under_way = take(asking, 10.0)
    for wait in waits[:999]:
        asking.leave(wait)
    assert 1 == asking.open
    assert not asking.holds(under_way)
    assert "t-999" == take(asking, 20.0).task_id
    assert inf == asking.take(21.0)


def test_jobs_of_a_large_wait_are_forgotten_when_it_leaves() -> None:
    asking = queue()
    asking.add(wait_for("a"))
    asking.add(wait_for("b"))
    jobs = WeakJobs((f"t-{number}" for number in range(100)), deadline=inf)
    large = Wait(jobs, 3600.0, joined=0.0, left=inf)
    asking.add(large)
    gone = ref(jobs)
    asking.leave(large)
    del large, jobs
    assert gone() is None


def test_waits_that_end_do_not_sort_the_jobs_of_others(monkeypatch: pytest.MonkeyPatch) -> None:
    asking = queue()
    asking.add(wait_for(*(f"t-{number}" for number in range(1000)), interval=3600.0))
    sorted_again: list[int] = []
    monkeypatch.setattr("airflow_provider_scantrust.waits.queue.heapify", lambda heap: sorted_again.append(1))
    for number in range(50):
        wait = wait_for(f"short-{number}")
        asking.add(wait)
        now = 10.0 + number
        answer(asking, take(asking, now), now, TaskState.COMPLETE)
        # As a trigger does after the end.
        asking.leave(wait)
    assert [] == sorted_again
    assert 1000 == asking.open


def test_wait_that_its_own_answer_ended_is_no_question_under_way() -> None:
    asking = queue()
    asking.add(wait_for("last", interval=100.0))
    for number in range(50):
        wait = wait_for(f"t-{number}", interval=1.0)
        asking.add(wait)
        job = take(asking, 5.0 + number)
        assert asking.holds(job)
        asking.leave(wait)
        assert not asking.holds(job)
        assert set() == asking.under_way
        assert 1 == asking.open
    assert "last" == take(asking, 200.0).task_id


def test_questions_that_were_not_asked_keep_their_turn() -> None:
    asking = queue()
    asking.add(wait_for("a", "b"))
    both = {take(asking, 10.0), take(asking, 11.0)}
    asking.put_back_all()
    assert both == {take(asking, 12.0), take(asking, 13.0)}


def test_waits_can_go_to_another_queue_with_their_turns() -> None:
    here, there = queue(), queue()
    moving, staying = wait_for("a", "b"), wait_for("c", interval=20.0)
    here.add(moving)
    here.add(staying)
    under_way = take(here, 10.0)
    here.move({moving}, there)
    assert under_way not in here.under_way
    assert (1, 2) == (here.open, there.open)
    assert {"a", "b"} == {take(there, 11.0).task_id, take(there, 12.0).task_id}
