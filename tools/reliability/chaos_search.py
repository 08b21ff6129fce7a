"""Searches what a chaos run writes for the token of its connection."""

from __future__ import annotations

import json

from chaos_sandbox import LOG, SandboxProcess
from chaos_workload import CODE, DAG_ID
from local_airflow import LocalAirflow
from secret_search import SecretSearch, files_of, values_of

# A URI and JSON write it with escapes, so masking the plain text would not be enough.
TOKEN = 'marked-token-4711/+=&"-not-a-secret'  # noqa: S105 - it is none
# Where it is looked for, and what is no secret and is found there, else the place was not searched.
MARKS = [
    (f"logs/dag_id={DAG_ID}/*/attempt=1.log", CODE),
    (f"logs/dag_id={DAG_ID}/*/attempt=1.log.trigger.*", "Scantrust"),
    *((f"parts/{part}*.log", DAG_ID) for part in ("api-server", "scheduler", "triggerer")),
    ("logs/dag_processor/*", DAG_ID),
    ("database/trigger.kwargs", "scantrust_default"),
    ("database/task_instance.next_kwargs", CODE),
    ("database/task_state_store.value", CODE),
    ("database/rendered_task_instance_fields.rendered_fields", CODE),
    ("database/xcom.value", CODE),
    ("transcript", CODE),
]


class ChaosSearch(SecretSearch):
    """
    The search of one run.

    :param airflow: Running.
    """

    def __init__(self, airflow: LocalAirflow) -> None:
        super().__init__([TOKEN], MARKS)
        self._home = airflow.home
        self._database = (airflow.setting("database.sql_alchemy_conn"), airflow.setting("core.fernet_key"))

    def look_at_deferred(self) -> None:
        """Look at what is there only while tasks are deferred."""
        self.look(values_of(*self._database, tables=["trigger", "task_instance"]))

    def look_at_all(self, sandbox: SandboxProcess) -> None:
        """Look at the whole database, at all files but the sandbox's log, and at the transcript."""
        self.look(values_of(*self._database))
        self.look(files_of(self._home, without=[LOG]))
        self.look([("transcript", json.dumps(sandbox.transcript()).encode())])
