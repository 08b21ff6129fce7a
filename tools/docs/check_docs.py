"""Check that every relative link in the Markdown pages leads to a file, and every anchor to a heading."""

from __future__ import annotations

import re
import sys
from itertools import chain
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
_LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
_HEADING = re.compile(r"^#+ (.+)$", re.MULTILINE)


def main() -> int:
    """Print each broken link and return how many there are."""
    places = (
        ROOT.glob("*.md"),
        *(ROOT.glob(f"{folder}/**/*.md") for folder in ("docs", "changes", ".github")),
    )
    pages = sorted(chain.from_iterable(places))
    broken = [f"{page.relative_to(ROOT)}: {link}" for page in pages for link in broken_links(page)]
    print(*broken, f"{len(pages)} pages, {len(broken)} broken links", sep="\n")
    return len(broken)


def broken_links(page: Path) -> list[str]:
    """Return the links of a page that lead nowhere."""
    broken = []
    for link in _LINK.findall(page.read_text(encoding="utf-8")):
        if "://" in link or link.startswith("mailto:"):
            continue
        path, _, anchor = link.partition("#")
        target = (page.parent / path) if path else page
        if not target.exists() or (anchor and anchor not in anchors(target)):
            broken.append(link)
    return broken


def anchors(page: Path) -> set[str]:
    """Return the anchors of a page's headings."""
    headings = _HEADING.findall(page.read_text(encoding="utf-8"))
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


if __name__ == "__main__":
    sys.exit(min(main(), 1))
