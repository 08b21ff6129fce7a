"""Make texts of other programs safe to show: one line, limited length, printable."""

from __future__ import annotations

import html
import re

EXCERPT = 300
# Stands where a text was cut.
CUT = "…"
_SHOWN = 80
_PAGE = re.compile(r"\s*<(!doctype|html|head|body|title|h1|center)\b", re.IGNORECASE)
# Not what a browser does not show either. Each part is bounded: the text may be hostile.
_TAG = re.compile(r"<(script|style)\b.{0,4000}?</\1>|<[^<>]{0,1000}>", re.IGNORECASE | re.DOTALL)


def one_line(text: str, most: int = EXCERPT) -> str:
    """Return the beginning of a text, with a space for each run of what cannot be printed (line ends, half characters)."""
    if len(text) <= most and text.isprintable():
        return " ".join(text.split())
    part = text[: most * 4]
    part = " ".join("".join(letter if letter.isprintable() else " " for letter in part).split())
    return part if len(part) <= most and len(text) <= most * 4 else part[:most] + CUT


def show(value: object, most: int = _SHOWN) -> str:
    """Return what Python shows for a value, cut short; a value whose own methods fail is shown by its type."""
    try:
        if isinstance(value, str):
            # Not the subclass's own text, and never all of a very long one.
            value = str.__str__(value)
            return repr(value) if len(value) <= most else repr(value[:most]) + CUT
        text = repr(value)
    except Exception:  # anybody's object, anybody's exception
        return f"<{type(value).__name__}>"
    return text if len(text) <= most else text[:most] + CUT


def plural(number: int, what: str) -> str:
    """Return a number of things: ``1 row``, ``2,500 rows``."""
    return f"{number:,} {what}{'' if number == 1 else 's'}"


def read_page(text: str) -> str:
    """Return the words of an HTML page, as in ``502 Bad Gateway nginx``; any other text as it is."""
    if not _PAGE.match(text):
        return text
    words = " ".join(html.unescape(_TAG.sub(" ", text)).split())
    return f"an HTML page: {words}" if words else "an HTML page without words"
