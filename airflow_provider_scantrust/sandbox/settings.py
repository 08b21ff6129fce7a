"""The sandbox's settings and their defaults; the page "Fidelity" says which of them are assumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping, number, text, texts, truth, whole
from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS

DEFAULT_TOKEN = "sandbox-token-not-a-secret"  # noqa: S105  (obviously fake, and printed on purpose)
DEFAULT_USERNAME = "sandbox"
DEFAULT_PASSWORD = "sandbox-password-not-a-secret"  # noqa: S105  (as above)
DEFAULT_CAMPAIGN = 1
DEFAULT_FIELDS = (
    "lot_number",
    "production_date",
    "bottling_date",
    "best_before",
    "market",
    "vintage",
    "grape",
    "rfid",
    "case_id",
    "pallet_id",
)
DEFAULT_PRODUCTS = ("prod_1", "prod_2")

FINAL_STATES = ("complete", "failed")
STATES = ("pending", "in-progress", *FINAL_STATES)

# Scantrust, "Rate limits": requests in a window of seconds. `service.py` assigns the scopes.
DEFAULT_LIMITS: dict[str, tuple[int, float]] = {
    "scm_update": (10, 1.0),
    "authenticated": (3000, 60.0),
    "anonymous": (200, 60.0),
    "login": (10, 60.0),
}


@dataclass
class Settings:
    """
    How the sandbox behaves.

    A service second (costs, gateway timeout, job times) lasts `time_scale` real seconds. Rate limits,
    Retry-After, token expiry and the delay of a fault are always in real seconds, because the client measures
    them.

    :param time_scale: Real seconds per service second; 1 is the pace of the service. A change affects the waits
        that begin after it.
    :param rate_limits: Whether requests are counted and refused with 429.
    :param limits: Requests and window in seconds, by scope.
    :param gateway_timeout: Service seconds after which the gateway answers 504 to a sync upload.
    :param code_seconds: Service seconds per code that an SCM field selects; used instead of the seconds per
        item if the sum is larger.
    :param pending_seconds: Service seconds that a job waits before it starts.
    :param body_limit: Maximum number of bytes of a request body; a larger one gets a 413. None for no limit.
    :param states: The words shown for pending, in-progress, complete and failed.
    :param deviations: Names of assumptions to reverse (`deviations.py`).
    """

    time_scale: float = 1.0
    rate_limits: bool = True
    limits: dict[str, tuple[int, float]] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    gateway_timeout: float = 60.0
    code_seconds: float = 0.00299
    pending_seconds: float = 0.5
    # nginx: client_max_body_size, 1 MB by default.
    body_limit: int | None = 1_048_576
    states: dict[str, str] = field(default_factory=dict)
    deviations: tuple[str, ...] = ()

    def change(self, **changes: Any) -> None:
        """
        Change settings by name, all or none; mappings are merged, the list of deviations is replaced.

        :raises WrongValue: The setting, rate limit scope, state or deviation does not exist, or its value is
            not possible.
        """
        checked = {}
        for name, value in changes.items():
            _check_known(name, [name], _CHECKS)
            new = _CHECKS[name](name, value)
            checked[name] = {**getattr(self, name), **new} if isinstance(new, dict) else new
        for name, value in checked.items():
            setattr(self, name, value)


def _check_known(field: str, names: Iterable[str], known: Iterable[str]) -> None:
    if unknown := sorted(set(names) - set(known)):
        raise WrongValue(field, f"unknown: {', '.join(unknown)}; there are: {', '.join(known)}")


def _limits(field: str, value: Any) -> dict[str, tuple[int, float]]:
    given, limits = mapping(field, value), {}
    _check_known(field, given, DEFAULT_LIMITS)
    for scope, limit in given.items():
        if not isinstance(limit, list | tuple) or len(limit) != 2:
            raise WrongValue(
                field, f"{scope} must be a number of requests and of seconds, such as (10, 1), not {limit!r}"
            )
        limits[scope] = (whole(field, limit[0]), number(field, limit[1]))
    return limits


def _states(field: str, value: Any) -> dict[str, str]:
    words = mapping(field, value)
    _check_known(field, words, STATES)
    return {state: text(field, word) for state, word in words.items()}


def _deviations(field: str, value: Any) -> tuple[str, ...]:
    names = texts(field, value)
    _check_known(field, names, DEVIATIONS)
    return tuple(name for name in DEVIATIONS if name in names)


_CHECKS: dict[str, Callable[[str, Any], Any]] = {
    "time_scale": number,
    "rate_limits": truth,
    "limits": _limits,
    "gateway_timeout": number,
    "code_seconds": number,
    "pending_seconds": number,
    "body_limit": lambda field, value: None if value is None else whole(field, value),
    "states": _states,
    "deviations": _deviations,
}
