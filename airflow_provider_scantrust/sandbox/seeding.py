"""Codes to begin with: by number, from a CSV file, or as mappings."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Iterator, Mapping, Sequence
from os import PathLike
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.sandbox.settings import DEFAULT_CAMPAIGN
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL

if TYPE_CHECKING:
    from airflow_provider_scantrust.sandbox.registry import Registry
    from airflow_provider_scantrust.sandbox.service import Service

_NUMBERS = ("activation_status", "blacklist_reason")
_BOTTLES_PER_CASE = 6
_BOTTLES_PER_PALLET = 600


def seed_codes(service: Service, count: int, *, codes_per_lot: int, campaign: int) -> None:
    """Add codes by number; see `Controls.seed`."""
    service.registry.campaign(campaign)
    for field in ("lot_number", "case_id", "pallet_id"):
        service.registry.add_field(field, campaign)
    service.store.insert_numbered(
        count,
        {
            "extended_id": "printf('SBX%08d', n)",
            "campaign": str(int(campaign)),
            "serial_number": "printf('SN%08d', n)",
            "lot_number": f"printf('L-%06d', (n - 1) / {int(codes_per_lot)} + 1)",
            "case_id": f"printf('CASE-%07d', (n - 1) / {_BOTTLES_PER_CASE} + 1)",
            "pallet_id": f"printf('PALLET-%06d', (n - 1) / {_BOTTLES_PER_PALLET} + 1)",
        },
    )


def seed_csv(service: Service, path: str | PathLike[str]) -> int:
    """Add the codes of a CSV file; see `Controls.seed_csv`."""
    with open(path, encoding="utf-8-sig", newline="") as file:
        lines = csv.reader(file)
        names = next(lines, [])
        _check_names(names, service.registry)
        rows = (_same_length(row, names, number) for number, row in enumerate(lines, start=2) if row)
        with service.store.transaction():
            return service.store.insert(*_codes(names, rows, service.registry))


def seed_rows(service: Service, codes: Iterable[Mapping[str, Any]]) -> int:
    """Add codes given as mappings; see `Controls.add_codes`."""
    added = 0
    with service.store.transaction():
        # One by one: a code that lacks a key keeps what it has there.
        for code in codes:
            names = list(code)
            _check_names(names, service.registry)
            row = ["" if value is None else str(value) for value in code.values()]
            added += service.store.insert(*_codes(names, [row], service.registry))
    return added


def _check_names(names: Sequence[str], registry: Registry) -> None:
    if IDENTITY not in names:
        raise ValueError(f"codes need an {IDENTITY}; found: {', '.join(names) or 'nothing'}")
    known = (IDENTITY, "campaign", *SPECIAL)
    unknown = [name for name in names if name not in known and not registry.is_field(name)]
    if unknown:
        raise ValueError(f"no campaign has these fields: {', '.join(unknown)}")
    if len(set(names)) < len(names):
        raise ValueError("a column is there twice")


def _same_length(row: list[str], names: Sequence[str], line: int) -> list[str]:
    if len(row) != len(names):
        raise ValueError(f"row {line} has {len(row)} values for {len(names)} columns")
    return row


def _codes(
    names: Sequence[str], rows: Iterable[list[str]], registry: Registry
) -> tuple[list[str], Iterator[list[Any]]]:
    at = {name: index for index, name in enumerate(names)}
    columns = list(names) if "campaign" in at else [*names, "campaign"]
    lacking: dict[int, list[str]] = {}

    def code(row: list[str]) -> list[Any]:
        values: list[Any] = [value or None for value in row]
        identity = row[at[IDENTITY]]
        if not identity:
            raise ValueError(f"a code without {IDENTITY}")
        campaign = DEFAULT_CAMPAIGN
        if "campaign" in at:
            campaign = int(row[at["campaign"]] or DEFAULT_CAMPAIGN)
            values[at["campaign"]] = campaign
        else:
            values.append(campaign)
        if campaign not in lacking:
            registry.campaign(campaign)
            fields = registry.field_names(campaign)
            known = (IDENTITY, "campaign", *SPECIAL, *fields)
            lacking[campaign] = [name for name in names if name not in known]
        for name in lacking[campaign]:
            if row[at[name]]:
                raise ValueError(f"code {identity}: campaign {campaign} has no field {name!r}")
        for name in _NUMBERS:
            if name in at:
                values[at[name]] = int(row[at[name]] or 0)
        if "product" in at and row[at["product"]] and registry.product(row[at["product"]]) is None:
            raise ValueError(f"code {identity}: unknown product {row[at['product']]!r}")
        return values

    return columns, (code(row) for row in rows)
