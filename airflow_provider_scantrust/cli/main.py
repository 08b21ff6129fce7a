"""
Run a command: parse it, run it, and turn an error into one sentence and an exit code.

Rule: the result goes to standard output, everything else to standard error, so that a script can read the
result.
"""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from importlib import import_module

from airflow_provider_scantrust.cli.output import FAILED, INTERRUPTED, TEMPORARY, Output
from airflow_provider_scantrust.cli.table import COMMANDS, Command
from airflow_provider_scantrust.exceptions import ScantrustError


def main(arguments: Sequence[str] | None = None) -> int:
    """Run `python -m airflow_provider_scantrust`; return the exit code."""
    parsed = make_parser().parse_args(arguments)
    return run(next(command for command in COMMANDS if command.name == parsed.command), parsed)


def make_parser() -> argparse.ArgumentParser:
    """Return the parser of all commands."""
    parser = argparse.ArgumentParser(
        prog="python -m airflow_provider_scantrust",
        description="Upload to Scantrust without a Dag, and find out what is wrong.",
        epilog="Exit codes: 0 success, 1 error, 2 wrong arguments, 3 some rows failed or something differs, 75 temporary error, 130 Ctrl-C.",
    )
    commands = parser.add_subparsers(dest="command", required=True, metavar="COMMAND")
    for command in COMMANDS:
        sub = commands.add_parser(
            command.name, help=command.help, description=command.help, epilog=command.epilog
        )
        for argument in command.arguments:
            sub.add_argument(*argument.flags, **argument.options)
    return parser


def run(command: Command, arguments: argparse.Namespace) -> int:
    """Run a command; return the exit code."""
    # Airflow's own commands do the same: without this variable, connections in the database are not found. It
    # is not public. If a later Airflow ignores it, connections in the environment are still found.
    os.environ.setdefault("_AIRFLOW_PROCESS_CONTEXT", "server")
    out = Output(getattr(arguments, "output", "table"))
    try:
        # Airflow logs to standard output.
        with redirect_stdout(sys.stderr):
            module, _, function = command.target.partition(":")
            code: int = getattr(import_module(module), function)(arguments, out)
            return code
    except ScantrustError as error:
        out.say(f"{type(error).__name__}: {error}")
        return FAILED if error.permanent else TEMPORARY
    except KeyboardInterrupt as stop:
        out.say(str(stop) or "Stopped.")
        return INTERRUPTED
    except (OSError, ImportError) as error:
        out.say(f"{type(error).__name__}: {error}")
        return FAILED
