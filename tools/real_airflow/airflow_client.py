"""Drives an Airflow by its public REST API: v2 of Airflow 3, and what Airflow 2 has of it in v1."""

from __future__ import annotations

import ast
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, TypeVar

import requests

T = TypeVar("T")

END_STATES = frozenset({"success", "failed"})


class ApiError(Exception):
    """Airflow's API refused a request; ``status`` and ``body`` are its answer."""

    def __init__(self, what: str, status: int, body: str) -> None:
        super().__init__(f"{what}: HTTP {status}: {body[:2000]}")
        self.status = status
        self.body = body


class DagImportError(Exception):
    """A file of the DAG folder can not be imported; the message has its traceback."""


@dataclass(frozen=True)
class TaskInstance:
    """The latest try of a task in a run. ``pid`` and ``hostname`` stay None if no worker ever ran it."""

    task_id: str
    map_index: int
    state: str | None
    try_number: int
    pid: int | None
    hostname: str | None
    trigger: dict[str, Any] | None
    raw: dict[str, Any]


Progress = Callable[[list[TaskInstance]], None]


class AirflowClient:
    """
    What a test or a demo asks of a running Airflow. Every wait is bounded and raises TimeoutError.

    :param base_url: Where the UI and the API are.
    :param api_version: "v2" (Airflow 3) or "v1" (Airflow 2.11).
    """

    def __init__(self, base_url: str, api_version: str = "v2") -> None:
        self.ui_url = base_url
        self._api_version = api_version
        self._http = requests.Session()
        # A proxy or .netrc of the user's has no say in calls to this machine.
        self._http.trust_env = False

    def api(self, method: str, path: str, json: Any = None, params: dict[str, Any] | None = None) -> Any:
        """
        Call the REST API and return the decoded answer.

        :param method: "GET", "POST", …
        :param path: What comes after ``/api/v2/``; with a leading slash, the whole path.
        :param json: The body.
        :param params: The query.
        :raises ApiError: Every answer that is not a 2xx.
        """
        response = self._send(method, path, json, params)
        if response.status_code == 401 and self._api_version == "v2":
            self._login()
            response = self._send(method, path, json, params)
        for _ in range(5):
            if response.status_code != 500 or "Database error" not in response.text:
                break
            # SQLite was locked for longer than Airflow waits, and nothing was written.
            time.sleep(2)
            response = self._send(method, path, json, params)
        if not response.ok:
            raise ApiError(f"{method} {path}", response.status_code, response.text)
        return response.json() if response.content else None

    def get_text(self, path: str) -> str:
        """Return what is under a path of the UI; ApiError if there is nothing."""
        response = self._http.get(f"{self.ui_url}{path}", timeout=30)
        if not response.ok:
            raise ApiError(f"GET {path}", response.status_code, response.text)
        return response.text

    def _send(self, method: str, path: str, json: Any, params: dict[str, Any] | None) -> requests.Response:
        url = self.ui_url + (path if path.startswith("/") else f"/api/{self._api_version}/{path}")
        headers = {"Accept": "application/json"}
        return self._http.request(method, url, json=json, params=params, headers=headers, timeout=90)

    def _login(self) -> None:
        response = self._http.get(f"{self.ui_url}/auth/token", timeout=30)
        if not response.ok:
            raise ApiError("GET /auth/token", response.status_code, response.text)
        self._http.headers["Authorization"] = f"Bearer {response.json()['access_token']}"

    def sign_in(self, username: str, password: str) -> str:
        """Call the API as this user of the simple auth manager from now on, and return the user's token."""
        response = self._http.post(
            f"{self.ui_url}/auth/token", json={"username": username, "password": password}, timeout=30
        )
        if not response.ok:
            raise ApiError("POST /auth/token", response.status_code, response.text)
        token = str(response.json()["access_token"])
        self._http.headers["Authorization"] = f"Bearer {token}"
        return token

    def wait_for_dag(self, dag_id: str, timeout: float = 60) -> None:
        """
        Wait until a DAG is parsed.

        :raises DagImportError: Airflow could not import a file of the DAG folder.
        """

        def is_parsed() -> bool:
            errors = self.api("GET", "importErrors")["import_errors"]
            if errors:
                raise DagImportError("\n".join(f"{e['filename']}\n{e['stack_trace']}" for e in errors))
            try:
                self.api("GET", f"dags/{dag_id}")
            except ApiError as error:
                if error.status == 404:
                    return False
                raise
            return True

        _wait(is_parsed, timeout, f"DAG {dag_id} was not parsed")

    def unpause(self, dag_id: str) -> None:
        """Let the scheduler run a DAG; new DAGs are paused."""
        self.api("PATCH", f"dags/{dag_id}", {"is_paused": False})

    def trigger(
        self,
        dag_id: str,
        conf: dict[str, Any] | None = None,
        logical_date: datetime | None = None,
        run_id: str | None = None,
    ) -> str:
        """Wait for a DAG, unpause it, start a run and return its run id."""
        self.wait_for_dag(dag_id)
        self.unpause(dag_id)
        body: dict[str, Any] = {
            "logical_date": (logical_date or datetime.now(UTC)).isoformat(),
            "conf": conf or {},
        }
        if run_id is not None:
            body["dag_run_id"] = run_id
        return str(self.api("POST", f"dags/{dag_id}/dagRuns", body)["dag_run_id"])

    def run_state(self, dag_id: str, run_id: str) -> str:
        """Return the state of a run."""
        return str(self.api("GET", f"dags/{dag_id}/dagRuns/{run_id}")["state"])

    def wait_for_run(
        self, dag_id: str, run_id: str, timeout: float = 120, progress: Progress | None = None
    ) -> str:
        """
        Wait until a run ends and return "success" or "failed".

        :param progress: Called with all task instances, first at once, then whenever one has a new state.
        """
        seen: list[tuple[str, int, str | None, int]] | None = None

        def has_ended() -> str | None:
            nonlocal seen
            # The run is asked first: its tasks can not change any more once it has ended.
            state = self.run_state(dag_id, run_id)
            if progress is not None:
                tasks = self.tasks(dag_id, run_id)
                now = [(task.task_id, task.map_index, task.state, task.try_number) for task in tasks]
                if now != seen:
                    seen = now
                    progress(tasks)
            return state if state in END_STATES else None

        return _wait(has_ended, timeout, lambda: self._describe_run(dag_id, run_id))

    def tasks(self, dag_id: str, run_id: str) -> list[TaskInstance]:
        """List the task instances of a run, by task id and map index."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances"
        rows: list[dict[str, Any]] = []
        total = 1
        while len(rows) < total:
            page = self.api("GET", path, params={"limit": 100, "offset": len(rows)})
            rows += page["task_instances"]
            total = page["total_entries"] if page["task_instances"] else 0
        tasks = [
            TaskInstance(
                task_id=row["task_id"],
                map_index=row["map_index"],
                state=row["state"],
                try_number=row["try_number"],
                pid=row["pid"],
                hostname=row["hostname"] or None,
                trigger=row["trigger"],
                raw=row,
            )
            for row in rows
        ]
        return sorted(tasks, key=lambda task: (task.task_id, task.map_index))

    def wait_for_task(
        self,
        dag_id: str,
        run_id: str,
        task_id: str,
        states: Collection[str] = END_STATES,
        timeout: float = 60,
        map_index: int = -1,
    ) -> TaskInstance:
        """Wait until a task is in one of the states."""

        def in_state() -> TaskInstance | None:
            for task in self.tasks(dag_id, run_id):
                if (task.task_id, task.map_index) == (task_id, map_index) and task.state in states:
                    return task
            return None

        return _wait(
            in_state, timeout, lambda: f"{task_id} not {sorted(states)}: {self._describe_run(dag_id, run_id)}"
        )

    def xcom(
        self, dag_id: str, run_id: str, task_id: str, key: str = "return_value", map_index: int = -1
    ) -> Any:
        """Return one XCom value; ApiError with status 404 if there is none."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/xcomEntries/{key}"
        params = {"map_index": map_index, "deserialize": "true", "stringify": "false"}
        return self.api("GET", path, params=params)["value"]

    def logs(self, dag_id: str, run_id: str, task_id: str, try_number: int = 1, map_index: int = -1) -> str:
        """Return the log of one try, as text: what the UI shows, one event a line."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}/logs/{try_number}"
        params = {"map_index": map_index, "full_content": "true"}
        content = self.api("GET", path, params=params)["content"]
        if isinstance(content, str):
            # Airflow 2 sends the repr of a list of (host, text).
            return "\n".join(text for _, text in ast.literal_eval(content))
        return "\n".join(_log_line(line) for line in content)

    def set_state(self, dag_id: str, run_id: str, task_id: str, state: str, map_index: int = -1) -> None:
        """Mark a task "success", "failed" or "skipped", as a user does in the UI."""
        path = f"dags/{dag_id}/dagRuns/{run_id}/taskInstances/{task_id}"
        if map_index >= 0:
            path += f"/{map_index}"
        self.api("PATCH", path, {"new_state": state})

    def clear(self, dag_id: str, run_id: str, task_ids: list[str]) -> None:
        """Clear tasks, as a user does in the UI to run them again."""
        body = {"dry_run": False, "dag_run_id": run_id, "task_ids": task_ids, "only_failed": False}
        self.api("POST", f"dags/{dag_id}/clearTaskInstances", {**body, "reset_dag_runs": True})

    def _describe_run(self, dag_id: str, run_id: str) -> str:
        tasks = ", ".join(f"{task.task_id}={task.state}" for task in self.tasks(dag_id, run_id))
        return f"run {run_id} of {dag_id} is {self.run_state(dag_id, run_id)} ({tasks})"


_LEFT_OUT = {"ti_id", "dag_id", "run_id", "task_id", "map_index", "try_number", "filename", "lineno"}


def _log_line(line: Any) -> str:
    if not isinstance(line, dict):
        return str(line)
    head_keys = {"timestamp", "level", "event"}
    rest = {key: value for key, value in line.items() if key not in head_keys | _LEFT_OUT}
    head = " ".join(str(line[key]) for key in ("timestamp", "level", "event") if line.get(key))
    return head + "".join(f" {key}={value}" for key, value in rest.items())


def _wait(question: Callable[[], T | None], timeout: float, complaint: str | Callable[[], str]) -> T:
    deadline = time.monotonic() + timeout
    while True:
        if answer := question():
            return answer
        if time.monotonic() > deadline:
            text = complaint if isinstance(complaint, str) else complaint()
            raise TimeoutError(f"after {timeout:g} s: {text}")
        time.sleep(0.5)
