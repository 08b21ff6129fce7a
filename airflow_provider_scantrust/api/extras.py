"""
The table of the connection's extra fields: name, default, and the function that reads the value.

Rule 1: it imports almost nothing, because every Airflow component builds the connection form from it.
Rule 2: every path is here and nowhere else. A connection's extra can change each path, so that a user whose
        service differs does not have to wait for a release.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from airflow_provider_scantrust.api.hosts import is_path

TRUE_WORDS = {"true", "yes", "on", "1"}
FALSE_WORDS = {"false", "no", "off", "0"}
_LONGEST_TEXT = 4_096
# The public client asks for tasks//<task_id>, with two slashes.
_TASK_PATH = re.compile(r"(/[A-Za-z0-9._~-]+)*//?\{task_id\}(/[A-Za-z0-9._~-]+)*/?")
_STATE = re.compile(r"[a-z0-9_.]{1,40}")


@dataclass(frozen=True)
class Dialect:
    """
    What may differ at a service: the paths of the calls, and the states of jobs.

    Paths end in ``/``: Scantrust redirects other paths, and most clients turn a redirected POST into a GET.

    :param task_path: Has ``{task_id}`` in place of the id.
    :param done_states: More words for a job that succeeded, as :func:`spell_state` writes them.
    """

    upload_path: str = "/api/v2/scm/upload/"
    upload_async_path: str = "/api/v2/scm/upload/async/"
    task_path: str = "/api/v2/scm/tasks/{task_id}/"
    me_path: str = "/api/v2/me/"
    done_states: tuple[str, ...] = ()
    failed_states: tuple[str, ...] = ()


SCANTRUST = Dialect()


def spell_state(word: str) -> str:
    """Return the word for a state in lower case, with ``_`` for spaces and hyphens."""
    return word.strip().lower().replace(" ", "_").replace("-", "_")


@dataclass(frozen=True)
class Extra:
    """
    One setting of the connection's extra.

    :param type: The type in JSON; the value may also be text, as in a connection URI.
    :param read: Returns the checked value; raises ``ValueError`` with the allowed values.
    """

    default: Any
    type: str
    read: Callable[[Any], Any]
    choices: tuple[str, ...] = ()


def _number(
    default: float | None, least: float = 0.001, most: float = 86_400, *, whole: bool = False
) -> Extra:
    def read(value: Any) -> float:
        try:
            number = float(value)
        except (TypeError, ValueError, OverflowError):
            number = float("nan")
        if isinstance(value, bool) or not least <= number <= most or (whole and number % 1):
            raise ValueError(f"a {'whole ' if whole else ''}number from {least:g} to {most:g}")
        return int(number) if whole else number

    return Extra(default, "integer" if whole else "number", read)


def _read_scheme(value: Any) -> str:
    for scheme in ("UAT", "JWT", "login"):
        if isinstance(value, str) and value.strip().lower() == scheme.lower():
            return scheme
    raise ValueError("UAT, JWT or login")


def _read_flag(value: Any) -> bool:
    word = str(value).strip().lower()
    if word not in TRUE_WORDS | FALSE_WORDS:
        raise ValueError("true or false")
    return word in TRUE_WORDS


def _read_verify(value: Any) -> bool | str:
    if not isinstance(value, str | bool | int) or len(str(value)) > _LONGEST_TEXT:
        raise ValueError("true, false, or the path of a CA bundle")
    try:
        return _read_flag(value)
    except ValueError:
        return str(value).strip()


def _read_path(value: Any) -> str:
    path = _with_slash(value)
    if path == "/" or not is_path(path):
        raise ValueError("a path below the host, such as /some/path/, without spaces")
    return path


def _read_task_path(value: Any) -> str:
    path = _with_slash(value)
    if (
        path.startswith("//")
        or len(path) > _LONGEST_TEXT
        or {".", ".."} & set(path.split("/"))
        or not _TASK_PATH.fullmatch(path)
    ):
        raise ValueError("a path below the host with {task_id} in it, such as /some/path/{task_id}/")
    return path


def _with_slash(value: Any) -> str:
    path = value.strip() if isinstance(value, str) else "?"
    return path if path.startswith("/") else f"/{path}"


def _read_states(value: Any) -> tuple[str, ...]:
    words = value.split(",") if isinstance(value, str) else value
    if isinstance(words, list | tuple) and len(words) <= 20 and all(isinstance(word, str) for word in words):
        states = tuple(sorted({spell_state(word) for word in words if word.strip()}))
        if all(map(_STATE.fullmatch, states)):
            return states
    raise ValueError("a few words, as a list or separated by commas")


def _read_url(value: Any) -> str:
    """Return an https URL for links: a browser would also follow ``javascript:``."""
    if isinstance(value, str) and re.fullmatch(r"https?://[!-~]+", value.strip(), re.IGNORECASE):
        return value.strip()
    raise ValueError("a URL that begins with https://")


# All settings of the extra. The form shows them in this order, so those that most users need come first.
EXTRAS: dict[str, Extra] = {
    "auth_scheme": Extra("UAT", "string", _read_scheme, ("UAT", "JWT", "login")),
    "login_endpoint": Extra(None, "string", _read_path),
    "verify": Extra(True, "string", _read_verify),
    "portal_url": Extra(None, "string", _read_url),
    "allow_plain_http": Extra(False, "boolean", _read_flag),
    # Just above the 60 s after which Scantrust's gateway answers 504.
    "request_timeout": _number(75.0),
    "retry_seconds": _number(300.0),
    # Scantrust: rate limits, authenticated: 3000 a minute, which is 50 a second; some are left for workers.
    "max_polls_per_second": _number(47, 1, whole=True),
    "connect_timeout": _number(10.0),
    "retry_attempts": _number(None, 1, whole=True),
    # 999 follows from Scantrust's advice: "fewer than 1000 codes".
    "items_per_call": _number(999, 1, 999, whole=True),
    "upload_path": Extra(SCANTRUST.upload_path, "string", _read_path),
    "upload_async_path": Extra(SCANTRUST.upload_async_path, "string", _read_path),
    "task_path": Extra(SCANTRUST.task_path, "string", _read_task_path),
    "me_path": Extra(SCANTRUST.me_path, "string", _read_path),
    "done_states": Extra(SCANTRUST.done_states, "string", _read_states),
    "failed_states": Extra(SCANTRUST.failed_states, "string", _read_states),
}
