"""
Scantrust's advice on synchronous and asynchronous uploads, as one pure function.

Scantrust: Synchronous vs. asynchronous uploads. ``docs/sync-or-async.md`` has the table, and a test holds
them together.
"""

from __future__ import annotations

from typing import NamedTuple

# "Recommended only where few codes are updated: fewer than 1000."
FEW_CODES = 1_000
# "Over 20,000 codes in one call is the danger zone."
DANGER_ZONE = 20_000
# These keys select one code each, and quickly.
SINGLE_CODE_KEYS = frozenset({"extended_id", "serial_number"})


class Choice(NamedTuple):
    """How to upload, why, and how many items one synchronous call may hold."""

    mode: str
    reason: str
    keys_per_call: int = FEW_CODES - 1


def choose_mode(data_key: str, keys: int, codes_per_key: float | None = None) -> Choice:
    """
    Return the mode that Scantrust recommends for so many distinct keys.

    :param codes_per_key: How many codes have the same value of the SCM key; None if the user does not know.
    """
    if data_key in SINGLE_CODE_KEYS:
        return Choice("sync", f"{data_key} selects one code each, which is quick")
    if codes_per_key is None:
        return Choice("async", f"the number of codes per {data_key} is not known (codes_per_key is not set)")
    codes = round(keys * codes_per_key)
    per_call = max(1, min(FEW_CODES - 1, int((FEW_CODES - 1) / max(codes_per_key, 1e-9))))
    if codes < FEW_CODES:
        return Choice("sync", f"about {codes} codes are fewer than {FEW_CODES}", per_call)
    if codes > DANGER_ZONE:
        return Choice("async", f"about {codes} codes are more than {DANGER_ZONE}")
    return Choice(
        "sync",
        f"about {codes} codes are not more than {DANGER_ZONE}; a call has fewer than {FEW_CODES} codes if the keys allow it",
        per_call,
    )
