"""What keeps the package in order: version and changelog, pins, changes, the release check, what the issue forms ask."""

from __future__ import annotations

import re
import shlex
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import airflow_provider_scantrust
from airflow_provider_scantrust.get_provider_info import get_provider_info
from doc_blocks import ROOT
from make_venv import read_arguments
from release_check import NotReady, changelog_problems, require_imported, require_same, versions_in

VERSION = airflow_provider_scantrust.__version__
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
FORMS = sorted((ROOT / ".github" / "ISSUE_TEMPLATE").glob("*_*.yml"))


def text(name: str) -> str:
    return (ROOT / name).read_text(encoding="utf-8")


def form(name: str) -> dict[str, Any]:
    """Return the fields of an issue form by their ids."""
    body = yaml.safe_load(text(f".github/ISSUE_TEMPLATE/{name}.yml"))["body"]
    return {field["id"]: field for field in body if "id" in field}


def test_version_is_that_of_the_newest_section_of_the_changelog() -> None:
    versions = [version for version, _ in versions_in(text("CHANGELOG.md"))]
    assert VERSION == versions[0]
    assert len(versions) == len(set(versions))


def test_version_has_one_home_and_the_name_is_the_same_in_both() -> None:
    assert ["version"] == PROJECT["project"]["dynamic"]
    assert Path(PROJECT["tool"]["hatch"]["version"]["path"]) == Path(
        airflow_provider_scantrust.__file__
    ).relative_to(ROOT)
    info = get_provider_info()
    assert PROJECT["project"]["name"] == info["package-name"]


def test_readme_names_the_pythons_and_the_airflow_of_the_metadata() -> None:
    pythons = re.findall(r"Python :: (3\.\d+)", " ".join(PROJECT["project"]["classifiers"]))
    (airflow,) = [each for each in PROJECT["project"]["dependencies"] if each.startswith("apache-airflow>")]
    first = PROJECT["project"]["requires-python"].removeprefix(">=")
    assert first == pythons[0]
    assert f"Python {first} to {pythons[-1]}, Airflow {airflow.removeprefix('apache-airflow>=')} and" in text(
        "README.md"
    )


def test_everything_that_is_installed_here_is_pinned_within_what_is_asked_for() -> None:
    pins = {
        canonicalize_name(name): version
        for name, version in (line.split("==") for line in text("constraints.txt").split())
    }
    asked = [Requirement(each) for each in PROJECT["project"]["dependencies"]]
    for extra in PROJECT["project"]["optional-dependencies"].values():
        asked += [Requirement(each) for each in extra]
    others = [each for each in asked if each.name != PROJECT["project"]["name"]]
    assert [] == [str(each) for each in others if canonicalize_name(each.name) not in pins]
    assert [] == [
        str(each) for each in others if not each.specifier.contains(pins[canonicalize_name(each.name)])
    ]


def run_towncrier(folder: Path, *options: str) -> subprocess.CompletedProcess[str]:
    command = [
        sys.executable,
        "-m",
        "towncrier",
        "build",
        "--version",
        "99.0",
        "--date",
        "2030-01-31",
        *options,
    ]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True)


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The changelog and what makes it, with two changes and without those that wait here."""
    for name in ("CHANGELOG.md", "pyproject.toml"):
        shutil.copy(ROOT / name, tmp_path)
    (tmp_path / "changes").mkdir()
    for name in ("README.md", "template.md.jinja"):
        shutil.copy(ROOT / "changes" / name, tmp_path / "changes")
    (tmp_path / "changes" / "resume-2.fixed.md").write_text("A retry takes up\nits own jobs.\n")
    (tmp_path / "changes" / "hook.added.md").write_text("The hook can `x`.\n")
    return tmp_path


def test_changes_become_the_newest_section_of_the_changelog(copy: Path) -> None:
    done = run_towncrier(copy, "--yes")
    assert 0 == done.returncode, done.stderr
    before, mark, after = text("CHANGELOG.md").partition("<!-- towncrier puts new versions here -->\n\n")
    section = (
        "## 99.0 (2030-01-31)\n\n### Added\n\n- The hook can `x`.\n\n"
        "### Fixed\n\n- A retry takes up\n  its own jobs.\n\n"
    )
    assert before + mark + section + after == (copy / "CHANGELOG.md").read_text(encoding="utf-8")
    assert {"README.md", "template.md.jinja"} == {path.name for path in (copy / "changes").iterdir()}


@pytest.mark.parametrize("name", ["hook.bugfix.md", "hook.md"])
def test_misnamed_change_is_refused_and_not_passed_over(copy: Path, name: str) -> None:
    assert 0 == run_towncrier(copy, "--draft").returncode
    (copy / "changes" / name).write_text("x\n")
    done = run_towncrier(copy, "--draft")
    assert 1 == done.returncode
    assert name in done.stderr


def test_kinds_of_changes_are_those_that_are_explained() -> None:
    kinds = {each["directory"] for each in PROJECT["tool"]["towncrier"]["type"]}
    assert kinds == set(re.findall(r"^\| `(\w+)` \|", text("changes/README.md"), re.MULTILINE))


@pytest.mark.parametrize(
    ("sections", "waiting", "said"),
    [
        (f"## {VERSION} (2026-12-01)\n\n## 0.0.1 (2026-11-01)\n", [], None),
        (f"## {VERSION} (unreleased)\n", [], "no date"),
        (f"## {VERSION} (2026-12-01)\n\n## {VERSION} (unreleased)\n", [], "only section"),
        (f"## 0.0.1 (2026-11-01)\n\n## {VERSION} (2026-12-01)\n", [], "begin with"),
        ("# Changelog\n", [], "begin with"),
        (f"## {VERSION} (2026-12-01)\n", ["b.fixed.md", "a.added.md"], "a.added.md, b.fixed.md"),
    ],
)
def test_release_needs_one_dated_section_and_no_change_that_waits(
    sections: str, waiting: list[str], said: str | None
) -> None:
    problems = list(changelog_problems(sections, waiting))
    assert (0 if said is None else 1) == len(problems)
    assert said is None or said in problems[0]


def test_release_check_names_each_file_that_differs() -> None:
    require_same("it", {"a": b"1"}, {"a": b"1"})
    with pytest.raises(NotReady) as caught:
        require_same("it", {"a": b"1", "b": b"1", "c": b"1"}, {"a": b"1", "b": b"2", "d": b"1"})
    assert ["it", "  lacks c", "  should not have d", "  has another b"] == str(caught.value).splitlines()


def test_release_check_notices_a_package_from_elsewhere(tmp_path: Path) -> None:
    with pytest.raises(NotReady):
        require_imported(sys.executable, tmp_path, tmp_path / "site-packages")


@pytest.mark.parametrize("path", FORMS, ids=lambda path: path.stem)
def test_issue_form_is_one_that_github_shows(path: Path) -> None:
    asked = yaml.safe_load(path.read_text(encoding="utf-8"))
    assert {"name", "description", "labels", "body"} == set(asked)
    kinds = {"markdown", "input", "textarea", "dropdown", "checkboxes"}
    for field in asked["body"]:
        assert field["type"] in kinds
        if field["type"] == "markdown":
            assert {"type", "attributes"} == set(field)
            assert field["attributes"]["value"].strip()
        else:
            assert {"type", "id", "attributes"} <= set(field) <= {"type", "id", "attributes", "validations"}
            assert field["attributes"]["label"].strip()
        if field["type"] in ("dropdown", "checkboxes"):
            assert field["attributes"]["options"]
    ids = [field["id"] for field in asked["body"] if "id" in field]
    assert ids
    assert len(ids) == len(set(ids))


def test_issue_forms_ask_for_what_is_needed_and_for_no_token() -> None:
    assert ["bug_report", "feature_request", "service_differs", "verify_report"] == [
        path.stem for path in FORMS
    ]
    assert {"provider", "airflow", "python", "report", "log"} <= set(form("bug_report"))
    assert {"behavior", "request", "answer"} <= set(form("service_differs"))
    for name in ("bug_report", "service_differs"):
        assert "Remove tokens" in text(f".github/ISSUE_TEMPLATE/{name}.yml")
        assert form(name)["tokens"]["attributes"]["options"][0]["required"] is True
    assert "`docs/fidelity.md`" in text(".github/ISSUE_TEMPLATE/service_differs.yml")
    assert isinstance(yaml.safe_load(text(".github/ISSUE_TEMPLATE/config.yml"))["blank_issues_enabled"], bool)


def test_every_test_that_the_security_page_names_is_there() -> None:
    named = re.findall(r"`(tests/\S+\.py)::(\w+)`", text("SECURITY.md"))
    assert named
    assert [] == [(path, name) for path, name in named if f"def {name}(" not in text(path)]


@pytest.mark.parametrize(
    "target", [".venv/ready", ".venv/ready-ui", ".venv-demo/ready", ".distributed/ready"]
)
def test_each_environment_of_the_makefile_is_made_from_this_package_and_pinned(target: str) -> None:
    recipe = subprocess.check_output(["make", "-n", "-B", target], cwd=ROOT, text=True).replace("\\\n", " ")
    line = recipe[recipe.rindex("tools/make_venv.py") :].splitlines()[0]
    _, *arguments = shlex.split(line)
    options = read_arguments(arguments)
    assert str(options.folder) == target.partition("/")[0]
    assert options.requirement[0].startswith(".[")
    assert "constraints.txt" in options.constraint
