"""The hook of a command: what it logs is what the command says."""

from __future__ import annotations

from typing import Any

from airflow_provider_scantrust.cli.output import Output
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook


class CommandHook(ScantrustHook):
    """
    A hook that logs to a command's output instead of to Airflow's log of tasks.

    :param out: Where the command writes.
    """

    def __init__(self, conn_id: str, out: Output) -> None:
        super().__init__(conn_id)
        self._out = out

    @property
    def log(self) -> Any:
        """The command's output."""
        return self._out
