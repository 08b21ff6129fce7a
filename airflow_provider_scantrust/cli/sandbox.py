"""`sandbox`: the same as `scantrust-sandbox`."""

from __future__ import annotations

import argparse
from contextlib import redirect_stdout

from airflow_provider_scantrust.cli.output import Output
from airflow_provider_scantrust.exceptions import ConfigurationError


def sandbox(arguments: argparse.Namespace, out: Output) -> int:
    """Serve a sandbox until it is stopped."""
    try:
        from airflow_provider_scantrust.sandbox.cli import main
    except ModuleNotFoundError as error:
        raise ConfigurationError(
            f"The sandbox needs {error.name}: pip install 'airflow-provider-scantrust[sandbox]'."
        ) from error
    options = arguments.options
    with redirect_stdout(out.stdout):
        return main(options[1:] if options[:1] == ["--"] else options)
