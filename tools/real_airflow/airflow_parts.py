"""Starts and ends the processes of a local Airflow; Linux only. Airflow itself needs psutil."""

from __future__ import annotations

import atexit
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterable
from functools import cache
from pathlib import Path

import psutil
from psutil import Process

_ENDED = (psutil.STATUS_ZOMBIE, psutil.STATUS_DEAD)


def session_processes(session: int) -> list[Process]:
    """List the live processes of a session: unlike the parent, it survives the death of a process between."""
    found = []
    for process in psutil.process_iter():
        try:
            if os.getsid(process.pid) == session and process.status() not in _ENDED:
                found.append(process)
        except (ProcessLookupError, psutil.NoSuchProcess):
            continue
    return found


def title_of(process: Process) -> str:
    """Return a process's command line, which Airflow rewrites as it works."""
    try:
        # Where a shorter title was written over the arguments, empty ones follow.
        return " ".join(process.cmdline()).strip()
    except psutil.Error:
        return ""


def memory_mb_of(process: Process) -> float:
    """Return the resident memory; a page that processes share counts in parts, so that sums are right."""
    try:
        return float(process.memory_full_info().pss / 2**20)
    except psutil.Error:
        return 0.0


class Part:
    """
    One part of Airflow (scheduler, triggerer, …) in a session of its own, with its output in one log file.

    :param name: The name as Airflow's command line has it.
    :param command: What to run.
    :param env: The whole environment of the part.
    :param log_path: Output of all starts of this part, one after the other.
    """

    def __init__(self, name: str, command: list[str], env: dict[str, str], log_path: Path) -> None:
        self.name = name
        self.log_path = log_path
        self.started_at = 0.0
        self._command = command
        self._env = env
        self._popen: subprocess.Popen[bytes] | None = None
        self._sessions: list[int] = []

    def start(self) -> None:
        """Start the part; does not wait until it works."""
        if self.is_running:
            raise RuntimeError(f"{self.name} runs already, as process {self.pid}")
        self.started_at = time.time()
        with self.log_path.open("ab") as log:
            self._popen = subprocess.Popen(
                self._command,
                env=self._env,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        self._sessions.append(self._popen.pid)
        _guard(self._popen.pid)

    @property
    def pid(self) -> int:
        """The part's main process."""
        if self._popen is None:
            raise RuntimeError(f"{self.name} was never started")
        return self._popen.pid

    @property
    def is_running(self) -> bool:
        return self._popen is not None and self._popen.poll() is None

    @property
    def exit_code(self) -> int | None:
        return None if self._popen is None else self._popen.poll()

    def processes(self) -> list[Process]:
        """List the main process and everything it started, also what outlived it."""
        return [process for session in self._sessions for process in session_processes(session)]

    def signal(self, number: int, *, whole: bool) -> None:
        """
        Send a signal.

        :param number: The signal.
        :param whole: To every process of the part, not only to its main process.
        """
        pids = [process.pid for process in self.processes()] if whole else [self.pid] * self.is_running
        for pid in pids:
            try:
                os.kill(pid, number)
            except ProcessLookupError:
                continue

    def tail(self, lines: int = 25) -> str:
        """Return the end of the part's log, for an error message."""
        try:
            return "\n".join(self.log_path.read_text(errors="replace").splitlines()[-lines:])
        except OSError:
            return "(no log)"


# Reads sessions until this process has ended, also by SIGKILL, and ends those that still run.
_GUARD = """
import os, signal, sys
for session in [int(line) for line in sys.stdin]:
    try:
        os.killpg(session, signal.SIGTERM)
    except ProcessLookupError:
        pass
"""


@cache
def _start_guard() -> subprocess.Popen[bytes]:
    command = [sys.executable, "-I", "-S", "-c", _GUARD]
    guard = subprocess.Popen(command, stdin=subprocess.PIPE, start_new_session=True)
    atexit.register(guard.communicate)
    return guard


def _guard(session: int) -> None:
    pipe = _start_guard().stdin
    assert pipe is not None  # noqa: S101 - for mypy
    pipe.write(f"{session}\n".encode())
    pipe.flush()


def wait_until_gone(parts: Iterable[Part], seconds: float) -> bool:
    """Say whether all processes of the parts ended within the time."""
    parts = list(parts)
    deadline = time.monotonic() + seconds
    # is_running also reaps the main process, which would else stay as a zombie.
    while any(part.is_running or part.processes() for part in parts):
        if time.monotonic() > deadline:
            return False
        time.sleep(0.05)
    return True


def end_parts(parts: Iterable[Part], grace_seconds: float) -> None:
    """End the parts together: ask first, then kill what is left."""
    parts = list(parts)
    for part in parts:
        part.signal(signal.SIGTERM, whole=False)
    if wait_until_gone(parts, grace_seconds):
        return
    # A process may fork while the list is read, so there is more than one round.
    for _ in range(5):
        for part in parts:
            part.signal(signal.SIGKILL, whole=True)
        if wait_until_gone(parts, 2):
            return
    left = [f"{process.pid} {title_of(process)}" for part in parts for process in part.processes()]
    raise RuntimeError(f"processes that SIGKILL did not end: {left}")
