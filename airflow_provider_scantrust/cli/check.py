"""`check`: which user, which host, which permissions, and how fast the service answers."""

from __future__ import annotations

import argparse
from dataclasses import dataclass, replace
from typing import Any

from airflow_provider_scantrust.api.answers import read_http_date
from airflow_provider_scantrust.api.endpoints import get_me
from airflow_provider_scantrust.api.messages import Answer, Endpoint, Fault, Pause
from airflow_provider_scantrust.api.models import read_account
from airflow_provider_scantrust.cli.hook import CommandHook
from airflow_provider_scantrust.cli.output import Output, facts
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.transports.blocking import BlockingTransport

# Scantrust: what an upload needs.
NEEDED = ("codes_view", "scm_bulk_edit", "scm_code_edit", "product_view")
# The Date header has whole seconds, and the answer takes some time to arrive.
_CLOCK_TOLERANCE = 5
# Seconds for the check, because a user waits for the result.
_SECONDS = 10.0


@dataclass(frozen=True)
class Access:
    """
    Who a token belongs to, and how the service can be reached.

    :param permissions: None if the answer does not have them.
    :param round_trip: Seconds.
    :param clock_skew: Whole seconds that the service's clock is ahead of this one; None without a ``Date``
        header.
    """

    account: str
    permissions: list[str] | None
    round_trip: float
    clock_skew: int | None

    @property
    def missing_permissions(self) -> list[str]:
        known = self.permissions
        return [] if known is None else [name for name in NEEDED if name not in known]

    @property
    def is_clock_wrong(self) -> bool:
        """Whether this machine's clock is wrong by more than the answer's delay can explain."""
        return abs(self.clock_skew or 0) > _CLOCK_TOLERANCE


def check_access(hook: ScantrustHook) -> Access:
    """Ask the service who the token belongs to."""
    steps: list[Answer | Fault | Pause] = []
    transport = BlockingTransport(hook.get_conn(), log=hook.log, meter=steps.append)
    me: Endpoint[Any] = get_me(hook.settings.dialect)
    account, permissions = transport.perform(
        hook.converse(replace(me, read=_read), budget=hook.settings.budget.at_most(_SECONDS))
    )
    answer = steps[-1]
    assert isinstance(answer, Answer)  # noqa: S101 - there is no result without an answer
    return Access(account, permissions, answer.elapsed, read_skew(answer))


def _read(data: Any) -> tuple[str, list[str] | None]:
    account = read_account(data)
    found = data.get("permissions")
    is_list = isinstance(found, list) and all(isinstance(name, str) for name in found)
    return account, found if is_list else None


def read_skew(answer: Answer) -> int | None:
    date = read_http_date(answer.headers.get("date", ""))
    if date is None:
        return None
    # The header is rounded down to the second; the middle of the second is the best guess.
    return round(date + 0.5 - (answer.received_at - answer.elapsed / 2))


def check(arguments: argparse.Namespace, out: Output) -> int:
    """Call the service once."""
    hook = CommandHook(arguments.conn_id, out)
    access = check_access(hook)
    found = {
        "connection": arguments.conn_id,
        "service": hook.settings.base_url,
        "account": access.account,
        "auth_scheme": hook.settings.auth_scheme,
        "permissions": access.permissions,
        "round_trip_ms": round(access.round_trip * 1000, 1),
        "clock_skew_seconds": access.clock_skew,
    }
    out.result(found, facts(found))
    if access.missing_permissions:
        out.warning(
            "The token lacks %s, without which uploads are refused. A company admin can make another token in the portal.",
            ", ".join(access.missing_permissions),
        )
    if access.is_clock_wrong:
        out.warning(
            "The clock of this machine differs from Scantrust's by %s s. Correct it, for example with NTP: "
            "logs and timeouts use this machine's clock.",
            access.clock_skew,
        )
    return 0
