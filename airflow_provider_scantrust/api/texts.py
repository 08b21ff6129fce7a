"""Make texts of other programs safe to show: one line, limited length, printable."""

from __future__ import annotations

import html
import re

EXCERPT = 300
# Marks a place where a text was cut.
CUT = "…"
# How the excerpt of a web page begins.
PAGE = "an HTML page"
_SHOWN = 80
_PAGE = re.compile(r"\s*<(!doctype|html|head|body|title|h1|center)\b", re.IGNORECASE)
# Tags, and content that a browser does not show. Each part has a limit, because the text may be hostile.
_TAG = re.compile(r"<(script|style)\b.{0,4000}?</\1>|<[^<>]{0,1000}>", re.IGNORECASE | re.DOTALL)


def one_line(text: str, most: int = EXCERPT) -> str:
    """Return the beginning of a text, with a space in place of unprintable characters such as line ends."""
    if len(text) <= most and text.isprintable():
        return " ".join(text.split())
    part = text[: most * 4]
    part = " ".join("".join(letter if letter.isprintable() else " " for letter in part).split())
    return part if len(part) <= most and len(text) <= most * 4 else part[:most] + CUT


def show(value: object, most: int = _SHOWN) -> str:
    """Return the repr of a value, cut short; if the value's own methods fail, return its type."""
    try:
        if isinstance(value, str):
            # The plain text, not a subclass's, and never the whole of a very long one.
            value = str.__str__(value)
            return repr(value) if len(value) <= most else repr(value[:most]) + CUT
        text = repr(value)
    except Exception:  # a user's object may raise anything
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else text[:most] + CUT


def plural(number: int, what: str) -> str:
    """Return a number with its noun: ``1 row``, ``2,500 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def read_page(text: str) -> str:
    """Return the words of an HTML page, such as ``502 Bad Gateway nginx``; other text is unchanged."""
    if not _PAGE.match(text):
        return text
    # Title and heading of an error page are often the same words.
    parts = [" ".join(html.unescape(part).split()) for part in _TAG.sub("\n", text).split("\n")]
    words = " ".join(part for part in dict.fromkeys(parts) if part)
    return f"{PAGE}: {words}" if words else f"{PAGE} without words"
