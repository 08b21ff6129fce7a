"""
Hooks of the documentation site.

Links to files outside of docs/ lead nowhere there, so they become the file's path. Docstrings have Sphinx's
roles, which the site's generator shows as they are.
"""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[2]
DOCS = ROOT / "docs"
_ROLE = re.compile(r":(?:class|meth|func|mod):<code>~?([\w.]+)</code>")
_LINK = re.compile(r"(?<!!)\[([^\]]+)\]\(([^)#\s]+)(#[^)\s]*)?\)")


def on_page_markdown(markdown: str, *, page: Any, **_: Any) -> str:
    """Return a page's text with its outside links replaced; mkdocs calls this."""
    return replace_outside_links(markdown, (DOCS / page.file.src_uri).parent)


def on_page_content(html: str, **_: Any) -> str:
    """Return a page's HTML with Sphinx's roles shown as the name they point to; mkdocs calls this."""
    return show_roles(html)


def show_roles(html: str) -> str:
    """Return HTML in which a role, such as :class: before a path, is the last name of that path."""
    html = _ROLE.sub(lambda match: f"<code>{match[1].rpartition('.')[2]}</code>", html)
    return html.replace("<p>::</p>", "")


def replace_outside_links(markdown: str, folder: Path) -> str:
    """
    Return Markdown in which links to files of the repository outside of docs/ are text.

    :param folder: Where the page is.
    """

    def replace(match: re.Match[str]) -> str:
        text, target, _ = match.groups()
        path = (folder / target).resolve()
        if "://" in target or path.is_relative_to(DOCS) or not path.is_relative_to(ROOT):
            return match[0]
        name = f"`{path.relative_to(ROOT)}`"
        return name if text.strip("`") == name.strip("`") else f"{text} ({name})"

    return _LINK.sub(replace, markdown)
