"""Sync uploads."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from airflow_provider_scantrust.sandbox import Sandbox

from .conftest import Caller

ONE, TWO, THREE = "SBX00000001", "SBX00000002", "SBX00000003"


def test_upload_stores_the_values_and_names_the_fields(sandbox: Sandbox, caller: Caller) -> None:
    response = caller.upload([{"extended_id": ONE, "market": "CH", "production_date": "2016-12-01"}])
    assert response.status_code == 200
    assert response.json() == {
        "total_updates": 2,
        "changes": [],
        "items": {ONE: ["market", "production_date"]},
        "codes_affected": 1,
    }
    code = sandbox.code(ONE)
    assert code is not None
    assert (code["market"], code["production_date"]) == ("CH", "2016-12-01")


def test_extended_id_is_the_key_when_none_is_given(sandbox: Sandbox, caller: Caller) -> None:
    items = [{"extended_id": ONE, "market": "CH"}]
    assert caller.upload(items).json() == caller.upload(items, data_key="extended_id").json()


def test_key_that_matches_nothing_is_not_in_items(sandbox: Sandbox, caller: Caller) -> None:
    answer = caller.upload(
        [{"extended_id": "no-such-code", "market": "CH"}, {"extended_id": ONE, "market": "CH"}]
    )
    assert answer.json()["items"] == {ONE: ["market"]}
    assert answer.json()["codes_affected"] == 1


def test_scm_key_selects_all_codes_that_have_the_value(sandbox: Sandbox, caller: Caller) -> None:
    answer = caller.upload([{"lot_number": "L-000002", "market": "CH"}], data_key="lot_number").json()
    assert (answer["items"], answer["codes_affected"]) == ({"L-000002": ["market"]}, 1000)
    assert sandbox.count(market="CH") == sandbox.count(market="CH", lot_number="L-000002") == 1000


def test_serial_number_is_a_key(sandbox: Sandbox, caller: Caller) -> None:
    answer = caller.upload([{"serial_number": "SN00000002", "market": "CH"}], data_key="serial_number").json()
    assert answer["items"] == {"SN00000002": ["market"]}
    assert [code["extended_id"] for code in sandbox.codes(market="CH")] == [TWO]


def test_code_named_twice_counts_once(caller: Caller) -> None:
    answer = caller.upload(
        [{"extended_id": ONE, "market": "CH"}, {"extended_id": ONE, "vintage": "2020"}]
    ).json()
    assert (answer["items"], answer["codes_affected"]) == ({ONE: ["market", "vintage"]}, 1)


def test_field_the_campaign_lacks_is_discarded_silently(sandbox: Sandbox, caller: Caller) -> None:
    answer = caller.upload([{"extended_id": ONE, "market": "CH", "colour": "red"}])
    assert answer.status_code == 200
    assert answer.json()["items"] == {ONE: ["market"]}
    assert "colour" not in (sandbox.code(ONE) or {})


def test_each_code_goes_by_the_fields_of_its_own_campaign(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_campaign(2, fields=["lot_number", "colour"])
    sandbox.add_codes([{"extended_id": "RED000001", "campaign": 2, "lot_number": "L-000001"}])
    values = {"lot_number": "L-000001", "market": "CH", "colour": "red"}
    answer = caller.upload([values], data_key="lot_number").json()
    assert (answer["items"]["L-000001"], answer["codes_affected"]) == (["market", "colour"], 1001)
    assert "market" not in (sandbox.code("RED000001") or {})
    assert [code["extended_id"] for code in sandbox.codes(colour="red")] == ["RED000001"]


def test_code_for_which_everything_is_discarded_is_not_affected(caller: Caller) -> None:
    answer = caller.upload([{"extended_id": ONE, "colour": "red"}]).json()
    assert (answer["items"], answer["codes_affected"]) == ({ONE: []}, 0)


@pytest.mark.parametrize("value", ["01.12.2016", " x ", "Grüner Veltliner", "酒", "007", "1e5", "NULL"])
def test_text_is_stored_as_given(sandbox: Sandbox, caller: Caller, value: str) -> None:
    caller.upload([{"extended_id": ONE, "production_date": value}])
    assert value == (sandbox.code(ONE) or {})["production_date"]


def test_empty_text_clears_a_field(sandbox: Sandbox, caller: Caller) -> None:
    assert caller.upload([{"extended_id": ONE, "lot_number": ""}]).json()["items"] == {ONE: ["lot_number"]}
    assert (sandbox.code(ONE) or {})["lot_number"] == ""
    assert sandbox.count(lot_number="L-000001") == 999


def test_special_fields_are_set(sandbox: Sandbox, caller: Caller) -> None:
    values = {"product": "prod_2", "serial_number": "N-1", "activation_status": "2", "blacklist_reason": 10}
    assert caller.upload([{"extended_id": ONE, **values}]).status_code == 200
    code = sandbox.code(ONE) or {}
    assert {**values, "activation_status": 2} == {name: code[name] for name in values}


@pytest.mark.parametrize("field", ["extended_id", "campaign"])
def test_what_makes_a_code_itself_is_discarded(sandbox: Sandbox, caller: Caller, field: str) -> None:
    before = sandbox.code(ONE)
    answer = caller.upload([{"serial_number": "SN00000001", field: "7"}], data_key="serial_number").json()
    assert answer["items"] == {"SN00000001": []}
    assert sandbox.code(ONE) == before


@pytest.mark.parametrize("product", ["prod_2", "2", 2])
def test_product_is_found_by_sku_or_id_and_shown_by_sku(
    sandbox: Sandbox, caller: Caller, product: str | int
) -> None:
    assert caller.upload([{"extended_id": ONE, "product": product}]).status_code == 200
    assert "prod_2" == (sandbox.code(ONE) or {})["product"]
    assert [1, 1] == [sandbox.count(product=each) for each in ("2", "prod_2")]


def test_product_of_another_campaign_moves_the_code_there(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    sandbox.add_product("rosé", campaign=2)
    answer = caller.upload([{"extended_id": ONE, "product": "rosé", "colour": "pink", "market": "CH"}]).json()
    assert answer["items"] == {ONE: ["product", "colour"]}
    assert (sandbox.code(ONE) or {})["campaign"] == 2


def test_moved_code_keeps_what_its_campaign_has_no_field_for(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.add_campaign(2, fields=["colour"])
    sandbox.add_product("rosé", campaign=2)
    caller.upload([{"extended_id": ONE, "product": "rosé"}])
    assert "lot_number" not in (sandbox.code(ONE) or {})
    moved = caller.upload([{"lot_number": "L-000001", "colour": "pink"}], data_key="lot_number").json()
    assert (moved["codes_affected"], (sandbox.code(ONE) or {})["colour"]) == (1, "pink")
    caller.upload([{"extended_id": ONE, "product": "prod_1"}])
    assert (sandbox.code(ONE) or {})["lot_number"] == "L-000001"


@pytest.mark.parametrize(
    ("item", "field"),
    [
        ({"extended_id": ONE, "product": "prod_9"}, "product"),
        ({"extended_id": ONE, "activation_status": "3"}, "activation_status"),
        ({"extended_id": ONE, "activation_status": ""}, "activation_status"),
        ({"extended_id": ONE, "activation_status": True}, "activation_status"),
        ({"extended_id": ONE, "blacklist_reason": "11"}, "blacklist_reason"),
        ({"extended_id": ONE, "blacklist_reason": -1}, "blacklist_reason"),
        ({"extended_id": ONE, "blacklist_reason": "9" * 5000}, "blacklist_reason"),
        ({"extended_id": ONE, "market": None}, "market"),
        ({"extended_id": ONE, "market": ["CH"]}, "market"),
        ({"extended_id": [ONE, TWO], "market": "CH"}, "extended_id"),
        ({"market": "CH"}, "extended_id"),
        ({"extended_id": "", "market": "CH"}, "extended_id"),
        ("text", "items"),
    ],
)
def test_bad_item_is_refused_by_field_and_nothing_is_processed(
    sandbox: Sandbox, caller: Caller, item: Any, field: str
) -> None:
    response = caller.upload([{"extended_id": THREE, "market": "CH"}, item])
    assert response.status_code == 400
    assert [field] == list(response.json())
    assert all(message.startswith("items[1]: ") for message in response.json()[field])
    assert sandbox.count(market="CH") == 0


@pytest.mark.parametrize("value", [None, True, ["red"], {"a": 1}])
def test_value_in_a_field_that_is_discarded_anyway_does_not_refuse_the_call(
    sandbox: Sandbox, caller: Caller, value: Any
) -> None:
    answer = caller.upload([{"extended_id": ONE, "market": "CH", "colour": value}])
    assert (200, {ONE: ["market"]}) == (answer.status_code, answer.json()["items"])
    assert (
        1000
        == caller.run(sandbox, {"lot_number": "L-000001"}, {"market": "CH", "colour": value})[
            "codes_affected"
        ]
    )


def test_body_over_the_limit_is_413_and_does_nothing(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.configure(body_limit=200)
    items = [{"extended_id": ONE, "market": "C" * 200}]
    response = caller.upload(items)
    assert (413, "text/html") == (response.status_code, response.headers["Content-Type"])
    assert sandbox.count(market="C" * 200) == 0
    assert caller.upload([{"extended_id": ONE, "market": "CH"}]).status_code == 200
    sandbox.configure(body_limit=None)
    assert caller.upload(items).status_code == 200


@pytest.mark.parametrize("body", [[], {}, {"items": {}}, {"items": []}, {"items": None}, "text", 1])
def test_bad_body_is_refused(caller: Caller, body: Any) -> None:
    assert caller.call("POST", "/api/v2/scm/upload/", json=body).status_code == 400


@pytest.mark.parametrize("data_key", ["no_such_field", "product", "campaign", "", 1, None, ["lot_number"]])
def test_unknown_data_key_is_refused(caller: Caller, data_key: Any) -> None:
    response = caller.upload([{"extended_id": ONE, "market": "CH"}], data_key=data_key)
    assert (response.status_code, list(response.json())) == (400, ["data_key"])


def test_key_and_items_are_refused_together(caller: Caller) -> None:
    response = caller.call("POST", "/api/v2/scm/upload/", json={"data_key": None, "items": []})
    assert response.status_code == 400
    assert response.json() == {
        "data_key": ["This field may not be null."],
        "items": ["This list may not be empty."],
    }


def test_call_beyond_the_gateway_timeout_updates_nothing(sandbox: Sandbox, caller: Caller) -> None:
    sandbox.seed(20_001 - 1000, codes_per_lot=50_000)
    assert sandbox.count(lot_number="L-000001") == 20_001
    response = caller.upload([{"lot_number": "L-000001", "market": "CH"}], data_key="lot_number")
    assert response.status_code == 504
    assert response.text.startswith("<html>")
    assert sandbox.count(market="CH") == 0
    assert sandbox.transcript()[-1]["seconds"] >= 0.06


@pytest.mark.parametrize("lots", [["L-000001"], ["L-000001", "L-000002", "L-000003", "no-such-lot"]])
def test_call_just_within_the_gateway_timeout_is_done(
    sandbox: Sandbox, caller: Caller, lots: list[str]
) -> None:
    codes = 20_000 - 1000 * sum(lot in lots for lot in ("L-000001", "L-000002", "L-000003"))
    sandbox.seed(codes, codes_per_lot=50_000)
    response = caller.upload([{"lot_number": lot, "market": "CH"} for lot in lots], data_key="lot_number")
    assert (response.status_code, response.json()["codes_affected"]) == (200, 20_000)


def test_extended_ids_are_cheap_enough_for_one_call(sandbox: Sandbox, caller: Caller) -> None:
    items = [{"extended_id": f"SBX{number:08d}", "market": "CH"} for number in range(1, 3001)]
    assert caller.upload(items).json()["codes_affected"] == 3000


_KEYS = st.text(max_size=5) | st.sampled_from(
    ["extended_id", "market", "product", "activation_status", "serial_number", "lot_number", "campaign"]
)
_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_KEYS, inner, max_size=3),
    max_leaves=8,
)
_ITEMS = st.lists(st.dictionaries(_KEYS, _VALUES, max_size=4) | _VALUES, max_size=4)


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(items=_ITEMS, data=st.dictionaries(_KEYS, _VALUES, max_size=4), other=_VALUES)
def test_no_body_breaks_the_sandbox(caller: Caller, items: Any, data: Any, other: Any) -> None:
    for response in (caller.upload(items), caller.submit(data, data), caller.submit(other, data)):
        assert response.status_code in (200, 400)
        assert isinstance(response.json(), dict)
