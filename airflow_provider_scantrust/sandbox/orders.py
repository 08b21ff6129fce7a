"""Orders for the future: faults for requests, results for jobs."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Generic, TypeVar

from airflow_provider_scantrust.sandbox.checks import whole


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

    @property
    def used_up(self) -> bool:
        """Whether it has acted `times` times."""
        return self.times is not None and self.acted >= self.times


_Kind = TypeVar("_Kind", bound=Order)


class Orders(Generic[_Kind]):
    """
    Decides which order acts.

    Rule: orders with a count act first, in the order given. If none of them acts, the latest order without a
    count acts.
    """

    def __init__(self) -> None:
        self._orders: list[_Kind] = []
        self._lock = threading.Lock()

    def add(self, order: _Kind) -> None:
        """Add an order."""
        with self._lock:
            self._orders.append(order)

    def take(self, acts: Callable[[_Kind], bool] = lambda order: True) -> _Kind | None:
        """
        Return the order that acts now.

        :param acts: Whether an order acts now; also called for the orders before the one that acts.
        """
        with self._lock:
            counted = [order for order in self._orders if order.times is not None and not order.used_up]
            always = [order for order in reversed(self._orders) if order.times is None]
            found = next((order for order in counted + always if acts(order)), None)
            if found:
                found.acted += 1
            return found

    def all(self) -> list[_Kind]:
        """Return all orders, oldest first."""
        with self._lock:
            return list(self._orders)

    def clear(self) -> None:
        """Forget all orders."""
        with self._lock:
            self._orders.clear()
