"""
Tests the provider with every Airflow and Python it supports: ``make matrix ONLY="3.2 3.3 lowest"``.

Each pair has an environment of its own in ``.matrix/``, which is kept. It has the pins of
``matrix/constraints-<version>.txt`` (3.3: ``constraints.txt``), and the provider as a user gets it: as a
built wheel. The tests of units, integration and command line run there, from a copy of the repository without
the package, and ``matrix_smoke.py`` runs on a real Airflow. ``lowest`` is the oldest Airflow with the lowest
requests, aiohttp, pendulum and common-compat that pyproject.toml allows; the others have the newest.

The pythons are python3.11 to python3.13 of the PATH, and those given with ``--python``. What was run is
written into the README's table; cells of pairs that were not run this time stay as they are.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

import make_venv

REPO = Path(__file__).resolve().parents[2]
ENVIRONMENTS = REPO / ".matrix"
PAGE = REPO / "README.md"
VERSIONS = ["2.11", "3.0", "3.1", "3.2", "3.3"]
PYTHONS = ["3.11", "3.12", "3.13"]
LOWEST = "lowest"
# The newest Python each Airflow supports, where that is not the newest of all.
NEWEST_PYTHON = {"2.11": "3.12", "3.0": "3.12"}
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
_COUNTS = re.compile(r"^(?:(\d+) failed, )?(\d+) passed(?:, (\d+) skipped)?.*? in [\d.]+s", re.MULTILINE)
_TABLE = re.compile(
    r"(?<=<!-- matrix: written by tools/matrix/matrix.py -->\n).*?(?=<!-- matrix: end -->)", re.DOTALL
)


@dataclass(frozen=True)
class Pair:
    """An Airflow and a Python."""

    airflow: str
    python: str
    interpreter: str

    @property
    def version(self) -> str:
        """The Airflow whose pins are used."""
        return VERSIONS[0] if self.airflow == LOWEST else self.airflow

    def __str__(self) -> str:
        return f"Airflow {self.airflow}, Python {self.python}"


def main() -> int:
    """Test the pairs one after the other, write the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join([*VERSIONS, LOWEST])}")
    parser.add_argument(
        "--python", action="append", default=[], help="an interpreter beside those of the PATH"
    )
    arguments = parser.parse_args()
    if unknown := set(arguments.versions) - {*VERSIONS, LOWEST}:
        parser.error(f"no pins for {', '.join(sorted(unknown))}; there are {', '.join([*VERSIONS, LOWEST])}")
    pairs = find_pairs(arguments.versions or [*VERSIONS, LOWEST], arguments.python)
    failed = []
    for pair in pairs:
        began = time.monotonic()
        try:
            result = check(pair)
        except (subprocess.CalledProcessError, CheckFailed) as error:
            print(f"{pair}: {error}", flush=True)
            result = "**failed**"
            failed.append(pair)
        print(f"{pair}: {result} ({time.monotonic() - began:.0f} s)", flush=True)
        write_cell(pair, result)
    print(
        *[f"FAILED: {pair}" for pair in failed],
        f"{len(pairs) - len(failed)} of {len(pairs)} pairs passed",
        sep="\n",
    )
    return 1 if failed or not pairs else 0


class CheckFailed(Exception):
    """Something that was checked is not so."""


def find_pairs(versions: list[str], interpreters: list[str]) -> list[Pair]:
    """Return the pairs to test, with the interpreters that this machine has."""
    found: dict[str, str] = {}
    for candidate in [*interpreters, *(f"python{python}" for python in PYTHONS), sys.executable]:
        try:
            code = "import sys; print('.'.join(map(str, sys.version_info[:2])))"
            output = subprocess.check_output([candidate, "-c", code], text=True, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            continue
        found.setdefault(output.strip(), candidate)
    for python in PYTHONS:
        if python not in found:
            print(f"not run: there is no python{python} here (--python names one)")
    pairs = []
    for version in versions:
        newest = NEWEST_PYTHON.get(VERSIONS[0] if version == LOWEST else version, PYTHONS[-1])
        pythons = PYTHONS[:1] if version == LOWEST else PYTHONS[: PYTHONS.index(newest) + 1]
        pairs += [Pair(version, python, found[python]) for python in pythons if python in found]
    return pairs


def check(pair: Pair) -> str:
    """
    Run everything for one pair and return its cell.

    :raises CheckFailed: A test failed.
    """
    python = environment(pair)
    print(f"{pair}: unit, integration and command line tests", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        copy_repository(Path(folder))
        counts = run_tests(python, Path(folder))
    print(f"{pair}: a real Airflow", flush=True)
    smoke(python)
    return counts


def copy_repository(folder: Path) -> None:
    """Copy all tracked files but the package, so that it is the installed wheel which is imported."""
    for name in subprocess.check_output(["git", "ls-files", "-z"], cwd=REPO, text=True).split("\0"):
        if name and not name.startswith("airflow_provider_scantrust/"):
            (folder / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(REPO / name, folder / name)


def run_tests(python: Path, folder: Path) -> str:
    """Run the tests and return how many passed."""
    ignored = [f"--ignore=tests/unit/{name}" for name in NOT_HERE]
    done = subprocess.run(
        # Old Airflows warn of their own use of things; what they warn of is not what is tested here.
        [
            python,
            "-m",
            "pytest",
            "-q",
            "-W",
            "default",
            "-p",
            "no:cacheprovider",
            "--numprocesses=2",
            *ignored,
            "tests/unit",
            "tests/integration",
            "tests/cli",
        ],
        cwd=folder,
        env=clean_environ(),
        capture_output=True,
        text=True,
    )
    match = _COUNTS.search(done.stdout)
    if done.returncode != 0 or match is None or match[1]:
        raise CheckFailed(f"the tests failed\n{done.stdout[-6000:]}{done.stderr[-2000:]}")
    return f"{match[2]} passed" + (f", {match[3]} skipped" if match[3] else "")


def smoke(python: Path) -> None:
    """Run ``matrix_smoke.py`` where only the installed package can be imported."""
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        command = [str(python), "-W", "ignore", str(REPO / "tools" / "matrix" / "matrix_smoke.py"), str(result)]
        env = clean_environ() | {"PYTHONPATH": str(REPO / "tools" / "real_airflow")}
        process = subprocess.Popen(command, cwd=folder, env=env)
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # It got the Ctrl-C as well and has an Airflow to end.
            process.wait(timeout=60)
            raise
        if code != 0:
            raise subprocess.CalledProcessError(code, command)
        row = json.loads(result.read_text())
    if bad := [name for name, value in row.items() if value not in ("ok", row.get("seconds"))]:
        raise CheckFailed(f"not ok: {', '.join(bad)}")


def environment(pair: Pair) -> Path:
    """Make or reuse the environment of a pair and return its interpreter."""
    folder = ENVIRONMENTS / f"{pair.airflow}-{pair.python}"
    python = folder / "bin" / "python"
    pins, stamp = constraints(pair), folder / "installed"
    digest = hashlib.sha256((pins + (REPO / "pyproject.toml").read_text()).encode()).hexdigest()
    if not python.exists():
        print(f"{pair}: making an environment with {pair.interpreter}", flush=True)
        make_venv.make(folder, pair.interpreter)
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"{pair}: installing (about a minute)", flush=True)
        with tempfile.NamedTemporaryFile("w", suffix=".txt") as file:
            file.write(pins)
            file.flush()
            tools = [*TEST_TOOLS, "apache-airflow-providers-standard", "jsonschema"]
            provider = f"{REPO}[excel,parquet,sandbox,zstd]"
            make_venv.install(python, "-c", file.name, pinned("apache-airflow", pins), provider, *tools)
        stamp.write_text(digest)
    make_venv.install(python, "--no-deps", "--reinstall", str(REPO))
    return python


def constraints(pair: Pair) -> str:
    """Return the pins of a pair: those of its Airflow, and of the test tools and extras what the others are tested with."""
    root = (REPO / "constraints.txt").read_text(encoding="utf-8")
    if pair.version == VERSIONS[-1]:
        return root
    pins = (REPO / "matrix" / f"constraints-{pair.version}.txt").read_text(encoding="utf-8")
    if pair.airflow == LOWEST:
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


def write_cell(pair: Pair, result: str) -> None:
    """Write what one pair showed into the README's table, and leave the other cells as they are."""
    page = PAGE.read_text(encoding="utf-8")
    found = _TABLE.search(page)
    if found is None:
        raise SystemExit(f"{PAGE.name} has no place for the table")
    rows = {}
    for line in found[0].splitlines()[2:]:
        name, *cells = [cell.strip() for cell in line.strip("| ").split(" | ")]
        rows[name] = dict(zip(PYTHONS, cells, strict=True))
    name = "2.11, lowest dependencies" if pair.airflow == LOWEST else pair.airflow
    rows.setdefault(name, dict.fromkeys(PYTHONS, "not run"))[pair.python] = (
        f"{result}, {time.strftime('%Y-%m-%d')}"
    )
    for version, newest in NEWEST_PYTHON.items():
        for python in PYTHONS[PYTHONS.index(newest) + 1 :]:
            rows.get(version, {})[python] = "not supported"
    lines = [
        f"| Airflow | {' | '.join(f'Python {python}' for python in PYTHONS)} |",
        "| --- | --- | --- | --- |",
    ]
    lines += [f"| {name} | {' | '.join(cells.values())} |" for name, cells in sorted(rows.items(), key=_rank)]
    PAGE.write_text(_TABLE.sub(lambda _: "\n".join(lines) + "\n", page), encoding="utf-8")


def _rank(row: tuple[str, dict[str, str]]) -> tuple[list[int], str]:
    number, _, rest = row[0].partition(", ")
    return [int(part) for part in number.split(".")], rest


def clean_environ() -> dict[str, str]:
    """Return the environment without what would lead to another package or another Airflow."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("AIRFLOW_")
    }


if __name__ == "__main__":
    sys.exit(main())
