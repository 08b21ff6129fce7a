"""What an operator does when keys match no code, or the campaign does not have a field."""

from __future__ import annotations

from typing import Literal

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.exceptions import DiscardedFields, ScantrustError, UnmatchedKeys
from airflow_provider_scantrust.uploads.report import Report

Reaction = Literal["warn", "fail", "ignore"]


def react(
    report: Report, data_key: str | None, *, on_unmatched: Reaction, on_discarded: Reaction, log: Log
) -> None:
    """
    Warn or fail, as the reactions say; for constraints, ``data_key`` is None.

    :raises UnmatchedKeys: No code has some of the keys; the message names discarded fields, too.
    :raises DiscardedFields: Some fields were discarded.
    """
    found: list[tuple[type[ScantrustError], Reaction, str]] = []
    if report.unmatched:
        found.append((UnmatchedKeys, on_unmatched, report.describe_unmatched(data_key)))
    if report.discarded:
        found.append((DiscardedFields, on_discarded, report.describe_discarded()))
    for name, reaction, is_known, why in (
        ("on_unmatched", on_unmatched, report.has_all_results, "the task does not wait for them"),
        ("on_discarded", on_discarded, report.fields_told, "jobs do not report discarded fields"),
    ):
        if report.jobs and reaction == "fail" and not is_known:
            log.warning('%s="fail" does not cover the jobs of this upload, because %s.', name, why)
    for _, reaction, text in found:
        if reaction == "warn":
            log.warning("%s", text)
    # A field may be discarded for some codes only, because codes belong to different campaigns.
    if (
        report.has_all_results
        and report.updated_nothing
        and report.discarded
        and set(report.fields) <= report.discarded.keys()
    ):
        log.warning("Every field of this upload was discarded, so no code has a new value.")
    failures = [(what, text) for what, reaction, text in found if reaction == "fail"]
    if failures:
        what, _ = failures[0]
        raise what(" ".join(text for _, text in failures))
