"""The calls for constraints that the user wrote."""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.calls import Call, Steps
from airflow_provider_scantrust.uploads.check import Row, read_key, read_name


@dataclass(frozen=True)
class ConstraintsPlan:
    """Like a :class:`~airflow_provider_scantrust.uploads.plan.Plan`, with jobs only."""

    calls: Sequence[Call]
    mode: Literal["async"] = "async"
    reason: str = "constraints can only be submitted asynchronously"
    rows: int = 1
    sync_calls: int = 0
    items_per_call: int = 0
    spool: None = None

    @property
    def keys(self) -> int:
        return sum(call.keys for call in self.calls)

    @property
    def jobs(self) -> int:
        return len(self.calls)

    @property
    def contents(self) -> list[Any]:
        return [[call.constraints, call.scm_data] for call in self.calls]

    def describe(self) -> str:
        return f"Constraints → {plural(self.jobs, 'job')}: {self.reason}."

    def steps(self, skip: Container[int] = ()) -> Steps:
        return Steps(iter(()), (call for call in self.calls if call.number not in skip), iter(()))


def read_constraints(constraints: Any) -> dict[str, Any]:
    """
    Return constraints that the user wrote, as they are sent.

    :raises InvalidInput: There is no constraint (it would select every code), an empty one, or a list where
        only one value is known to work.
    """
    if not isinstance(constraints, Mapping) or not constraints:
        raise InvalidInput(
            "constraints must be a dict with at least one field: without one, all codes would match."
        )
    checked: dict[str, Any] = {}
    for given, value in constraints.items():
        try:
            # A name that is not text is an error: without its constraint, the job would update more codes.
            name = read_name(given)
            if name in checked:
                raise ValueError("the field appears twice")
            if not isinstance(value, list | tuple | set | frozenset):
                checked[name] = read_key(value, name)
                continue
            if name != "extended_id":
                raise ValueError(
                    "a list of values is known to work for extended_id only. Map the task over the values: "
                    "`.expand(constraints=[…])`"
                )
            if not value:
                raise ValueError("the list of values is empty")
            keys = [read_key(entry, name) for entry in value]
            # A set has another order in each process; a retry must make the same calls.
            checked[name] = list(dict.fromkeys(sorted(keys) if isinstance(value, set | frozenset) else keys))
        except ValueError as error:
            raise InvalidInput(f"constraints, field {show(given)}: {error}.") from error
    return checked


def plan_constraints(constraints: Mapping[str, Any], scm_data: Row, ids_per_job: int) -> ConstraintsPlan:
    """Return the plan for checked constraints and data: one job, or more for a long list of ids."""
    ids = constraints.get("extended_id")
    if not isinstance(ids, list):
        example = ", ".join(f"{name}={value}" for name, value in constraints.items())
        return ConstraintsPlan([Call(0, constraints=constraints, scm_data=scm_data, example=example)])
    pieces = (ids[start : start + ids_per_job] for start in range(0, len(ids), ids_per_job))
    return ConstraintsPlan(
        [
            Call(
                number, constraints={**constraints, "extended_id": piece}, scm_data=scm_data, example=piece[0]
            )
            for number, piece in enumerate(pieces)
        ]
    )
