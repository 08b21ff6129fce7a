"""
The files of an upload, on any storage that Airflow's object storage supports.

Rule: a rejects file is overwritten or removed only if its content is what this task instance wrote.
"""

from __future__ import annotations

import hashlib
import os
import re
import secrets
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import cached_property
from itertools import chain, count
from pathlib import Path, PurePosixPath
from typing import Any, BinaryIO, Literal, cast

from airflow_provider_scantrust.api.messages import Log
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.lineage.scantrust import split_url
from airflow_provider_scantrust.sources.opening import FORMATS, PACKED
from airflow_provider_scantrust.uploads.kept import Store, note_rejects, read_rejects
from airflow_provider_scantrust.uploads.options import Append, Write

# The provider that has the storage of a URL's scheme, with the extra that it needs.
_PROVIDERS = {
    "s3": "amazon[s3fs]",
    "gs": "google",
    **dict.fromkeys(("abfs", "abfss", "adl"), "microsoft-azure"),
}

_FORMAT_ENDINGS = "|".join(map(re.escape, chain(*FORMATS.values())))
_PACKED_ENDINGS = "|".join(map(re.escape, PACKED))
# A file's name, and its endings.
_NAME = re.compile(rf"(.+?)((?:{_FORMAT_ENDINGS})?(?:{_PACKED_ENDINGS})?)", re.IGNORECASE | re.DOTALL)


def open_path(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a path or URL; ``ConfigurationError`` for a folder, and if there is no storage for its scheme."""
    try:
        return cast("BinaryIO", find_path(path).open(mode))
    except IsADirectoryError as error:
        raise ConfigurationError(f"{path}: this is a folder; a source is one file ({error}).") from error


def find_path(path: str) -> Any:
    """Return a local path, or one of any URL that Airflow's object storage knows, with its connection."""
    if "://" not in path:
        return Path(path)
    scheme, _, rest = path.partition("://")
    if scheme in ("file", "local"):
        return Path(f"/{rest.lstrip('/')}")
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    try:
        location = ObjectStoragePath(path)
        # It is looked up when it is used for the first time.
        _ = location.fs
    except ImportError as error:
        # The provider is there, without the extra that its storage needs.
        raise ConfigurationError(f"{path}: the storage of {scheme}:// cannot be used: {error}") from error
    except ValueError as error:
        if "filesystem" not in str(error):
            raise
        provider = _PROVIDERS.get(scheme)
        advice = (
            f"Install apache-airflow-providers-{provider}"
            if provider
            else "Download the file in a task before this one, and give its local path"
        )
        raise ConfigurationError(
            f"{path}: there is no object storage for {scheme}:// in this Airflow ({error}). {advice}."
        ) from error
    return location


def is_folder(path: str) -> bool:
    location = find_path(path)
    return path.endswith("/") or (isinstance(location, Path) and location.is_dir())


def check_writable(path: str) -> None:
    """Refuse a path, before the upload, where rejects cannot be written; of a URL, only its upload can tell."""
    if is_folder(path):
        raise ConfigurationError(f"rejects_path {path!r} is a folder. Add the name of a file.")
    if isinstance(find_path(path), Path):
        try:
            with _part(path) as part:
                part.touch()
        except OSError as error:
            raise ConfigurationError(f"rejects_path {path!r} cannot be written: {error.strerror}.") from error


def is_same_place(one: str, other: str) -> bool:
    """Whether two paths or URLs mean the same file, even if they are written differently."""
    local = [path.removeprefix("file://").removeprefix("local://") for path in (one, other)]
    if not any("://" in path for path in local):
        return os.path.realpath(local[0]) == os.path.realpath(local[1])
    scheme, connection, *place = split_url(one)
    other_scheme, other_connection, *other_place = split_url(other)
    # Different connections may mean different services. A URL without a connection may mean either.
    may_be_one = connection == other_connection or not (connection and other_connection)
    return (scheme, place) == (other_scheme, other_place) and may_be_one


def name_with(path: str, number: int) -> str:
    """Return a path with a number before its ending: ``rejects_3.csv.gz`` for ``rejects.csv.gz``."""
    folder, slash, name = path.rpartition("/")
    match = _NAME.fullmatch(name)
    rest, ending = match.groups() if match else (name, "")
    if not ending:
        ending = PurePosixPath(name).suffix
        rest = name.removesuffix(ending)
    return f"{folder}{slash}{rest}_{number}{ending}"


class RejectsFile:
    """
    The rejects file of one upload. It is written under a temporary name and then moved to its place.

    If a file of another upload has the name already, the new file gets a number in its name. Path and digest
    are noted before the file is put in its place, so that it is known even if the worker dies right after.

    :param known: Path and digest of an earlier file, if they are known without the store.
    """

    def __init__(self, path: str, log: Log, store: Store | None, known: dict[str, str] | None = None) -> None:
        self.path = path
        self._log = log
        self._store = store
        self._known = known

    @cached_property
    def mine(self) -> dict[str, str] | None:
        return self._known or read_rejects(self._store, self._log)

    def write(self, write: Write, *, beside: bool = False) -> str:
        with _part(self.path) as part:
            with part.open("wb") as out:
                write(out)
            self.mine = self._put(part, None if beside else self.mine)
        return self.mine["path"]

    def append(self, write: Append) -> str:
        mine = self.mine
        if mine is None or not self._is_mine(mine):
            return self.write(lambda out: write(out, True), beside=True)

        def add(out: BinaryIO) -> None:
            with open_path(mine["path"], "rb") as before:
                shutil.copyfileobj(before, out)
            write(out, False)

        return self.write(add)

    def remove(self) -> None:
        if self.mine is not None:
            self._remove(self.mine, "No row was rejected")
            note_rejects(self._store, None, self._log)
            self.mine = None

    def _remove(self, mine: Mapping[str, str], why: str) -> None:
        try:
            if self._is_mine(mine):
                find_path(mine["path"]).unlink()
                self._log.info("%s; %s of an earlier try is removed.", why, mine["path"])
        except Exception as error:  # any storage, any exception
            self._log.warning("%s, but %s of an earlier try is still there: %s", why, mine["path"], error)

    def _has_name(self, path: str) -> bool:
        """Whether a path is this file's, or one with a number."""
        before, _, after = name_with(self.path, 0).rpartition("_0")
        number = path.removeprefix(f"{before}_").removesuffix(after)
        return path == self.path or (number.isdecimal() and path == f"{before}_{number}{after}")

    def _is_mine(self, mine: Mapping[str, str]) -> bool:
        with suppress(FileNotFoundError), open_path(mine["path"], "rb") as file:
            return _digest(file) in (mine["digest"], mine.get("before"))
        return False

    def _put(self, part: Path, mine: Mapping[str, str] | None) -> dict[str, str]:
        with part.open("rb") as file:
            digest = _digest(file)
        if mine is not None and self._has_name(mine["path"]) and self._is_mine(mine):
            target, written = find_path(mine["path"]), {"path": mine["path"], "digest": digest}
            note_rejects(self._store, {**written, "before": mine["digest"]}, self._log)
            if isinstance(target, Path):
                os.replace(part, target)
            else:
                _copy(part, target)
            return written
        for number in count(1):
            path = self.path if number == 1 else name_with(self.path, number)
            target, written = find_path(path), {"path": path, "digest": digest}
            if target.exists():
                continue
            note_rejects(self._store, written, self._log)
            if _put_new(part, target):
                if number > 1:
                    self._log.warning(
                        "%s belongs to another upload, so the rejects go to %s.", self.path, path
                    )
                if mine is not None and not self._has_name(mine["path"]):
                    self._remove(mine, f"The rejects are in {path} now")
                return written
        raise AssertionError("no end of numbers")


def _digest(file: BinaryIO) -> str:
    return hashlib.file_digest(file, "sha256").hexdigest()  # type: ignore[arg-type, unused-ignore]


def _copy(part: Path, target: Any, mode: Literal["wb", "xb"] = "wb") -> None:
    with part.open("rb") as file, target.open(mode) as out:
        shutil.copyfileobj(file, out)


def _put_new(part: Path, target: Any) -> bool:
    """Put a file in its place, unless a file is there already; return whether it was put there."""
    if not isinstance(target, Path):
        _copy(part, target)
        return True
    try:
        # Unlike a check and a rename, a link cannot replace what another process has just written.
        os.link(part, target)
    except FileExistsError:
        return False
    except OSError:
        try:
            _copy(part, target, "xb")
        except FileExistsError:
            return False
    return True


@contextmanager
def _part(path: str) -> Iterator[Path]:
    """Return a name for a temporary local file, beside the path if that is local."""
    target = find_path(path)
    if isinstance(target, Path):
        target.parent.mkdir(parents=True, exist_ok=True)
        folder = target.parent
    else:
        folder = Path(tempfile.gettempdir())
    part = folder / f".{PurePosixPath(path).name}.{secrets.token_hex(6)}.part"
    try:
        yield part
    finally:
        part.unlink(missing_ok=True)
