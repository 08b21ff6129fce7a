"""Scripted faults: which request is harmed, and how."""

from __future__ import annotations

import json
import random
import threading
from dataclasses import dataclass, field, fields
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.errors import Refused, plausible


@dataclass
class Fault:
    """One scripted fault; what the fields mean: `Controls.fault`."""

    method: str | None = None
    path: str = "/"
    times: int | None = 1
    skip: int = 0
    probability: float = 1.0
    random_seed: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    cut: Literal["before", "after", "body"] | None = None
    work: bool = False
    matched: int = field(default=0, init=False)
    acted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.cut not in (None, "before", "after", "body"):
            raise ValueError(f"cut is 'before', 'after' or 'body', not {self.cut!r}")
        if self.status is not None and not 200 <= self.status <= 599:
            raise ValueError(f"no final answer has the status {self.status}")
        self._random = random.Random(self.random_seed)  # noqa: S311  (chance that can be repeated is the point)

    @property
    def answers(self) -> bool:
        """Whether it replaces the answer."""
        return self.status is not None or self.body is not None

    def answer(self) -> Refused:
        """Make the answer it gives."""
        given = {name.lower(): value for name, value in self.headers.items()}
        if self.body is None:
            answer = plausible(self.status or 200, given.get("retry-after"))
        elif isinstance(self.body, str):
            kind = "text/html" if self.body.lstrip().startswith("<") else "application/json"
            answer = Refused(self.status or 200, self.body, {"Content-Type": kind})
        else:
            # As text, because a JSON string is a fault body too.
            answer = Refused(self.status or 200, json.dumps(self.body), {"Content-Type": "application/json"})
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in given}
        return Refused(answer.status, answer.body, {**kept, **self.headers})

    def acts_on(self, method: str, path: str) -> bool:
        """Tell whether it acts on this request, and count it."""
        if self.times is not None and self.acted >= self.times:
            return False
        if (self.method is not None and self.method.upper() != method) or not path.startswith(self.path):
            return False
        self.matched += 1
        if self.matched <= self.skip or self._random.random() >= self.probability:
            return False
        self.acted += 1
        return True


class Faults:
    """The script."""

    def __init__(self) -> None:
        self._faults: list[Fault] = []
        self._lock = threading.Lock()

    def add(self, fault: Fault) -> None:
        """Append a fault."""
        with self._lock:
            self._faults.append(fault)

    def take(self, method: str, path: str) -> Fault | None:
        """Give the fault that acts on this request."""
        with self._lock:
            return next((fault for fault in self._faults if fault.acts_on(method, path)), None)

    def show(self) -> list[dict[str, Any]]:
        """Show the faults and how often they acted."""
        with self._lock:
            return [
                {each.name: getattr(fault, each.name) for each in fields(fault)} for fault in self._faults
            ]

    def clear(self) -> None:
        """Forget all faults."""
        with self._lock:
            self._faults.clear()
