"""The upload calls: read a body or refuse it with a 400 that names all errors, then change the codes."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

from airflow_provider_scantrust.sandbox.checks import UNSTORABLE
from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import Settings
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL, Store

# Scantrust, "Special fields": the allowed values.
RANGES = {"activation_status": range(3), "blacklist_reason": range(11)}
# Assumed: service seconds for each upload, and for each item or extended_id in it.
_BASE_SECONDS = 0.2
_ITEM_SECONDS = 0.0005
# A code of its own for each value.
_CHEAP = (IDENTITY, "serial_number")
# The messages, by field.
Errors = defaultdict[str, list[str]]
_IsField = Callable[[str], bool]


def read_upload(body: Any, registry: Registry) -> tuple[str, list[dict[str, Any]]]:
    """
    Read a sync upload: the data_key and the items.

    :raises Refused: 400.
    """
    errors = Errors(list)
    items = _part(body, "items", list, errors)
    data_key = body.get("data_key", IDENTITY)
    if data_key is None:
        errors["data_key"].append("This field may not be null.")
    elif not isinstance(data_key, str) or not _selects(data_key, registry.is_field):
        errors["data_key"].append(f'"{data_key}" is not a valid choice.')
    _check(errors)
    read = [
        _item(item, f"items[{number}]: ", data_key, registry.is_field, errors)
        for number, item in enumerate(items)
    ]
    _check(errors)
    for number, item in enumerate(read):
        if error := product_error(item.get("product", ""), registry):
            errors["product"].append(f"items[{number}]: {error}")
    _check(errors)
    return data_key, read


def read_submission(body: Any, is_field: _IsField) -> tuple[dict[str, Any], dict[str, Any]]:
    """
    Read an async upload: the constraints and the scm_data.

    :raises Refused: 400.
    """
    errors = Errors(list)
    constraints = _part(body, "constraints", dict, errors)
    scm_data = _part(body, "scm_data", dict, errors)
    _check(errors)
    read = (
        {name: _constraint(name, value, is_field, errors) for name, value in constraints.items()},
        _values(scm_data, "", is_field, errors),
    )
    _check(errors)
    return read


def read_value(name: str, value: Any, where: str, errors: Errors) -> Any:
    """Return a value to store: text, or the number of a special field."""
    allowed = RANGES.get(name)
    if allowed is None:
        return _text(name, value, where, errors)
    # Real clients send every value as a string.
    digits = value if isinstance(value, str) else str(value) if type(value) is int else ""
    if not (digits.isascii() and digits.isdigit()):
        errors[name].append(f"{where}A valid integer is required.")
    elif len(digits) > 9 or int(digits) not in allowed:
        errors[name].append(f'{where}"{digits}" is not a valid choice.')
    else:
        return int(digits)
    return 0


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


def _check(errors: Errors) -> None:
    if errors:
        raise Refused(400, errors)


def _part(body: Any, name: str, kind: type[Any], errors: Errors) -> Any:
    if not isinstance(body, dict):
        message = f"Invalid data. Expected a dictionary, but got {_type(body)}."
        raise Refused(400, {"non_field_errors": [message]})
    part, noun = body.get(name), "list" if kind is list else "dictionary"
    if name not in body:
        errors[name].append("This field is required.")
    elif part is None:
        errors[name].append("This field may not be null.")
    elif not isinstance(part, kind):
        errors[name].append(f'Expected a {noun} of items but got type "{_type(part)}".')
    elif not part:
        errors[name].append(f"This {noun} may not be empty.")
    return part


def _item(item: Any, where: str, data_key: str, is_field: _IsField, errors: Errors) -> dict[str, Any]:
    if not isinstance(item, dict):
        errors["items"].append(f"{where}Invalid data. Expected a dictionary, but got {_type(item)}.")
        return {}
    key = None
    if data_key in item:
        key = _key(data_key, item[data_key], where, errors)
    else:
        errors[data_key].append(f"{where}This field is required.")
    values = {name: value for name, value in item.items() if name != data_key}
    return {data_key: key, **_values(values, where, is_field, errors)}


def _values(values: dict[str, Any], where: str, is_field: _IsField, errors: Errors) -> dict[str, Any]:
    # Fields that will be discarded are not checked.
    return {
        name: read_value(name, value, where, errors) if name in SPECIAL or is_field(name) else value
        for name, value in values.items()
    }


def _constraint(name: str, value: Any, is_field: _IsField, errors: Errors) -> str | list[str]:
    if not _selects(name, is_field):
        errors["constraints"].append(f'"{name}" is not a valid choice.')
    elif name == IDENTITY and isinstance(value, list):
        if not value:
            errors[name].append("This list may not be empty.")
        return [_key(name, each, "", errors) for each in value]
    else:
        return _key(name, value, "", errors)
    return ""


def _key(name: str, value: Any, where: str, errors: Errors) -> str:
    if value == "":
        errors[name].append(f"{where}This field may not be blank.")
    return _text(name, value, where, errors)


def _text(name: str, value: Any, where: str, errors: Errors) -> str:
    if value is None:
        errors[name].append(f"{where}This field may not be null.")
    elif (
        isinstance(value, bool) or not isinstance(value, str | int | float) or value in (math.inf, -math.inf)
    ):
        errors[name].append(f"{where}Not a valid string.")
    elif isinstance(value, str) and UNSTORABLE.search(value):
        errors[name].append(f"{where}Null characters and lone surrogates are not allowed.")
    else:
        return str(value)
    return ""


def _selects(name: str, is_field: _IsField) -> bool:
    return name in _CHEAP or is_field(name)


def _type(value: Any) -> str:
    return type(value).__name__


def _apply(
    constraints: Mapping[str, Any], values: Mapping[str, Any], store: Store, registry: Registry
) -> dict[str, int] | None:
    """Write the fields that the campaigns have; return field -> codes written, or None if no code matched."""
    matched = store.select(constraints.items())
    product = registry.product(values.get("product", ""))
    if product:
        values = {**values, "product": product}
    written: dict[str, int] = {}
    for campaign, codes in matched.items():
        # A product of another campaign moves the code to that campaign and its rules.
        rules = registry.products[product] if product else campaign
        fields = registry.campaigns[rules]
        kept = {field: value for field, value in values.items() if field in SPECIAL or field in fields}
        if kept:
            store.update(campaign, kept, rules)
            for field in kept:
                written[field] = written.get(field, 0) + codes
    return written if matched else None
