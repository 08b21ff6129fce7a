"""
Rehearse a release: build it, look into what was built, install it elsewhere and run the demo from there.

    python tools/checks/release_check.py [--final]

Files that passed are put into ``.release/dist``. All happens in a temporary folder, so that nothing of this
repository can be imported where the installed package should be.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path

from airflow_provider_scantrust import __version__

ROOT = Path(__file__).resolve().parents[2]
DIST = ROOT / ".release" / "dist"
PACKAGE = "airflow_provider_scantrust"
NAME = "airflow-provider-scantrust"
PINS = ROOT / "constraints.txt"
# What a build adds to the tracked files.
SDIST_ADDS = {"PKG-INFO"}
# No Airflow that runs, no browser: what a packager can run anywhere.
SDIST_TESTS = ["tests/unit", "tests/docs"]
_VERSION_HEADING = re.compile(r"^## (?P<version>\S+) \((?P<date>[^)]+)\)$", re.MULTILINE)
_WHERE = f"import {PACKAGE} as package; print(package.__file__, package.__version__)"


class NotReady(Exception):
    """What was checked is not so; the message says what to do."""


def main() -> int:
    """Run all steps and return the exit code."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument(
        "--final",
        action="store_true",
        help="refuse what a rehearsal only tells: uncommitted files, open changes",
    )
    final = parser.parse_args().final
    started = time.monotonic()
    shutil.rmtree(DIST, ignore_errors=True)
    try:
        with tempfile.TemporaryDirectory(prefix="release-check-") as folder:
            check(Path(folder), final)
            shutil.copytree(Path(folder) / "dist", DIST)
    except NotReady as problem:
        print(f"release-check: {problem}", file=sys.stderr)
        return 1
    except subprocess.CalledProcessError as error:
        print(f"release-check: exit code {error.returncode} from {' '.join(error.cmd)}", file=sys.stderr)
        return 1
    print(
        f"release-check: {NAME} {__version__} passed in {time.monotonic() - started:.0f} s; see .release/dist"
    )
    return 0


def check(folder: Path, final: bool) -> None:
    """Run the steps, each in the state that the ones before it left."""
    with step("comparing the version, the changelog and the commit"):
        changelog = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
        waiting = [path.name for path in (ROOT / "changes").glob("*.*.md")]
        open_points = [*changelog_problems(changelog, waiting), *tree_problems()]
        for point in open_points:
            print(f"  {point}")
        if final and open_points:
            raise NotReady("a release needs these done first; RELEASING.md has the order")
    with step("building sdist and wheel from this folder"):
        build(ROOT, folder / "dist")
        sdist, wheel = one(folder / "dist", "*.tar.gz"), one(folder / "dist", "*.whl")
    with step("asking twine whether an index would take them"):
        run(sys.executable, "-m", "twine", "check", "--strict", str(sdist), str(wheel))
    with step("comparing their files with those that git tracks"):
        source = folder / "source"
        compare_sdist(sdist, source)
        run(sys.executable, "-m", "check_wheel_contents", "--package", str(source / PACKAGE), str(wheel))
    with step("building the wheel from the sdist and comparing it byte for byte"):
        build(source, folder / "again", "--wheel")
        require_same("the wheel of the sdist", read_wheel(wheel), read_wheel(one(folder / "again", "*.whl")))
    with step(f"running the sdist's own {' and '.join(SDIST_TESTS)}"):
        require_imported(sys.executable, source, source)
        run(sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", *SDIST_TESTS, cwd=source)
    with step("installing the wheel with the pins into a new environment outside the repository"):
        python = folder / "venv" / "bin" / "python"
        run(sys.executable, "-m", "venv", str(folder / "venv"))
        pip = [str(python), "-m", "pip", "--quiet", "--disable-pip-version-check"]
        run(*pip, "install", "--constraint", str(PINS), f"{wheel}[sandbox]")
        run(*pip, "check")
        (site_packages,) = (folder / "venv" / "lib").glob("python*/site-packages")
        require_imported(python, folder, site_packages)
    with step("asking Airflow for the provider"):
        ask_airflow(python, folder)
    with step("running the demo from the installed package"):
        demo = folder / "demo"
        for name in ("tools", "dags_examples"):
            shutil.copytree(source / name, demo / name)
        shutil.rmtree(source)
        run(str(python), "tools/demo.py", cwd=demo, PYTHONPATH=str(demo / "tools" / "real_airflow"))


def changelog_problems(changelog: str, waiting: Iterable[str]) -> Iterator[str]:
    """Say what keeps the changelog from being that of this version; ``waiting`` are changes that are not in it."""
    sections = versions_in(changelog)
    if [__version__] != [version for version, _ in sections[:1]] or __version__ in dict(sections[1:]):
        yield f"CHANGELOG.md must begin with the only section of {__version__}"
    elif re.fullmatch(r"\d{4}-\d\d-\d\d", sections[0][1]) is None:
        yield f"CHANGELOG.md has no date for {__version__}"
    if names := sorted(waiting):
        yield f"not in CHANGELOG.md yet: {', '.join(names)} (towncrier build)"


def versions_in(changelog: str) -> list[tuple[str, str]]:
    """Return version and date of each section, as they stand there."""
    return [(match["version"], match["date"]) for match in _VERSION_HEADING.finditer(changelog)]


def tree_problems() -> Iterator[str]:
    """Name the files that are not as committed."""
    changed = git("status", "--porcelain").splitlines()
    if changed:
        yield f"not as committed: {', '.join(line[3:] for line in changed)}"


def compare_sdist(sdist: Path, target: Path) -> None:
    """Require exactly the tracked files, and what an sdist adds; unpack it to ``target``."""
    with tarfile.open(sdist) as archive:
        archive.extractall(target.parent / "unpacked", filter="data")
    (target.parent / "unpacked" / f"{PACKAGE}-{__version__}").rename(target)
    if others := list((target.parent / "unpacked").iterdir()):
        raise NotReady(f"the sdist has more than one folder: {others}")
    members = {
        path.relative_to(target).as_posix(): path.read_bytes() for path in target.rglob("*") if path.is_file()
    }
    expected = tracked()
    require_same("the sdist", expected, {name: members[name] for name in members.keys() - SDIST_ADDS})
    if missing := SDIST_ADDS - members.keys():
        raise NotReady(f"the sdist lacks {', '.join(sorted(missing))}")
    print(f"  the sdist has all {len(expected)} tracked files, and {', '.join(SDIST_ADDS)}")


def require_same(what: str, expected: dict[str, bytes], found: dict[str, bytes]) -> None:
    """Raise NotReady with each file that is missing, too many or different."""
    problems = [f"lacks {name}" for name in sorted(expected.keys() - found.keys())]
    problems += [f"should not have {name}" for name in sorted(found.keys() - expected.keys())]
    both = sorted(expected.keys() & found.keys())
    problems += [f"has another {name}" for name in both if expected[name] != found[name]]
    if problems:
        raise NotReady(f"{what}\n  " + "\n  ".join(problems))


def read_wheel(wheel: Path) -> dict[str, bytes]:
    """Return name and content of each file in a wheel."""
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def tracked(*paths: str) -> dict[str, bytes]:
    """Return name and content of each file that git tracks, as it is in this folder."""
    names = [name for name in git("ls-files", "-z", *paths).split("\0") if name]
    return {name: (ROOT / name).read_bytes() for name in names}


def require_imported(python: Path | str, folder: Path, expected: Path) -> None:
    """Require that an interpreter started in ``folder`` imports the package from the folder ``expected``."""
    path, version = output(str(python), "-c", _WHERE, cwd=folder).split()
    if Path(path).parent != expected / PACKAGE or version != __version__:
        raise NotReady(f"imported was {path} in version {version}")
    print(f"  {PACKAGE} {version} is imported from {expected}")


def ask_airflow(python: Path, folder: Path) -> None:
    """Require that Airflow lists the provider and gives its metadata."""
    listed = airflow(python, folder, "providers", "list")
    if re.search(rf"{NAME}\s.*\s{re.escape(__version__)}\b", listed) is None:
        raise NotReady(f"`airflow providers list` does not show {NAME} {__version__}:\n{listed}")
    print(airflow(python, folder, "providers", "get", NAME, "--output", "plain"), end="")


def airflow(python: Path, folder: Path, *arguments: str) -> str:
    """Run ``airflow`` of the new environment and return what it printed."""
    return output(str(python), "-m", "airflow", *arguments, cwd=folder, AIRFLOW_HOME=str(folder / "airflow"))


def build(source: Path, target: Path, *what: str) -> None:
    """Build with the pinned build backend."""
    command = ["-m", "build", *(what or ("--sdist", "--wheel")), "--outdir", str(target), str(source)]
    output(sys.executable, *command, PIP_CONSTRAINT=str(PINS))


def one(folder: Path, pattern: str) -> Path:
    """Return the only file of a kind."""
    found = list(folder.glob(pattern))
    if len(found) != 1:
        raise NotReady(f"there should be one {pattern}, not {[path.name for path in found]}")
    return found[0]


def git(*arguments: str) -> str:
    """Run git in this repository and return what it printed."""
    return output("git", *arguments, cwd=ROOT)


def run(*command: str, cwd: Path | None = None, **env: str) -> None:
    """Run a command and show what it prints."""
    subprocess.run(command, cwd=cwd, env=clean_environ() | env, check=True)


def output(*command: str, cwd: Path | None = None, **env: str) -> str:
    """Run a command and return what it printed; what it said is shown if it failed."""
    done = subprocess.run(command, cwd=cwd, env=clean_environ() | env, capture_output=True, text=True)
    if done.returncode != 0:
        raise NotReady(f"{' '.join(command)}: exit code {done.returncode}\n{done.stdout}{done.stderr}")
    return done.stdout


def clean_environ() -> dict[str, str]:
    """Return the environment without what would lead an import or an Airflow back to this repository."""
    dropped = ("PYTHONDONTWRITEBYTECODE", "PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV")
    env = {name: value for name, value in os.environ.items() if name not in dropped}
    env = {name: value for name, value in env.items() if not name.startswith("AIRFLOW_")}
    return env | {"PYTHONNOUSERSITE": "1"}


@contextmanager
def step(what: str) -> Iterator[None]:
    """Print what a step does, and afterwards how long it took."""
    print(f"release-check: {what}", flush=True)
    started = time.monotonic()
    yield
    print(f"  done in {time.monotonic() - started:.1f} s", flush=True)


if __name__ == "__main__":
    sys.exit(main())
