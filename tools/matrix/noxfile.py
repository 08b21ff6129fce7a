"""
Tests the provider with every Airflow and Python it supports: ``make matrix ONLY="3.2 3.3 lowest"``.

Each session has an environment of its own in ``.matrix/``, which is kept. It has the pins of
``matrix/constraints-<version>.txt`` (3.3: ``constraints.txt``), and the provider as a user gets it: as a
built wheel. The tests of units, integration and command line run there, from a copy of the repository without
the package, and ``matrix_smoke.py`` runs on a real Airflow. ``lowest`` is the oldest Airflow with the lowest
requests, aiohttp, pendulum and common-compat that pyproject.toml allows; the others have the newest.

nox skips a Python that this machine does not have. What was run is written into the README's table; the other
cells stay as they are.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
import time
import tomllib
from pathlib import Path

import nox

REPO = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(REPO / "tools"))
import make_venv  # noqa: E402

PAGE = REPO / "README.md"
VERSIONS = ["2.11", "3.0", "3.1", "3.2", "3.3"]
PYTHONS = ["3.11", "3.12", "3.13"]
LOWEST = "lowest"
# The newest Python each Airflow supports, where that is not the newest of all.
NEWEST_PYTHON = {"2.11": "3.12", "3.0": "3.12", LOWEST: "3.11"}
TEST_TOOLS = ["hypothesis", "openpyxl", "pandas", "pytest", "pytest-asyncio", "pytest-socket", "pytest-xdist"]
TEST_TOOLS += ["structlog", "trustme"]
RANGED = ["aiohttp", "apache-airflow-providers-common-compat", "pendulum", "requests"]
# What these need themselves, and what needs them, comes in versions that fit them.
BESIDE_LOWEST = [
    "apache-airflow-providers-common-io",
    "apache-airflow-providers-common-sql",
    "apache-airflow-providers-http",
    "apache-airflow-providers-smtp",
    "multidict",
    "propcache",
    "yarl",
]
# About the repository, not about what is installed.
NOT_HERE = ["test_checks.py", "test_site.py", "test_upkeep.py"]
_COUNTS = re.compile(r"^(\d+) passed(?:, (\d+) skipped)?.*? in [\d.]+s", re.MULTILINE)
_TABLE = re.compile(
    r"(?<=<!-- matrix: written by tools/matrix/noxfile.py -->\n).*?(?=<!-- matrix: end -->)", re.DOTALL
)

nox.options.envdir = str(REPO / ".matrix")
nox.options.reuse_venv = "yes"
nox.options.default_venv_backend = "uv"
nox.options.download_python = "never"
uv = make_venv.install_uv().parent
os.environ.update(make_venv.uv_settings(make_venv.pip_settings(uv / "python")) | os.environ)
os.environ["PATH"] = f"{uv}{os.pathsep}{os.environ['PATH']}"


def pythons_of(airflow: str) -> list[str]:
    """Return the Pythons with which an Airflow is tested."""
    return PYTHONS[: PYTHONS.index(NEWEST_PYTHON.get(airflow, PYTHONS[-1])) + 1]


@nox.session
@nox.parametrize(
    "python,airflow",
    [
        nox.param(python, airflow, id=f"airflow-{airflow}-python-{python}", tags=[airflow])
        for airflow in [*VERSIONS, LOWEST]
        for python in pythons_of(airflow)
    ],
)
def matrix(session: nox.Session, airflow: str) -> None:
    """Run everything for an Airflow and a Python."""
    python = str(session.python)
    try:
        install(session, airflow)
        result = run_tests(session)
        smoke(session)
    except BaseException:
        write_cell(airflow, python, "**failed**")
        raise
    write_cell(airflow, python, result)


def install(session: nox.Session, airflow: str) -> None:
    """Install Airflow and the tools as pinned, and the provider as it is now."""
    pins = constraints(airflow)
    file = Path(session.create_tmp()) / "constraints.txt"
    file.write_text(pins, encoding="utf-8")
    provider = f"{REPO}[excel,parquet,sandbox,zstd]"
    tools = [*TEST_TOOLS, "apache-airflow-providers-standard", "jsonschema"]
    session.install("--compile-bytecode", "-c", str(file), pinned("apache-airflow", pins), provider, *tools)
    session.install("--no-deps", "--reinstall", str(REPO))


def run_tests(session: nox.Session) -> str:
    """Run the tests from a copy without the package, so that the wheel is imported; return how many passed."""
    copy = Path(session.create_tmp()) / "copy"
    shutil.rmtree(copy, ignore_errors=True)
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=REPO, text=True).split("\0"):
        if name and not name.startswith("airflow_provider_scantrust/"):
            (copy / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPO / name, copy / name)
    ignored = [f"--ignore=tests/unit/{name}" for name in NOT_HERE]
    # Old Airflows warn of their own use of things; what they warn of is not what is tested here.
    options = ["-q", "-W", "default", "-p", "no:cacheprovider", "--numprocesses=4", *ignored]
    with session.chdir(copy):
        output = session.run(
            *("python", "-m", "pytest", *options, "tests/unit", "tests/integration", "tests/cli"),
            env=clean_environ(),
            include_outer_env=False,
            silent=True,
        )
    match = _COUNTS.search(str(output))
    if match is None:
        session.error("pytest did not report how many tests passed")
    return f"{match[1]} passed" + (f", {match[2]} skipped" if match[2] else "")


def smoke(session: nox.Session) -> None:
    """Run ``matrix_smoke.py`` where only the installed package can be imported."""
    folder = Path(session.create_tmp())
    result = folder / "result.json"
    with session.chdir(folder):
        session.run(
            *("python", "-W", "ignore", str(REPO / "tools" / "matrix" / "matrix_smoke.py"), str(result)),
            env=clean_environ() | {"PYTHONPATH": str(REPO / "tools" / "real_airflow")},
            include_outer_env=False,
        )
    row = json.loads(result.read_text())
    if bad := [name for name, value in row.items() if value not in ("ok", row.get("seconds"))]:
        session.error(f"not ok: {', '.join(bad)}")


def constraints(airflow: str) -> str:
    """Return the pins of an Airflow, and of the test tools and extras that the others are tested with."""
    root = (REPO / "constraints.txt").read_text(encoding="utf-8")
    version = VERSIONS[0] if airflow == LOWEST else airflow
    if version == VERSIONS[-1]:
        return root
    pins = (REPO / "matrix" / f"constraints-{version}.txt").read_text(encoding="utf-8")
    if airflow == LOWEST:
        project = tomllib.loads((REPO / "pyproject.toml").read_text(encoding="utf-8"))["project"]
        bounds = dict(bound.split(">=") for bound in project["dependencies"])
        for name in RANGED:
            pins = pins.replace(pinned(name, pins) + "\n", f"{name}=={bounds[name]}\n")
        for name in BESIDE_LOWEST:
            pins = pins.replace(pinned(name, pins) + "\n", "")
    more = [*TEST_TOOLS, "et_xmlfile", "execnet", "numpy", "pyarrow", "python-calamine", "zstandard"]
    return pins + "".join(f"{pinned(name, root)}\n" for name in more if f"\n{name}==" not in pins)


def pinned(name: str, pins: str) -> str:
    """Return the line that pins a package."""
    match = re.search(rf"^{re.escape(name)}==\S+$", pins, re.MULTILINE)
    if match is None:
        raise SystemExit(f"{name} is not pinned")
    return match[0]


def write_cell(airflow: str, python: str, result: str) -> None:
    """Write what one session showed into the README's table, and leave the other cells as they are."""
    page = PAGE.read_text(encoding="utf-8")
    found = _TABLE.search(page)
    if found is None:
        raise SystemExit(f"{PAGE.name} has no place for the table")
    cells = dict.fromkeys(((row, column) for row in [*VERSIONS, LOWEST] for column in PYTHONS), "not run")
    rows = [re.split(r" *\| *", line.strip("| ")) for line in found[0].splitlines()[2:]]
    names = {_row_name(row): row for row in [*VERSIONS, LOWEST]}
    for name, *given in rows:
        cells.update({(names[name], column): cell for column, cell in zip(PYTHONS, given, strict=True)})
    cells[airflow, python] = f"{result}, {time.strftime('%Y-%m-%d')}"
    lines = [
        f"| Airflow | {' | '.join(f'Python {column}' for column in PYTHONS)} |",
        "| --- | --- | --- | --- |",
    ]
    for name, row in names.items():
        lines.append(f"| {name} | {' | '.join(cells[row, column] for column in PYTHONS)} |")
    PAGE.write_text(_TABLE.sub(lambda _: "\n".join(lines) + "\n", page), encoding="utf-8")


def _row_name(airflow: str) -> str:
    return f"{VERSIONS[0]}, lowest dependencies" if airflow == LOWEST else airflow


def clean_environ() -> dict[str, str]:
    """Return the environment without what would lead to another package or another Airflow."""
    return {
        name: value
        for name, value in os.environ.items()
        if name not in ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH") and not name.startswith("AIRFLOW_")
    }
