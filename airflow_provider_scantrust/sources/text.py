"""
Turn the bytes of a file, compressed or not, into lines.

Rule: memory holds one block and one line, however large the unpacked file is.
"""

from __future__ import annotations

import codecs
import io
from collections.abc import Iterator
from itertools import chain
from typing import BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources.packing import Broken, unpack

# Room for sixteen values of the largest size.
LONGEST_LINE = 1024 * 1024

# What Python says when the bytes end inside a character.
_CUT = ("unexpected end of data", "truncated data", "incomplete multibyte sequence")
_HOST_NAMES_ONLY = ("idna", "punycode")
# The order matters: the mark of utf-16 begins that of utf-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_encoding(encoding: str | None) -> None:
    """Refuse an encoding that is not for text, or that Python does not know, before a file is opened."""
    if encoding is None:
        return
    try:
        "".encode(encoding)
        codecs.getincrementaldecoder(encoding)
        if codecs.lookup(encoding).name in _HOST_NAMES_ONLY:
            raise LookupError(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(
            f"encoding={encoding!r} is not a text encoding that Python knows."
        ) from error


class TextLines:
    """
    The lines of an open file, with their line ends, as with ``newline=""``.

    :raises InvalidInput: The file is empty, not text, not in this encoding, damaged or truncated, too large
        when unpacked, or has a line that is too long.
    """

    def __init__(self, name: str, raw: BinaryIO, encoding: str | None) -> None:
        self.name = name
        self.lines = 0
        self.has_nul = False
        # The number of the last line, if it has no line end.
        self.cut_line: int | None = None
        # The lines of the current record, if the reader keeps them here.
        self.record: list[str] = []
        blocks = unpack(name, raw, is_text=True)
        first = next(blocks)
        self._blocks = chain((first,), blocks)
        mark = next((name for mark, name in _MARKS if first.startswith(mark)), None)
        self.encoding = encoding or mark or "utf-8"
        self._detected = encoding is None

    def __iter__(self) -> Iterator[str]:
        begun = ""
        for text in self._texts():
            if "\0" in text:
                self.has_nul = True
            text = begun + text if begun else text
            # A carriage return at the end of a block may be the first half of a line end.
            end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
            begun = text[end:]
            if len(begun) > LONGEST_LINE:
                raise InvalidInput(
                    f"{self.name}, line {self.lines + count_lines(text[:end]) + 1}: the line is longer than "
                    f"{LONGEST_LINE // 1024**2} Mi characters. Is this a text file with line ends?"
                )
            if sum(map(len, self.record)) > LONGEST_LINE:
                raise InvalidInput(
                    f"{self.name}: a record that ends after line {self.lines} is longer than {LONGEST_LINE // 1024**2} Mi "
                    "characters. Is a quote not closed?"
                )
            if end:
                yield from io.StringIO(text[:end], newline="")
                self.lines += count_lines(text[:end])
        # Old systems end a file with Ctrl-Z.
        if begun := begun.rstrip("\x1a"):
            if not begun.endswith("\r"):
                self.cut_line = self.lines + 1
            yield begun
            self.lines += 1

    def _texts(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        is_first = True
        try:
            for block in chain(self._blocks, (b"",)):
                text = decoder.decode(block, final=not block)
                if text:
                    yield text.removeprefix("\ufeff") if is_first else text
                    is_first = False
        except Broken as error:
            raise InvalidInput(f"{error}{f', after line {self.lines}' if self.lines else ''}.") from error
        except UnicodeError as error:
            raise self._not_in_encoding(error) from error

    def _not_in_encoding(self, error: UnicodeError) -> InvalidInput:
        where, what = f"after line {self.lines}", str(error)
        if isinstance(error, UnicodeDecodeError) and error.reason in _CUT:
            return InvalidInput(
                f"{self.name}, after line {self.lines}: the file is truncated: it ends inside a character."
            )
        if isinstance(error, UnicodeDecodeError):
            good = error.object[: error.start].replace(b"\0", b"").decode("latin-1")
            where = f"line {self.lines + count_lines(good) + 1}"
            what = f"byte 0x{error.object[error.start]:02X} is not {self.encoding}"
        advice = (
            "Give the file's encoding, for example encoding='cp1252'."
            if self._detected
            else "Check encoding=."
        )
        return InvalidInput(f"{self.name}, {where}: {what}. {advice}")


def count_lines(text: str) -> int:
    returns = text.count("\r")
    return text.count("\n") + (returns - text.count("\r\n") if returns else 0)
