"""From checked rows to the calls that carry them."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from airflow_provider_scantrust.api.texts import show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.check import Row, copy_mapping, read_key, read_name
from airflow_provider_scantrust.uploads.mode import DANGER_ZONE

# How many extended_ids one asynchronous call may carry is not documented; Scantrust's own danger zone is the bound.
IDS_PER_JOB = DANGER_ZONE


@dataclass(frozen=True)
class Job:
    """
    One asynchronous call.

    :param keys: Key values that it selects by.
    :param example: One of them, for reports.
    """

    constraints: Mapping[str, Any]
    scm_data: Mapping[str, Any]
    keys: int
    example: str

    def as_rows(self, data_key: str) -> list[Row]:
        """Return the rows that the job was made of."""
        keys = self.constraints[data_key]
        return [{data_key: key, **self.scm_data} for key in (keys if isinstance(keys, list) else [keys])]


def cut(rows: Sequence[Row], size: int) -> Iterator[Sequence[Row]]:
    """Return the rows in pieces of at most ``size``, as equal in length as can be."""
    pieces = -(-len(rows) // size)
    for index in range(pieces):
        yield rows[len(rows) * index // pieces : len(rows) * (index + 1) // pieces]


def make_jobs(rows: Iterable[Row], data_key: str, ids_per_job: int = IDS_PER_JOB) -> list[Job]:
    """
    Return the asynchronous calls for rows: rows that carry identical data share one, where the key allows.

    Scantrust: a list of values is known to work for ``extended_id`` only; other keys need a call for each value.

    :param rows: Checked rows, one for each key.
    """
    groups: dict[str, tuple[Row, list[str]]] = {}
    for row in rows:
        scm_data = {name: value for name, value in row.items() if name != data_key}
        groups.setdefault(json.dumps(scm_data, sort_keys=True), (scm_data, []))[1].append(row[data_key])
    size = ids_per_job if data_key == "extended_id" else 1
    return [
        _make_job({data_key: list(piece) if data_key == "extended_id" else piece[0]}, scm_data, piece)
        for scm_data, keys in groups.values()
        for piece in _pieces(keys, size)
    ]


def make_constrained_jobs(
    constraints: Any, scm_data: Mapping[str, Any], ids_per_job: int = IDS_PER_JOB
) -> list[Job]:
    """
    Return the asynchronous calls for constraints that the user wrote: one, or more for a very long list of ids.

    :raises InvalidInput: There is no constraint (it would select every code), an empty one, or a list where only
        one value is known to work.
    """
    if not isinstance(constraints, Mapping) or not (constraints := copy_mapping(constraints, "constraints")):
        raise InvalidInput(
            "constraints must be a dict with at least one field: without one, all codes would match."
        )
    checked: dict[str, Any] = {}
    for given, value in constraints.items():
        try:
            # As text or not at all: a constraint that is lost would select more codes.
            name = read_name(given)
            if name in checked:
                raise ValueError("the field is there twice")
        except ValueError as error:
            raise InvalidInput(f"constraints, field {show(given)}: {error}.") from error
        several = isinstance(value, list | tuple | set | frozenset)
        if several and (name != "extended_id" or not value):
            raise InvalidInput(
                f"constraints, field {show(name)}: a list of values must not be empty, and is known to work for "
                "extended_id only. Submit one job for each value."
            )
        try:
            checked[name] = [read_key(entry) for entry in value] if several else read_key(value)
        except ValueError as error:
            raise InvalidInput(f"constraints, field {show(name)}: {error}.") from error
    ids = checked.get("extended_id")
    if not isinstance(ids, list):
        example = ", ".join(f"{name}={value}" for name, value in checked.items())
        return [Job(checked, scm_data, 1, example)]
    unique = list(dict.fromkeys(ids))
    return [
        _make_job({**checked, "extended_id": list(piece)}, scm_data, piece)
        for piece in _pieces(unique, ids_per_job)
    ]


def _make_job(constraints: Mapping[str, Any], scm_data: Mapping[str, Any], keys: Sequence[str]) -> Job:
    return Job(constraints, scm_data, len(keys), keys[0])


def _pieces(keys: Sequence[str], size: int) -> Iterator[Sequence[str]]:
    for start in range(0, len(keys), size):
        yield keys[start : start + size]
