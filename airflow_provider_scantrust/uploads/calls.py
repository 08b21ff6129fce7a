"""The calls of an upload, from plan to run: rows for a synchronous call, or an asynchronous job."""

from __future__ import annotations

from collections.abc import Container, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Literal

from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.check import Row, read_key, read_name


@dataclass(frozen=True)
class Call:
    """
    One call to make, or one part of a call that was split.

    :param number: The call's place in the plan. It is the same in each plan of the same rows, and in all
        parts of the call.
    :param constraints: Selects the codes that a job updates; None for a synchronous call.
    :param example: One of the job's keys, to name the job in reports.
    :param is_probe: The rows come from a job that Scantrust refused, and carry identical data.
    """

    number: int
    rows: Sequence[Row] = ()
    constraints: Mapping[str, Any] | None = None
    scm_data: Row = field(default_factory=dict)
    example: str = ""
    is_probe: bool = False

    @property
    def is_job(self) -> bool:
        return self.constraints is not None

    @property
    def keys(self) -> int:
        """How many key values the call carries."""
        if self.constraints is None:
            return len(self.rows)
        return max((len(value) for value in self.constraints.values() if isinstance(value, list)), default=1)

    def as_rows(self, data_key: str) -> Sequence[Row]:
        """Return the call's rows. Not for a job with constraints that the user wrote."""
        if self.constraints is None:
            return self.rows
        keys = self.constraints[data_key]
        return [{data_key: key, **self.scm_data} for key in (keys if isinstance(keys, list) else [keys])]

    def parts(self, size: int) -> list[Call]:
        """Split the call into calls of at most ``size`` keys; with a size of 0, into two halves."""
        if self.constraints is None:
            return [replace(self, rows=rows, is_probe=False) for rows in _cut(self.rows, size)]
        return [
            replace(self, constraints={**self.constraints, name: keys}, example=str(keys[0]))
            for name, value in self.constraints.items()
            if isinstance(value, list)
            for keys in _cut(value, size)
        ]


@dataclass(frozen=True)
class Steps:
    """The calls of a plan: ``jobs`` may start when all in ``first`` have ended, ``others`` at any time."""

    first: Iterator[Call]
    jobs: Iterator[Call]
    others: Iterator[Call]


def make_job(number: int, data_key: str, keys: Sequence[str], scm_data: Row) -> Call:
    """
    Return the job for rows that carry identical data.

    Scantrust: a list of values is known to work for ``extended_id`` only; any other key needs a job for each
    value.
    """
    selected = list(keys) if data_key == "extended_id" else keys[0]
    return Call(number, constraints={data_key: selected}, scm_data=scm_data, example=keys[0])


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
    example = ", ".join(f"{name}={value}" for name, value in constraints.items())
    call = Call(0, constraints=constraints, scm_data=scm_data, example=example)
    parts = call.parts(ids_per_job) or [call]
    return ConstraintsPlan([replace(part, number=number) for number, part in enumerate(parts)])


def _cut(values: Sequence[Any], size: int) -> Iterator[Any]:
    """Cut the values into the fewest pieces of at most ``size``, nearly equal in length; for 0, into two."""
    pieces = min(2, len(values)) if size == 0 else -(-len(values) // size)
    for index in range(pieces):
        yield values[len(values) * index // pieces : len(values) * (index + 1) // pieces]
