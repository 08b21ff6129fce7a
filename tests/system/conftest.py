"""System tests run on one real Airflow, which is started once, and on one sandbox in real time."""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT
from documented import write_dags
from local_airflow import LocalAirflow
from system_steps import DAGS_STAY, EVENTS

# Looked for in everything that Airflow writes; a URI and JSON write them with escapes.
TOKEN = 'marked-token-4711/+=&"-not-a-secret'
EXTRA = "?max_polls_per_second=200"
PASSWORD = 'marked-password-4712/+=&"-not-a-secret'


@pytest.fixture(scope="session")
def running_sandbox() -> Iterator[Sandbox]:
    with Sandbox(token=TOKEN, time_scale=1) as sandbox:
        yield sandbox


@pytest.fixture(scope="session")
def rejects(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Where the example writes the rejected rows; the folder does not exist yet."""
    return tmp_path_factory.mktemp("rejects") / "new"


# These end with the last test that needs them, since an idle Airflow slows all others down.
@pytest.fixture(scope="package")
def airflow(
    running_sandbox: Sandbox, rejects: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    home = tmp_path_factory.mktemp("airflow")
    shutil.copytree(ROOT / "dags_examples", home / "dags", ignore=shutil.ignore_patterns("__pycache__"))
    copy_dags(home, "without_worker")
    # So that its kill takes seconds, and repeats little.
    example = home / "dags" / "scantrust_from_database.py"
    text = example.read_text(encoding="utf-8")
    text = text.replace("minutes=5", "seconds=1").replace("_upload(", "_upload(max_in_flight=2, ")
    example.write_text(text, encoding="utf-8")
    write_dags(home / "dags", home)
    # Only the runs that a test asks for, not also the one of an example that is due today.
    config = {"scheduler.use_job_schedule": "False"}
    with prepare(home, running_sandbox, config, {"REJECTS_STORAGE": f"file://{rejects}"}) as airflow:
        yield airflow


# Airflow refuses Dags with end_from_trigger where a plugin has listeners, as OpenLineage's has.
@pytest.fixture(scope="package")
def airflow_with_openlineage(
    running_sandbox: Sandbox, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[LocalAirflow]:
    home = tmp_path_factory.mktemp("airflow")
    copy_dags(home, "bulk", "lineage", "situations", "system")
    write_dags(home / "dags", home, page="docs/monitor.md")
    transport = {"type": "file", "log_file_path": str(home / EVENTS), "append": True}
    # Only of the Dags that say so: the events of every task would take minutes.
    config = {"openlineage.transport": json.dumps(transport), "openlineage.selective_enable": "True"}
    with prepare(home, running_sandbox, config, {}) as airflow:
        yield airflow


def copy_dags(home: Path, *names: str) -> None:
    (home / "dags").mkdir(exist_ok=True)
    for name in names:
        shutil.copy(Path(__file__).parent / "dags" / f"scantrust_{name}.py", home / "dags")


def prepare(
    home: Path, running_sandbox: Sandbox, config: dict[str, str], env: dict[str, str]
) -> LocalAirflow:
    return LocalAirflow(
        home,
        home / "dags",
        connections={
            # Waits for many jobs run with a sandbox that takes any pace.
            "scantrust_default": f"{running_sandbox.connection_uri}{EXTRA}",
            "marked_4713": json.dumps(
                {
                    "conn_type": "scantrust",
                    "host": running_sandbox.url,
                    "login": "jane",
                    "password": PASSWORD,
                    "extra": {"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"},
                }
            ),
        },
        env=env,
        config={
            # An idle scheduler then takes 5 % of a core; with 0.2 s, 9 %.
            "scheduler.scheduler_idle_sleep_time": "0.5",
            # For the search for secrets.
            "logging.logging_level": "DEBUG",
            # Enough for all that test_waits_at_scale can be told to defer.
            "triggerer.capacity": "2000",
            "triggerer.triggerer_health_check_threshold": "5",
            **DAGS_STAY,
            **config,
        },
    )


@pytest.fixture
def sandbox(running_sandbox: Sandbox) -> Sandbox:
    """The sandbox with the codes of the sample data, as after its start."""
    running_sandbox.reset()
    running_sandbox.add_user("jane", PASSWORD)
    running_sandbox.seed_csv(ROOT / "dags_examples" / "sample_data" / "codes.csv")
    return running_sandbox
