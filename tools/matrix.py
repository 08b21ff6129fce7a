"""
Smoke-tests the provider with other Airflow versions: ``python tools/matrix.py [2.11 3.0 3.1 3.2]``.

Each version has an environment of its own in ``.matrix/``, which is kept, with the pins of
``matrix/constraints-<version>.txt``. The provider is installed as a user gets it: as a built wheel.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import re
import subprocess
import sys
import tempfile
from pathlib import Path

REPO = Path(__file__).resolve().parent.parent
ENVIRONMENTS = REPO / ".matrix"
VERSIONS = ["2.11", "3.0", "3.1", "3.2"]
COLUMNS = ["import", "provider", "connection", "deferred DAG", "seconds"]
# The newest Python minor each Airflow supports.
NEWEST_PYTHON = {"2.11": (3, 12), "3.0": (3, 12), "3.1": (3, 13)}


def main() -> int:
    """Test the versions one after the other, print the table and return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[1] if __doc__ else None)
    parser.add_argument("versions", nargs="*", metavar="VERSION", help=f"of {', '.join(VERSIONS)}")
    parser.add_argument("--python", default=sys.executable, help="interpreter for new environments")
    arguments = parser.parse_args()
    versions = arguments.versions or VERSIONS
    if unknown := [version for version in versions if not _constraints(version).exists()]:
        parser.error(f"no pins for {', '.join(unknown)}; there are {', '.join(VERSIONS)}")

    rows = {}
    for version in versions:
        try:
            rows[version] = _test(version, arguments.python)
        except subprocess.CalledProcessError as error:
            print(f"{version}: exit code {error.returncode} from {' '.join(map(str, error.cmd))}")
            rows[version] = {}
    _print_table(rows)
    failed = any(row.get(column) != "ok" for row in rows.values() for column in COLUMNS[:-1])
    return int(failed)


def _test(version: str, interpreter: str) -> dict[str, object]:
    python = _environment(version, interpreter)
    print(f"{version}: checking", flush=True)
    with tempfile.TemporaryDirectory() as folder:
        result = Path(folder) / "result.json"
        # Not in the repository, so that it is the installed wheel which is imported.
        command = [str(python), "-W", "ignore", str(REPO / "tools" / "matrix_smoke.py"), str(result)]
        process = subprocess.Popen(command, cwd=folder, env=_clean_environ())
        try:
            code = process.wait()
        except KeyboardInterrupt:
            # It got the Ctrl-C as well and has an Airflow to end.
            process.wait(timeout=60)
            raise
        if code != 0:
            raise subprocess.CalledProcessError(code, command)
        return dict(json.loads(result.read_text()))


def _environment(version: str, interpreter: str) -> Path:
    """Make or reuse the environment of a version and return its interpreter."""
    folder = ENVIRONMENTS / version
    python = folder / "bin" / "python"
    pins = _constraints(version)
    stamp = folder / "installed"
    digest = hashlib.sha256(pins.read_bytes() + (REPO / "pyproject.toml").read_bytes()).hexdigest()
    release = _pinned_airflow(pins)
    if not python.exists():
        interpreter = _suitable(version, interpreter)
        print(f"{version}: making .matrix/{version} with {interpreter}", flush=True)
        subprocess.run([interpreter, "-m", "venv", folder], check=True)
    if not stamp.exists() or stamp.read_text() != digest:
        print(f"{version}: installing Airflow {release} and the provider (about a minute)", flush=True)
        _pip(python, "install", "-c", str(pins), f"apache-airflow=={release}", f"{REPO}[sandbox]")
        stamp.write_text(digest)
    print(f"{version}: building and installing the provider", flush=True)
    _pip(python, "install", "--no-deps", "--force-reinstall", str(REPO))
    return python


def _pip(python: Path, *arguments: str) -> None:
    # Compiling pays: every part of Airflow starts in two thirds of the time.
    options = ["--quiet", "--disable-pip-version-check"]
    subprocess.run([python, "-m", "pip", *arguments, *options], env=_clean_environ(), check=True)


def _suitable(version: str, interpreter: str) -> str:
    """Return the interpreter, or python3.12 or 3.11 from the PATH if it is too new for this Airflow."""
    code = "import sys; print(*sys.version_info[:2])"
    for candidate in (interpreter, "python3.12", "python3.11"):
        try:
            output = subprocess.check_output([candidate, "-c", code], text=True, stderr=subprocess.DEVNULL)
        except (OSError, subprocess.CalledProcessError):
            continue
        if tuple(map(int, output.split())) <= NEWEST_PYTHON.get(version, (3, 99)):
            return candidate
    newest = ".".join(map(str, NEWEST_PYTHON[version]))
    raise SystemExit(f"Airflow {version} needs Python {newest} or older: use --python")


def _constraints(version: str) -> Path:
    return REPO / "matrix" / f"constraints-{version}.txt"


def _pinned_airflow(pins: Path) -> str:
    match = re.search(r"^apache-airflow==(\S+)$", pins.read_text(), re.MULTILINE)
    if match is None:
        raise SystemExit(f"{pins} does not pin apache-airflow")
    return match[1]


def _clean_environ() -> dict[str, str]:
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH")
    return {
        name: value
        for name, value in os.environ.items()
        if name not in dropped and not name.startswith("AIRFLOW_")
    }


def _print_table(rows: dict[str, dict[str, object]]) -> None:
    lines = [["version", *COLUMNS]]
    lines += [[version, *(str(row.get(column, "-")) for column in COLUMNS)] for version, row in rows.items()]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    print()
    for line in lines:
        print(" | ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)))


if __name__ == "__main__":
    sys.exit(main())
