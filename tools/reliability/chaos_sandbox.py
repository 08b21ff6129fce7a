"""A sandbox in a process of its own, steered over its control calls; it outlives every kill of Airflow's parts."""

from __future__ import annotations

import csv
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from itertools import islice
from pathlib import Path
from types import TracebackType
from typing import Any

import requests

from airflow_parts import Part, end_parts

LOG = "sandbox.log"
_PAGE = 5000


class SandboxProcess:
    """
    Start it with ``with``; the calls are those of ``airflow_provider_scantrust.sandbox.Sandbox``.

    :param folder: Where its log goes, which has the token in it.
    :param start_timeout: Seconds that the start may take.
    :param token: The token that it knows.
    :param settings: Changes to the sandbox's settings.
    """

    def __init__(
        self,
        folder: Path,
        start_timeout: float = 30.0,
        token: str = "sandbox-token-not-a-secret",  # noqa: S107 - it is none
        **settings: Any,
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        module = ["-m", "airflow_provider_scantrust.sandbox"]
        command = [sys.executable, *module, "--port", "0", "--token", token]
        self._part = Part("sandbox", command, dict(os.environ), folder / LOG)
        self._settings = settings
        self._start_timeout = start_timeout
        self._http = requests.Session()
        self._http.trust_env = False
        self.url = ""
        self.token = ""
        self.is_stopped = False

    def __enter__(self) -> SandboxProcess:
        self._part.log_path.write_text("")
        self._part.start()
        try:
            deadline = time.monotonic() + self._start_timeout
            while not (found := re.search(r"AIRFLOW_CONN_SCANTRUST_DEFAULT='(\{.*\})'", self._log())):
                if time.monotonic() > deadline or not self._part.is_running:
                    raise RuntimeError(f"the sandbox did not start:\n{self._log()}")
                time.sleep(0.1)
            connection = json.loads(found[1])
            self.url, self.token = connection["host"], connection["password"]
            self._call("PATCH", "settings/", self._settings)
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def connection(self, **extra: Any) -> str:
        """Return the Airflow connection as JSON."""
        return json.dumps(
            {"conn_type": "scantrust", "host": self.url, "password": self.token, "extra": extra}
        )

    def stop_answering(self) -> None:
        """Stop the process where it is: connections are taken by the kernel, and nothing comes back."""
        self._part.signal(signal.SIGSTOP, whole=True)
        self.is_stopped = True

    def go_on(self) -> None:
        """Let the process go on; it then does what it was asked meanwhile, also for clients that hung up."""
        self._part.signal(signal.SIGCONT, whole=True)
        self.is_stopped = False

    def add_codes(self, path: Path) -> int:
        """Add the codes of a CSV file; return how many."""
        added = 0
        with path.open(encoding="utf-8", newline="") as file:
            codes = csv.DictReader(file)
            while some := list(islice(codes, _PAGE)):
                added += int(self._call("POST", "codes/", {"codes": some})["result"])
        return added

    def configure(self, **settings: Any) -> None:
        """Change settings."""
        self._call("PATCH", "settings/", settings)

    def fault(self, **fault: Any) -> None:
        """Script a fault."""
        self._call("POST", "faults/", fault)

    def faults(self) -> list[dict[str, Any]]:
        """Return the faults and how often each has acted."""
        return list(self._call("GET", "faults/"))

    def clear_faults(self) -> None:
        """Forget all faults."""
        self._call("DELETE", "faults/")

    def jobs(self, **steering: Any) -> None:
        """Steer the jobs to come."""
        self._call("POST", "jobs/", steering)

    def tasks(self) -> list[dict[str, Any]]:
        """Return all jobs."""
        return list(self._call("GET", "tasks/"))

    def transcript(self) -> list[dict[str, Any]]:
        """Return the requests."""
        return list(self._call("GET", "transcript/"))

    def codes(self) -> Iterator[dict[str, Any]]:
        """Return every code."""
        page = 1
        while True:
            answer = self._call("GET", f"codes/?page={page}&page_size={_PAGE}")
            yield from answer["results"]
            if answer["next"] is None:
                return
            page += 1

    def _call(self, method: str, path: str, json: Any = None, **options: Any) -> Any:
        answer = self._http.request(method, f"{self.url}/_sandbox/{path}", json=json, timeout=60, **options)
        if not answer.ok:
            raise RuntimeError(f"{method} {path}: {answer.status_code} {answer.text}")
        return answer.json()

    def _log(self) -> str:
        return self._part.tail(lines=100)

    def _end(self) -> None:
        self.go_on()
        end_parts([self._part], grace_seconds=5)
