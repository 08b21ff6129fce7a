"""Airflow's task state store, as the uploads use it; no Airflow is imported."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import Any


class Died(BaseException):
    """The worker is killed: nothing after this runs, also no ``except Exception``."""


class Store(dict[str, Any]):
    """
    What operators use of Airflow's task state store; ``seen`` has all that was ever written.

    :param entries: What another version has stored.
    :param dies: Says for a value whether the worker is killed before it is written; nothing is written after
        that.
    """

    def __init__(
        self, entries: Mapping[str, Any] | None = None, *, dies: Callable[[Any], bool] = lambda value: False
    ) -> None:
        super().__init__(entries or {})
        self.dies = dies
        self.dead = False
        self.seen: list[Any] = []

    def set(self, key: str, value: Any) -> None:
        if self.dead or self.dies(value):
            self.dead = True
            raise Died
        self[key] = json.loads(json.dumps(value))
        self.seen.append(self[key])

    def delete(self, key: str) -> None:
        self.pop(key, None)
