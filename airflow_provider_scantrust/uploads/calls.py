"""One call of an upload, from plan to run: rows for a synchronous call, or an asynchronous job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_scantrust.uploads.check import Row


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


def _cut(values: Sequence[Any], size: int) -> Iterator[Any]:
    """Cut the values into the fewest pieces of at most ``size``, nearly equal in length; for 0, into two."""
    pieces = min(2, len(values)) if size == 0 else -(-len(values) // size)
    for index in range(pieces):
        yield values[len(values) * index // pieces : len(values) * (index + 1) // pieces]
