"""The command line on a real sandbox."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_scantrust.cli.main import main
from airflow_provider_scantrust.sandbox import Sandbox


@dataclass(frozen=True)
class Ran:
    """What a command wrote, and its exit code."""

    code: int
    out: str
    err: str


@pytest.fixture(scope="session")
def _running() -> Iterator[Sandbox]:
    with Sandbox(time_scale=0.01, rate_limits=False) as sandbox:
        yield sandbox


@pytest.fixture
def sandbox(_running: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Sandbox:
    """A sandbox with 3000 codes, and a connection to it."""
    _running.reset()
    _running.seed(3000)
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", _running.connection_json)
    # `main` sets it for its process.
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
    return _running


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Callable[..., Ran]:
    def call(*arguments: object) -> Ran:
        capsys.readouterr()
        code = main(list(map(str, arguments)))
        return Ran(code, *capsys.readouterr())

    return call


@pytest.fixture
def start() -> Iterator[Callable[..., subprocess.Popen[str]]]:
    """Start a command in a process of its own."""
    started: list[subprocess.Popen[str]] = []

    def call(*arguments: object) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "airflow_provider_scantrust", *map(str, arguments)]
        pipes: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, "text": True}
        # As on a terminal; what a shell runs in the background ignores Ctrl-C.
        listen = partial(signal.signal, signal.SIGINT, signal.SIG_DFL)
        process = subprocess.Popen(command, env=dict(os.environ), preexec_fn=listen, **pipes)
        started.append(process)
        return process

    yield call
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def make_csv(tmp_path: Path) -> Callable[..., Path]:
    def make(rows: int, *more: str, lots: int = 0) -> Path:
        path = tmp_path / "rows.csv"
        lines = (f"SBX{number:08d},L-{number % lots if lots else number}" for number in range(1, rows + 1))
        path.write_text("\n".join(["extended_id,lot_number", *lines, *more]) + "\n", encoding="utf-8")
        return path

    return make
