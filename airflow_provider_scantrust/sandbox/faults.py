"""Scripted faults: which request they hit, and what they do to it."""

from __future__ import annotations

import json
import random
import re
from dataclasses import dataclass, field, fields
from typing import Any

from airflow_provider_scantrust.sandbox.checks import WrongValue, choice, number, text, truth, whole
from airflow_provider_scantrust.sandbox.deviations import PATHS
from airflow_provider_scantrust.sandbox.errors import Refused, plausible
from airflow_provider_scantrust.sandbox.orders import Order

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Latin 1 is what HTTP can carry.
_HEADER_VALUE = re.compile(r"[\t -~\xa0-\xff]*")
_SEED = 2**63
_FRAMING = ("content-length", "transfer-encoding")


@dataclass
class Fault(Order):
    """One scripted fault; `Controls.fault` explains the fields."""

    method: str | None = None
    path: str = "*"
    skip: int = 0
    probability: float = 1.0
    random_seed: int = 0
    status: int | None = None
    headers: dict[str, str] = field(default_factory=dict)
    body: Any = None
    delay: float = 0.0
    cut: str | None = None
    work: bool = False
    matched: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        super().__post_init__()
        if self.method is not None and not text("method", self.method).isalpha():
            raise WrongValue("method", f"{self.method!r} is none")
        self._check_path()
        whole("skip", self.skip)
        number("probability", self.probability, high=1.0)
        whole("random_seed", self.random_seed, low=-_SEED, high=_SEED)
        if self.status is not None:
            whole("status", self.status, low=200, high=599)
        for name, value in self.headers.items():
            is_value = isinstance(value, str) and _HEADER_VALUE.fullmatch(value)
            if not _TOKEN.fullmatch(name) or name.lower() in _FRAMING or not is_value:
                raise WrongValue("headers", f"{name!r} cannot be sent with {value!r}")
        self._check_body()
        number("delay", self.delay)
        choice("cut", self.cut, (None, "before", "after", "body"))
        truth("work", self.work)
        self._random = random.Random(self.random_seed)  # noqa: S311  (chance that can be repeated is the point)

    @property
    def answers(self) -> bool:
        return self.status is not None or self.body is not None

    def answer(self) -> Refused:
        given = {name.lower(): value for name, value in self.headers.items()}
        if self.body is None:
            answer = plausible(self.status or 200, given.get("retry-after"))
        else:
            body = self.body if isinstance(self.body, str) else json.dumps(self.body)
            kind = "text/html" if body.lstrip().startswith("<") else "application/json"
            answer = Refused(self.status or 200, body, {"Content-Type": kind})
        kept = {name: value for name, value in answer.headers.items() if name.lower() not in given}
        return Refused(answer.status, answer.body, {**kept, **self.headers})

    def acts_on(self, method: str, path: str) -> bool:
        """Return whether it acts on this request, and count that it matches."""
        if self.method is not None and self.method.upper() != method:
            return False
        if path != self.path and not (self.path.endswith("*") and path.startswith(self.path[:-1])):
            return False
        self.matched += 1
        return self.matched > self.skip and self._random.random() < self.probability

    def show(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    def _check_path(self) -> None:
        if not text("path", self.path).startswith(("/", "*")):
            raise WrongValue("path", f"{self.path!r} begins with no slash")
        known = [path for paths in PATHS.values() for path in paths]
        if self.path not in known and any(path.startswith(self.path) for path in known):
            raise WrongValue(
                "path", f"no call has the path {self.path!r}; for those below it: {self.path + '*'!r}"
            )

    def _check_body(self) -> None:
        if self.body is not None and self.status in (204, 304):
            raise WrongValue("body", f"an answer {self.status} has none")
        try:
            sent = self.body if isinstance(self.body, str) else json.dumps(self.body)
            sent.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise WrongValue("body", str(error)) from None
