"""Writes what the runs have shown into docs/reliability.md: the newest lines of each target, between markers."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

PAGE = Path(__file__).resolve().parents[2] / "docs" / "reliability.md"
# Of each target; older lines go.
KEPT = 3


def print_line(line: Mapping[str, Any]) -> None:
    """Print the names and the numbers of one line below each other."""
    width = max(map(len, line))
    print()
    print(*(f"{name:{width}}  {value}" for name, value in line.items()), sep="\n", end="\n\n")


def write_line(target: str, line: Mapping[str, Any]) -> None:
    """Add a line to the table of a target."""
    text = PAGE.read_text(encoding="utf-8")
    begin, end = f"<!-- {target}: written by the runs -->", f"<!-- {target}: end -->"
    before, _, rest = text.partition(begin)
    table, found, after = rest.partition(end)
    if not found:
        raise ValueError(f"{PAGE.name} has no place for the runs of {target}")
    head = f"| {' | '.join(line)} |"
    rows = table.strip().splitlines()
    # Lines of another form can not stand under this head.
    kept = rows[2:][-(KEPT - 1) :] if rows and rows[0] == head else []
    rows = [head, f"| {' | '.join('---' for _ in line)} |", *kept]
    rows.append(f"| {' | '.join(map(str, line.values()))} |")
    PAGE.write_text(f"{before}{begin}\n{chr(10).join(rows)}\n{end}{after}", encoding="utf-8")
