"""Why a row of the page needs attention, and until when."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_scantrust.plugins import problems
from page_rows import FAILED, NOW, REPORT, row_of

FULL = {**REPORT, "mode": "sync", "rows": 9, "codes_affected": 9, "task_ids": [], "discarded_fields": []}


def texts_of(row: dict[str, Any]) -> list[str]:
    return [each["text"] for each in row["problems"]]


@pytest.mark.parametrize(
    ("state", "xcoms", "texts"),
    [
        ("success", {"return_value": FULL}, []),
        ("success", {"return_value": {**FULL, "discarded_fields": None}}, []),
        ("success", {"return_value": {**FULL, "discarded_fields": ["color"]}}, ["1 field ignored: color"]),
        (
            "success",
            {"return_value": {**FULL, "discarded_fields": list("abcdefg")}},
            ["7 fields ignored: a, b, c, d, e and 2 more"],
        ),
        ("success", {"return_value": {**FULL, "unmatched": {"count": 5}}}, ["5 unknown keys"]),
        (
            "success",
            {"return_value": {**FULL, "rejected": {"refused": 2, "invalid": 1}}},
            ["3 rows rejected (refused: 2, invalid: 1)"],
        ),
        (
            "success",
            {"return_value": {**FULL, "rejected": {"key missing": 3}}},
            ["3 rows rejected (key missing)"],
        ),
        ("success", {"return_value": {**FULL, "codes_affected": 0}}, ["No code updated by 9 rows"]),
        ("success", {"return_value": {**FULL, "rows": 0, "codes_affected": 0}}, []),
        ("success", {"return_value": {"codes_affected": 0, "tasks": {"a": 0}}}, ["No code updated by 1 job"]),
        (
            "failed",
            {
                "failure": {
                    "error": "TokenRefused",
                    "message": "Scantrust refused the token.",
                    "try_number": 1,
                }
            },
            ["TokenRefused: Scantrust refused the token."],
        ),
        # From an earlier try.
        (
            "failed",
            {"failure": {"error": "TokenRefused", "message": "Old.", "try_number": 7}},
            ["No reason was recorded. The log has more."],
        ),
        ("failed", {}, ["No reason was recorded. The log has more."]),
        ("upstream_failed", {}, ["An upstream task failed, so this task did not run."]),
        (
            "failed",
            {"failed_jobs": FAILED},
            ["No reason was recorded. The log has more.", "1 of 2 jobs failed"],
        ),
        ("running", {}, []),
    ],
)
def test_row_says_why_it_needs_attention(state: str, xcoms: dict[str, Any], texts: list[str]) -> None:
    row = row_of(state, xcoms)
    problems.open_problems([row])
    assert (texts, bool(texts)) == (texts_of(row), row["needs_attention"])


@pytest.mark.parametrize(("hours", "text"), [(23, None), (24, "State of 1 job unknown for 1 day")])
def test_job_that_nothing_waits_for_needs_attention_after_a_day(hours: int, text: str | None) -> None:
    report = {**FULL, "codes_affected": None, "jobs": 1, "task_ids": ["a"]}
    row = row_of("success", {"return_value": report}, end_date=NOW - timedelta(hours=hours))
    assert ([text] if text else []) == texts_of(row)


def test_failed_try_that_airflow_repeats_needs_no_attention_and_says_why() -> None:
    row = row_of(
        "up_for_retry", {"failure": {"error": "ServiceUnavailable", "message": "503", "try_number": 1}}
    )
    problems.open_problems([row])
    assert (["ServiceUnavailable: 503"], False) == (texts_of(row), row["needs_attention"])


def test_rejects_file_of_a_failed_upload_is_shown() -> None:
    failure = {"error": "TooManyRejected", "message": "No.", "try_number": 1, "rejects_path": "/r.csv"}
    assert "/r.csv" == row_of("failed", {"failure": failure})["rejects_path"]
    # Of an earlier try.
    assert row_of("failed", {"failure": {**failure, "try_number": 7}})["rejects_path"] is None


def test_duration_of_an_upload_that_was_ended_while_it_waited_is_not_that_before_its_wait() -> None:
    times: dict[str, Any] = {"start_date": NOW - timedelta(hours=3), "end_date": NOW}
    report = {**FULL, "codes_affected": None, "jobs": 1, "task_ids": ["a"], "seconds": 2.5}
    assert 3 * 3600.0 == row_of("failed", {"report": report}, **times)["seconds"]
    assert row_of("deferred", {"report": report})["seconds"] is None
    failure = {"error": "TaskFailed", "message": "No.", "try_number": 1}
    assert 2.5 == row_of("failed", {"report": report, "failure": failure}, **times)["seconds"]


def test_rows_of_an_upload_that_failed_before_it_counted_them_are_not_known() -> None:
    failure = {"error": "SourceNotFound", "message": "No.", "try_number": 1}
    early = {**FULL, "mode": "", "rows": 0, "codes_affected": None}
    assert row_of("failed", {"report": early, "failure": failure})["rows"] is None
    assert 9 == row_of("failed", {"report": FULL, "failure": failure})["rows"]
    assert 0 == row_of("success", {"return_value": {**FULL, "rows": 0}})["rows"]


def run_of(hours: int, state: str = "success", task_id: str = "t", **report: Any) -> dict[str, Any]:
    due: dict[str, Any] = {
        "run_id": str(hours),
        "task_id": task_id,
        "dag_id": "d",
        "run_after": NOW + timedelta(hours=hours),
    }
    return row_of(state, {"return_value": {**FULL, **report}} if state == "success" else {}, **due)


KEYS_UNKNOWN: dict[str, Any] = {"unmatched": {"count": 5}}
IGNORED: dict[str, Any] = {"discarded_fields": ["color"]}


@pytest.mark.parametrize(
    ("later", "needs_attention"),
    [
        ([], True),
        ([run_of(1)], False),
        ([run_of(1, "failed")], True),
        ([run_of(1, task_id="other")], True),
        ([run_of(-1)], True),
        # Without this problem, with another one.
        ([run_of(1, **IGNORED)], False),
        ([run_of(1, **KEYS_UNKNOWN)], True),
        ([run_of(2, **KEYS_UNKNOWN), run_of(1)], False),
    ],
)
@pytest.mark.parametrize("is_elsewhere", [True, False], ids=["outside", "listed"])
def test_problem_is_gone_when_a_later_run_succeeds_without_it(
    later: list[dict[str, Any]], needs_attention: bool, is_elsewhere: bool
) -> None:
    row = run_of(0, **KEYS_UNKNOWN)
    shown = sorted([row, *([] if is_elsewhere else later)], key=lambda each: each["due"], reverse=True)
    problems.open_problems(shown, later if is_elsewhere else [])
    assert needs_attention == row["needs_attention"]


def test_dry_run_clears_no_problem() -> None:
    plan = {"mode": "sync", "rows": 5, "rejected": 0, "sync_calls": 1}
    dry = row_of("success", {"return_value": plan}, run_after=NOW + timedelta(hours=1))
    row = row_of("success", {"return_value": {**FULL, **IGNORED}})
    problems.open_problems([dry, row])
    assert row["needs_attention"]


@pytest.mark.parametrize(
    ("note", "needs_attention"),
    [
        (None, True),
        ("Scantrust: acknowledged (try 1)", False),
        ("Seen by Ann.\nScantrust: acknowledged (try 1)", False),
        # Another try has to be acknowledged again.
        ("Scantrust: acknowledged (try 2)", True),
        ("not Scantrust: acknowledged (try 1)", True),
    ],
)
def test_note_acknowledges_the_problems_of_its_try(note: str | None, needs_attention: bool) -> None:
    row = row_of("success", {"return_value": {**FULL, **KEYS_UNKNOWN}}, note=note)
    problems.open_problems([row])
    assert (needs_attention, not needs_attention) == (row["needs_attention"], row["acknowledged"])


def test_report_card_has_what_the_report_says() -> None:
    report = {**FULL, "reason": "few rows", "rejects_path": "/r.csv", "jobs": 1501, "task_ids": ["a"]}
    row = row_of("success", {"return_value": report}, fields={"source": "/d.csv", "scantrust_conn_id": "b"})
    known = {
        name: row[name] for name in ("mode_reason", "rejects_path", "jobs_total", "source", "connection")
    }
    assert {
        "mode_reason": "few rows",
        "rejects_path": "/r.csv",
        "jobs_total": 1501,
        "source": "/d.csv",
        "connection": "b",
    } == known
