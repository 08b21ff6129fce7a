"""Assets under scantrust://, as Airflow makes and compares them."""

from __future__ import annotations

from contextlib import suppress
from types import SimpleNamespace
from typing import Any

import pytest
from airflow.providers.common.compat.assets import Asset

from airflow_provider_scantrust.assets.scantrust import (
    convert_asset_to_openlineage,
    create_asset,
    describe_events,
    scantrust_outlets,
)


@pytest.mark.parametrize(
    ("written", "uri"),
    [
        ("scantrust://api.scantrust.com/campaigns/126", "scantrust://api.scantrust.com/campaigns/126"),
        ("scantrust://API.Scantrust.com/campaigns//126/", "scantrust://api.scantrust.com/campaigns/126"),
        ("scantrust://localhost:8080/Lots", "scantrust://localhost:8080/Lots"),
        ("scantrust://api.scantrust.com/codes#all", "scantrust://api.scantrust.com/codes"),
    ],
)
def test_one_asset_has_one_spelling(written: str, uri: str) -> None:
    assert uri == Asset(uri=written).uri


@pytest.mark.parametrize(
    "written",
    [
        "scantrust:///codes",
        "scantrust://api.scantrust.com",
        "scantrust://api.scantrust.com/",
        "scantrust://api.scantrust.com/codes?token=x",
    ],
)
def test_uri_that_names_nothing_or_hides_something_is_refused(written: str) -> None:
    with pytest.raises(ValueError, match="URI format scantrust://"):
        Asset(uri=written)


@pytest.mark.filterwarnings("ignore:An Asset URI should not contain auth info")
def test_token_in_a_uri_is_in_no_asset() -> None:
    made = []
    # Some Airflows drop it, and say so, before they ask the provider.
    with suppress(ValueError):
        made.append(Asset(uri="scantrust://secret@api.scantrust.com/codes").uri)
    assert made in ([], ["scantrust://api.scantrust.com/codes"])


def test_airflow_knows_handler_factory_and_converter() -> None:
    runtime = pytest.importorskip("airflow.sdk.providers_manager_runtime")
    manager = runtime.ProvidersManagerTaskRuntime()
    assert "scantrust" in manager.asset_uri_handlers
    assert create_asset is manager.asset_factories["scantrust"]
    assert convert_asset_to_openlineage is manager.asset_to_openlineage_converters["scantrust"]


def test_asset_and_dataset_have_the_same_name() -> None:
    pytest.importorskip("openlineage")
    asset = create_asset(name="campaigns/126")
    assert "scantrust://api.scantrust.com/campaigns/126" == asset.uri
    dataset = convert_asset_to_openlineage(asset, None)
    assert ("scantrust://api.scantrust.com", "campaigns/126") == (dataset.namespace, dataset.name)


def test_outlet_that_is_given_by_its_name_gets_the_report() -> None:
    sdk = pytest.importorskip("airflow.sdk")
    ours, other, unknown = (sdk.Asset.ref(name=name) for name in ("ours", "other", "unknown"))
    uris = {ours: "scantrust://api.scantrust.com/codes", other: "s3://bucket/key"}
    events = {ref: SimpleNamespace(key=SimpleNamespace(uri=uri), extra={}) for ref, uri in uris.items()}
    context = {"outlet_events": events}
    assert [ours] == scantrust_outlets([other, ours, unknown], context)
    describe_events(context, [other, ours, unknown], {"codes_affected": 3})
    assert ({"codes_affected": 3}, {}) == (events[ours].extra, events[other].extra)


def test_only_scantrust_outlets_get_the_report() -> None:
    ours, other = create_asset(), Asset(uri="s3://bucket/key")
    assert [ours] == scantrust_outlets([other, ours, object()])

    class Event:
        extra: dict[str, Any] = {}  # noqa: RUF012

    events = {ours.uri: Event(), other.uri: Event()}

    class Events:
        def __getitem__(self, asset: Any) -> Event:
            return events[asset.uri]

    describe_events({"outlet_events": Events()}, [other, ours], {"codes_affected": 3})
    assert [{"codes_affected": 3}, {}] == [events[ours.uri].extra, events[other.uri].extra]
