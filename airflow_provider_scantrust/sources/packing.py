"""
Recognize a file by its first bytes, and unpack it.

Rule: memory holds one block, however large the unpacked file is. A limit on the unpacked size follows from
the file's own size.
"""

from __future__ import annotations

import io
import re
import tempfile
import zipfile
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from itertools import chain
from typing import Any, BinaryIO, cast

from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.sources.tables import need

# Rows that differ only in a running number unpack to 40 times their size with gzip, and to 150 times with
# zstd.
MOST_TIMES = 300
UNPACKED_FREELY = 256 * 1024 * 1024

_BLOCK = 256 * 1024
_GZIP = (b"\x1f\x8b",)
# A frame, and those that are skipped, which pzstd writes before each frame.
_ZSTD = (b"\x28\xb5\x2f\xfd", *(bytes((number,)) + b"\x2a\x4d\x18" for number in range(0x50, 0x60)))
# The first bytes of an archive with files, and of an empty one.
_ZIP = (b"PK\x03\x04", b"PK\x05\x06")
# Of each level, with the mark of its first block, or of the end of an empty file.
_BZIP2 = tuple(b"BZh%d" % level + mark for level in range(1, 10) for mark in (b"1AY&SY", b"\x17rE8P"))
# The name of a column may begin so, but both have a NUL soon after.
_PARQUET, _ORC = (b"PAR1",), (b"ORC",)
_MOST_LAYERS = 3
# What a file is that cannot be read, how its name ends, and its first bytes.
_KINDS: tuple[tuple[str, tuple[str, ...], tuple[bytes, ...]], ...] = (
    ("a bzip2 archive; unpack it, or pack it with gzip", (".bz2",), _BZIP2),
    ("an xz archive; unpack it, or pack it with gzip", (".xz",), (b"\xfd7zXZ\x00",)),
    ("a 7z archive; unpack it, or pack it with gzip", (".7z",), (b"7z\xbc\xaf\x27\x1c",)),
    ("a rar archive; unpack it, or pack it with gzip", (".rar",), (b"Rar!\x1a\x07",)),
    ("a compress (.Z) archive; unpack it, or pack it with gzip", (".z",), (b"\x1f\x9d",)),
    ("an lz4 archive; unpack it, or pack it with gzip", (".lz4",), (b"\x04\x22\x4d\x18",)),
    ("an lzma archive; unpack it, or pack it with gzip", (".lzma",), (b"\x5d\x00\x00",)),
    ("zlib data; unpack it, or pack it with gzip", (), (b"\x78\x9c", b"\x78\xda")),
    ("a snappy archive; unpack it, or pack it with gzip", (), (b"\xff\x06\x00\x00sNaPpY",)),
    ("a tar archive; unpack it, or pack its file with gzip", (".tar", ".tgz", ".tar.gz", ".tar.zst"), ()),
    ("an encrypted file; decrypt it first", (".gpg", ".pgp", ".asc"), ()),
    ("a PDF document; export the table as CSV", (".pdf",), (b"%PDF",)),
    ("an RTF document; export the table as CSV", (".rtf",), (b"{\\rtf",)),
    ("a document; export the table as CSV or as .xlsx", (".html", ".htm", ".xml", ".doc", ".docx"), ()),
    ("an old Excel file (xls); name it .xls, or give source_format='xls'", (), (b"\xd0\xcf\x11\xe0",)),
    ("a Parquet file; name it .parquet, or give source_format='parquet'", (), _PARQUET),
    ("an Arrow (Feather) file; write it as Parquet", (".feather", ".arrow"), (b"ARROW1\x00",)),
    ("an ORC file; write it as Parquet", (".orc",), _ORC),
    ("an Avro file; write it as Parquet", (".avro",), (b"Obj\x01",)),
    ("a SQLite database", (), (b"SQLite format 3\x00",)),
    (
        "a pointer of Git LFS, not the file; get the file with `git lfs pull`",
        (),
        (b"version https://git-lfs",),
    ),
    ("a zip archive or an Excel workbook; unpack it, or give source_format='xlsx'", (), _ZIP),
    ("a packed file inside packed files; unpack it", (), (*_GZIP, *_ZSTD)),
)
_TAR = (257, b"ustar")
_PAGE = re.compile(
    rb"<(?:!doctype html|html|head|body|table|meta|div|script|style|title|center|h1)\b", re.IGNORECASE
)
_XML = re.compile(rb"<\?xml\b", re.IGNORECASE)
_EXCEL_PARTS = ("xl/", "[Content_Types].xml", "content.xml", "mimetype")


class Unpacked:
    """
    The limit for the unpacked size of a file: 256 MiB plus 300 times the bytes read so far.

    A larger file is a decompression bomb, which would fill the disk with rows.
    """

    def __init__(self, name: str, packed: int = 0) -> None:
        self._name = name
        self._left = UNPACKED_FREELY + packed * MOST_TIMES

    def take(self, packed: int, unpacked: int) -> None:
        """Count bytes that were read, and their unpacked size; refuse a size over the limit."""
        self._left += packed * MOST_TIMES - unpacked
        if self._left < 0:
            raise InvalidInput(
                f"{self._name}: the file unpacks to more than {MOST_TIMES} times its size. No table does this, so it looks "
                "like a decompression bomb. If it is a table, unpack it first."
            )


def unpack(name: str, raw: BinaryIO, *, is_text: bool = False) -> Iterator[bytes]:
    """
    Return the content of a file, block by block; gzip, zstd and, for a text, zip are unpacked.

    The first bytes tell whether it is packed, also twice, and not the name: some stores unpack ``.gz`` objects
    on delivery.

    :raises Broken: The file is damaged or truncated.
    """
    layers = [(_gunzip, _GZIP), (_unpack_zstd, _ZSTD), *([(_unzip, _ZIP)] if is_text else [])]
    blocks = iter(lambda: raw.read(_BLOCK), b"")
    for _ in range(_MOST_LAYERS):
        first = _first_of(blocks)
        layer = next((layer for layer, starts in layers if first.startswith(starts)), None)
        if layer is None:
            break
        blocks = layer(name, chain((first,), blocks))
    if not first:
        raise InvalidInput(
            f"{name}: the file is empty (0 bytes). If it is a folder, list its files and upload them with "
            "`.expand(source=…)`."
        )
    if is_text:
        _refuse_other_kinds(name, first)
    yield first
    yield from blocks


def find_other_kind(name: str) -> str | None:
    """Return what a file of this name is that cannot be read, and what to do."""
    return next((what for what, ends, _ in _KINDS if name.lower().endswith(ends)), None)


def check_start(name: str, file: BinaryIO, starts: tuple[bytes, ...], what: str) -> bytes:
    """
    Return the first bytes of a file that is not text, and go back to them.

    :raises InvalidInput: They are not those of the format; the message tells the file's kind, if it is known.
    """
    first = file.read(512)
    file.seek(0)
    if not first.startswith(starts):
        _refuse_other_kinds(name, first)
        raise InvalidInput(f"{name}: this is not {what}.")
    return first


def _refuse_other_kinds(name: str, first: bytes) -> None:
    """Refuse a file of a known kind that cannot be read, with what to do."""
    for what, _, starts in _KINDS:
        if first.startswith(starts) and (starts not in (_PARQUET, _ORC) or b"\0" in first):
            raise InvalidInput(f"{name}: this is {what}.")
    if first[_TAR[0] :].startswith(_TAR[1]):
        raise InvalidInput(f"{name}: this is a tar archive; unpack it, or pack its file with gzip.")
    text = first[:1024].lstrip(b"\xef\xbb\xbf \t\r\n")
    if _PAGE.match(text) or (text.startswith((b"<!--", b"<?xml")) and b"<html" in text.lower()):
        raise InvalidInput(
            f"{name}: this is an HTML page, perhaps of a login or an error; download the file itself, or export the table as CSV."
        )
    if _XML.match(text):
        raise InvalidInput(f"{name}: this is an XML document; export the table as CSV or as .xlsx.")


def _first_of(blocks: Iterator[bytes]) -> bytes:
    """Return enough of the beginning to recognize the file."""
    first = b""
    for block in blocks:
        first += block
        if len(first) >= 512:
            break
    return first


def _gunzip(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    begin = partial(zlib.decompressobj, zlib.MAX_WBITS | 16)
    # Zeros may stand between members, and after the last.
    return _inflate(name, blocks, "gzip", begin, zlib.error, step=8 * 1024, padding=b"\0")


def _unpack_zstd(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    library = need("zstandard", "zstd", name)
    return _inflate(
        name, blocks, "zstd", library.ZstdDecompressor().decompressobj, library.ZstdError, step=512
    )


def _inflate(
    name: str,
    blocks: Iterator[bytes],
    packing: str,
    begin: Callable[[], Any],
    errors: type[Exception],
    *,
    step: int,
    padding: bytes = b"",
) -> Iterator[bytes]:
    """
    Unpack all members or frames; a library's own reader may stop after one, or miss that a file is cut.

    :param begin: Returns the library's object for one member or frame.
    :param step: How many bytes to unpack at once, to at most 16 MiB: gzip unpacks a byte to at most 1,032, and
        four bytes of zstd can be a block of 128 KiB.
    """
    bound = Unpacked(name)
    stream = None
    for packed in blocks:
        for start in range(0, len(packed), step):
            piece = packed[start : start + step]
            bound.take(len(piece), 0)
            while piece := piece if stream else piece.lstrip(padding):
                stream = stream or begin()
                try:
                    block = stream.decompress(piece)
                except errors as error:
                    if "too much memory" in str(error):
                        raise InvalidInput(
                            f"{name}: reading this {packing} file takes more than 128 MiB of memory; pack it without --long."
                        ) from error
                    raise Broken(f"{name}: the {packing} data is damaged ({error})") from error
                bound.take(0, len(block))
                piece = b""
                if stream.eof:
                    piece, stream = stream.unused_data, None
                if block:
                    yield block
    if stream is not None:
        raise Broken(f"{name}: the {packing} data is truncated")


def _unzip(name: str, blocks: Iterator[bytes]) -> Iterator[bytes]:
    with tempfile.TemporaryFile(prefix="scantrust-") as copy:
        for block in blocks:
            copy.write(block)
        try:
            with zipfile.ZipFile(cast("BinaryIO", copy)) as archive:
                members = [member for member in archive.infolist() if not _is_by_product(member)]
                if any(member.filename.startswith(_EXCEL_PARTS) for member in members):
                    raise InvalidInput(
                        f"{name}: this is an Excel or OpenDocument file; name it .xlsx, .xlsb or .ods, or give source_format=."
                    )
                if len(members) != 1:
                    raise InvalidInput(
                        f"{name}: this is a zip archive with {len(members)} files; only an archive of one file can be read. "
                        "Unpack it, and upload the files with `.expand(source=…)`."
                    )
                bound = Unpacked(name, copy.seek(0, io.SEEK_END))
                with archive.open(members[0]) as file:
                    while block := file.read(_BLOCK):
                        bound.take(0, len(block))
                        yield block
        except InvalidInput:
            raise
        except Exception as error:  # each kind of damage raises another exception
            raise Broken(f"{name}: the zip archive is damaged or cannot be read ({error})") from error


def _is_by_product(member: zipfile.ZipInfo) -> bool:
    """Whether a member is a folder, or a file that macOS or Windows adds to an archive."""
    name = member.filename
    return (
        member.is_dir()
        or name.startswith("__MACOSX/")
        or name.rpartition("/")[2] in (".DS_Store", "Thumbs.db")
    )


class Broken(InvalidInput):
    """The packed data is damaged; the reader of the text adds the line that it reached."""
