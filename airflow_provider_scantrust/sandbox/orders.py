"""Orders for the future: faults for requests, results for jobs."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TypeVar

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
