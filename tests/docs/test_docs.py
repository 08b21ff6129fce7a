"""What README and docs say is run, or compared with what is."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import settings
from airflow_provider_scantrust.api.extras import EXTRAS
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sandbox.settings import DEFAULT_FIELDS, DEFAULT_PRODUCTS
from airflow_provider_scantrust.uploads.plan import make_plan
from airflow_provider_scantrust.waits.jobs import ERROR_BUDGET
from doc_blocks import PAGES, ROOT, Block, fences, indented_blocks, looks_like_python, python_blocks

# Dags and tasks run on a real Airflow, in tests/system/test_documented.py.
PLAIN = {block.name: block for block in python_blocks() if block.kind == "plain"}
TESTS = [block for block in python_blocks() if block.kind == "tests"]
ERRORS = [
    each
    for each in vars(exc).values()
    if isinstance(each, type)
    and issubclass(each, exc.ScantrustError)
    and each not in (exc.ScantrustError, exc.TransientError)
]


def page(name: str) -> str:
    return (ROOT / "docs" / name).read_text(encoding="utf-8")


def test_every_block_is_where_the_tests_see_it() -> None:
    assert {("", ""), ("", "python")} == fences()
    assert [] == [found for found in indented_blocks(PAGES) if looks_like_python(found[1])]


@pytest.mark.parametrize(
    "text", ["import time\n", "  with DAG('d'):", "hook.upload(rows)", "a = 1", "@task\ndef f("]
)
def test_python_is_seen_without_a_fence(text: str) -> None:
    assert looks_like_python(text)


@pytest.mark.parametrize("block", PLAIN.values(), ids=PLAIN)
def test_python_block_runs(sandbox: Sandbox, block: Block) -> None:
    assert [] == block.functions, "no test calls them"
    exec(compile(block.code, block.name, "exec"), {"__name__": "block"})


def test_tests_and_fixtures_in_the_docs_pass(tmp_path: Path) -> None:
    for number, block in enumerate(TESTS):
        (tmp_path / f"test_{number}.py").write_text(block.code, encoding="utf-8")
    ran = subprocess.run([sys.executable, "-m", "pytest", "-q"], cwd=tmp_path, capture_output=True, text=True)
    tests = [name for block in TESTS for name in block.functions if name.startswith("test_")]
    assert f"{len(tests)} passed in" in ran.stdout, ran.stdout


def in_words(seconds: float) -> str:
    minutes, rest = divmod(round(seconds), 60)
    return f"{minutes} min {rest} s" if minutes >= 2 else f"{round(seconds)} s"


def test_costs_in_the_guide_are_what_the_planner_counts() -> None:
    rows = re.findall(
        r"^\| ([\d,]+) \| (?:all different|(\d+) lots of ([\d,]+)) \| ([\d,]+) \| ([^|]+) \|$",
        page("upload-a-file.md"),
        re.MULTILINE,
    )
    assert 5 == len(rows)
    for row in rows:
        count, lots, size, calls = (int(text.replace(",", "") or 0) for text in row[:4])
        crowds = {f"lot {number}": size for number in range(lots)}
        assert not crowds or sum(crowds.values()) == count
        # What the planner asks of a spool, without millions of rows in it.
        spool: Any = SimpleNamespace(
            data_key="extended_id",
            keys=count,
            crowds=lambda more_than, crowds=crowds: {k: n for k, n in crowds.items() if n > more_than},
            rows_with=lambda data, limit, offset=0: [(offset, f"{data} {offset}")] * limit,
            decode=lambda pairs: [{"extended_id": key, "lot": data} for key, data in pairs],
        )
        plan = make_plan(spool)
        assert (calls, row[4]) == (plan.sync_calls + plan.jobs, in_words(plan.least_seconds))


@pytest.mark.parametrize("error", ERRORS)
def test_every_error_is_explained_as_it_is(error: type[exc.ScantrustError]) -> None:
    (row,) = re.findall(
        rf"^\| [^|]+ \| `{error.__name__}` \|([^|]+)\|([^|]+)\|$", page("what-happens-when.md"), re.MULTILINE
    )
    happens, advice = row
    assert advice.strip()
    if error in (exc.TaskFailed, exc.UploadTimedOut, exc.UnmatchedKeys, exc.DiscardedFields):
        assert "fails" in happens
    elif error is exc.RequestTooLarge:
        assert "halved" in happens
    else:
        assert happens.strip().startswith("fails" if error.permanent else "retries")


def test_every_extra_of_the_connection_is_explained_with_its_default() -> None:
    rows = dict(re.findall(r"^\| `(\w+)` \|([^|]*)\|[^|]+\|$", page("connect.md"), re.MULTILINE))
    assert list(EXTRAS) == list(rows)
    defaults = {
        name: "" if extra.default in (None, ()) else str(extra.default) for name, extra in EXTRAS.items()
    }
    assert {name: default.lower().removesuffix(".0") for name, default in defaults.items()} == {
        name: text.strip("` ").lower() for name, text in rows.items()
    }


def test_fields_and_products_of_the_sandbox_are_named() -> None:
    text = " ".join(page("sandbox.md").split())
    (sentence,) = re.findall(r"The SCM fields are ([^;]+); the products are ([^.]+)\.", text)
    found = [re.findall(r"`(\w+)`", names) for names in sentence]
    assert [list(DEFAULT_FIELDS), list(DEFAULT_PRODUCTS)] == found


def test_budgets_in_the_docs_are_the_real_ones() -> None:
    text = page("what-happens-when.md")
    assert f"`retry_seconds` ({settings.RETRY_SECONDS:.0f} s)" in text
    assert f"`error_budget` seconds ({ERROR_BUDGET:.0f})" in text


def test_every_metric_that_is_sent_is_listed_and_no_other() -> None:
    package = ROOT / "airflow_provider_scantrust"
    sent = set()
    for path, method in (("hooks/scantrust.py", r"count"), ("operators/tries.py", r"stats\.count")):
        sent |= set(re.findall(rf'{method}\(\s*"(\w+)"', (package / path).read_text(encoding="utf-8")))
    counters = (package / "triggers" / "counters.py").read_text(encoding="utf-8")
    sent |= set(re.findall(r'"scantrust\.(\w+)"', counters)) | set(re.findall(r'"(polls\w*)"', counters))
    assert sent == set(re.findall(r"^\| `scantrust\.(\w+)`", page("monitor.md"), re.MULTILINE))
