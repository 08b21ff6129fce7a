"""Orders for the future: faults for requests, results for jobs."""

from __future__ import annotations

import json
import random
import re
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any, TypeVar

from airflow_provider_scantrust.sandbox.checks import WrongValue, choice, number, text, truth, whole
from airflow_provider_scantrust.sandbox.deviations import PATHS
from airflow_provider_scantrust.sandbox.errors import Refused, plausible

_TOKEN = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")
# Latin 1 is what HTTP can carry.
_HEADER_VALUE = re.compile(r"[\t -~\xa0-\xff]*")
_SEED = 2**63
_FRAMING = ("content-length", "transfer-encoding")


@dataclass
class Order:
    """
    An order that acts `times` times; None for always.

    :ivar acted: How often it has acted.
    """

    times: int | None = 1
    acted: int = field(default=0, init=False)

    def __post_init__(self) -> None:
        if self.times is not None:
            whole("times", self.times)


_Kind = TypeVar("_Kind", bound=Order)


class Orders(list[_Kind]):
    """
    Decides which order acts; only the event loop takes orders, but any thread may add them.

    Rule: orders with a count act first, in the order given. If none of them acts, the latest order without a
    count acts.
    """

    def take(self, acts: Callable[[_Kind], bool] = lambda order: True) -> _Kind | None:
        """
        Return the order that acts now.

        :param acts: Whether an order acts now; also called for the orders before the one that acts.
        """
        orders = self.copy()
        counted = [order for order in orders if order.times is not None and order.acted < order.times]
        always = [order for order in reversed(orders) if order.times is None]
        found = next((order for order in counted + always if acts(order)), None)
        if found:
            found.acted += 1
        return found


@dataclass
class Steering(Order):
    """How the next jobs behave; `Controls.jobs` explains the fields."""

    fail: bool = False
    hang: bool | str = False
    seconds: float | None = None
    polls: int | None = None

    def __post_init__(self) -> None:
        super().__post_init__()
        truth("fail", self.fail)
        choice("hang", self.hang, (False, True, "pending", "in-progress"))
        if self.seconds is not None:
            number("seconds", self.seconds)
        if self.polls is not None:
            whole("polls", self.polls, low=1)

    @property
    def counts_polls(self) -> bool:
        """Whether polls move the job on, and not time."""
        return self.polls is not None and not self.hang


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
            raise WrongValue("path", f"{self.path!r} must begin with a slash")
        known = [path for paths in PATHS.values() for path in paths]
        if self.path not in known and any(path.startswith(self.path) for path in known):
            raise WrongValue(
                "path",
                f"no call has the path {self.path!r}; to match all paths below it, write {self.path + '*'!r}",
            )

    def _check_body(self) -> None:
        if self.body is not None and self.status in (204, 304):
            raise WrongValue("body", f"an answer {self.status} has none")
        try:
            sent = self.body if isinstance(self.body, str) else json.dumps(self.body)
            sent.encode()
        except (TypeError, ValueError, RecursionError) as error:
            raise WrongValue("body", str(error)) from None
