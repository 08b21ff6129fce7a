"""What can be set about the sandbox, and its defaults; which of them are assumed: `docs/fidelity.md`."""

from __future__ import annotations

from dataclasses import dataclass, field, fields, replace
from typing import Any

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
    Retry-After, token expiry and the delay of a fault are always real seconds, by which a client measures them.

    :param time_scale: Real seconds per service second; 1 is the pace of the service.
    :param rate_limits: Whether requests are counted and refused with 429.
    :param retry_after: Whether a 429 carries a Retry-After header.
    :param limits: Requests and window in seconds, by scope.
    :param gateway_timeout: Service seconds after which the gateway answers 504 to a sync upload.
    :param base_seconds: Service seconds any upload costs.
    :param item_seconds: Service seconds per item or extended_id sent.
    :param code_seconds: Service seconds per code that an SCM field selected, instead of those per item if that is more.
    :param pending_seconds: Service seconds a job waits before it starts.
    :param jwt_seconds: Real seconds a JWT is good for.
    :param states: The word shown for each job state, by pending, in-progress, complete, failed.
    :param camel_case: Whether the task status spells its keys codesAffected, createdAt, ….
    """

    time_scale: float = 1.0
    rate_limits: bool = True
    retry_after: bool = True
    limits: dict[str, tuple[int, float]] = field(default_factory=lambda: dict(DEFAULT_LIMITS))
    gateway_timeout: float = 60.0
    base_seconds: float = 0.2
    item_seconds: float = 0.0005
    code_seconds: float = 0.00299
    pending_seconds: float = 0.5
    jwt_seconds: float = 3600.0
    states: dict[str, str] = field(default_factory=dict)
    camel_case: bool = False

    def change(self, **changes: Any) -> None:
        """
        Change settings by name; mappings are merged.

        :raises ValueError: There is no such setting, rate limit scope or state.
        """
        known = {each.name for each in fields(self)}
        for name, value in changes.items():
            if name not in known:
                raise ValueError(f"unknown setting {name!r}; there are: {', '.join(sorted(known))}")
            if name == "limits":
                value = {**self.limits, **{scope: _limit(scope, limit) for scope, limit in value.items()}}
            elif name == "states":
                if unknown := set(value) - set(STATES):
                    raise ValueError(f"unknown states {sorted(unknown)}; there are: {', '.join(STATES)}")
                value = {**self.states, **value}
            setattr(self, name, value)

    def copy(self) -> Settings:
        """Give settings that can change without changing these."""
        return replace(self, limits=dict(self.limits), states=dict(self.states))


def _limit(scope: str, limit: Any) -> tuple[int, float]:
    if scope not in DEFAULT_LIMITS:
        raise ValueError(f"unknown rate limit scope {scope!r}; there are: {', '.join(DEFAULT_LIMITS)}")
    requests, seconds = limit
    return int(requests), float(seconds)
