"""
Draw the map of the code for the docs from the import graph: ``python tools/docs/code_map.py [--check]``.

The layers are those of the import contract in pyproject.toml. An import that others imply (a imports b, b
imports c, and a imports c as well) has no arrow of its own.
"""

from __future__ import annotations

import argparse
import sys
import tomllib
from pathlib import Path

import grimp

ROOT = Path(__file__).resolve().parents[2]
PICTURE = ROOT / "docs" / "images" / "code-map.svg"
PACKAGE = "airflow_provider_scantrust"
# Beside the layers: they share nothing with them, or little.
APART = ["plugins", "sandbox"]
WHAT = {
    "__main__": "python -m",
    "cli": "airflow scantrust",
    "decorators": "@task.scantrust_upload",
    "operators": "uploads, resumes",
    "sensors": "waits for jobs",
    "lineage": "OpenLineage",
    "assets": "scantrust://",
    "links": "portal link",
    "triggers": "waits in the triggerer",
    "hooks": "connection, calls",
    "uploads": "check, plan, run",
    "sources": "files and rows",
    "waits": "jobs, queue, pace",
    "transports": "requests, aiohttp",
    "api": "the protocol, no I/O",
    "exceptions": "what to do next",
    "plugins": "page in the UI",
    "sandbox": "a local Scantrust",
}
WIDTH, HEIGHT, ACROSS, DOWN, MARGIN = 150, 48, 190, 92, 20


def main() -> int:
    """Write the picture, or say that the one there is out of date."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--check", action="store_true", help="fail if the picture is not up to date")
    picture = draw(layers(), arrows())
    if not parser.parse_args().check:
        PICTURE.write_text(picture, encoding="utf-8")
    elif PICTURE.read_text(encoding="utf-8") != picture:
        print(
            f"{PICTURE.relative_to(ROOT)} is out of date: run python tools/docs/code_map.py", file=sys.stderr
        )
        return 1
    return 0


def layers() -> list[list[str]]:
    """Return the names in each layer, uppermost first."""
    settings = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    contract = next(
        each for each in settings["tool"]["importlinter"]["contracts"] if each["type"] == "layers"
    )
    return [[name.strip().rpartition(".")[2] for name in layer.split("|")] for layer in contract["layers"]]


def arrows() -> set[tuple[str, str]]:
    """Return who imports whom, without what others imply."""
    graph = grimp.build_graph(PACKAGE, cache_dir=None)
    found = set()
    for importer in graph.modules:
        for imported in graph.find_modules_directly_imported_by(importer):
            pair = (_box(importer), _box(imported))
            if all(pair) and pair[0] != pair[1]:
                found.add(pair)
    return {(one, other) for one, other in found if not _is_implied(one, other, found)}


def _box(module: str) -> str:
    """Return the box of a module, or nothing for the package itself and what only tells of it."""
    name = module.split(".")[1] if "." in module else ""
    return name if name in WHAT else ""


def _is_implied(one: str, other: str, pairs: set[tuple[str, str]]) -> bool:
    reached, new = set(), {b for a, b in pairs if a == one and b != other}
    while new:
        reached |= new
        new = {b for a, b in pairs if a in new} - reached
    return other in reached


def draw(rows: list[list[str]], pairs: set[tuple[str, str]]) -> str:
    """Return the picture as SVG."""
    widest = max(map(len, rows))
    places = {
        name: (MARGIN + (column + (widest - len(row)) / 2) * ACROSS, MARGIN + number * DOWN)
        for number, row in enumerate(rows)
        for column, name in enumerate(row)
    }
    for number, name in enumerate(APART):
        places[name] = (MARGIN + widest * ACROSS, MARGIN + (number * 2 + 1) * DOWN)
    width, height = MARGIN * 2 + widest * ACROSS + WIDTH, MARGIN * 2 + (len(rows) - 1) * DOWN + HEIGHT
    lines = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" width="{width}" height="{height}"',
        '  role="img" aria-label="Packages in layers; every import points downward" font-family="sans-serif">',
        '<defs><marker id="tip" viewBox="0 0 8 8" refX="8" refY="4" markerWidth="7" markerHeight="7" orient="auto">',
        '<path d="M0 0 8 4 0 8Z" fill="#64748b"/></marker></defs>',
        f'<rect width="{width}" height="{height}" rx="8" fill="#f8fafc"/>',
    ]
    for one, other in sorted(pairs):
        (x1, y1), (x2, y2) = places[one], places[other]
        x1, x2, y1 = x1 + WIDTH / 2, x2 + WIDTH / 2, y1 + HEIGHT
        bend = (y2 - y1) / 2
        lines.append(
            f'<path d="M{x1:g} {y1:g}C{x1:g} {y1 + bend:g} {x2:g} {y2 - bend:g} {x2:g} {y2:g}" fill="none" '
            f'stroke="#64748b" stroke-width="1.4" marker-end="url(#tip)"><title>{one} → {other}</title></path>'
        )
    for name, (x, y) in places.items():
        middle = x + WIDTH / 2
        lines += [
            f'<rect x="{x:g}" y="{y:g}" width="{WIDTH}" height="{HEIGHT}" rx="6" fill="#dbeafe" stroke="#1d4ed8"/>',
            f'<text x="{middle:g}" y="{y + 20:g}" text-anchor="middle" font-size="14" fill="#0f172a">{name}</text>',
            f'<text x="{middle:g}" y="{y + 37:g}" text-anchor="middle" font-size="11" fill="#334155">{WHAT[name]}</text>',
        ]
    return "\n".join([*lines, "</svg>"]) + "\n"


if __name__ == "__main__":
    sys.exit(main())
