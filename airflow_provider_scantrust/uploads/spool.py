"""
The rows of an upload between reading and sending: checked, merged, and stored on disk instead of in memory.

Rule 1: no row is lost silently: ``rows == keys + merged + rejected``.
Rule 2: the same rows make the same spool in any process; a retry depends on it.
Why SQLite, and why like this: ``docs/adr/0009-the-spool.md``.
"""

from __future__ import annotations

import json
import os
import sqlite3
import tempfile
from array import array
from collections.abc import Callable, Iterable, Iterator, Mapping
from hashlib import blake2b
from itertools import groupby, islice
from operator import itemgetter
from typing import Any, Literal

from airflow_provider_scantrust.api.texts import plural, show
from airflow_provider_scantrust.exceptions import InvalidInput
from airflow_provider_scantrust.uploads.check import BadRow, Row, RowCheck, list_problems
from airflow_provider_scantrust.uploads.doubts import BETWEEN

_BATCH = 500
# One INSERT of many rows takes little more than half the time of one INSERT for each row.
_TOGETHER = 50
_LOOKED_AT_TOGETHER = 50
_MOST_NAMED = 20
_HASHES = 1 << 15

# Never committed: only this connection reads the file, and the file ends with the connection.
_SCHEMA = """
PRAGMA page_size = 16384; PRAGMA journal_mode = OFF; PRAGMA synchronous = OFF; PRAGMA locking_mode = EXCLUSIVE; PRAGMA cache_size = -8000;
BEGIN EXCLUSIVE;
CREATE TABLE rows (line INTEGER PRIMARY KEY, key TEXT, data TEXT);
CREATE TABLE rejects (line INTEGER PRIMARY KEY, kind TEXT, reason TEXT);
"""

# Line, key and data. Data is what a row sets, as one text: the number of its field set and the values, joined
# by BETWEEN. If a value is not text or holds BETWEEN, data is JSON, which escapes BETWEEN.
_Kept = tuple[int, str, str]


class Spool:
    """
    A context manager that holds an upload's rows in a temporary file of its own.

    Only one thread may use it. The file has no name once it is open, so the system removes it when the
    process ends, even after SIGKILL.

    :param on_duplicate: For rows of one key with different data: the last value of each field wins, or fail.
    :raises InvalidInput: ``data_key`` is not a name.
    """

    def __init__(self, data_key: str, *, on_duplicate: Literal["last", "fail"] = "last") -> None:
        self.data_key = data_key
        self.on_duplicate = on_duplicate
        self.rows = self.merged = self.rejected = 0
        self._check = RowCheck(data_key)
        self._field_sets: dict[tuple[str, ...], int] = {}
        # Separate hashes for lengths and texts, so that the size of the batches does not change the
        # fingerprint.
        self._hashes = [(blake2b(digest_size=16), blake2b(digest_size=16)) for _ in range(2)]
        # Hash of data -> rows: at least as many as have the same data.
        self._counts = array("I", bytes(array("I").itemsize * _HASHES))

    def __enter__(self) -> Spool:
        handle, path = tempfile.mkstemp(".spool", "scantrust-")
        try:
            os.close(handle)
            self._db = sqlite3.connect(path, isolation_level=None)
            self._db.executescript(_SCHEMA)
        finally:
            os.unlink(path)
        return self

    def __exit__(self, *exception: object) -> None:
        self._db.close()

    @property
    def keys(self) -> int:
        """Distinct keys; each has one row to send."""
        return self.rows - self.merged - self.rejected

    @property
    def fingerprint(self) -> str:
        """A hash of data_key and of the checked rows, in order. It and the limits determine the plan."""
        hashes = [one.hexdigest() for pair in self._hashes for one in pair]
        whole = [self.data_key, list(self._field_sets), hashes]
        return blake2b(json.dumps(whole).encode(), digest_size=16).hexdigest()

    def fill(self, rows: Iterable[tuple[int, Any]], *, warn: Callable[[str], None]) -> None:
        """
        Check and store rows; a row that cannot be sent is rejected with the reason. Call this once.

        :param rows: Line and row (or an ``UnreadableRow``); line numbers rise from row to row.
        :raises InvalidInput: Rows of one key carry different data, and ``on_duplicate`` is "fail".
        :raises sqlite3.OperationalError: The disk is full.
        """
        pairs = iter(rows)
        while batch := list(islice(pairs, _BATCH)):
            self.rows += len(batch)
            self._keep(*self._read(batch))
        for note in getattr(rows, "notes", ()):
            warn(note)
        # Sorting all keys once costs a third of an index that is kept while rows come in.
        self._db.execute("CREATE INDEX by_key ON rows (key)")
        if self._db.execute("SELECT 1 FROM rows GROUP BY key HAVING count(*) > 1").fetchone():
            self._merge()
        if self.merged:
            have = "row has" if self.merged == 1 else "rows have"
            warn(f"{self.merged:,} {have} the key of an earlier one: the last value of each field is sent.")
        self._check.doubts.report(warn)

    def reject(self, key: str, kind: str, reason: str) -> int:
        """Note that the rows of a key, including merged ones, were not uploaded; return how many."""
        return self._db.execute(
            "INSERT OR REPLACE INTO rejects SELECT line, ?, ? FROM rows WHERE key = ?",
            (kind, _storable(reason), key),
        ).rowcount

    def forget_rejects(self) -> None:
        self._db.execute("DELETE FROM rejects")

    def rejects(self) -> Iterator[tuple[int, str, str]]:
        """Return line, kind and reason of each rejected row, ordered by line."""
        yield from self._db.execute("SELECT line, kind, reason FROM rejects ORDER BY line")

    def count_kinds(self) -> dict[str, int]:
        """Return kind -> rows that are rejected."""
        return dict(self._db.execute("SELECT kind, count(*) FROM rejects GROUP BY kind ORDER BY min(line)"))

    def read(self, up_to: Mapping[str, int] | None = None) -> Iterator[tuple[str, str]]:
        """
        Return key and data of each row to send, in the order of the file.

        :param up_to: Data -> line up to which rows with it are left out.
        """
        query = "SELECT line, key, data FROM rows WHERE line > ? AND data IS NOT NULL ORDER BY line LIMIT ?"
        last = -1
        while page := self._db.execute(query, (last, _BATCH)).fetchall():
            last = page[-1][0]
            for line, key, data in page:
                if not up_to or line > up_to.get(data, -1):
                    yield key, data

    def crowds(self, more_than: int) -> dict[str, int]:
        """Return data -> rows with it, where these are more than ``more_than``."""
        if max(self._counts) <= more_than:
            return {}
        return {data: rows for data, rows in self.groups() if rows > more_than}

    def groups(self) -> Iterator[tuple[str, int]]:
        """Return all data, each with the number of its rows."""
        self._db.execute("CREATE INDEX IF NOT EXISTS by_data ON rows (data)")
        query = "SELECT data, count(*) FROM rows WHERE data > ? GROUP BY data ORDER BY data LIMIT ?"
        last = ""
        while page := self._db.execute(query, (last, _BATCH)).fetchall():
            last = page[-1][0]
            yield from page

    def rows_with(self, data: str, limit: int, offset: int = 0) -> list[tuple[int, str]]:
        """Return line and key of rows with this data, in the order of the file."""
        query = "SELECT line, key FROM rows WHERE data = ? ORDER BY line LIMIT ? OFFSET ?"
        return self._db.execute(query, (data, limit, offset)).fetchall()

    def decode(self, rows: Iterable[tuple[str, str]]) -> list[Row]:
        """Return rows as they are sent, from key and data."""
        names = {str(number): (self.data_key, *names) for names, number in self._field_sets.items()}
        decoded = []
        for key, data in rows:
            values = data.split(BETWEEN) if BETWEEN in data else json.loads(data)
            number, values[0] = values[0], key
            decoded.append(dict(zip(names[number], values, strict=True)))
        return decoded

    def _read(self, batch: list[tuple[int, Any]]) -> tuple[list[int], list[str], list[str]]:
        """Return lines, keys and data of the rows that pass; the others are rejected."""
        lines: list[int] = []
        keys: list[str] = []
        data: list[str] = []
        check = self._check
        for start in range(0, len(batch), _LOOKED_AT_TOGETHER):
            numbers, items = zip(*batch[start : start + _LOOKED_AT_TOGETHER], strict=True)
            found = check.read_plain(items)
            if found is None:
                for line, key, text in self._read_each(zip(numbers, items, strict=True)):
                    lines.append(line)
                    keys.append(key)
                    data.append(text)
                continue
            names, plain_keys, texts = found
            number = str(self._number_of(names))
            lines += numbers
            keys += plain_keys
            data += [number + text for text in texts]
        return lines, keys, data

    def _read_each(self, some: Iterable[tuple[int, Any]]) -> Iterator[_Kept]:
        for line, item in some:
            try:
                key, names, values = self._check.read(item, line)
            except BadRow as error:
                reason = _storable(str(error))
                self._db.execute("INSERT INTO rejects VALUES (?, ?, ?)", (line, error.kind, reason))
                self.rejected += 1
            else:
                yield line, key, self._encode(names, values)

    def _number_of(self, names: tuple[str, ...]) -> int:
        return self._field_sets.setdefault(names, len(self._field_sets))

    def _keep(self, lines: list[int], keys: list[str], data: list[str]) -> None:
        self._count(data)
        for texts, (lengths, content) in zip((keys, data), self._hashes, strict=True):
            lengths.update(array("Q", map(len, texts)))
            content.update("".join(texts).encode())
        cells: list[int | str] = [0] * (3 * len(lines))
        cells[::3], cells[1::3], cells[2::3] = lines, keys, data
        for size in (3 * _TOGETHER, 3):
            whole = len(cells) // size * size
            insert = f"INSERT INTO rows VALUES (?, ?, ?){', (?, ?, ?)' * (size // 3 - 1)}"  # noqa: S608 - no values
            self._db.executemany(insert, [cells[start : start + size] for start in range(0, whole, size)])
            del cells[:whole]

    def _count(self, data: Iterable[str]) -> None:
        counts = self._counts
        for value in map(hash, data):
            counts[value % _HASHES] += 1

    def _encode(self, names: tuple[str, ...], values: Iterable[Any]) -> str:
        whole = [str(self._number_of(names)), *values]
        is_text = all(isinstance(value, str) and BETWEEN not in value for value in whole)
        return BETWEEN.join(whole) if is_text else json.dumps(whole)

    def _merge(self) -> None:
        """Merge rows of one key into the first of them; the others keep their line and lose their data."""
        # With the plus, SQLite reads the index in order instead of looking each key up and sorting.
        rows = self._db.execute(
            "SELECT line, key, data FROM rows INDEXED BY by_key WHERE +key IN "
            "(SELECT key FROM rows GROUP BY key HAVING count(*) > 1) ORDER BY key, line"
        )
        conflicts: list[str] = []
        self._db.executemany("UPDATE rows SET data = ? WHERE line = ?", self._fold(rows, conflicts))
        if conflicts:
            raise InvalidInput(
                f"Nothing was sent, because rows with the same key have different data: {'; '.join(conflicts)}. "
                'Fix them, or upload them as a `source` with on_duplicate="last", which merges them.'
            )

    def _fold(self, rows: Iterable[_Kept], conflicts: list[str]) -> Iterator[tuple[str | None, int]]:
        for key, same_key in groupby(rows, itemgetter(1)):
            first, _, whole = given = next(same_key)
            line_before = first
            for line, _, data in same_key:  # noqa: B031 - the first was taken out
                self.merged += 1
                if data != whole:
                    if self.on_duplicate == "fail" and len(conflicts) < _MOST_NAMED:
                        conflicts.append(f"{self.data_key} {show(key)} is on lines {line_before} and {line}")
                    field_set = data[: data.find(BETWEEN) + 1]
                    if field_set and whole.startswith(field_set):
                        whole = data
                    else:
                        known, update = self.decode([(key, whole), (key, data)])
                        row = known | update
                        names = tuple(sorted(row.keys() - {self.data_key}))
                        whole = self._encode(names, [row[name] for name in names])
                line_before = line
                yield None, line
            if whole != given[2]:
                self._count([whole])
                yield whole, first


def _storable(reason: str) -> str:
    """Return a reason without lone surrogates, which it may quote from a row and which SQLite refuses."""
    return reason.encode(errors="backslashreplace").decode()


def name_problems(spool: Spool) -> str:
    """Return what must be fixed before anything of a strict upload is sent."""
    problems = [f"row {line}, {reason}" for line, _, reason in spool.rejects()]
    return (
        f"Nothing was sent, because {plural(len(problems), 'row')} of {spool.rows} must be fixed first: "
        f"{list_problems(problems)}."
    )
