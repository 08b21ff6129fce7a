"""Scripted faults, as a real HTTP client meets them."""

from __future__ import annotations

from typing import Any

import pytest
import requests

from airflow_provider_scantrust.sandbox import Sandbox
from system_steps import wait_until

from .conftest import Caller

ITEMS = [{"extended_id": "SBX00000001", "market": "CH"}]


@pytest.mark.parametrize(("cut", "stored"), [("before", 0), ("after", 1)])
def test_cut_closes_the_connection_before_or_after_the_work(
    sandbox: Sandbox, caller: Caller, cut: Any, stored: int
) -> None:
    sandbox.fault(cut=cut)
    with pytest.raises(requests.ConnectionError, match="Remote end closed connection without response"):
        caller.upload(ITEMS)
    assert stored == sandbox.count(market="CH")
    assert (None, f"cut {cut}") == tuple(sandbox.transcript()[0][name] for name in ("status", "fault"))
    assert caller.upload(ITEMS).status_code == 200


def test_cut_in_the_body_sends_half_of_the_answer(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(cut="body")
    with pytest.raises(requests.exceptions.ChunkedEncodingError):
        caller.upload(ITEMS)
    assert sandbox.count(market="CH") == 1


@pytest.mark.parametrize("status", [400, 401, 403, 404, 406, 409, 429, 500, 502, 503, 504, 418])
def test_status_is_answered_without_the_work(sandbox: Sandbox, caller: Caller, status: int) -> None:
    sandbox.fault(status=status)
    response = caller.upload(ITEMS)
    assert status == response.status_code
    assert response.headers["Content-Type"] == ("text/html" if status >= 500 else "application/json")
    assert sandbox.count(market="CH") == 0
    assert caller.upload(ITEMS).status_code == 200


def test_status_may_follow_the_work(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(status=502, work=True)
    assert caller.upload(ITEMS).status_code == 502
    assert sandbox.count(market="CH") == 1


@pytest.mark.parametrize("body", ["<html>", '{"task_id": "ab', "", "null", "[]", "\x00"])
def test_text_is_sent_as_it_is(sandbox: Sandbox, caller: Caller, body: str) -> None:
    sandbox.fault(body=body)
    response = caller.upload(ITEMS)
    assert (200, body) == (response.status_code, response.text)


@pytest.mark.parametrize("body", [{"items": "wrong"}, [1, 2], 7, {"detail": "…"}])
def test_other_bodies_are_sent_as_json(sandbox: Sandbox, caller: Caller, body: Any) -> None:
    sandbox.fault(body=body, status=202)
    response = caller.upload(ITEMS)
    assert (202, body) == (response.status_code, response.json())


def test_headers_are_sent_and_win(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(status=429, headers={"retry-after": "120", "X-Extra": "1"})
    response = caller.me()
    assert (response.headers["Retry-After"], response.headers["X-Extra"]) == ("120", "1")
    assert "available in 120 seconds" in response.json()["detail"]


def test_redirect_elsewhere(sandbox: Sandbox, caller: Caller) -> None:
    elsewhere = f"{sandbox.url.replace('127.0.0.1', 'localhost')}/api/v2/me/"
    sandbox.fault(status=307, headers={"Location": elsewhere})
    response = caller.call("GET", "/api/v2/me/", allow_redirects=False)
    assert (307, elsewhere) == (response.status_code, response.headers["Location"])


def test_delay_comes_before_the_true_answer(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(delay=0.05)
    assert caller.upload(ITEMS).status_code == 200
    assert sandbox.transcript()[0]["seconds"] >= 0.05


def test_client_that_gives_up_does_not_stop_the_work(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(delay=0.2)
    with pytest.raises(requests.ReadTimeout):
        caller.call("POST", "/api/v2/scm/upload/", json={"items": ITEMS}, timeout=0.05)
    wait_until(lambda: sandbox.count(market="CH") > 0)


def test_fault_matches_method_and_path_and_is_used_up(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(method="GET", path="/api/v2/scm/tasks/*", times=2, status=503)
    assert [caller.me().status_code, caller.upload(ITEMS).status_code] == [200, 200]
    asked = [caller.call("GET", "/api/v2/scm/tasks/x/").status_code for _ in range(3)]
    assert asked == [503, 503, 404]
    assert sandbox.faults()[0]["acted"] == 2


def test_fault_that_has_not_acted_says_so(sandbox: Sandbox) -> None:
    sandbox.fault(path="/api/*")
    assert (0, 0) == tuple(sandbox.faults()[0][name] for name in ("matched", "acted"))


def test_path_is_compared_exactly_unless_it_ends_in_a_star(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(path="/api/v2/scm/upload/", times=None, status=503)
    assert [caller.upload(ITEMS).status_code, caller.submit(ITEMS[0], {"market": "CH"}).status_code] == [
        503,
        200,
    ]
    sandbox.fault(path="/api/v2/scm/upload/*", times=None, status=502)
    assert [caller.upload(ITEMS).status_code, caller.submit(ITEMS[0], {"market": "CH"}).status_code] == [
        502,
        502,
    ]


def test_later_fault_acts_though_an_earlier_one_acts_always(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(status=503, times=None)
    sandbox.fault(status=502)
    sandbox.fault(status=500)
    assert [caller.me().status_code for _ in range(3)] == [502, 500, 503]
    sandbox.fault(status=504, times=None)
    assert [caller.me().status_code for _ in range(2)] == [504, 504]


def test_faults_act_in_turn_and_can_let_requests_pass_first(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(skip=1, status=500)
    sandbox.fault(status=502)
    assert [caller.me().status_code for _ in range(3)] == [502, 500, 200]


def test_chance_is_repeatable(sandbox: Sandbox, caller: Caller) -> None:
    def statuses() -> list[int]:
        sandbox.clear_faults()
        sandbox.fault(status=503, times=None, probability=0.5, random_seed=7)
        return [caller.me().status_code for _ in range(20)]

    first = statuses()
    assert first == statuses()
    assert {200, 503} == set(first)


def test_faults_can_be_cleared(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.fault(status=503, times=None)
    assert caller.me().status_code == 503
    sandbox.clear_faults()
    assert caller.me().status_code == 200


@pytest.mark.parametrize("wrong", [{"cut": "sometimes"}, {"status": 99}, {"status": 100}])
def test_impossible_fault_is_refused(sandbox: Sandbox, wrong: Any) -> None:
    with pytest.raises(ValueError, match=r"cut|status"):
        sandbox.fault(**wrong)
