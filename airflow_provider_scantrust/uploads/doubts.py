"""Values that are sent as they are, and that a person should look at: one warning per field, with count and first row."""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import date

from airflow_provider_scantrust.api.texts import plural, show

# Texts that tools write where a value is missing.
PLACEHOLDERS = frozenset(
    {
        "nan",
        "nat",
        "none",
        "null",
        "\\n",
        "<na>",
        "n/a",
        "#n/a",
        "#na",
        "#ref!",
        "#value!",
        "#name?",
        "#div/0!",
        "#num!",
        "#null!",
        "-nan",
        "1.#ind",
    }
)
# Between the values of a row.
BETWEEN = "\x1f"

_KNOWN = 50_000
# No value of such a row is too long.
_LONGEST_ROW = 65_536
# Values that need a look of their own. Dates up to the 28th are good in each month, and the most common.
_NEEDS_LOOK = re.compile(
    r"""\x1f(?!\d{4}-(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])\x1f)(?:
    [\s'"=#<\\] | -?1?[.#nN][^\x1f]{0,8}\x1f
    | \d{1,4}[-/.]\d{1,2}[-/.]\d | \d{1,2}[-./ ]{1,2}[^\W\d_]{3}
    | [-+]?\d(?:[.,]\d+)?[eE]\+?\d{1,3}\x1f | [2-7]\d{4}\x1f
    )""",
    re.VERBOSE,
)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
_DATE_LIKE = re.compile(
    r"(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))(?:[T ]\d{1,2}:\d{2}\S*)?"
)
_MONTH_NAME = re.compile(r"\d{1,2}[-. /]{1,2}[^\W\d_]{3,10}\.?[-. /]{1,2}(?:\d{4}|\d{2})")
_LOST_DIGITS = re.compile(r"[-+]?\d(?:[.,]\d+)?[eE]\+?\d{1,3}")
# What Excel counts from 1900 on: 1954 to 2119.
_SERIAL = range(20_000, 80_000)

_TEXTS = {
    "dates": (
        "holds dates that are not YYYY-MM-DD",
        "Scantrust stores them as they are, and its portal then cannot show or edit them.",
    ),
    "placeholder": (
        "holds text that stands for a missing value",
        "It is sent as text; list it in null_values= to leave these fields alone.",
    ),
    "digits": (
        "holds numbers that lost digits",
        "Export the column as text, or with all its digits.",
    ),
    "apostrophe": (
        "holds values that begin with an apostrophe",
        "It is sent as part of the value; Excel uses it to mark text.",
    ),
    "blanks": ("holds values with blanks at the beginning or end", "They are sent as part of the value."),
}


class Doubts:
    """Counts doubtful values of an upload, field by field."""

    def __init__(self) -> None:
        self._known: dict[str, str] = {}
        self._found: dict[tuple[str, str], tuple[int, str, int | None]] = {}
        self._dates: dict[str, int] = {}

    def look(self, field: str, value: str, row: int | None) -> None:
        """Take note of a text if it is doubtful."""
        kind = self._known.get(value)
        if kind is None:
            if len(self._known) >= _KNOWN:
                self._known.clear()
            kind = self._known[value] = classify(value)
        if not kind:
            return
        if kind == "date":
            self._dates[field] = self._dates.get(field, 0) + 1
            return
        count, first, first_row = self._found.get((field, kind), (0, value, row))
        self._found[field, kind] = (count + 1, first, first_row)

    def report(self, warn: Callable[[str], None]) -> None:
        """Warn once per field and kind."""
        found = dict(self._found)
        for (field, kind), (count, first, row) in self._found.items():
            if kind != "maybe date":
                continue
            # Only in a field that otherwise holds dates.
            odd = found.get((field, "dates"))
            if odd or self._dates.get(field):
                found[field, "dates"] = (odd[0] + count, *odd[1:]) if odd else (count, first, row)
        for (field, kind), (count, first, row) in found.items():
            if kind in _TEXTS:
                what, advice = _TEXTS[kind]
                where = "" if row is None else f" in {plural(count, 'row')}, first in row {row}"
                warn(f"Field {show(field)} {what}{where}: {show(first)}. {advice}")


def is_plain(text: str, values: int) -> bool:
    """
    Whether a row needs no look at each of its values.

    :param text: The key and the values, with BETWEEN between them.
    :param values: How many there are.
    """
    return (
        text.isascii()
        and text.count(BETWEEN) == values - 1
        and text[0] != BETWEEN
        and text[-1] != " "
        and " \x1f" not in text
        and len(text) <= _LONGEST_ROW
        and _NEEDS_LOOK.search(f"{BETWEEN}{text}{BETWEEN}") is None
        and text.replace(BETWEEN, "").isprintable()
    )


def classify(value: str) -> str:
    """
    Return what is doubtful about a text: a kind of warning, "" for nothing.

    "date" is a good date, and "maybe date" is one where the field's other values are dates.
    """
    # Most values are words, numbers or codes.
    if value.isalnum():
        if value.lower() in PLACEHOLDERS:
            return "placeholder"
        is_serial = len(value) == 5 and value.isdecimal() and int(value) in _SERIAL
        return "maybe date" if is_serial else ""
    if not value:
        return ""
    if value[0].isspace() or value[-1].isspace():
        return "placeholder" if value.strip().lower() in PLACEHOLDERS else "blanks"
    if value[0] == "'":
        return "apostrophe"
    if value[0].isdigit() or value[0] in "-+":
        if _ISO_DATE.fullmatch(value):
            try:
                date.fromisoformat(value)
            except ValueError:
                return "dates"
            return "date"
        if len(value) <= 40:
            if _DATE_LIKE.fullmatch(value):
                return "dates"
            if _MONTH_NAME.fullmatch(value):
                return "maybe date"
            if _LOST_DIGITS.fullmatch(value):
                return "digits"
    return "placeholder" if value.lower() in PLACEHOLDERS else ""
