"""One call of an upload, from plan to run: rows for a synchronous call, or an asynchronous job."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from airflow_provider_scantrust.uploads.check import Row


@dataclass(frozen=True)
class Call:
    """
    One call to make, or a part of one that had to be cut.

    :param number: Its place in the plan; the same in each plan of the same rows, and in all parts of the
        call.
    :param rows: What a synchronous call carries.
    :param constraints: What selects the codes of a job; None for a synchronous call.
    :param scm_data: What a job sets.
    :param example: What stands for a job in reports: one of its keys.
    :param is_probe: The rows carry identical data, and come from a job that Scantrust refused.
    """

    number: int
    rows: Sequence[Row] = ()
    constraints: Mapping[str, Any] | None = None
    scm_data: Row = field(default_factory=dict)
    example: str = ""
    is_probe: bool = False

    @property
    def is_job(self) -> bool:
        """Whether it is made asynchronously."""
        return self.constraints is not None

    @property
    def keys(self) -> int:
        """How many key values it carries."""
        if self.constraints is None:
            return len(self.rows)
        return max((len(value) for value in self.constraints.values() if isinstance(value, list)), default=1)

    def fields(self, data_key: str) -> set[str]:
        """Return the names of the fields that it sets."""
        names = self.scm_data.keys() if self.is_job else {name for row in self.rows for name in row}
        return set(names) - {data_key}

    def as_rows(self, data_key: str) -> Sequence[Row]:
        """Return what it carries, row by row; of a job only where rows became it."""
        if self.constraints is None:
            return self.rows
        keys = self.constraints[data_key]
        return [{data_key: key, **self.scm_data} for key in (keys if isinstance(keys, list) else [keys])]

    def parts(self, size: int) -> list[Call]:
        """Return calls that together carry the same, each at most ``size`` keys; for a size of 0, two halves."""
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
    """The calls of a plan, by when they may be made: ``jobs`` wait until those in ``first`` have ended, others do not."""

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
    """Return the values in order, in the fewest pieces of at most ``size``, as equal in length as can be."""
    pieces = min(2, len(values)) if size == 0 else -(-len(values) // size)
    for index in range(pieces):
        yield values[len(values) * index // pieces : len(values) * (index + 1) // pieces]
