"""The code blocks of README and docs, so that tests can run them."""

from __future__ import annotations

import re
from pathlib import Path

ROOT = Path(__file__).parent.parent.parent
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))]
_BLOCK = re.compile(r"^```python\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_FENCE = re.compile(r"^```(\w*)", re.MULTILINE)


def python_blocks() -> dict[str, str]:
    """Return page and number -> code of every Python block."""
    return {
        f"{page.relative_to(ROOT)}[{number}]": block
        for page in PAGES
        for number, block in enumerate(_BLOCK.findall(page.read_text(encoding="utf-8")))
    }


def is_dag(block: str) -> bool:
    """Whether a block is a DAG file."""
    return "@dag" in block


def unfenced_languages() -> set[str]:
    """Return the languages of all fences; a misspelt one would keep its block from being run."""
    return {word for page in PAGES for word in _FENCE.findall(page.read_text(encoding="utf-8"))}
