"""Find values that are sent unchanged but look wrong: one warning per field, with count and first row."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import date

from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.sources.fields import INVISIBLE

# Texts that pandas, numpy, databases, R, SAS, Stata, JavaScript and the pivot tables of Excel in some languages
# write for a missing value, and Excel and Google Sheets for one that is not there yet. For Excel's errors, see
# _EXCEL_ERROR.
PLACEHOLDERS = frozenset(
    {
        *("nan", "-nan", "nat", "none", "null", "nil", "na", "n/a", "undefined"),
        *("1.#ind", "-1.#ind", "1.#qnan", "-1.#qnan", "inf", "-inf", "infinity", "-infinity"),
        *(".", "\\n", "<na>", "<null>", "<none>", "<nil>", "(null)", "(none)", "(blank)", "[null]"),
        *(
            "(leer)",
            "(vide)",
            "(en blanco)",
            "(vuoto)",
            "(vazio)",
            "(leeg)",
            "(空白)",
            "#getting_data",
            "loading...",
        ),
    }
)
# Separates the values of a row.
BETWEEN = "\x1f"
_PRINTABLE = bytes(range(0x20, 0x7F)) + BETWEEN.encode()

_KNOWN = 50_000
# Assumed: no field of a code holds more characters. With this limit, a call of 999 rows fits into memory.
LONGEST_TEXT = 65_536
# Finds values that must be checked one by one. A good date is not among them.
_NEEDS_LOOK = re.compile(
    r"""\x1f(?:
    [ '"=\#<\\(\[]
    | \.\x1f
    | [nN][^\x1f]{0,5}\x1f
    | [uU][nN][dD]
    | [iI][nN][fF](?:inity)?\x1f
    | Err:5
    | Loading\.
    | \d(?!\d{3}-(?:(?:0[1-9]|1[0-2])-(?:0[1-9]|1\d|2[0-8])|(?:0[13-9]|1[0-2])-(?:29|30)|(?:0[13578]|1[02])-31)\x1f)(?:
        \d?[JFMASONDjfmasond][AEPUCOaepuco][NBRYLGPTVCnbrylgptvc]\d\d(?:\d\d)?[\x1fT :]
        | \d{0,3}+(?=[-/., eE:])(?:[-/.]\ ?\d{1,2}(?:[-/.]\ ?\d|\x1f) | /\d{4}\x1f | :00(?::00)?\x1f | [-./ ]{1,2}[^\W\d_]{3} | (?:[.,]\d+)?[eE]\+?\d{1,3}\x1f | \.\#)
        | (?=\d{4})(?:\d{4,}+\.0+\x1f | (?<=\x1f[1-4])\d{7}0{5}\x1f | (?<=\x1f[2-7])\d{4}(?:[.,]\d+)?\x1f | (?:(?<=\x1f1)9|(?<=\x1f2)0)\d{6}\x1f)
        )
    | [-+](?:\d{1,3}(?:[.,]\d+)?[eE]\+?\d{1,3}\x1f | [nN1iI])
    | [JFMASOND][a-z]{2,8}\.?[ -]\d
    )""",
    re.VERBOSE,
)
_ISO_DATE = re.compile(r"\d{4}-\d{2}-\d{2}")
# Also with a blank after each dot, in Chinese, Japanese and Korean, with a typographic dash, with the time of DB2
# or Oracle, or with a time zone.
_DATE_LIKE = re.compile(
    r"""(?:\d{4}[-/.\u2010-\u2015\u2212年년]\ ?\d{1,2}[-/.\u2010-\u2015\u2212月월]\ ?\d{1,2}[.日일]?
    | \d{1,2}[-/.\u2010-\u2015\u2212]\ ?\d{1,2}[-/.\u2010-\u2015\u2212]\ ?(?:\d{4}|\d{2})\.?)
    (?:[T\ -]\d{1,2}[:.]\d{2}[^\n]{0,20}|Z|[-+]\d{2}:\d{2})?""",
    re.VERBOSE,
)
# Dates with the name of a month, without a day, or without separators. They count as dates only in a field
# that has other dates.
_MAYBE_DATE = re.compile(
    r"""\d{1,2}(?:[-./\ ]{1,2}[^\W\d_]{3,10}\.?[-./\ ]{1,2}|(?i:jan|feb|mar|apr|may|jun|jul|aug|sep|oct|nov|dec))(?:\d{4}|\d{2})
    (?:[T\ :]\d{1,2}[:.]\d{2}[^\n]{0,20})?
    | \d{4}[-./\ ][^\W\d_]{3,10}\.?[-./\ ]\d{1,2}
    | [JFMASOND][a-z]{2,8}\.?[\ -]\d{1,2}(?:st|nd|rd|th)?,?[\ -](?:\d{4}|\d{2})
    | [JFMASOND][a-z]{2,8}[\ -](?:\d{4}|\d{2})
    | (?:19|20)\d{2}[-/](?:0[1-9]|1[0-2]) | (?:0?[1-9]|1[0-2])/(?:19|20)\d{2} | 00?:00(?::00)?
    | (?:19|20)\d{2}(?:0[1-9]|1[0-2])(?:0[1-9]|[12]\d|3[01])""",
    re.VERBOSE,
)
_LOST_DIGITS = re.compile(r"[-+]?\d{1,3}(?:[.,]\d+)?[eE]\+?\d{1,3}")
# A column of whole numbers that pandas or a database has turned into floats or decimals.
_POINT_ZERO = re.compile(r"\d{5,}\.0+")
_EXCEL_ERROR = re.compile(r"Err:5\d\d|#[¡¿]?(?:N/?[A-Z]|[^\W\d_]/[^\W\d_]|[^\W\d_][^!?\n]{0,15}[!?]|\#+)")
# What Excel counts from 1900 on: 1954 to 2119.
_SERIAL = range(20_000, 80_000)
_SERIAL_MOMENT = re.compile(r"(\d{5})(?:[.,]\d+)?")
# Midnight in milliseconds since 1970, as pandas writes dates in JSON.
_MIDNIGHT = re.compile(r"[1-4]\d{7}0{5}")
_DAY = 86_400_000
# Backslashes that databases and other languages write into CSV before a quote or a backslash, and for a line end.
_ESCAPE = re.compile(r"""\\(?:[\\"n]|\Z)""")
_ESCAPE_AMONG = re.compile(r"""\\[\\"n\x1f]""")
# UTF-8 that was read as Latin-1 or cp1252, as in "KÃ¶ln", and U+FFFD, which replaces letters that were lost.
_LATER_BYTES = "\x80-\xbf" + bytes(range(0x80, 0xA0)).decode("cp1252", "ignore")
_DAMAGED = re.compile(f"Ã[{_LATER_BYTES}]|Â[\x80-\xbf]|â[€\x80]|[\x80-\x9f\ufffd]")
# Invisible marks are blanks, too.
_INVISIBLE = tuple(INVISIBLE)

_TEXTS = {
    "dates": (
        "holds dates that are not YYYY-MM-DD",
        "Scantrust stores them as they are, and its portal then cannot show or edit them.",
    ),
    "placeholder": (
        "holds text that tools write where a value is missing",
        "It is sent as text. To leave these fields unchanged, list it in null_values=.",
    ),
    "digits": (
        "holds numbers that lost digits",
        "Export the column as text, or with all its digits.",
    ),
    "point zero": (
        "holds whole numbers with .0 at the end",
        "They are sent with it; if they are ids, export the column as text or as whole numbers.",
    ),
    "apostrophe": (
        "holds values that begin with an apostrophe",
        "It is sent as part of the value; Excel uses it to mark text.",
    ),
    "damaged": (
        "holds letters that look damaged by a wrong encoding",
        "They are sent as they are; check encoding=, and how the file was exported.",
    ),
    "escapes": (
        "holds backslashes that look like escapes",
        "They are sent as part of the value. CSV escapes a quote by doubling it, not with a backslash.",
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
            # Counts only in a field that also holds dates.
            odd = found.get((field, "dates"))
            if odd or self._dates.get(field):
                found[field, "dates"] = (odd[0] + count, *odd[1:]) if odd else (count, first, row)
        for (field, kind), (count, first, row) in found.items():
            if kind in _TEXTS:
                what, advice = _TEXTS[kind]
                where = "" if row is None else f" in {plural(count, 'row')}, first in row {row}"
                warn(f"Field {show(field)} {what}{where}: {show(first)}. {advice}")


def are_plain(rows: Sequence[str], values: int) -> bool:
    """
    Whether no value of the rows must be checked alone.

    :param rows: For each row, the key and the values, joined by BETWEEN; ``values`` is how many these are.
    """
    text = BETWEEN + BETWEEN.join(rows) + BETWEEN
    return (
        text.isascii()
        # No value holds BETWEEN, and none ends with a blank.
        and text.count(BETWEEN) == len(rows) * values + 1
        and " \x1f" not in text
        and (len(text) <= LONGEST_TEXT or max(map(len, rows)) <= LONGEST_TEXT)
        and ("\\" not in text or not _ESCAPE_AMONG.search(text))
        and _NEEDS_LOOK.search(text) is None
        # Only printable characters. This takes a third of the time of str.isprintable.
        and not text.encode().translate(None, _PRINTABLE)
    )


def classify(value: str) -> str:
    """
    Return the kind of warning for a text, or "" for a text without a doubt.

    "date" is a good date. "maybe date" counts as a date only in a field that has other dates.
    """
    if not value.isascii() and _DAMAGED.search(value):
        return "damaged"
    # Most values are words, numbers or codes.
    if value.isalnum() and not value[0].isdigit():
        return "placeholder" if value.lower() in PLACEHOLDERS else ""
    if not value:
        return ""
    if (
        value[0].isspace()
        or value[-1].isspace()
        or value.startswith(_INVISIBLE)
        or value.endswith(_INVISIBLE)
    ):
        return "placeholder" if value.strip().lower() in PLACEHOLDERS else "blanks"
    if value[0] == "'":
        return "apostrophe"
    if len(value) <= 40:
        if value[0].isdigit() and (kind := _classify_date(value)):
            return kind
        if value[0] in "JFMASOND" and _MAYBE_DATE.fullmatch(value):
            return "maybe date"
        if value[0] in "-+0123456789" and not value.isalnum() and _LOST_DIGITS.fullmatch(value):
            return "digits"
        if _POINT_ZERO.fullmatch(value):
            return "point zero"
    is_error = value[0] in "#E" and _EXCEL_ERROR.fullmatch(value)
    if is_error or value.lower() in PLACEHOLDERS:
        return "placeholder"
    return "escapes" if "\\" in value and _ESCAPE.search(value) else ""


def _classify_date(value: str) -> str:
    if _ISO_DATE.fullmatch(value):
        try:
            date.fromisoformat(value)
        except ValueError:
            return "dates"
        return "date"
    if _DATE_LIKE.fullmatch(value) or (_MIDNIGHT.fullmatch(value) and int(value) % _DAY == 0):
        return "dates"
    serial = _SERIAL_MOMENT.fullmatch(value)
    return "maybe date" if (serial and int(serial[1]) in _SERIAL) or _MAYBE_DATE.fullmatch(value) else ""
