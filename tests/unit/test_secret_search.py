"""The search for secrets finds what is there, however it is written."""

from __future__ import annotations

import json
import sqlite3
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from cryptography.fernet import Fernet

from secret_search import SecretSearch, files_of, values_of

SECRET = "mark/4711+=&\"'\\ed"
KEY = Fernet.generate_key().decode()


@pytest.mark.parametrize(
    "written",
    [
        SECRET,
        f"scantrust://:{quote(SECRET, safe='')}@127.0.0.1",
        json.dumps({"password": SECRET}),
        json.dumps({"event": json.dumps({"password": SECRET})}),
        repr({"password": SECRET}),
        "Basic bWFyay80NzExKz0mIidcZWQ=",
    ],
)
def test_secret_is_found_however_it_is_written(written: str) -> None:
    search = SecretSearch([SECRET], [])
    search.look([("a", b"nothing"), ("b", f"before {written} after".encode())])
    assert ["b"] == search.found


def test_each_of_two_secrets_in_one_place_counts() -> None:
    search = SecretSearch([SECRET, "other-4712"], [])
    search.look([("a", f"{SECRET} {SECRET} other-4712".encode())] * 2)
    assert ["a", "a"] == search.found


def test_mark_that_is_elsewhere_or_nowhere_is_unseen() -> None:
    search = SecretSearch([SECRET], [("logs/*", "mark"), ("database/*", "mark"), ("logs/*", "debug")])
    search.look([("logs/a.log", b"a mark"), ("parts/b.log", b"mark debug")])
    assert ["'mark' in database/*", "'debug' in logs/*"] == search.unseen


def test_files_are_read_but_those_left_out(tmp_path: Path) -> None:
    (tmp_path / "logs").mkdir()
    for name in ("logs/a", "b", "left_out"):
        (tmp_path / name).write_text(name)
    assert {"logs/a": b"logs/a", "b": b"b"} == dict(files_of(tmp_path, without=["left_out"]))


@pytest.mark.parametrize(
    "value", [SECRET, json.dumps([SECRET]), SECRET.encode(), Fernet(KEY).encrypt(SECRET.encode()).decode()]
)
def test_values_of_a_database_are_read_and_decrypted(tmp_path: Path, value: Any) -> None:
    connection = sqlite3.connect(tmp_path / "a.db")
    connection.execute("CREATE TABLE trigger (id INTEGER, kwargs TEXT)")
    connection.execute("CREATE TABLE other (value TEXT)")
    connection.executemany("INSERT INTO trigger VALUES (?, ?)", [(1, None), (2, value)])
    connection.commit()
    connection.close()
    for tables in ((), ("trigger",)):
        search = SecretSearch([SECRET], [])
        search.look(values_of(f"sqlite:///{tmp_path / 'a.db'}", KEY, tables))
        assert ["database/trigger.kwargs"] == search.found
    search = SecretSearch([SECRET], [])
    search.look(values_of(f"sqlite:///{tmp_path / 'a.db'}", KEY, ["other"]))
    assert [] == search.found
