"""
Searches for secrets in all that an Airflow has left: files, and every value of its database.

Rule: a search that finds nothing says something only where it finds what is there. So each search also looks
for marks, which are no secrets and went the same ways; a place where a mark is not found was not searched.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Iterable, Iterator
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any
from urllib.parse import quote, quote_plus

from cryptography.fernet import Fernet
from sqlalchemy import create_engine, inspect, text
from sqlalchemy.pool import NullPool

# What Fernet makes begins with its version and the upper half of the time.
_ENCRYPTED = "gAAAAA"


def forms_of(secret: str) -> set[bytes]:
    """Return a secret as it is and as it looks in a URI, in JSON, in JSON within JSON, in Python's repr and in Base64."""
    once = json.dumps(secret)[1:-1]
    forms = {secret, quote(secret), quote(secret, safe=""), quote_plus(secret)}
    forms |= {once, json.dumps(once)[1:-1], repr(secret)[1:-1], repr([secret])[2:-2]}
    forms |= {base64.b64encode(secret.encode()).decode(), base64.urlsafe_b64encode(secret.encode()).decode()}
    return {form.encode() for form in forms}


class SecretSearch:
    """
    Looks at one place after the other.

    :param secrets: What must not be found.
    :param marks: Pattern of a place and what must be found there, at least once.
    """

    def __init__(self, secrets: Iterable[str], marks: Iterable[tuple[str, str]]) -> None:
        self._forms = {form: number for number, secret in enumerate(secrets) for form in forms_of(secret)}
        self._unseen = [(pattern, mark.encode()) for pattern, mark in marks]
        self._found: set[tuple[str, int]] = set()

    @property
    def found(self) -> list[str]:
        """Where a secret was found, once for each secret; which it was is not told."""
        return sorted(place for place, _ in self._found)

    @property
    def unseen(self) -> list[str]:
        """The marks that were not found."""
        return [f"{mark.decode()!r} in {pattern}" for pattern, mark in self._unseen]

    def look(self, places: Iterable[tuple[str, bytes]]) -> None:
        """Look for all secrets, and for the marks that were not found yet."""
        for place, content in places:
            self._found |= {(place, number) for form, number in self._forms.items() if form in content}
            self._unseen = [
                (pattern, mark)
                for pattern, mark in self._unseen
                if not (mark in content and fnmatchcase(place, pattern))
            ]


def files_of(folder: Path, *, without: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """
    Return every file of a folder and what is in it.

    :param without: Files that are left out, relative to the folder.
    """
    for path in sorted(folder.rglob("*")):
        place = path.relative_to(folder).as_posix()
        if path.is_file() and place not in set(without):
            yield place, path.read_bytes()


def values_of(url: str, fernet_key: str, tables: Iterable[str] = ()) -> Iterator[tuple[str, bytes]]:
    """
    Return every value of a database, decrypted, as ``database/<table>.<column>``.

    :param fernet_key: Of the Airflow.
    :param tables: Only these.
    """
    fernet = Fernet(fernet_key)
    engine = create_engine(url, poolclass=NullPool)
    with engine.connect() as connection:
        for table in sorted(tables or inspect(engine).get_table_names()):
            # The names are the database's own.
            for row in connection.execute(text(f'SELECT * FROM "{table}"')).mappings():  # noqa: S608
                for column, value in row.items():
                    if value is not None:
                        yield f"database/{table}.{column}", _as_bytes(value, fernet)


def _as_bytes(value: Any, fernet: Fernet) -> bytes:
    if isinstance(value, bytes | memoryview):
        return bytes(value)
    content = value if isinstance(value, str) else json.dumps(value, default=str)
    return fernet.decrypt(content) if content.startswith(_ENCRYPTED) else content.encode()
