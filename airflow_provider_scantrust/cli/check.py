"""`check`: which user, which host, which permissions, and how fast the service answers."""

from __future__ import annotations

import argparse

from airflow_provider_scantrust.cli.hook import CommandHook
from airflow_provider_scantrust.cli.output import Output, facts
from airflow_provider_scantrust.hooks.access import check_access


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
