"""The sandbox's settings and their defaults; the page "Fidelity" says which of them are assumed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
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

STATES = ("pending", "in-progress", "complete", "failed")
FINAL_STATES = STATES[2:]

# Scantrust, "Rate limits": requests in a window of seconds. What a scope is: `service.py`.
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

    Service seconds (costs, gateway timeout, job times) last `time_scale` real seconds each. Rate limits,
    Retry-After, token expiry and the delay of a fault are always real seconds, by which a client measures
    them.

    :param time_scale: Real seconds per service second; 1 is the pace of the service. Waits in progress follow
        it.
    :param rate_limits: Whether requests are counted and refused with 429.
    :param limits: Requests and window in seconds, by scope.
    :param gateway_timeout: Service seconds after which the gateway answers 504 to a sync upload.
    :param code_seconds: Service seconds per code that an SCM field selects, instead of those per item if that
        is more.
    :param pending_seconds: Service seconds a job waits before it starts.
    :param body_limit: Bytes a request body may have; more is answered with 413. None for no limit.
    :param states: The word shown for each job state, by pending, in-progress, complete, failed.
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
        Change settings by name, all of them or none; mappings are merged, the list of deviations is replaced.

        :raises WrongValue: There is no such setting, rate limit scope, state or deviation, or its value
            cannot be.
        """
        checked = {}
        for name, value in changes.items():
            if name not in _CHECKS:
                raise WrongValue(name, f"unknown setting; there are: {', '.join(_CHECKS)}")
            new = _CHECKS[name](name, value)
            checked[name] = {**getattr(self, name), **new} if isinstance(new, dict) else new
        for name, value in checked.items():
            setattr(self, name, value)

    def copy(self) -> Settings:
        """Give settings that can change without changing these."""
        return replace(self, limits=dict(self.limits), states=dict(self.states))


def _limits(field: str, value: Any) -> dict[str, tuple[int, float]]:
    limits = {}
    for scope, limit in mapping(field, value).items():
        if scope not in DEFAULT_LIMITS:
            raise WrongValue(field, f"unknown scope {scope!r}; there are: {', '.join(DEFAULT_LIMITS)}")
        if not isinstance(limit, list | tuple) or len(limit) != 2:
            raise WrongValue(field, f"{scope} must be requests and seconds, not {limit!r}")
        limits[scope] = (whole(field, limit[0]), number(field, limit[1]))
    return limits


def _states(field: str, value: Any) -> dict[str, str]:
    words = mapping(field, value)
    if unknown := set(words) - set(STATES):
        raise WrongValue(field, f"unknown states {sorted(unknown)}; there are: {', '.join(STATES)}")
    return {state: text(field, word) for state, word in words.items()}


def _deviations(field: str, value: Any) -> tuple[str, ...]:
    names = texts(field, value)
    if unknown := set(names) - set(DEVIATIONS):
        raise WrongValue(field, f"unknown names {sorted(unknown)}; there are: {', '.join(DEVIATIONS)}")
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
