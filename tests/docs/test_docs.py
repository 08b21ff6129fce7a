"""What README and docs say is run, or compared with what is."""

from __future__ import annotations

import re
from typing import Any

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import settings
from airflow_provider_scantrust.api.waiting import ERROR_BUDGET
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.uploads.plan import Limits
from doc_blocks import ROOT, is_dag, python_blocks, unfenced_languages

PLAIN = {name: block for name, block in python_blocks().items() if not is_dag(block)}
ERRORS = [
    each
    for each in vars(exc).values()
    if isinstance(each, type)
    and issubclass(each, exc.ScantrustError)
    and each not in (exc.ScantrustError, exc.TransientError)
]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_fence_names_a_language_that_the_tests_know() -> None:
    assert unfenced_languages() <= {"", "python"}
    assert PLAIN


@pytest.mark.parametrize("block", PLAIN.values(), ids=PLAIN)
def test_python_block_runs(sandbox: Sandbox, block: str) -> None:
    exec(compile(block, "block", "exec"), {"__name__": "block"})


def test_costs_in_the_guide_are_what_the_planner_counts() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) \| (all different|200 lots of 5,000) \| ([\d,]+) \|",
        page("upload-a-file.md"),
        re.MULTILINE,
    )
    assert 5 == len(rows)
    for count, data, calls in rows:
        expected = 200 if "lots" in data else -(-int(count.replace(",", "")) // Limits().items_per_call)
        assert expected == int(calls.replace(",", ""))


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_explained_as_it_is(error: type[exc.ScantrustError]) -> None:
    (row,) = re.findall(
        rf"^\| [^|]+ \| `{error.__name__}` \|([^|]+)\|([^|]+)\|$", page("what-happens-when.md"), re.MULTILINE
    )
    happens, advice = row
    assert advice.strip()
    if error in (exc.TaskFailed, exc.UploadTimedOut, exc.UnmatchedKeys, exc.DiscardedFields):
        assert "fails at once" in happens
    else:
        assert happens.strip().startswith("fails at once" if error.permanent else "retries")


def test_every_extra_of_the_connection_is_explained_with_its_default() -> None:
    fields: dict[str, Any] = get_provider_info()["connection-types"][0]["conn-fields"]
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|]+\|$", page("connect.md"), re.MULTILINE))
    assert set(fields) == set(rows)
    for name, field in fields.items():
        default = field["schema"].get("default")
        if default is not None:
            assert str(default).lower() == rows[name].strip("` ").lower()


def test_budgets_in_the_docs_are_the_real_ones() -> None:
    text = page("what-happens-when.md")
    assert f"`retry_attempts` times ({settings.RETRY_ATTEMPTS})" in text
    assert f"`retry_seconds` ({settings.RETRY_SECONDS:.0f} s)" in text
    assert f"`error_budget` seconds ({ERROR_BUDGET:.0f})" in text


def test_every_metric_that_is_sent_is_listed_and_no_other() -> None:
    package = ROOT / "airflow_provider_scantrust"
    sent = set()
    for path, method in (("hooks/stats.py", r"count"), ("operators/scantrust.py", r"stats\.count")):
        sent |= set(re.findall(rf'{method}\(\s*"(\w+)"', (package / path).read_text(encoding="utf-8")))
    counters = (package / "triggers" / "counters.py").read_text(encoding="utf-8")
    sent |= set(re.findall(r'"scantrust\.(\w+)"', counters)) | set(re.findall(r'"(polls\w*)"', counters))
    assert sent == set(re.findall(r"^\| `scantrust\.(\w+)`", page("monitor.md"), re.MULTILINE))
