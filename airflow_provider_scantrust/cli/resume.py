"""Keep an upload's progress in a file, in place of Airflow's task state store."""

from __future__ import annotations

import fcntl
import json
import os
from contextlib import suppress
from pathlib import Path
from typing import Any

from airflow_provider_scantrust.exceptions import ConfigurationError

_FORMAT = "airflow-provider-scantrust progress"


class FileStore:
    """
    A store (:class:`~airflow_provider_scantrust.uploads.kept.Store`) in one JSON file.

    Each write replaces the whole file. A context manager: a lock file next to it keeps other processes out.

    :param path: The file; it may not exist yet.
    """

    def __init__(self, path: str) -> None:
        self._path = Path(path)
        self._lock_path = self._path.with_name(f".{self._path.name}.lock")
        self.starts = 1
        self._values: dict[str, Any] = {}

    def __enter__(self) -> FileStore:
        """
        Read what an earlier process has kept.

        :raises ConfigurationError: The file is not a progress file, another process uses it, or it cannot
            be written.
        """
        try:
            # The system releases the lock when the process ends, also after a crash.
            self._lock = self._lock_path.open("w", encoding="utf-8")
        except OSError as error:
            raise ConfigurationError(f"--resume {self._path} cannot be written: {error}") from error
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            self._lock.close()
            raise ConfigurationError(
                f"Another upload is running with --resume {self._path}. Wait for it, or give another path."
            ) from None
        try:
            with suppress(FileNotFoundError):
                self._load(self._path.read_bytes())
        except BaseException:
            self.__exit__()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self._lock_path.unlink(missing_ok=True)
        self._lock.close()

    def get(self, key: str) -> Any:
        """Return a value, or None."""
        return self._values.get(key)

    def set(self, key: str, value: Any) -> None:
        """Keep a value."""
        self._values[key] = value
        self._write()

    def delete(self, key: str) -> None:
        """Forget a value."""
        if self._values.pop(key, None) is not None:
            self._write()

    def remove(self) -> None:
        """Remove the file: there is nothing left to continue."""
        self._path.unlink(missing_ok=True)

    def _load(self, content: bytes) -> None:
        try:
            data = json.loads(content)
            if data["format"] != _FORMAT:
                raise ValueError
            self.starts, self._values = data["starts"] + 1, dict(data["values"])
        except (ValueError, TypeError, KeyError) as error:
            raise ConfigurationError(
                f"{self._path} is not a progress file, so it is left unchanged. Give --resume another path."
            ) from error

    def _write(self) -> None:
        part = self._path.with_name(f".{self._path.name}.{os.getpid()}.part")
        content = json.dumps({"format": _FORMAT, "starts": self.starts, "values": self._values})
        try:
            part.write_text(content, encoding="utf-8")
            os.replace(part, self._path)
        finally:
            part.unlink(missing_ok=True)
