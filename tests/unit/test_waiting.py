"""Waiting for jobs, with a clock that only pauses move."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api.messages import Answer, Fault, FaultKind
from airflow_provider_scantrust.waits.jobs import Watch, jobs_go_on
from steps import Talk, answer, settings


class Clock(Talk):
    """A talk whose pauses move the clock."""

    now = 0.0

    def run(self) -> Any:
        self.pauses = _Moving(self)
        return super().run()


class _Moving(list[float]):
    def __init__(self, clock: Clock) -> None:
        self._clock = clock

    def append(self, seconds: float) -> None:
        self._clock.now += seconds
        super().append(seconds)


def wait(
    ids: Iterable[str],
    replies: Iterable[Answer | Fault],
    *,
    deadline: float = 1000.0,
    error_budget: float = 600.0,
    longest: float | None = None,
    ask_first: bool = True,
) -> Clock:
    using = settings()
    watch = Watch(
        ids,
        using,
        using.make_auth(),
        deadline=deadline,
        now=lambda: clock.now,
        random=lambda: 0.5,
        error_budget=error_budget,
    )
    clock = Clock(watch.wait(10.0, longest, ask_first=ask_first), replies)
    return clock


def state(word: str, **fields: Any) -> Answer:
    return answer(200, {"state": word, **fields})


DONE = state("complete", codes_affected=7)
DOWN = answer(503, {}, elapsed=0.0)


def test_it_asks_until_the_job_has_ended() -> None:
    clock = wait(["t-1"], [state("pending"), state("in-progress"), DONE])
    assert {"t-1": 7} == clock.run()
    assert [10.0, 10.0] == clock.pauses


def test_jobs_that_have_ended_are_not_asked_again() -> None:
    clock = wait(["a", "b", "a"], [DONE, state("running"), DONE])
    assert {"a": 7, "b": 7} == clock.run()
    assert ["a", "b", "b"] == [request.url.rstrip("/").rpartition("/")[2] for request in clock.requests]


def test_all_jobs_are_waited_for_before_a_failure_is_told() -> None:
    failed = state(
        "error", reference="REF-9", created_at="2026-11-01T06:00:00Z", completed_at="2026-11-01T06:05:00Z"
    )
    clock = wait(["a", "b"], [failed, state("pending"), DONE])
    with pytest.raises(exc.TaskFailed) as caught:
        clock.run()
    text = str(caught.value)
    for fact in ("1 of 2", "task_id a", "REF-9", "'error'", "2026-11-01T06:00:00", "2026-11-01T06:05:00"):
        assert fact in text
    assert "failed at Scantrust" in clock.notices[0]


def test_unknown_state_is_told_once_and_waited_through() -> None:
    clock = wait(["a"], [state("archived"), state("archived"), state("archived"), DONE])
    clock.run()
    assert 1 == len([notice for notice in clock.notices if "'archived'" in notice])


def test_deadline_ends_the_wait_after_a_last_question() -> None:
    clock = wait(["a"], [state("pending")], deadline=25.0)
    with pytest.raises(exc.WaitTimedOut, match=r"a \(pending\).*no call that cancels"):
        clock.run()
    assert 25.0 == clock.now
    assert [10.0, 10.0, 5.0] == clock.pauses
    assert 4 == len(clock.requests)


def test_failed_question_is_not_a_failed_job() -> None:
    garbage = answer(200, b"<html>")
    cut = Fault(FaultKind.CUT, "reset")
    clock = wait(["a"], [DOWN] * 9 + [garbage, cut, answer(429, {}, retry_after="30"), DONE])
    assert {"a": 7} == clock.run()


def test_outage_longer_than_the_error_budget_ends_the_wait() -> None:
    clock = wait(["a"], [DOWN], error_budget=60.0)
    with pytest.raises(exc.ServiceUnavailable, match="retry budget of 60 s"):
        clock.run()
    assert 40 < clock.now <= 60


def test_each_good_answer_renews_the_error_budget() -> None:
    outage = [DOWN] * 5
    clock = wait(
        ["a"], [*outage, state("pending"), *outage, state("pending"), *outage, DONE], error_budget=30.0
    )
    assert {"a": 7} == clock.run()


def test_outage_until_the_deadline_is_a_timeout() -> None:
    with pytest.raises(exc.WaitTimedOut, match="never answered"):
        wait(["a"], [DOWN], deadline=30.0).run()


@pytest.mark.parametrize(
    ("status", "error"), [(401, exc.AuthenticationFailed), (403, exc.PermissionDenied), (404, exc.NotFound)]
)
def test_permanent_error_ends_the_wait_at_once(status: int, error: type[Exception]) -> None:
    clock = wait(["a"], [answer(status, {"detail": "no"})])
    with pytest.raises(error):
        clock.run()
    assert 1 == len(clock.requests)


def test_interval_doubles_up_to_the_longest() -> None:
    clock = wait(["a"], [state("pending")] * 5 + [DONE], longest=35.0)
    clock.run()
    assert [10.0, 20.0, 35.0, 35.0, 35.0] == clock.pauses


def test_first_question_can_wait_for_its_turn() -> None:
    clock = wait(["a"], [DONE], ask_first=False)
    clock.run()
    assert [10.0] == clock.pauses
    with pytest.raises(exc.WaitTimedOut):
        wait(["a"], [state("pending")], ask_first=False, deadline=0.0).run()


def test_no_ids_are_no_wait() -> None:
    assert {} == wait([], [DONE]).run()


def test_open_jobs_are_named_with_a_bound() -> None:
    assert "and 40 more" in jobs_go_on(f"t-{number}" for number in range(50))
    assert "No asynchronous upload is open." == jobs_go_on([])
