"""Create codes: by number, from a CSV file, or from mappings."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping
from os import PathLike
from typing import Any

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping, several, whole
from airflow_provider_scantrust.sandbox.registry import Registry
from airflow_provider_scantrust.sandbox.settings import DEFAULT_CAMPAIGN
from airflow_provider_scantrust.sandbox.store import COLUMNS, IDENTITY, Store
from airflow_provider_scantrust.sandbox.uploads import RANGES, Errors, product_error, read_value

_BOTTLES_PER_CASE = 6
_BOTTLES_PER_PALLET = 600
_MOST_CODES = 50_000_000


def seed_codes(store: Store, count: Any, codes_per_lot: Any) -> None:
    """Add codes by number; see `Controls.seed`."""
    whole("count", count, high=_MOST_CODES)
    whole("codes_per_lot", codes_per_lot, low=1)
    store.insert_numbered(
        count,
        {
            "extended_id": "printf('SBX%08d', n)",
            "campaign": f"{DEFAULT_CAMPAIGN}",
            "serial_number": "printf('SN%08d', n)",
            "lot_number": f"printf('L-%06d', (n - 1) / {codes_per_lot:d} + 1)",
            "case_id": f"printf('CASE-%07d', (n - 1) / {_BOTTLES_PER_CASE} + 1)",
            "pallet_id": f"printf('PALLET-%06d', (n - 1) / {_BOTTLES_PER_PALLET} + 1)",
        },
    )


def seed_csv(store: Store, registry: Registry, path: str | PathLike[str]) -> int:
    """Add the codes of a CSV file; see `Controls.seed_csv`."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.DictReader(file)
        names = list(lines.fieldnames or [])
        if len(set(names)) < len(names):
            raise ValueError("a column appears twice")
        # Check the columns also for a file without rows.
        _check_names(names, registry)
        return add_codes(store, registry, _codes(lines))


def add_codes(store: Store, registry: Registry, codes: Iterable[Mapping[str, Any]]) -> int:
    """Add codes given as mappings, all or none; see `Controls.add_codes`."""
    added, checked = 0, None
    with store.transaction():
        for added, code in enumerate(several("codes", codes), start=1):
            if (names := list(mapping("codes", code))) != checked:
                _check_names(names, registry)
                checked = names
            store.put(_read_code(code, f"code {added}: ", store, registry))
    return added


def _codes(lines: csv.DictReader[str]) -> Iterator[dict[str, str]]:
    for code in lines:
        # How the reader marks a row with too many values, or with too few.
        if None in code or None in code.values():
            raise ValueError(f"line {lines.line_num} has not as many values as there are columns")
        # Some fields always have a value, so for them an empty cell means "unchanged".
        yield {name: cell for name, cell in code.items() if cell or name not in ("campaign", *RANGES)}


def _check_names(names: Iterable[str], registry: Registry) -> None:
    if IDENTITY not in names:
        raise WrongValue("codes", f"codes need an {IDENTITY}; found: {', '.join(names) or 'nothing'}")
    if unknown := [name for name in names if name not in COLUMNS and not registry.is_field(name)]:
        raise WrongValue("codes", f"no campaign has these fields: {', '.join(unknown)}")


def _read_code(code: Mapping[str, Any], where: str, store: Store, registry: Registry) -> dict[str, Any]:
    errors = Errors(list)
    values = {
        field: read_value(field, value, where, errors) for field, value in code.items() if field != "campaign"
    }
    for field, messages in errors.items():
        raise WrongValue(field, messages[0])
    identity = values[IDENTITY]
    if not identity:
        raise WrongValue(IDENTITY, f"{where}a code without {IDENTITY}")
    if error := product_error(values.get("product", ""), registry):
        raise WrongValue("product", f"code {identity}: {error}")
    product = registry.product(values.get("product", ""))
    if product:
        values["product"] = product
    if "campaign" in code:
        given = code["campaign"]
        campaign = registry.campaign(int(given) if isinstance(given, str) and given.isdecimal() else given)
        if product and registry.products[product] != campaign:
            raise WrongValue("product", f"code {identity}: {product!r} belongs to another campaign")
    elif product:
        # The product moves the code to its campaign, as in an upload.
        campaign = registry.products[product]
    else:
        campaign = store.campaign_of(identity) or DEFAULT_CAMPAIGN
    fields = registry.campaigns[campaign]
    for name in [name for name in values if name not in fields and name not in COLUMNS]:
        if values.pop(name):
            raise WrongValue(name, f"code {identity}: campaign {campaign} has no field {name!r}")
    return {**values, "campaign": campaign}
