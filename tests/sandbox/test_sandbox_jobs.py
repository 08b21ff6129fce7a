"""Async uploads and their jobs."""

from __future__ import annotations

from typing import Any

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from system_steps import wait_until

from .conftest import Caller

LOT = {"lot_number": "L-000001"}


def test_job_updates_every_code_that_meets_all_constraints(sandbox: Sandbox, caller: Caller) -> None:
    ids = ["SBX00000001", "SBX00000002", "SBX00001001", "no-such-code"]
    task = caller.run(sandbox, {**LOT, "extended_id": ids}, {"market": "CH", "product": "prod_1"})
    assert (task["state"], task["codes_affected"]) == ("complete", 2)
    assert ids[:2] == [code["extended_id"] for code in sandbox.codes(market="CH")]


def test_job_that_matches_nothing_is_complete(sandbox: Sandbox, caller: Caller) -> None:
    task = caller.run(sandbox, {"lot_number": "no-such-lot"}, {"market": "CH"})
    assert (task["state"], task["codes_affected"]) == ("complete", 0)


def test_job_may_change_the_field_that_selects(sandbox: Sandbox, caller: Caller) -> None:
    assert caller.run(sandbox, LOT, {"lot_number": "L-new"})["codes_affected"] == 1000
    assert (sandbox.count(**LOT), sandbox.count(lot_number="L-new")) == (0, 1000)


def test_job_discards_what_the_campaign_lacks(sandbox: Sandbox, caller: Caller) -> None:
    assert caller.run(sandbox, LOT, {"colour": "red"})["codes_affected"] == 0


def test_job_passes_through_its_states(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(polls=3)
    task_id = caller.submit(LOT, {"market": "CH"}).json()["task_id"]
    first, second, third, fourth = (caller.task(task_id) for _ in range(4))
    assert [task["state"] for task in (first, second, third)] == ["pending", "in-progress", "complete"]
    assert [first[name] for name in ("codes_affected", "started_at", "completed_at")] == [None, None, None]
    assert first["created_at"] <= second["started_at"] <= third["completed_at"]
    assert second["completed_at"] is None
    assert third == fourth


def test_job_ends_by_itself(sandbox: Sandbox, caller: Caller) -> None:
    task_id = caller.submit(LOT, {"market": "CH"}).json()["task_id"]
    while (task := caller.task(task_id))["state"] != "complete":
        assert task["state"] in ("pending", "in-progress")
    assert task["codes_affected"] == sandbox.count(market="CH") == 1000


def test_unknown_product_fails_the_job_and_not_the_call(sandbox: Sandbox, caller: Caller) -> None:
    task = caller.run(sandbox, LOT, {"product": "prod_9", "market": "CH"})
    assert (task["state"], task["codes_affected"]) == ("failed", 0)
    assert sandbox.count(market="CH") == 0
    assert "prod_9" in sandbox.tasks()[-1]["error"]


def test_job_told_to_fail_updates_nothing_and_the_next_one_works(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(fail=True, polls=1)
    assert caller.task(caller.submit(LOT, {"market": "CH"}).json()["task_id"])["state"] == "failed"
    assert sandbox.count(market="CH") == 0
    assert caller.run(sandbox, LOT, {"market": "CH"})["state"] == "complete"


@pytest.mark.parametrize(("hang", "state"), [(True, "in-progress"), ("pending", "pending")])
def test_job_told_to_hang_never_ends(sandbox: Sandbox, caller: Caller, hang: Any, state: str) -> None:
    sandbox.jobs(hang=hang)
    task_id = caller.submit(LOT, {"market": "CH"}).json()["task_id"]
    assert caller.run(sandbox, LOT, {"vintage": "2020"})["state"] == "complete"
    wait_until(lambda: caller.task(task_id)["state"] == state)
    assert sandbox.count(market="CH") == 0


def test_order_counts_jobs_and_orders_are_used_up_in_turn(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(times=2, fail=True, polls=1)
    sandbox.jobs(times=None, polls=1)
    tasks = [caller.task(caller.submit(LOT, {"market": "CH"}).json()["task_id"]) for _ in range(4)]
    assert [task["state"] for task in tasks] == ["failed", "failed", "complete", "complete"]


def test_later_order_counts_though_an_earlier_one_is_for_all_jobs(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(times=None, hang=True)
    sandbox.jobs(fail=True, polls=1)
    assert caller.task(caller.submit(LOT, {"market": "CH"}).json()["task_id"])["state"] == "failed"
    sandbox.jobs(times=None, polls=1)
    for _ in range(2):
        assert caller.task(caller.submit(LOT, {"market": "CH"}).json()["task_id"])["state"] == "complete"


def test_orders_can_be_forgotten(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(times=None, fail=True)
    sandbox.jobs()
    assert caller.run(sandbox, LOT, {"market": "CH"})["state"] == "complete"


def test_job_takes_the_seconds_it_is_told(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(seconds=1_000_000)
    task_id = caller.submit(LOT, {"market": "CH"}).json()["task_id"]
    wait_until(lambda: caller.task(task_id)["state"] != "pending")
    assert caller.task(task_id)["state"] == "in-progress"


def test_job_ends_though_the_database_fails(sandbox: Sandbox, caller: Caller) -> None:
    sandbox._service.store._sql.execute(
        "CREATE TRIGGER full BEFORE UPDATE ON code BEGIN SELECT raise(FAIL, 'disk full'); END"
    )
    task = caller.run(sandbox, LOT, {"market": "CH"})
    assert ("failed", 0) == (task["state"], task["codes_affected"])
    assert "disk full" in sandbox.tasks()[0]["error"]


@pytest.mark.parametrize("path", ["/api/v2/scm/tasks//{}", "/api/v2/scm/tasks//{}/", "/api/v2/scm/tasks/{}"])
def test_status_is_there_under_the_paths_of_the_public_client(
    sandbox: Sandbox, caller: Caller, path: str
) -> None:
    sandbox.jobs(polls=1)
    path = path.format(caller.submit(LOT, {"market": "CH"}).json()["task_id"])
    answer = caller.call("GET", path, allow_redirects=False)
    if not path.endswith("/"):
        assert (301, f"{path}/") == (answer.status_code, answer.headers["Location"])
        answer = caller.call("GET", path)
    assert ("complete", 1000) == (answer.json()["state"], answer.json()["codes_affected"])


def test_job_is_of_the_user_whose_token_submitted_it(sandbox: Sandbox, caller: Caller) -> None:
    assert 1 == caller.run(sandbox, LOT, {"market": "CH"})["created_by"]
    sandbox.add_token("of-another", user=7)
    caller.headers = {"Authorization": "UAT of-another"}
    assert 7 == caller.run(sandbox, LOT, {"market": "CH"})["created_by"]


@pytest.mark.parametrize("value", [47.5, 2016])
def test_numbers_are_accepted_and_stored_as_text(sandbox: Sandbox, caller: Caller, value: float) -> None:
    assert 1000 == caller.run(sandbox, LOT, {"vintage": value})["codes_affected"]
    assert str(value) == (sandbox.code("SBX00000001") or {})["vintage"]


def test_words_for_states_and_case_of_keys_can_be_changed(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(states={"complete": "All Done"}, deviations=["camel_case_keys"])
    task = caller.run(sandbox, LOT, {"market": "CH"})
    assert (task["state"], task["codesAffected"]) == ("All Done", 1000)
    assert {"createdBy", "createdAt", "startedAt", "completedAt"} < set(task)


def test_unknown_task_is_not_found(caller: Caller) -> None:
    response = caller.call("GET", "/api/v2/scm/tasks/no-such-task/")
    assert (response.status_code, response.json()) == (404, {"detail": "Not found."})


@pytest.mark.parametrize(
    ("constraints", "scm_data", "field"),
    [
        ({}, {"market": "CH"}, "constraints"),
        ({"extended_id": ["SBX00000001", ""]}, {"market": "CH"}, "extended_id"),
        (None, {"market": "CH"}, "constraints"),
        (LOT, {}, "scm_data"),
        (LOT, [{"market": "CH"}], "scm_data"),
        ({"lot_number": ["L-000001"]}, {"market": "CH"}, "lot_number"),
        ({"serial_number": ["SN00000001"]}, {"market": "CH"}, "serial_number"),
        ({"extended_id": []}, {"market": "CH"}, "extended_id"),
        ({"lot_number": ""}, {"market": "CH"}, "lot_number"),
        ({"no_such_field": "x"}, {"market": "CH"}, "constraints"),
        ({"product": "prod_1"}, {"market": "CH"}, "constraints"),
        (LOT, {"activation_status": "3"}, "activation_status"),
        (LOT, {"market": {"a": "b"}}, "market"),
    ],
)
def test_bad_submission_is_refused_at_once(
    sandbox: Sandbox, caller: Caller, constraints: Any, scm_data: Any, field: str
) -> None:
    response = caller.submit(constraints, scm_data)
    assert (400, [field]) == (response.status_code, list(response.json()))
    assert sandbox.tasks() == []


def test_status_is_answered_while_the_database_is_busy(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.jobs(polls=100)
    task_id = caller.submit(LOT, {"market": "CH"}).json()["task_id"]
    with sandbox._service.store.transaction():
        assert caller.task(task_id)["state"] == "pending"
        assert caller.me().status_code == 200
