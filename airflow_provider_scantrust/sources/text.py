"""
From the bytes of a file, packed or not, to its lines.

Rule 1: what is held in memory is one block and one line, whatever the file unpacks to.
Rule 2: what a packed file unpacks to is bounded by its own size; see :class:`Unpacked`.
"""

from __future__ import annotations

import codecs
import io
import zlib
from collections.abc import Callable, Iterator
from itertools import chain
from typing import Any, BinaryIO

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput
from airflow_provider_scantrust.sources.tables import need

# Sixteen of the longest values. Some hundred lines are held in memory at once.
LONGEST_LINE = 1024 * 1024
# Rows that differ in nothing but a running number unpack to 40 times their size with gzip, and to 150 with zstd.
MOST_TIMES = 300
UNPACKED_FREELY = 256 * 1024 * 1024

_BLOCK = 256 * 1024
# Of packed data as much is taken at once as cannot unpack to more than about 16 MiB: deflate makes at most
# 1,032 bytes of one; a zstd block of four bytes makes 128 KiB.
_GZIP_STEP = 16 * 1024
_ZSTD_STEP = 512
_HOST_NAMES_ONLY = ("idna", "punycode")
_GZIP = b"\x1f\x8b"
_ZSTD = b"\x28\xb5\x2f\xfd"
# The order matters: the mark of utf-16 begins that of utf-32.
_MARKS = (
    (codecs.BOM_UTF8, "utf-8-sig"),
    (codecs.BOM_UTF32_LE, "utf-32"),
    (codecs.BOM_UTF32_BE, "utf-32"),
    (codecs.BOM_UTF16_LE, "utf-16"),
    (codecs.BOM_UTF16_BE, "utf-16"),
)


def check_encoding(encoding: str | None) -> None:
    """
    Find an encoding that cannot be used before a file is opened.

    :raises ConfigurationError: Python does not know it, or it is none of text.
    """
    if encoding is None:
        return
    try:
        "".encode(encoding)
        codecs.getincrementaldecoder(encoding)
        if codecs.lookup(encoding).name in _HOST_NAMES_ONLY:
            raise LookupError(encoding)
    except (LookupError, TypeError, ValueError) as error:
        raise ConfigurationError(f"encoding={encoding!r} is no text encoding that Python knows.") from error


class Unpacked:
    """
    How much a packed file may unpack to: 256 MiB, and 300 times what of it has been read.

    What goes beyond is no data but a trap: it would fill the disk with rows.

    :param name: The file, for the message.
    :param packed: Bytes that have been read already.
    """

    def __init__(self, name: str, packed: int = 0) -> None:
        self._name = name
        self._left = UNPACKED_FREELY + packed * MOST_TIMES

    def take(self, packed: int, unpacked: int) -> None:
        """
        Count bytes that were read, and what they have become.

        :raises InvalidInput: That is too much.
        """
        self._left += packed * MOST_TIMES - unpacked
        if self._left < 0:
            raise InvalidInput(
                f"{self._name}: the file unpacks to more than {MOST_TIMES} times its size, as no table does; it looks "
                "like a decompression bomb. If it is none, unpack it first."
            )


class TextLines:
    """
    The lines of an open file, with their ends, as ``newline=""`` has them.

    Whether it is packed is read from its first bytes and not from its name: some stores unpack ``.gz`` objects on
    delivery.

    :param encoding: None to go by the byte order mark, or else utf-8.
    """

    def __init__(self, name: str, raw: BinaryIO, encoding: str | None) -> None:
        self.name = name
        self.lines = 0
        self.has_nul = False
        self._begun = False
        self._blocks = self._unpack(raw)
        self._first = next(self._blocks, b"")
        mark = next((name for mark, name in _MARKS if self._first.startswith(mark)), "utf-8")
        self.encoding = encoding or mark
        self._detected = encoding is None

    def __iter__(self) -> Iterator[str]:
        """
        Return line by line.

        :raises InvalidInput: As :meth:`blocks`.
        """
        return split_lines(self.blocks())

    def blocks(self) -> Iterator[str]:
        """
        Return many whole lines at a time.

        :raises InvalidInput: The file is damaged or cut, a line is too long, it is not in this encoding, or it unpacks
            to too much.
        """
        begun = ""
        for text in self._texts():
            if "\0" in text:
                self.has_nul = True
            text = begun + text if begun else text
            # A return at the very end may be the first half of a line's end.
            end = max(text.rfind("\n"), text.rfind("\r", 0, -1)) + 1
            begun = text[end:]
            if len(begun) > LONGEST_LINE:
                raise InvalidInput(
                    f"{self.name}, line {self.lines + count_lines(text[:end]) + 1}: the line is longer than "
                    f"{LONGEST_LINE // 1024**2} Mi characters. Is this a text file with line ends?"
                )
            if end:
                whole = text[:end]
                yield whole
                self.lines += count_lines(whole)
        if begun:
            yield begun
            self.lines += 1

    def _texts(self) -> Iterator[str]:
        decoder = codecs.getincrementaldecoder(self.encoding)()
        for block in chain((self._first,), self._blocks, (b"",)):
            try:
                text = decoder.decode(block, final=not block)
            except UnicodeError as error:
                raise self._not_in_encoding(error) from error
            if text and not self._begun:
                text = text.removeprefix("\ufeff")
                self._begun = True
            if text:
                yield text

    def _unpack(self, raw: BinaryIO) -> Iterator[bytes]:
        first = _read_at_least(raw, 4)
        if first.startswith(_GZIP):
            return self._unpack_with(
                lambda: zlib.decompressobj(wbits=31), (zlib.error,), "gzip", raw, first, _GZIP_STEP
            )
        if first.startswith(_ZSTD):
            zstandard = need("zstandard", "zstd", self.name)
            return self._unpack_with(
                lambda: zstandard.ZstdDecompressor().decompressobj(),
                (zstandard.ZstdError,),
                "zstd",
                raw,
                first,
                _ZSTD_STEP,
            )
        return chain((first,), iter(lambda: raw.read(_BLOCK), b""))

    def _unpack_with(
        self,
        start: Callable[[], Any],
        errors: tuple[type[Exception], ...],
        kind: str,
        raw: BinaryIO,
        first: bytes,
        step: int,
    ) -> Iterator[bytes]:
        pieces: list[bytes] = []
        size = 0
        stream = None
        bound = Unpacked(self.name, len(first))
        trouble: Exception | None = None
        packed = first
        while packed:
            stream = stream or start()
            try:
                piece = stream.decompress(packed)
            except errors as error:
                trouble = error
                break
            pieces.append(piece)
            size += len(piece)
            bound.take(0, len(piece))
            packed = b""
            if stream.eof:
                # Packed files may be glued together, and gzip's may be filled up with zeros.
                packed = stream.unused_data.lstrip(b"\0")
                stream = None
            if size >= _BLOCK:
                yield b"".join(pieces)
                pieces.clear()
                size = 0
            while not packed and (packed := raw.read(step)):
                bound.take(len(packed), 0)
                if stream is None:
                    packed = packed.lstrip(b"\0")
        if size:
            yield b"".join(pieces)
        if trouble is not None or stream is not None:
            raise InvalidInput(
                f"{self.name}: the {kind} data is {'cut off' if trouble is None else 'damaged'} "
                f"after line {self.lines}" + (f" ({trouble})." if trouble else ".")
            ) from trouble

    def _not_in_encoding(self, error: UnicodeError) -> InvalidInput:
        where, what = f"after line {self.lines}", str(error)
        if isinstance(error, UnicodeDecodeError):
            good = error.object[: error.start].replace(b"\0", b"").decode("latin-1")
            where = f"line {self.lines + count_lines(good) + 1}"
            what = f"byte 0x{error.object[error.start]:02X} is not {self.encoding}"
        advice = (
            "Give the file's encoding, for example encoding='cp1252'."
            if self._detected
            else "encoding= says so."
        )
        return InvalidInput(f"{self.name}, {where}: {what}. {advice}")


def split_lines(blocks: Iterator[str]) -> Iterator[str]:
    """Return the lines of blocks that hold whole ones."""
    return chain.from_iterable(io.StringIO(text, newline="") for text in blocks)


def _read_at_least(raw: BinaryIO, size: int) -> bytes:
    data = b""
    while len(data) < size and (more := raw.read(size - len(data))):
        data += more
    return data


def count_lines(text: str) -> int:
    """Return how many ends of lines there are."""
    returns = text.count("\r")
    return text.count("\n") + (returns - text.count("\r\n") if returns else 0)
