"""Control calls refuse what cannot be, name the argument, and change nothing."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_scantrust.sandbox import Sandbox

from .conftest import Caller

NOTHING: list[Any] = [None, True, [], {}, "", "text", "\x00", "\ud800", -1, 0.5, 1e300, [None], {"a": None}]
# Call, argument -> the values among NOTHING that it may have, and what else the call needs.
ARGUMENTS: dict[tuple[str, str], list[tuple[str, list[Any], dict[str, Any]]]] = {
    ("PATCH", "/settings/"): [
        ("time_scale", [0.5], {}),
        ("rate_limits", [True], {}),
        ("limits", [{}], {}),
        ("gateway_timeout", [0.5], {}),
        ("code_seconds", [0.5], {}),
        ("pending_seconds", [0.5], {}),
        ("body_limit", [None], {}),
        ("states", [{}], {}),
        ("deviations", [[]], {}),
    ],
    ("POST", "/faults/"): [
        ("method", [None, "text"], {}),
        ("path", [], {}),
        ("times", [None], {}),
        ("skip", [], {}),
        ("probability", [0.5], {}),
        ("random_seed", [-1], {}),
        ("status", [None], {}),
        ("headers", [None, {}], {}),
        ("body", [each for each in NOTHING if each != "\ud800"], {}),
        ("delay", [0.5], {}),
        ("cut", [None], {}),
        ("work", [True], {}),
    ],
    ("POST", "/jobs/"): [
        ("times", [None], {}),
        ("fail", [True], {}),
        ("hang", [True], {}),
        ("seconds", [None, 0.5], {}),
        ("polls", [None], {}),
    ],
    ("POST", "/seed/"): [
        ("count", [], {}),
        ("codes_per_lot", [], {"count": 1}),
    ],
    ("POST", "/campaigns/"): [
        ("campaign", [], {}),
        ("fields", [[]], {"campaign": 2}),
    ],
    ("POST", "/fields/"): [("name", ["text"], {}), ("campaign", [], {"name": "x"})],
    ("POST", "/products/"): [("sku", ["text"], {}), ("campaign", [], {"sku": "x"})],
    ("POST", "/tokens/"): [
        ("token", ["text"], {}),
        ("permissions", [[]], {"token": "x"}),
        ("expires", [None, -1, 0.5], {"token": "x"}),
        ("scheme", [], {"token": "x"}),
        ("user", [], {"token": "x"}),
    ],
    ("DELETE", "/tokens/"): [("token", ["text"], {})],
    ("POST", "/users/"): [
        ("username", ["text"], {"password": "x"}),
        ("password", ["text"], {"username": "x"}),
    ],
    ("POST", "/codes/"): [("codes", [[]], {})],
}
CASES = [
    (method, path, argument, value, rest)
    for (method, path), arguments in ARGUMENTS.items()
    for argument, allowed, rest in arguments
    for value in NOTHING
    if not any(type(each) is type(value) and each == value for each in allowed)
]


def state(sandbox: Sandbox, caller: Caller) -> Any:
    return (
        sandbox.overview(),
        sandbox.faults(),
        sandbox.secrets(),
        sandbox.count(),
        sandbox.code("SBX00000001"),
    )


@pytest.mark.parametrize("call", ARGUMENTS, ids=lambda call: " ".join(call))
def test_nonsense_is_400_names_the_argument_and_changes_nothing(
    sandbox: Sandbox, caller: Caller, call: tuple[str, str]
) -> None:
    before = json.dumps(state(sandbox, caller))
    method, path = call
    for _, _, argument, value, rest in (case for case in CASES if case[:2] == call):
        response = caller.control(method, path, data=json.dumps({**rest, argument: value}))
        assert response.status_code == 400, (argument, value)
        assert argument == response.json()["field"], (argument, value)
        assert response.json()["detail"]
    assert before == json.dumps(state(sandbox, caller))
    assert caller.me().status_code == 200


@pytest.mark.parametrize("body", ["[]", "null", '"x"', "{", "[" * 100_000, '{"no_such": 1}', "\xff"])
def test_body_of_a_control_call_that_is_no_object_of_arguments_is_400(caller: Caller, body: str) -> None:
    for method, path in ARGUMENTS:
        response = caller.control(method, path, data=body.encode("latin-1"))
        assert response.status_code == 400
        assert response.json()["detail"]


@pytest.mark.parametrize(
    "wrong",
    [
        {"time_scale": "fast"},
        {"time_scale": float("nan")},
        {"gateway_timeout": None},
        {"limits": {"scm_update": [1]}},
        {"limits": {"scm_update": ["1", 1]}},
        {"limits": {"no_such_scope": [1, 1]}},
        {"states": {"complete": 1}},
        {"states": {"done": "x"}},
        {"deviations": ["no_such"]},
        {"deviations": "no_head"},
        {"no_such_setting": 1},
    ],
)
def test_settings_are_changed_all_or_none(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    before = str(sandbox.overview()["settings"])
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sandbox.configure(rate_limits=True, **wrong)
    with pytest.raises(ValueError, match=next(iter(wrong))):
        sandbox.configure(**wrong, rate_limits=True)
    assert before == str(sandbox.overview()["settings"])


@pytest.mark.parametrize(
    ("wrong", "argument"),
    [
        ({"method": "G ET"}, "method"),
        ({"path": "/api/v2/scm/tasks/"}, "path"),
        ({"path": "/"}, "path"),
        ({"path": "api/v2/me/"}, "path"),
        ({"status": 204, "body": "x"}, "body"),
        ({"body": object()}, "body"),
        ({"headers": {"Retry-After": 1}}, "headers"),
        ({"headers": {"A\r\nB": "1"}}, "headers"),
        ({"headers": {"A": "1\r\nB: 2"}}, "headers"),
        ({"headers": {"A": "酒"}}, "headers"),
        ({"headers": {"Content-Length": "1"}}, "headers"),
        ({"probability": 1.1}, "probability"),
        ({"status": 600}, "status"),
        ({"times": -1}, "times"),
        ({"times": True}, "times"),
    ],
)
def test_fault_that_could_not_act_is_refused(sandbox: Sandbox, wrong: dict[str, Any], argument: str) -> None:
    with pytest.raises(ValueError, match=f"^{argument}: "):
        sandbox.fault(**wrong)
    assert [] == sandbox.faults()


def test_order_for_jobs_is_refused_as_a_whole(sandbox: Sandbox, caller: Caller) -> None:
    with pytest.raises(ValueError, match=r"^polls: "):
        sandbox.jobs(fail=True, polls=0)
    assert "complete" == caller.run(sandbox, {"lot_number": "L-000001"}, {"market": "CH"})["state"]


def test_one_text_is_not_taken_for_a_list_of_letters(sandbox: Sandbox) -> None:
    with pytest.raises(ValueError, match="permissions"):
        sandbox.add_token("reader", permissions="codes_view")
    with pytest.raises(ValueError, match="fields"):
        sandbox.add_campaign(2, fields="colour")
    with pytest.raises(ValueError, match="fields"):
        Sandbox(fields="colour")


@pytest.mark.parametrize(
    ("code", "argument"),
    [
        ({"activation_status": 7}, "activation_status"),
        ({"activation_status": ""}, "activation_status"),
        ({"blacklist_reason": True}, "blacklist_reason"),
        ({"market": None}, "market"),
        ({"market": ["CH"]}, "market"),
        ({"market": True}, "market"),
        ({"market": "\x00"}, "market"),
        ({"product": "prod_9"}, "product"),
        ({"campaign": "x"}, "campaign"),
        ({"campaign": 9}, "campaign"),
        ({"campaign": 2, "product": "prod_1"}, "product"),
        ({"extended_id": ""}, "extended_id"),
        ({"extended_id": None}, "extended_id"),
        ({"colour": "red"}, "codes"),
    ],
)
def test_code_with_a_value_that_no_upload_could_set_is_refused(
    sandbox: Sandbox, code: dict[str, Any], argument: str
) -> None:
    sandbox.add_campaign(2, fields=["market"])
    with pytest.raises(ValueError, match=f"^{argument}: "):
        sandbox.add_codes([{"extended_id": "NEW00000001"}, {"extended_id": "NEW00000002", **code}])
    assert 3000 == sandbox.count()


@pytest.mark.parametrize("wrong", [{"no_such": 1}, {"market": None}, {"market": True}, {"market": {"a": 1}}])
def test_filter_that_can_match_no_code_is_refused(sandbox: Sandbox, wrong: dict[str, Any]) -> None:
    for look in (sandbox.count, sandbox.codes):
        with pytest.raises(ValueError, match=f"^{next(iter(wrong))}: "):
            look(**wrong)
