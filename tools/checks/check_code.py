"""Check that no file of the package is long, and that no two of its modules import each other, not even for types."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "airflow_provider_scantrust"
MOST_LINES = 350


def main() -> int:
    """Print each problem and return the exit code."""
    problems = [*long_files(ROOT / PACKAGE), *cycles(PACKAGE)]
    print(*problems, sep="\n", end="\n" if problems else "")
    return min(len(problems), 1)


def long_files(folder: Path) -> Iterator[str]:
    """Name the files with more lines than a reader keeps in mind."""
    for path in sorted(folder.rglob("*.py")):
        lines = len(path.read_text(encoding="utf-8").splitlines())
        if lines > MOST_LINES:
            yield f"{path.relative_to(folder.parent)}: {lines} lines, {MOST_LINES} are the limit"


def cycles(package: str) -> Iterator[str]:
    """Name one import cycle, if there is one; imports under TYPE_CHECKING count."""
    graph = grimp.build_graph(package, cache_dir=None)
    imports = {module: graph.find_modules_directly_imported_by(module) for module in graph.modules}
    try:
        TopologicalSorter(imports).prepare()
    except CycleError as error:
        yield f"import cycle: {' <- '.join(error.args[1])}"


if __name__ == "__main__":
    sys.exit(main())
