"""Control calls: in the process and over HTTP."""

from __future__ import annotations

import threading
from pathlib import Path
from typing import Any

import pytest
import requests

from airflow_provider_scantrust.sandbox import DEFAULT_FIELDS, Sandbox
from airflow_provider_scantrust.sandbox.registry import Registry, Token
from airflow_provider_scantrust.sandbox.settings import DEFAULT_PASSWORD, DEFAULT_USERNAME
from airflow_provider_scantrust.sandbox.store import Store
from system_steps import wait_until

from .conftest import Caller


def test_seeded_codes_have_lots_cases_and_pallets(sandbox: Sandbox) -> None:
    sandbox.seed(10, codes_per_lot=5)
    code = sandbox.code("SBX00003010") or {}
    assert tuple(code[name] for name in ("serial_number", "case_id", "pallet_id", "campaign")) == (
        "SN00003010",
        "CASE-0000502",
        "PALLET-000006",
        1,
    )
    assert sandbox.count(lot_number=code["lot_number"]) == 5
    assert set(DEFAULT_FIELDS) < set(code)


def test_csv_adds_codes_and_changes_those_there_are(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    file = tmp_path / "codes.csv"
    file.write_text(
        "extended_id,serial_number,campaign,product,activation_status,market,colour\n"
        'NEW00000001,S1,1,prod_1,1,"Genève, CH",\n'
        "NEW00000002,,2,,,,red\n"
        "SBX00000001,,,,,FR,\n",
        encoding="utf-8",
    )
    assert sandbox.seed_csv(file) == 3
    first, second = sandbox.code("NEW00000001") or {}, sandbox.code("NEW00000002") or {}
    assert tuple(first[name] for name in ("serial_number", "product", "activation_status", "market")) == (
        "S1",
        "prod_1",
        1,
        "Genève, CH",
    )
    assert (second["campaign"], second["colour"], second["activation_status"]) == (2, "red", 0)
    changed = sandbox.code("SBX00000001") or {}
    assert (changed["market"], changed["lot_number"]) == ("FR", "L-000001")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "need an extended_id"),
        ("market\nCH\n", "need an extended_id"),
        ("extended_id,colour\nNEW00000001,red\n", "colour"),
        ("extended_id,market,market\nNEW00000001,a,b\n", "twice"),
        ("extended_id,market\nNEW00000001,CH\nNEW00000002\n", "line 3 has not"),
        ("extended_id,campaign\nNEW00000001,1\nNEW00000002,7\n", "unknown campaign 7"),
        ("extended_id,product\nNEW00000001,prod_9\n", "prod_9"),
        ("extended_id,market\nNEW00000001,CH\n,CH\n", "without extended_id"),
    ],
)
def test_wrong_csv_is_refused_as_a_whole(sandbox: Sandbox, tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "codes.csv"
    file.write_text(text, encoding="utf-8")
    with pytest.raises(ValueError, match=message):
        sandbox.seed_csv(file)
    assert sandbox.count() == 3000


def test_value_for_a_field_the_campaign_lacks_is_refused(sandbox: Sandbox) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    with pytest.raises(ValueError, match="campaign 2 has no field 'market'"):
        sandbox.add_codes([{"extended_id": "NEW00000001", "campaign": 2, "market": "CH"}])


def test_field_is_discarded_until_the_campaign_has_it(sandbox: Sandbox, caller: Caller) -> None:
    assert caller.upload([{"extended_id": "SBX00000001", "colour": "red"}]).json()["codes_affected"] == 0
    sandbox.add_field("colour")
    assert caller.upload([{"extended_id": "SBX00000001", "colour": "red"}]).json()["codes_affected"] == 1


@pytest.mark.parametrize("name", ["", "product", "extended_id", "campaign"])
def test_special_name_cannot_become_an_scm_field(sandbox: Sandbox, name: str) -> None:
    with pytest.raises(ValueError, match="cannot be the name"):
        sandbox.add_field(name)


def test_names_of_fields_may_be_anything_else(sandbox: Sandbox, caller: Caller) -> None:
    for name in ('a "b"; DROP TABLE code', "Market", "市场", "id", "f1"):
        sandbox.add_field(name)
        assert caller.upload([{"extended_id": "SBX00000001", name: "x"}]).json()["codes_affected"] == 1
        assert (sandbox.code("SBX00000001") or {})[name] == "x"


def test_transcript_masks_every_secret(sandbox: Sandbox, caller: Caller) -> None:
    body = {"username": DEFAULT_USERNAME, "password": DEFAULT_PASSWORD}
    jwt = caller.call("POST", "/api/v2/auth/login/", json=body).json()["token"]
    caller.me(f"JWT {jwt}")
    caller.call("POST", "/api/v2/auth/login/", data=f"password={DEFAULT_PASSWORD}")
    transcript = sandbox.transcript()
    for secret in (jwt, DEFAULT_PASSWORD, sandbox.token):
        assert secret not in str(transcript)
    assert [entry["number"] for entry in transcript] == [1, 2, 3]
    assert transcript[0]["body"] == {"username": DEFAULT_USERNAME, "password": "***"}
    assert transcript[0]["response_body"] == {"token": "***"}
    assert transcript[1]["headers"]["authorization"] == "JWT ***"


def test_transcript_tells_what_was_asked_and_answered(sandbox: Sandbox, caller: Caller) -> None:
    items = [{"extended_id": "SBX00000001", "market": "CH"}]
    answer = caller.upload(items)
    (entry,) = sandbox.transcript()
    assert ("POST", "/api/v2/scm/upload/", {"items": items}) == (
        entry["method"],
        entry["path"],
        entry["body"],
    )
    assert (200, answer.json(), None) == (entry["status"], entry["response_body"], entry["fault"])
    assert entry["seconds"] > 0
    sandbox.clear_transcript()
    assert sandbox.transcript() == []


@pytest.mark.parametrize("value", ["NaN", "-Infinity", "1e400"])
def test_transcript_shows_as_text_what_json_cannot_hold(sandbox: Sandbox, caller: Caller, value: str) -> None:
    body = f'{{"items": {value}}}'
    headers = {**caller.headers, "Content-Type": "application/json"}
    assert caller.call("POST", "/api/v2/scm/upload/", data=body, headers=headers).status_code == 400
    assert body == caller.control("GET", "/transcript/").json()[0]["body"]


def test_lone_surrogate_in_a_request_is_shown_as_it_came(sandbox: Sandbox, caller: Caller) -> None:
    assert caller.submit({"lot_number": "L-000001"}, {"\ud800": "é"}).status_code == 200
    assert caller.control("GET", "/tasks/").json()[0]["scm_data"] == {"\ud800": "é"}
    assert caller.control("GET", "/transcript/").json()[0]["body"]["scm_data"] == {"\ud800": "é"}


def test_reset_goes_back_to_the_start(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(rate_limits=True, limits={"scm_update": (1, 60)}, states={"complete": "x"})
    sandbox.add_token("other")
    sandbox.add_field("colour")
    sandbox.add_product("prod_9")
    sandbox.jobs(times=None, fail=True)
    sandbox.fault(times=None, status=500)
    caller.me()
    sandbox.seed(1)
    sandbox.reset()
    assert (sandbox.count(), sandbox.tasks(), sandbox.faults(), sandbox.transcript()) == (3000, [], [], [])
    assert caller.me("UAT other").status_code == 401
    for _ in range(2):
        assert caller.upload([{"extended_id": "SBX00000001", "colour": "red"}]).json()["codes_affected"] == 0
    assert caller.run(sandbox, {"lot_number": "L-000001"}, {"market": "CH"})["state"] == "complete"


@pytest.mark.parametrize("what", ["upload", "job", "poll"])
def test_what_is_in_progress_at_a_reset_changes_nothing(sandbox: Sandbox, caller: Caller, what: str) -> None:
    sandbox.configure(time_scale=1.0)
    values = {"lot_number": "L-000001", "market": "LATE"}
    failed: list[BaseException] = []

    def call() -> None:
        try:
            if what == "upload":
                caller.upload([values], data_key="lot_number")
            caller.task(caller.submit({"lot_number": "L-000001"}, {"market": "LATE"}).json()["task_id"])
            caller.call("GET", "/api/v2/me/")
        except requests.ConnectionError as error:
            failed.append(error)

    sandbox.jobs(seconds=0.3) if what == "job" else sandbox.jobs(polls=2)
    if what == "poll":
        sandbox.fault(method="GET", delay=3600)
    thread = threading.Thread(target=call)
    thread.start()
    wait_until(lambda: len(sandbox.transcript()) == {"upload": 1, "job": 3, "poll": 2}[what])
    old = sandbox._service
    sandbox.reset()
    thread.join()
    sandbox.configure(time_scale=0.001)
    assert (what != "job") == bool(failed)
    assert (0, [], []) == (sandbox.count(market="LATE"), sandbox.tasks(), sandbox.transcript())
    assert old.clock.stopped
    assert caller.upload([values], data_key="lot_number").json()["codes_affected"] == 1000


def test_what_code_shows_is_what_codes_and_count_find(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    sandbox.add_product("rosé", campaign=2)
    caller.upload([{"extended_id": "SBX00000001", "market": "CH", "product": "2"}])
    caller.upload([{"extended_id": "SBX00000002", "product": "rosé"}])
    for code in sandbox.codes(extended_id=["SBX00000001", "SBX00000002", "SBX00000003"]):
        for name, value in code.items():
            filters: dict[str, Any] = {name: value}
            assert code in sandbox.codes(**filters), name
            assert code in sandbox.codes(**{**filters, name: [value]}), name
    assert (2998, 1, 1) == (
        sandbox.count(market=""),
        sandbox.count(colour=""),
        sandbox.count(product="prod_2"),
    )
    assert 2999 == sandbox.count(lot_number=["L-000001", "L-000002", "L-000003", ""])
    assert 999 == sandbox.count(lot_number="L-000001"), "the moved code shows no lot"


def test_codes_gives_all_codes_unless_told_otherwise(sandbox: Sandbox) -> None:
    assert 3000 == len(sandbox.codes()) == len(sandbox.codes(serial_number="")) + 3000
    assert ["SBX00000003"] == [code["extended_id"] for code in sandbox.codes(limit=1, offset=2)]


def test_code_keeps_its_campaign_or_goes_with_its_product(sandbox: Sandbox) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    sandbox.add_product("rosé", campaign=2)
    sandbox.add_codes(
        [{"extended_id": "RED00000001", "campaign": 2}, {"extended_id": "RED00000002", "product": "rosé"}]
    )
    sandbox.add_codes([{"extended_id": f"RED0000000{number}", "colour": "red"} for number in (1, 2)])
    assert [2, 2] == [code["campaign"] for code in sandbox.codes(colour="red")]
    sandbox.add_codes([{"extended_id": "RED00000001", "campaign": "1", "market": "CH"}])
    assert 1 == (sandbox.code("RED00000001") or {})["campaign"]


def test_seed_goes_on_after_the_last_code_of_its_kind(sandbox: Sandbox) -> None:
    own = ["SBX00003002", "SBX1", "SBX0000300X", "SBX99999999999999999999"]
    sandbox.add_codes({"extended_id": code} for code in own)
    sandbox.seed(2)
    assert ["SBX00003003", "SBX00003004"] == [code["extended_id"] for code in sandbox.codes(offset=3004)]


def test_sandbox_can_be_prepared_before_the_start_and_looked_at_after_the_end() -> None:
    sandbox = Sandbox(seed=2, time_scale=0.001)
    assert sandbox.code("no-such-code") is None
    with pytest.raises(RuntimeError, match="before its start"):
        _ = sandbox.connection_uri
    sandbox.configure(rate_limits=False)
    sandbox.jobs(polls=1)
    with sandbox, requests.Session() as session:
        task = Caller(sandbox, session)
        task_id = task.submit({"extended_id": "SBX00000001"}, {"market": "CH"}).json()["task_id"]
        assert task.task(task_id)["state"] == "complete"
        with pytest.raises(RuntimeError, match="running"):
            sandbox.start()
    assert (1, 2) == (sandbox.count(market="CH"), len(sandbox.transcript()))
    with sandbox:
        assert (0, 2) == (sandbox.count(market="CH"), sandbox.count())


def test_overview_is_a_copy(sandbox: Sandbox) -> None:
    before = sandbox.overview()
    limits = dict(before["settings"]["limits"])
    before["settings"]["limits"].clear()
    before["campaigns"][1].append("no field")
    assert limits == sandbox.overview()["settings"]["limits"]
    assert "no field" not in sandbox.overview()["campaigns"][1]
    rate_limits = before["settings"]["rate_limits"]
    sandbox.configure(rate_limits=not rate_limits)
    assert rate_limits == before["settings"]["rate_limits"]


def test_login_goes_on_when_a_token_is_removed_at_the_same_time() -> None:
    class Tokens(dict[str, Token]):
        def values(self) -> Any:
            tokens = list(super().values())
            self.clear()
            return tokens

    registry = Registry(Store())
    registry.add_user("user", "password")
    registry.tokens = Tokens(registry.tokens)
    assert registry.log_in("user", "password", alone=True)
    assert registry.log_in("user", "password", alone=True)


def test_call_list_names_calls_that_are_there(caller: Caller) -> None:
    calls = [call.split(" /_sandbox") for call in caller.control("GET", "/").json()["calls"]]
    assert ["POST", "/reset/"] in calls
    assert all(caller.control(method, path, data=b"[").status_code in (200, 400) for method, path in calls)


def test_everything_can_be_controlled_over_http(sandbox: Sandbox, caller: Caller) -> None:
    for path, body in (
        ("/campaigns/", {"campaign": 2, "fields": ["colour"]}),
        ("/fields/", {"name": "label", "campaign": 2}),
        ("/products/", {"sku": "gin_1", "campaign": 2}),
        ("/tokens/", {"token": "over-http", "permissions": [], "expires": 3600}),
        ("/users/", {"username": "anna", "password": "secret"}),
        ("/seed/", {"count": 5}),
        ("/jobs/", {"polls": 1}),
        ("/faults/", {"path": "/api/v2/me/", "status": 503}),
        ("/codes/", {"codes": [{"extended_id": "GIN00000001", "campaign": 2, "label": "dry"}]}),
    ):
        response = caller.control("POST", path, json=body)
        assert response.status_code == 200, response.text
    assert 3006 == sandbox.count() == caller.control("GET", "/").json()["codes"]
    assert caller.me("UAT over-http").status_code == 503
    assert caller.me("UAT over-http").status_code == 200
    assert (
        caller.task(caller.submit({"label": "dry"}, {"product": "gin_1"}).json()["task_id"])["codes_affected"]
        == 1
    )
    assert caller.control("GET", "/tasks/").json()[0]["state"] == "complete"
    assert len(caller.control("GET", "/transcript/").json()) == 4
    assert caller.control("PATCH", "/settings/", json={"states": {"complete": "Complete"}}).status_code == 200
    assert caller.control("GET", "/").json()["settings"]["states"]["complete"] == "Complete"
    assert caller.control("DELETE", "/faults/").status_code == 200
    assert caller.control("GET", "/faults/").json() == []
    assert caller.control("POST", "/reset/").status_code == 200
    assert sandbox.count() == 3000


def test_codes_are_looked_up_by_filter_and_page(caller: Caller) -> None:
    page = caller.control("GET", "/codes/?lot_number=L-000002&page_size=400").json()
    assert (
        page["count"],
        len(page["results"]),
        page["results"][0]["extended_id"],
    ) == (1000, 400, "SBX00001001")
    seen = len(page["results"])
    while page["next"]:
        page = caller.control("GET", page["next"].partition("/_sandbox")[2]).json()
        seen += len(page["results"])
    assert (seen, page["results"][-1]["extended_id"]) == (1000, "SBX00002000")


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        ("POST", "/faults/", {"cut": "sometimes"}),
        ("POST", "/faults/", {"no_such": 1}),
        ("POST", "/fields/", {"name": "x", "campaign": 9}),
        ("PATCH", "/settings/", {"no_such": 1}),
        ("POST", "/seed/", []),
        ("POST", "/codes/", {"codes": [{"market": "CH"}]}),
        ("POST", "/tokens/", {"token": "x", "expires": "tomorrow"}),
        ("GET", "/codes/?no_such=1", None),
        ("GET", "/codes/?page=x", None),
    ],
)
def test_wrong_control_call_is_400_and_says_why(caller: Caller, method: str, path: str, body: Any) -> None:
    response = caller.control(method, path, json=body)
    assert response.status_code == 400
    assert response.json()["detail"]


def test_changed_pace_counts_for_waits_in_progress(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(time_scale=1000.0)
    task_id = caller.submit({"lot_number": "L-000001"}, {"market": "CH"}).json()["task_id"]
    sandbox.configure(time_scale=0.001)
    wait_until(lambda: caller.task(task_id)["state"] == "complete")
