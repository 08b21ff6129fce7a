"""
The codes, in SQLite in memory with one column per SCM field; without HTTP and without the API's rules.

Rule: one connection, one lock. Work on many codes is one SQL statement, so that other threads can run at
the same time.
"""

# ruff: noqa: S608  (SQL is put together from column names that this module makes; values are always bound)

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

IDENTITY = "extended_id"
SPECIAL = ("serial_number", "product", "activation_status", "blacklist_reason")
# What every code has, besides the SCM fields of its campaign, in the order in which it is shown.
COLUMNS = (IDENTITY, "serial_number", "campaign", "product", "activation_status", "blacklist_reason")

_SCHEMA = """
CREATE TABLE code (
    id INTEGER PRIMARY KEY,
    extended_id TEXT NOT NULL UNIQUE,
    campaign INTEGER NOT NULL,
    serial_number TEXT,
    product TEXT,
    activation_status INTEGER NOT NULL DEFAULT 0,
    blacklist_reason INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX code_serial_number ON code (serial_number) WHERE serial_number IS NOT NULL;
CREATE TABLE selected (id INTEGER PRIMARY KEY, campaign INTEGER NOT NULL);
CREATE TABLE affected (id INTEGER PRIMARY KEY);
"""
# The number of the last code with a name like SBX00000001.
_LAST_NUMBERED = """
SELECT coalesce(max(CAST(substr(extended_id, 4) AS INTEGER)), 0) FROM code
WHERE extended_id GLOB 'SBX[0-9]*' AND NOT extended_id GLOB 'SBX*[^0-9]*' AND length(extended_id) <= 15
"""

# Fields and values that select codes. A list means any of its values, "" means no value.
Selection = Iterable[tuple[str, Any]]


class Store:
    """All codes."""

    def __init__(self) -> None:
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(":memory:", check_same_thread=False, isolation_level=None)
        self._sql.row_factory = sqlite3.Row
        self._sql.executescript(_SCHEMA)
        self._columns = {name: name for name in COLUMNS}

    def __del__(self) -> None:
        # Not closed earlier: a request from before a reset may still use it.
        self._sql.close()

    @contextmanager
    def transaction(self) -> Iterator[None]:
        """Do all of the block or nothing."""
        with self._lock:
            self._sql.execute("BEGIN IMMEDIATE")
            try:
                yield
            except BaseException:
                self._sql.execute("ROLLBACK")
                raise
            self._sql.execute("COMMIT")

    def has_column(self, name: str) -> bool:
        return name in self._columns

    def add_field(self, name: str) -> None:
        """Make a column for an SCM field if there is none, with an index over the codes that have a value."""
        with self._lock:
            if name in self._columns:
                return
            column = f"f{len(self._columns)}"
            with self.transaction():
                self._sql.execute(f"ALTER TABLE code ADD COLUMN {column} TEXT")
                self._sql.execute(f"CREATE INDEX code_{column} ON code ({column}) WHERE {column} IS NOT NULL")
            self._columns[name] = column

    def campaign_of(self, extended_id: str) -> int | None:
        """Return the campaign of a code, or None if the code does not exist. Call this in a transaction."""
        found = self._sql.execute(
            "SELECT campaign FROM code WHERE extended_id = ?", (extended_id,)
        ).fetchone()
        return int(found[0]) if found else None

    def put(self, values: Mapping[str, Any]) -> None:
        """Add a code, or set these values on an existing code. Call this in a transaction."""
        columns = [self._columns[name] for name in values]
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns)
        self._sql.execute(
            f"INSERT INTO code ({', '.join(columns)}) VALUES ({', '.join('?' * len(columns))})"
            f" ON CONFLICT (extended_id) DO UPDATE SET {changes}",
            [None if value == "" else value for value in values.values()],
        )

    def insert_numbered(self, count: int, expressions: Mapping[str, str]) -> None:
        """Add codes whose fields are SQL expressions of the code's number, `n`."""
        columns = ", ".join(self._columns[name] for name in expressions)
        with self.transaction():
            first = self._sql.execute(_LAST_NUMBERED).fetchone()[0] + 1
            self._sql.execute(
                f"INSERT INTO code ({columns}) WITH RECURSIVE number (n) AS"
                f" (SELECT ? WHERE ? > 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
                f" SELECT {', '.join(expressions.values())} FROM number",
                (first, count, first + count - 1),
            )

    def count(self, selection: Selection) -> int:
        where, values = self._where(selection)
        with self._lock:
            return int(self._sql.execute(f"SELECT count(*) FROM code WHERE {where}", values).fetchone()[0])

    def rows(
        self, selection: Selection, fields: Mapping[int, list[str]], limit: int | None, offset: int
    ) -> list[dict[str, Any]]:
        """Return the selected codes, with the fields of their campaign."""
        where, values = self._where(selection)
        with self._lock:
            found = self._sql.execute(
                f"SELECT * FROM code WHERE {where} ORDER BY id LIMIT ? OFFSET ?",
                (*values, -1 if limit is None else limit, offset),
            ).fetchall()
        return [
            {
                name: "" if (value := row[self._columns[name]]) is None else value
                for name in (*COLUMNS, *fields[row["campaign"]])
            }
            for row in found
        ]

    def select(self, selection: Selection) -> dict[int, int]:
        """Select codes for `update`, and count them by campaign. Call this in a transaction."""
        where, values = self._where(selection)
        self._sql.execute("DELETE FROM selected")
        self._sql.execute(f"INSERT INTO selected SELECT id, campaign FROM code WHERE {where}", values)
        return dict(self._sql.execute("SELECT campaign, count(*) FROM selected GROUP BY campaign").fetchall())

    def update(self, campaign: int, values: Mapping[str, Any], moved_to: int) -> None:
        """Write values to the selected codes of a campaign, and count these codes as affected."""
        changes = {self._columns[name]: value if value != "" else None for name, value in values.items()}
        changes["campaign"] = moved_to
        assignments = ", ".join(f"{column} = ?" for column in changes)
        selected = "SELECT id FROM selected WHERE campaign = ?"
        self._sql.execute(
            f"UPDATE code SET {assignments} WHERE id IN ({selected})", (*changes.values(), campaign)
        )
        self._sql.execute(f"INSERT OR IGNORE INTO affected {selected}", (campaign,))

    def take_affected(self) -> int:
        """Count the affected codes, each once, and start over."""
        count = int(self._sql.execute("SELECT count(*) FROM affected").fetchone()[0])
        self._sql.execute("DELETE FROM affected")
        return count

    def _where(self, selection: Selection) -> tuple[str, list[Any]]:
        terms, values = ["1"], []
        for name, value in selection:
            column = self._columns[name]
            if isinstance(value, list | tuple):
                nothing = f" OR {column} IS NULL" if "" in value else ""
                terms.append(f"({column} IN (SELECT value FROM json_each(?)){nothing})")
                values.append(json.dumps(list(value)))
            elif value == "":
                terms.append(f"{column} IS NULL")
            else:
                terms.append(f"{column} = ?")
                values.append(value)
        return " AND ".join(terms), values
