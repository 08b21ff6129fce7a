"""The commands in the form that Airflow needs from a provider (Airflow 3.2 and later)."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable
from typing import Any

from airflow.cli.cli_config import ActionCommand, Arg, GroupCommand

from airflow_provider_scantrust.cli.table import COMMANDS, Argument, Command


def get_commands() -> list[Any]:
    """Return `airflow scantrust`."""
    return [
        GroupCommand(
            name="scantrust",
            help="Upload to Scantrust without a Dag, and find out what is wrong",
            subcommands=[_action(command) for command in COMMANDS],
        )
    ]


def _action(command: Command) -> ActionCommand:
    return ActionCommand(
        name=command.name,
        help=command.help,
        func=_runner(command),
        args=list(map(_arg, command.arguments)),
        epilog=command.epilog or None,
    )


def _arg(argument: Argument) -> Arg:
    make: Any = Arg
    arg: Arg = make(argument.flags, **argument.options)
    return arg


def _runner(command: Command) -> Callable[[argparse.Namespace], None]:
    def run_command(arguments: argparse.Namespace) -> None:
        from airflow_provider_scantrust.cli.main import run

        sys.exit(run(command, arguments))

    return run_command
