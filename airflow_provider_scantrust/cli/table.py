"""
All commands and their arguments, as values.

Rule: it imports nothing but argparse, because Airflow reads it for each of its own commands.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

DEFAULT_CONN_ID = "scantrust_default"


@dataclass(frozen=True)
class Argument:
    """One argument, as ``ArgumentParser.add_argument`` takes it."""

    flags: tuple[str, ...]
    options: dict[str, Any]


@dataclass(frozen=True)
class Command:
    """
    A command.

    :param target: Module and function that run it.
    """

    name: str
    help: str
    target: str
    arguments: tuple[Argument, ...]
    epilog: str = ""


def _pair(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not name or not equals:
        raise ValueError
    return name, value


def _whole(text: str) -> int:
    number = int(text)
    if number < 1:
        raise ValueError
    return number


def _seconds(text: str) -> float:
    number = float(text)
    if not 0 < number < float("inf"):
        raise ValueError
    return number


def _above_zero(text: str) -> float:
    return _seconds(text)


def _share(text: str) -> float:
    number = float(text)
    if not 0 <= number < float("inf"):
        raise ValueError
    return number


# argparse names the type in its message.
_pair.__name__, _whole.__name__, _seconds.__name__, _above_zero.__name__, _share.__name__ = (
    "NAME=VALUE",
    "whole number above 0",
    "number of seconds above 0",
    "number above 0",
    "number",
)


def _a(*flags: str, **options: Any) -> Argument:
    return Argument(flags, options)


_COMMON = (
    _a("--conn-id", default=DEFAULT_CONN_ID, metavar="ID", help="the Airflow connection (%(default)s)"),
    _a(
        "--output",
        choices=("table", "json"),
        default="table",
        help="how the result is written to standard output; all else goes to standard error (%(default)s)",
    ),
)
_SOURCE = (
    _a("file", metavar="FILE", help="a path, or a URL of Airflow's object storage"),
    _a(
        "--data-key",
        default="extended_id",
        metavar="FIELD",
        help="the field that selects codes (%(default)s)",
    ),
    _a(
        "--mode",
        choices=("auto", "sync", "async"),
        default="auto",
        help="auto follows Scantrust's advice (%(default)s)",
    ),
    _a(
        "--column",
        type=_pair,
        action="append",
        default=[],
        metavar="COLUMN=FIELD",
        help="the field for a column; nothing after = leaves the column out (may be repeated)",
    ),
    _a(
        "--constant",
        type=_pair,
        action="append",
        default=[],
        metavar="FIELD=VALUE",
        help="a value that is added to each row (may be repeated)",
    ),
    _a(
        "--source-format",
        metavar="NAME",
        help="csv, tsv, jsonl, parquet, xlsx, …; by default the file's name decides",
    ),
    _a("--encoding", metavar="NAME", help="for a text file that is not UTF-8"),
    _a("--delimiter", metavar="CHARACTER", help="for a CSV file; by default the header shows it"),
    _a("--quotechar", metavar="CHARACTER", help='for a CSV file, if it is not "; empty for none'),
    _a("--skip-rows", type=int, metavar="N", help="rows before the header"),
    _a(
        "--null-value",
        action="append",
        metavar="TEXT",
        help="a text that means no value; the field is left unchanged (may be repeated)",
    ),
    _a("--sheet", metavar="NAME", help="for an Excel file: the sheet's name, or its number, counted from 0"),
    _a(
        "--on-duplicate",
        choices=("last", "fail"),
        default="last",
        help="what to do with rows that have the same key (%(default)s)",
    ),
    _a("--rejects", metavar="PATH", help="where to write the rows that are not uploaded, with their reasons"),
    _a(
        "--codes-per-key", type=_above_zero, metavar="N", help="about how many codes one value of the key has"
    ),
    _a("--items-per-call", type=_whole, metavar="N", help="maximum number of rows in one synchronous call"),
    _a("--ids-per-job", type=_whole, metavar="N", help="maximum number of extended_ids in one job"),
)
_REACTIONS = {"choices": ("warn", "fail", "ignore"), "default": "warn"}
_WAITING = (
    _a(
        "--poll-interval",
        type=_seconds,
        default=10.0,
        metavar="SECONDS",
        help="seconds between two status polls (%(default)s)",
    ),
    _a(
        "--timeout",
        type=_seconds,
        default=86_400.0,
        metavar="SECONDS",
        help="seconds to wait for jobs (%(default)s)",
    ),
)
_HERE = "airflow_provider_scantrust.cli"

COMMANDS = (
    Command(
        "check",
        "show who the token belongs to, on which host, and how fast it answers",
        f"{_HERE}.check:check",
        _COMMON,
    ),
    Command(
        "plan",
        "read a file and show what an upload would do; send nothing",
        f"{_HERE}.upload:plan",
        (*_SOURCE, *_COMMON),
        "Exit code 3: some rows cannot be sent.",
    ),
    Command(
        "upload",
        "upload a file",
        f"{_HERE}.upload:upload",
        (
            *_SOURCE,
            _a(
                "--max-rejected",
                type=_share,
                metavar="N",
                help="with more rejected rows than this, the upload ends; below 1, a share of all rows",
            ),
            _a(
                "--max-in-flight",
                type=_whole,
                default=16,
                metavar="N",
                help="maximum number of requests at the same time (%(default)s)",
            ),
            _a("--on-unmatched", **_REACTIONS, help="what to do if keys match no code (%(default)s)"),
            _a(
                "--on-discarded",
                **_REACTIONS,
                help="what to do if the campaign does not have a field (%(default)s)",
            ),
            _a("--no-wait", action="store_true", help="do not wait for jobs"),
            *_WAITING,
            _a(
                "--resume",
                metavar="PATH",
                help="keep progress in this file, and continue from it; it is removed when all is done",
            ),
            *_COMMON,
        ),
        "Exit code 3: not all rows were updated.",
    ),
    Command(
        "task",
        "show asynchronous jobs: states, counts and times",
        f"{_HERE}.tasks:task",
        (
            _a("task_ids", nargs="+", metavar="ID", help="task_id of a job"),
            _a("--wait", action="store_true", help="wait until all have ended"),
            *_WAITING,
            *_COMMON,
        ),
        "Exit code 1: a job has failed, or is not known.",
    ),
    Command(
        "verify",
        "compare the service with what this package assumes about it",
        f"{_HERE}.verify.command:verify",
        (
            _a("--extended-id", metavar="ID", help="a code that you own, to test writes"),
            _a(
                "--field",
                metavar="NAME",
                help="a field of the code's campaign; its value on this code changes",
            ),
            _a("--value", metavar="TEXT", help="the value that the field has after the test"),
            _a("--yes", action="store_true", help="do not ask before writing"),
            _a(
                "--report",
                default="scantrust-verify.json",
                metavar="PATH",
                help="where to write the masked report (%(default)s)",
            ),
            _a(
                "--samples",
                nargs=2,
                metavar=("REPORT", "FOLDER"),
                help="call nothing, and turn a report into samples of tests/contract",
            ),
            *_COMMON,
        ),
        "Exit code 3: something differs.",
    ),
    Command(
        "sandbox",
        "serve a local imitation of Scantrust",
        f"{_HERE}.sandbox:sandbox",
        (
            _a("--port", type=int, help="port to listen on; 0 takes a free one"),
            _a("--seed", type=int, metavar="N", help="start with N codes, from SBX00000001 on"),
            _a("--seed-csv", metavar="FILE", help="start with the codes of a CSV file"),
            _a("--field", action="append", metavar="NAME", help="another SCM field (may be repeated)"),
            _a("--token", help="the token that has all permissions"),
            _a("--time-scale", type=float, metavar="F", help="real seconds per service second"),
            _a("--no-rate-limits", action="store_true", help="never answer 429"),
            _a(
                "--deviation",
                action="append",
                metavar="NAME",
                help="reverse an assumption about the service (may be repeated)",
            ),
        ),
    ),
)
