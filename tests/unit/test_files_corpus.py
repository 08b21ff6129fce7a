"""Each file of tests/files gives the values and messages of expected.toml, and each line of the docs' table has a file."""

from __future__ import annotations

import re
import tomllib
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_scantrust.exceptions import InvalidInput
from uploaded import upload

for module in ("pyarrow", "python_calamine"):
    pytest.importorskip(module)

ROOT = Path(__file__).parents[2]
FILES = ROOT / "tests" / "files"
CASES: list[dict[str, Any]] = tomllib.loads((FILES / "expected.toml").read_text(encoding="utf-8"))["case"]
NO_DATA = {"expected.toml", "write_binary.py", "__pycache__"}


def _name(case: dict[str, Any]) -> str:
    return "-".join([case["file"], *case.get("options", {})])


@pytest.mark.parametrize("case", CASES, ids=_name)
def test_file_gives_its_values_and_messages(case: dict[str, Any]) -> None:
    options = dict(case.get("options", {}))
    if "columns" in options:
        options["columns"] = {name: field or None for name, field in options["columns"].items()}
    data = (FILES / case["file"]).read_bytes()
    if "error" in case:
        with pytest.raises(InvalidInput, match=re.escape(case["error"])):
            upload(data, case["file"], **options)
        return
    found = upload(data, case["file"], **options)
    assert case.get("rows", {}) == found.rows
    expected = case.get("rejected", [])
    assert [(line, kind) for line, kind, _ in expected] == [(line, kind) for line, kind, _ in found.rejected]
    for (_, _, part), (_, _, reason) in zip(expected, found.rejected, strict=True):
        assert part in reason
    warnings = case.get("warnings", [])
    assert len(warnings) == len(found.warnings), found.warnings
    for part, warning in zip(warnings, found.warnings, strict=True):
        assert part in warning


def test_each_file_has_a_case() -> None:
    assert {path.name for path in FILES.iterdir()} - NO_DATA == {case["file"] for case in CASES}


def _promises() -> list[tuple[str, str]]:
    """Return the lines of the table under "What happens to values"."""
    text = (ROOT / "docs" / "upload-a-file.md").read_text(encoding="utf-8")
    section = text.partition("## What happens to values")[2].partition("\n## ")[0]
    lines = [line.strip("| ").split(" | ") for line in section.splitlines() if line.startswith("| ")]
    return [(what, then) for what, then in lines[2:]]


PROMISES = _promises()


def test_each_rule_of_a_case_is_a_line_of_the_table() -> None:
    rules = {case["rule"] for case in CASES if not case["rule"].startswith("other: ")}
    assert [] == [rule for rule in rules if 1 != sum(what.startswith(rule) for what, _ in PROMISES)]


@pytest.mark.parametrize(("what", "then"), PROMISES, ids=[what for what, _ in PROMISES])
def test_each_line_of_the_table_has_a_case_that_shows_it(what: str, then: str) -> None:
    cases = [case for case in CASES if what.startswith(case["rule"])]
    assert cases
    # A line says one of these; what is shown must be of that kind.
    if "refused" in then:
        assert any("error" in case for case in cases)
    elif "`invalid`" in then or "`unreadable`" in then:
        kinds = {kind for case in cases for _, kind, _ in case.get("rejected", [])}
        assert kinds & {"invalid", "unreadable"} == set(re.findall(r"`(invalid|unreadable)`", then))
    elif "with a warning" in then:
        assert any(case.get("warnings") for case in cases)
    else:
        assert any(case.get("rows") for case in cases)
