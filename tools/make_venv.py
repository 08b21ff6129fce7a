"""
Make a virtual environment with uv, which is fetched from the package index that pip is set up to use.

    python3 tools/make_venv.py .venv '.[dev]' --constraint constraints.txt

Runs with nothing but Python 3.11. An environment that exists is updated. uv reads no pip settings, so pip's
are passed on.
"""

from __future__ import annotations

import argparse
import ast
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
UV_FOLDER = ROOT / ".uv"
# pip's option -> uv's variable and what separates several values in it.
_SETTINGS = {
    "index-url": ("UV_DEFAULT_INDEX", " "),
    "extra-index-url": ("UV_INDEX", " "),
    "find-links": ("UV_FIND_LINKS", ","),
    "no-index": ("UV_NO_INDEX", " "),
    "constraint": ("UV_CONSTRAINT", " "),
    "trusted-host": ("UV_INSECURE_HOST", " "),
    "timeout": ("UV_HTTP_TIMEOUT", " "),
    "default-timeout": ("UV_HTTP_TIMEOUT", " "),
    "cert": ("SSL_CERT_FILE", " "),
    "proxy": ("ALL_PROXY", " "),
}

_PRECEDENCE = ("global", "install", ":env:")


def read_arguments(arguments: Sequence[str] | None = None) -> argparse.Namespace:
    """Return the arguments of the command line."""
    parser = argparse.ArgumentParser(description=__doc__.strip().splitlines()[0])
    parser.add_argument("folder", type=Path)
    parser.add_argument("requirement", nargs="+", help="the first is installed as an editable package")
    parser.add_argument("--constraint", action="append", default=[])
    return parser.parse_args(arguments)


def main() -> None:
    """Make or update the environment, and print nothing unless something fails."""
    options = read_arguments()
    if sys.version_info < (3, 11):  # noqa: UP036 - it runs before anything is installed
        raise SystemExit("Python 3.11 or newer is needed: make PYTHON=python3.12 ...")
    python = options.folder / "bin" / "python"
    if not python.exists():
        make(options.folder, sys.executable)
    constraints = [f"--constraint={path}" for path in options.constraint]
    editable, *others = options.requirement
    install(python, *constraints, "--editable", editable, *others)


def make(folder: Path, interpreter: str) -> None:
    """Make an empty environment; it has pip for tools that call it and for people who type ``.venv/bin/pip``."""
    run_uv("venv", "--seed", "--allow-existing", "--python", interpreter, str(folder))


def install(python: Path, *arguments: str) -> None:
    """Install with bytecode: with it every part of Airflow starts in two thirds of the time."""
    run_uv("pip", "install", "--compile-bytecode", "--python", str(python), *arguments)


def run_uv(*arguments: str) -> None:
    """Run uv with pip's settings; uv's own variables win over them."""
    uv = install_uv()
    env = {**uv_settings(pip_settings(uv.parent / "python")), **os.environ}
    subprocess.run([uv, "--quiet", *arguments], env=env, check=True)


def install_uv() -> Path:
    """Install uv with pip into an environment of its own, once."""
    uv = UV_FOLDER / "bin" / "uv"
    if not uv.exists():
        subprocess.run([sys.executable, "-m", "venv", UV_FOLDER], check=True)
        pip = [f"{UV_FOLDER}/bin/python", "-m", "pip", "--quiet", "--disable-pip-version-check"]
        subprocess.run([*pip, "install", "uv"], check=True)
    return uv


def pip_settings(python: Path) -> dict[str, str]:
    """Return pip's settings from its files and environment variables."""
    command = [str(python), "-m", "pip", "config", "list"]
    return read_settings(subprocess.run(command, check=True, capture_output=True, text=True).stdout)


def read_settings(listed: str) -> dict[str, str]:
    """Read what ``pip config list`` prints: environment variables win over files, [install] over [global]."""
    found: dict[str, tuple[int, str]] = {}
    for line in listed.splitlines():
        key, equals, value = line.partition("=")
        section, _, option = key.rpartition(".")
        if equals and section in _PRECEDENCE:
            rank = _PRECEDENCE.index(section)
            if rank >= found.get(option, (0, ""))[0]:
                found[option] = (rank, str(ast.literal_eval(value)))
    return {option: value for option, (_, value) in found.items()}


def uv_settings(pip: dict[str, str]) -> dict[str, str]:
    """Translate pip's settings to uv's environment variables."""
    # pip has no order of indexes: it installs the best version of all of them.
    env = {"UV_INDEX_STRATEGY": "unsafe-best-match"}
    for option, value in pip.items():
        if option in _SETTINGS:
            name, separator = _SETTINGS[option]
            env[name] = separator.join(value.split())
    return env


if __name__ == "__main__":
    main()
