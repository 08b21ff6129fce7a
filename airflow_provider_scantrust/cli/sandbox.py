"""`sandbox`: the same as `scantrust-sandbox`."""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout

from airflow_provider_scantrust.cli.output import Output
from airflow_provider_scantrust.cli.table import COMMANDS
from airflow_provider_scantrust.exceptions import ConfigurationError

SANDBOX_FLAGS = [
    argument.flags[0] for command in COMMANDS if command.name == "sandbox" for argument in command.arguments
]


def sandbox(arguments: argparse.Namespace, out: Output) -> int:
    """Serve a sandbox until it is stopped."""
    try:
        from airflow_provider_scantrust.sandbox.cli import main
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}: pip install 'airflow-provider-scantrust[sandbox]'."
        ) from error
    words: list[str] = []
    for flag in SANDBOX_FLAGS:
        given = getattr(arguments, flag[2:].replace("-", "_"))
        if given is True:
            words.append(flag)
        # `given in (None, False)` would also be true of 0, the free port.
        elif given is not None and given is not False:
            words += [f"{flag}={each}" for each in (given if isinstance(given, list) else [given])]
    with redirect_stdout(out.stdout):
        return main(words)
