"""
A whole Airflow on this machine, for tests and demos: SQLite, LocalExecutor, every part a process of its own.

    with LocalAirflow(home, dags_folder, connections={"scantrust_default": uri}) as airflow:
        run_id = airflow.trigger("my_dag")
        assert airflow.wait_for_run("my_dag", run_id) == "success"

It binds 127.0.0.1 only, asks for no login and sends nothing out. It is no model of a production set-up.
"""

from __future__ import annotations

import configparser
import fcntl
import os
import re
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import Any

import requests
from psutil import Process

from airflow_client import AirflowClient
from airflow_parts import Part, end_parts, memory_mb_of, title_of, wait_until_gone
from airflow_settings import environment, write_settings

# What Airflow calls the process that runs a task's code, from 3.0 on and in 2.11.
_TASK_RUNNER = re.compile(r"airflow worker -- (?P<id>[0-9a-f-]{36})$|airflow task runner: (?P<name>.+)")
_VERSION_SCRIPT = "from importlib.metadata import version; print(version('apache-airflow'))"


class AirflowFailed(Exception):
    """A part of Airflow did not start, or died; the message has the end of its log."""


class LocalAirflow(AirflowClient):
    """
    Starts and drives an Airflow; also usable without ``with``, by ``start()`` and ``stop()``.

    :param home: AIRFLOW_HOME. Database, settings and logs go here; use a new folder for each test session.
    :param dags_folder: Where the DAG files are.
    :param connections: Connection id to URI or JSON; becomes AIRFLOW_CONN_… for all parts.
    :param config: More settings, "section.option" to value.
    :param env: More environment variables for all parts.
    :param python: The interpreter that has Airflow; this one by default.
    :param start_timeout: Seconds that a start may take before it counts as failed.
    """

    def __init__(
        self,
        home: Path,
        dags_folder: Path,
        *,
        connections: dict[str, str] | None = None,
        config: dict[str, str] | None = None,
        env: dict[str, str] | None = None,
        python: Path | str = sys.executable,
        start_timeout: float = 180,
    ) -> None:
        self.home = home.absolute()
        self.dags_folder = dags_folder.absolute()
        self.python = Path(python).absolute()
        self.start_timeout = start_timeout
        self.version = subprocess.check_output([self.python, "-c", _VERSION_SCRIPT], text=True).strip()
        self._major = int(self.version.partition(".")[0])
        self._port = free_port()
        super().__init__(f"http://127.0.0.1:{self._port}", "v1" if self._major == 2 else "v2")
        self._config = config or {}
        self.env = environment(self.home, self.python, connections or {}, env or {})
        self.parts: dict[str, Part] = {}

    def __enter__(self) -> LocalAirflow:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    def start(self) -> None:
        """
        Make the database, start all parts and wait until each of them works.

        :raises AirflowFailed: With the log's end of the part that did not start. Nothing is left running.
        """
        _take_sigterm_as_ctrl_c()
        (self.home / "parts").mkdir(parents=True, exist_ok=True)
        (self.home / "plugins").mkdir(exist_ok=True)
        write_settings(self.home, self.dags_folder, self._port, self._major, self._config)
        with _one_start_at_a_time():
            self._make_database()
            try:
                for name, arguments in self._commands().items():
                    log_path = self.home / "parts" / f"{name}.log"
                    self.parts[name] = Part(name, self._airflow(*arguments), self.env, log_path)
                    self.parts[name].start()
                for name in self.parts:
                    self._wait_until_ready(name)
            except BaseException:
                self.stop()
                raise

    def stop(self) -> None:
        """End every process within about ten seconds; harmless when nothing runs."""
        end_parts(self.parts.values(), grace_seconds=5)

    def restart(self, name: str) -> None:
        """
        End a part if it runs, start it again and wait until it works.

        :param name: "scheduler", "triggerer", "dag-processor" or "api-server" (Airflow 2: "webserver").
        """
        end_parts([self.parts[name]], grace_seconds=5)
        self.start_part(name)

    def start_part(self, name: str) -> None:
        """Start a part that was killed and wait until it works."""
        self.parts[name].start()
        self._wait_until_ready(name)

    def kill(self, name: str, signal_number: int = signal.SIGKILL, *, whole: bool = True) -> None:
        """
        Send a signal to a part; after SIGKILL, wait until it is gone.

        :param whole: To all its processes, as when its container dies (for the scheduler: with the running
            tasks). Otherwise only to its main process.
        """
        part = self.parts[name]
        part.signal(signal_number, whole=whole)
        if signal_number == signal.SIGKILL:
            if whole:
                wait_until_gone([part], 5)
            else:
                _wait_for(lambda: not part.is_running, 5)

    def worker_processes(self) -> list[Process]:
        """
        List the live processes that run a task's code, children of the scheduler's LocalExecutor.

        Their title ends with the task instance's id (Airflow 2: dag, task and run id), see ``runs_task``.
        """
        processes = self.parts["scheduler"].processes()
        return [process for process in processes if is_task_runner(process)]

    def setting(self, name: str) -> str:
        """Return a setting, "section.option", as it is in ``airflow.cfg``."""
        config = configparser.ConfigParser()
        config.read(self.home / "airflow.cfg")
        section, _, option = name.partition(".")
        return config.get(section, option)

    def memory_mb(self) -> dict[str, float]:
        """Return the memory of each part with all its processes."""
        return {
            name: sum(memory_mb_of(process) for process in part.processes())
            for name, part in self.parts.items()
        }

    def run_cli(self, *arguments: str, timeout: float = 120) -> str:
        """Run ``airflow …`` against this Airflow and return its output; AirflowFailed if it fails."""
        command = self._airflow(*arguments)
        done = subprocess.run(
            command,
            env=self.env,
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout,
        )
        if done.returncode != 0:
            raise AirflowFailed(f"{' '.join(command)}: exit {done.returncode}\n{done.stderr[-3000:]}")
        return done.stdout

    def _airflow(self, *arguments: str) -> list[str]:
        return [str(self.python), "-m", "airflow", *arguments]

    def _commands(self) -> dict[str, list[str]]:
        """Return the command line of each part, as ``airflow`` takes it."""
        # Airflow's log servers can not be told to bind 127.0.0.1; the UI reads the same files from the disk.
        commands = {name: [name, "--skip-serve-logs"] for name in ("scheduler", "triggerer")}
        first = ["webserver"] if self._major == 2 else ["api-server", "dag-processor"]
        return {name: [name] for name in first} | commands

    def _make_database(self) -> None:
        database = self.home / "airflow.db"
        if database.exists():
            return
        template = self._database_template()
        if template is not None and template.exists():
            shutil.copyfile(template, database)
            return
        self.run_cli("db", "migrate")
        # Readers then do not wait for writers: four parts share this file. The mode is kept in it.
        connection = sqlite3.connect(database)
        connection.execute("PRAGMA journal_mode=WAL")
        connection.close()
        if template is not None:
            scratch = template.with_suffix(f".{os.getpid()}")
            shutil.copyfile(database, scratch)
            scratch.replace(template)

    def _database_template(self) -> Path | None:
        """An empty database in the virtual environment saves the next start the migration."""
        folder = self.python.parent.parent
        if not (folder / "pyvenv.cfg").exists() or not os.access(folder, os.W_OK):
            return None
        return folder / f"empty-airflow-{self.version}.db"

    def _wait_until_ready(self, name: str) -> None:
        deadline = time.monotonic() + self.start_timeout
        while not self._is_ready(name):
            if time.monotonic() > deadline:
                raise AirflowFailed(self._obituary(name, f"not ready after {self.start_timeout:g} s"))
            for part in self.parts.values():
                if part.exit_code is not None:
                    raise AirflowFailed(self._obituary(part.name, f"ended with code {part.exit_code}"))
            time.sleep(0.1)

    def _is_ready(self, name: str) -> bool:
        path = "api/v1/health" if self._major == 2 else "api/v2/monitor/health"
        try:
            answer = self._http.get(f"{self.ui_url}/{path}", timeout=10)
        except requests.RequestException:
            return False
        if not answer.ok or name in ("api-server", "webserver"):
            return answer.ok
        # Of several triggerers Airflow tells the newest heartbeat.
        key = name.rstrip("-0123456789").replace("-", "_")
        health: dict[str, Any] = answer.json()[key]
        heartbeat = health[f"latest_{key}_heartbeat"]
        if health["status"] != "healthy" or heartbeat is None:
            return False
        # Of this start, not of the one before; the first heartbeat comes before the first loop.
        beat = datetime.fromisoformat(heartbeat)
        return beat.replace(tzinfo=beat.tzinfo or UTC).timestamp() > self.parts[name].started_at

    def _obituary(self, name: str, what: str) -> str:
        part = self.parts[name]
        return f"{name} {what}; the end of {part.log_path}:\n{part.tail()}"


def is_task_runner(process: Process) -> bool:
    """Say whether a process runs a task's code."""
    return _TASK_RUNNER.search(title_of(process)) is not None


def runs_task(process: Process, task_instance_id: str) -> bool:
    """Say whether a worker process runs this task instance (``TaskInstance.raw["id"]``; Airflow 3)."""
    return title_of(process).endswith(task_instance_id)


def _take_sigterm_as_ctrl_c() -> None:
    # Else `timeout` or a CI that ends this process would leave all of Airflow behind.
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and signal.getsignal(signal.SIGTERM) == signal.SIG_DFL:
        signal.signal(signal.SIGTERM, signal.default_int_handler)


@contextmanager
def _one_start_at_a_time() -> Iterator[None]:
    # Two starts at once take longer than one after the other, and both would write the same empty database.
    path = Path(tempfile.gettempdir()) / f"local-airflow-{os.getuid()}.lock"
    with path.open("a") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def free_port() -> int:
    """Return a free port of this machine."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def _wait_for(condition: Callable[[], bool], seconds: float) -> None:
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.05)
