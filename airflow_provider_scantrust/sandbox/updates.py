"""How an upload changes the codes, and how long it takes."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import Settings
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL, Store

# Assumed: service seconds for each upload, and for each item or extended_id in it.
_BASE_SECONDS = 0.2
_ITEM_SECONDS = 0.0005
# A code of its own for each value.
_CHEAP = (IDENTITY, "serial_number")


def check_products(items: list[dict[str, Any]], registry: Registry) -> None:
    """
    Check that the products exist.

    :raises Refused: 400; nothing is processed.
    """
    values = [(f"items[{number}]: ", item.get("product", "")) for number, item in enumerate(items)]
    unknown = [where + message for where, value in values if (message := product_error(value, registry))]
    if unknown:
        raise Refused(400, {"product": unknown})


def product_error(value: str, registry: Registry) -> str | None:
    """Return why a product cannot be set, or None; "" clears it."""
    if value == "" or registry.product(value):
        return None
    return f'No product with id or SKU "{value}".'


def upload_cost(key: str, items: list[dict[str, Any]], store: Store, settings: Settings) -> float:
    """Estimate the service seconds of a sync upload."""
    codes = 0 if key in _CHEAP else sum(store.count([(key, item[key])]) for item in items)
    work = max(_ITEM_SECONDS * len(items), settings.code_seconds * codes)
    # Rounded, so that a floating-point error does not decide exactly at the gateway timeout.
    return round(_BASE_SECONDS + work, 6)


def submission_cost(constraints: Mapping[str, Any], store: Store, settings: Settings) -> float:
    """Estimate the service seconds of a job."""
    cheap = [value for field, value in constraints.items() if field in _CHEAP]
    if cheap:
        items = max(len(value) if isinstance(value, list) else 1 for value in cheap)
        return _BASE_SECONDS + _ITEM_SECONDS * items
    return _BASE_SECONDS + settings.code_seconds * store.count(constraints.items())


def apply_upload(
    data_key: str, items: list[dict[str, Any]], store: Store, registry: Registry
) -> dict[str, Any]:
    """Do a sync upload, all or nothing, and return its answer."""
    updated: dict[str, list[str]] = {}
    values_written = 0
    with store.transaction():
        for item in items:
            key = item[data_key]
            values = {field: value for field, value in item.items() if field != data_key}
            written = _apply({data_key: key}, values, store, registry)
            if written is None:
                continue
            fields = updated.setdefault(key, [])
            fields.extend(field for field in written if field not in fields)
            values_written += sum(written.values())
        affected = store.take_affected()
    return {"total_updates": values_written, "changes": [], "items": updated, "codes_affected": affected}


def apply_submission(
    constraints: Mapping[str, Any], scm_data: Mapping[str, Any], store: Store, registry: Registry
) -> int:
    """Do a job, all or nothing, and return the number of codes affected."""
    with store.transaction():
        _apply(constraints, scm_data, store, registry)
        return store.take_affected()


def _apply(
    constraints: Mapping[str, Any], values: Mapping[str, Any], store: Store, registry: Registry
) -> dict[str, int] | None:
    """Write the fields that the campaigns have; return field -> codes written, or None if no code matched."""
    matched = store.select(constraints.items())
    product = registry.product(values.get("product", ""))
    if product:
        values = {**values, "product": product.sku}
    written: dict[str, int] = {}
    for campaign, codes in matched.items():
        # A product of another campaign moves the code to that campaign and its rules.
        rules = product.campaign if product else campaign
        fields = registry.campaigns[rules]
        kept = {field: value for field, value in values.items() if field in SPECIAL or field in fields}
        if kept:
            store.update(campaign, kept, rules)
            for field in kept:
                written[field] = written.get(field, 0) + codes
    return written if matched else None
