"""
Codes in SQLite, one column per SCM field; knows no HTTP and no rules of the API.

Rule: one connection, one lock. Work on many codes is one SQL statement, so that other threads run meanwhile.
"""

# ruff: noqa: S608  (SQL is put together from column names that this module makes; values are always bound)

from __future__ import annotations

import json
import sqlite3
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from os import PathLike, fspath
from typing import Any

IDENTITY = "extended_id"
SPECIAL = ("serial_number", "product", "activation_status", "blacklist_reason")

_SCHEMA = """
CREATE TABLE IF NOT EXISTS code (
    id INTEGER PRIMARY KEY,
    extended_id TEXT NOT NULL UNIQUE,
    campaign INTEGER NOT NULL,
    serial_number TEXT,
    product TEXT,
    activation_status INTEGER NOT NULL DEFAULT 0,
    blacklist_reason INTEGER NOT NULL DEFAULT 0
);
CREATE INDEX IF NOT EXISTS code_serial_number ON code (serial_number) WHERE serial_number IS NOT NULL;
CREATE TABLE IF NOT EXISTS field (number INTEGER PRIMARY KEY, name TEXT NOT NULL UNIQUE);
CREATE TABLE IF NOT EXISTS kept (kind TEXT, key TEXT, body TEXT NOT NULL, PRIMARY KEY (kind, key));
CREATE TEMP TABLE selected (id INTEGER PRIMARY KEY, campaign INTEGER NOT NULL);
CREATE TEMP TABLE affected (id INTEGER PRIMARY KEY);
"""


class Store:
    """All codes, and small records that other modules keep."""

    def __init__(self, path: str | PathLike[str] | None = None) -> None:
        self._lock = threading.RLock()
        self._sql = sqlite3.connect(
            ":memory:" if path is None else fspath(path), check_same_thread=False, isolation_level=None
        )
        self._sql.row_factory = sqlite3.Row
        if path is not None:
            # Safe against a crash of the sandbox; only a crash of the machine could lose the last moments.
            self._sql.execute("PRAGMA journal_mode = WAL")
            self._sql.execute("PRAGMA synchronous = NORMAL")
        self._sql.executescript(_SCHEMA)
        self._fields = {row["name"]: f"f{row['number']}" for row in self._sql.execute("SELECT * FROM field")}

    def close(self) -> None:
        """Close the database."""
        with self._lock:
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

    def clear(self) -> None:
        """Delete all codes and records; fields stay known."""
        with self.transaction():
            self._sql.execute("DELETE FROM code")
            self._sql.execute("DELETE FROM kept")

    def keep(self, kind: str, key: str, record: Mapping[str, Any]) -> None:
        """Write a small record, replacing what had its key."""
        with self._lock:
            self._sql.execute(
                "INSERT INTO kept VALUES (?, ?, ?)"
                " ON CONFLICT (kind, key) DO UPDATE SET body = excluded.body",
                (kind, key, json.dumps(record)),
            )

    def drop(self, kind: str, key: str) -> None:
        """Delete a small record."""
        with self._lock:
            self._sql.execute("DELETE FROM kept WHERE kind = ? AND key = ?", (kind, key))

    def kept(self, kind: str) -> list[dict[str, Any]]:
        """Read the small records of a kind, oldest first."""
        with self._lock:
            rows = self._sql.execute(
                "SELECT body FROM kept WHERE kind = ? ORDER BY rowid", (kind,)
            ).fetchall()
        return [json.loads(row["body"]) for row in rows]

    def add_field(self, name: str) -> None:
        """Make a column for an SCM field, with an index over the codes that have a value."""
        with self._lock:
            if name in self._fields:
                return
            with self.transaction():
                number = self._sql.execute("INSERT INTO field (name) VALUES (?)", (name,)).lastrowid
                self._sql.execute(f"ALTER TABLE code ADD COLUMN f{number} TEXT")
                self._sql.execute(
                    f"CREATE INDEX code_f{number} ON code (f{number}) WHERE f{number} IS NOT NULL"
                )
            self._fields[name] = f"f{number}"

    def insert(self, names: Sequence[str], rows: Iterable[Sequence[Any]]) -> int:
        """Add codes with these fields; a code that exists gets the values. To be called in a transaction."""
        columns = [self._column(name) for name in names]
        changes = ", ".join(f"{column} = excluded.{column}" for column in columns if column != IDENTITY)
        action = f"DO UPDATE SET {changes}" if changes else "DO NOTHING"
        marks = ", ".join("?" * len(columns))
        statement = (
            f"INSERT INTO code ({', '.join(columns)}) VALUES ({marks}) ON CONFLICT (extended_id) {action}"
        )
        return self._sql.executemany(statement, rows).rowcount

    def insert_numbered(self, count: int, expressions: Mapping[str, str]) -> None:
        """Add codes whose fields are SQL expressions of the code's number, `n`."""
        columns = ", ".join(self._column(name) for name in expressions)
        with self.transaction():
            first = self._sql.execute("SELECT coalesce(max(id), 0) + 1 FROM code").fetchone()[0]
            self._sql.execute(
                f"INSERT INTO code ({columns}) WITH RECURSIVE number (n) AS"
                f" (SELECT ? WHERE ? > 0 UNION ALL SELECT n + 1 FROM number WHERE n < ?)"
                f" SELECT {', '.join(expressions.values())} FROM number",
                (first, count, first + count - 1),
            )

    def count(self, constraints: Mapping[str, Any]) -> int:
        """Count the codes that meet all constraints."""
        where, values = self._where(constraints)
        with self._lock:
            return int(self._sql.execute(f"SELECT count(*) FROM code WHERE {where}", values).fetchone()[0])

    def rows(
        self,
        constraints: Mapping[str, Any],
        field_names: Callable[[int], Iterable[str]],
        *,
        limit: int = 1,
        offset: int = 0,
    ) -> list[dict[str, Any]]:
        """Read codes that meet all constraints, with the fields that their campaign has."""
        where, values = self._where(constraints)
        with self._lock:
            found = self._sql.execute(
                f"SELECT * FROM code WHERE {where} ORDER BY id LIMIT ? OFFSET ?", (*values, limit, offset)
            ).fetchall()
        return [
            {
                "extended_id": row["extended_id"],
                "serial_number": row["serial_number"] or "",
                "campaign": row["campaign"],
                "product": row["product"] or "",
                "activation_status": row["activation_status"],
                "blacklist_reason": row["blacklist_reason"],
                **{name: row[self._fields[name]] or "" for name in field_names(row["campaign"])},
            }
            for row in found
        ]

    def select(self, constraints: Mapping[str, Any]) -> dict[int, int]:
        """Select the codes that meet all constraints, for `update`; count them by campaign."""
        where, values = self._where(constraints)
        self._sql.execute("DELETE FROM selected")
        self._sql.execute(f"INSERT INTO selected SELECT id, campaign FROM code WHERE {where}", values)
        return dict(self._sql.execute("SELECT campaign, count(*) FROM selected GROUP BY campaign").fetchall())

    def update(self, campaign: int, values: Mapping[str, Any], moved_to: int | None = None) -> None:
        """Write values to the selected codes of a campaign, which count as affected from then on."""
        changes = {self._column(name): value if value != "" else None for name, value in values.items()}
        if moved_to is not None:
            changes["campaign"] = moved_to
        assignments = ", ".join(f"{column} = ?" for column in changes)
        selection = "SELECT id FROM selected WHERE campaign = ?"
        self._sql.execute(
            f"UPDATE code SET {assignments} WHERE id IN ({selection})", (*changes.values(), campaign)
        )
        self._sql.execute(f"INSERT OR IGNORE INTO affected {selection}", (campaign,))

    def take_affected(self) -> int:
        """Count the affected codes, each once, and begin anew."""
        count = int(self._sql.execute("SELECT count(*) FROM affected").fetchone()[0])
        self._sql.execute("DELETE FROM affected")
        return count

    def _column(self, name: str) -> str:
        if name in SPECIAL or name in (IDENTITY, "campaign"):
            return name
        try:
            return self._fields[name]
        except KeyError:
            raise ValueError(f"unknown field {name!r}") from None

    def _where(self, constraints: Mapping[str, Any]) -> tuple[str, list[Any]]:
        terms, values = ["1"], []
        for name, value in constraints.items():
            if isinstance(value, list | tuple):
                terms.append(f"{self._column(name)} IN (SELECT value FROM json_each(?))")
                values.append(json.dumps(list(value)))
            else:
                terms.append(f"{self._column(name)} = ?")
                values.append(value)
        return " AND ".join(terms), values
