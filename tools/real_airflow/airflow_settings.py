"""The settings of a local Airflow: everything on this machine, nothing sent out, and quick to react."""

from __future__ import annotations

import base64
import configparser
import os
import secrets
from pathlib import Path

# Airflow's default intervals are meant for a server, not for a test that waits.
_COMMON = {
    "core.executor": "LocalExecutor",
    "core.load_examples": "False",
    "core.parallelism": "8",
    "core.test_connection": "Enabled",
    "core.hostname_callable": "socket.gethostname",
    "core.min_serialized_dag_update_interval": "0",
    "core.min_serialized_dag_fetch_interval": "0",
    "scheduler.scheduler_heartbeat_sec": "1",
    "scheduler.job_heartbeat_sec": "1",
    "scheduler.scheduler_idle_sleep_time": "0.2",
    "scheduler.trigger_timeout_check_interval": "2",
    "scheduler.orphaned_tasks_check_interval": "10",
    "scheduler.catchup_by_default": "False",
    "scheduler.scheduler_health_check_threshold": "15",
    # A worker that died with its supervisor is noticed by its missing heartbeat only.
    "scheduler.task_instance_heartbeat_timeout": "30",
    "scheduler.task_instance_heartbeat_timeout_detection_interval": "5",
    # A worker that deferred may be seen to end only after this time; Airflow fails a task whose trigger
    # has fired and which runs again by then.
    "workers.min_heartbeat_interval": "1",
    "triggerer.job_heartbeat_sec": "1",
    # Triggers of a triggerer that died are taken over after this time.
    "triggerer.triggerer_health_check_threshold": "10",
    "usage_data_collection.enabled": "False",
}

_AIRFLOW_3 = {
    "core.auth_manager": "airflow.api_fastapi.auth.managers.simple.simple_auth_manager.SimpleAuthManager",
    "core.simple_auth_manager_all_admins": "True",
    "dag_processor.refresh_interval": "2",
    "dag_processor.bundle_refresh_check_interval": "1",
    "dag_processor.min_file_process_interval": "30",
    "dag_processor.parsing_processes": "1",
    "dag_processor.print_stats_interval": "0",
    "api.host": "127.0.0.1",
    "api.workers": "1",
    "api.enable_xcom_deserialize_support": "True",
}

_AIRFLOW_2 = {
    "scheduler.dag_dir_list_interval": "2",
    "scheduler.min_file_process_interval": "10",
    "scheduler.parsing_processes": "1",
    "api.auth_backends": "airflow.api.auth.backend.default",
    "api.enable_xcom_deserialize_support": "True",
    "webserver.web_server_host": "127.0.0.1",
    "webserver.workers": "1",
    "webserver.expose_config": "False",
}

# Airflow 2 asks for no login if the role of a stranger is Admin, so no user has to be made.
_WEBSERVER_CONFIG = 'AUTH_ROLE_PUBLIC = "Admin"\nWTF_CSRF_ENABLED = True\n'


def write_settings(home: Path, dags_folder: Path, port: int, major: int, extra: dict[str, str]) -> None:
    """
    Write ``airflow.cfg`` into ``home``; keys of ``extra`` are "section.option".

    A file and not environment variables, so that ``AIRFLOW_HOME=… airflow …`` in a shell is the same Airflow.
    """
    secret = secrets.token_urlsafe(48)
    url = f"http://127.0.0.1:{port}"
    settings = {
        **_COMMON,
        "core.dags_folder": str(dags_folder),
        "core.plugins_folder": str(home / "plugins"),
        "core.fernet_key": base64.urlsafe_b64encode(os.urandom(32)).decode(),
        "database.sql_alchemy_conn": f"sqlite:///{home / 'airflow.db'}",
        "logging.base_log_folder": str(home / "logs"),
    }
    if major == 2:
        settings |= {**_AIRFLOW_2, "webserver.web_server_port": str(port), "webserver.base_url": url}
        settings |= {"webserver.secret_key": secret}
        (home / "webserver_config.py").write_text(_WEBSERVER_CONFIG)
    else:
        settings |= {**_AIRFLOW_3, "api.port": str(port), "api.base_url": f"{url}/", "api.secret_key": secret}
        settings |= {"core.execution_api_server_url": f"{url}/execution/", "api_auth.jwt_secret": secret}
        settings |= {"dag_processor.dag_bundle_storage_path": str(home / "bundles")}
    settings |= extra

    config = configparser.RawConfigParser()
    for key, value in sorted(settings.items()):
        section, _, option = key.partition(".")
        if not config.has_section(section):
            config.add_section(section)
        # Airflow reads the file with interpolation.
        config.set(section, option, value.replace("%", "%%"))
    path = home / "airflow.cfg"
    path.touch(mode=0o600)
    with path.open("w") as file:
        config.write(file)


def environment(
    home: Path, python: Path, connections: dict[str, str], extra: dict[str, str]
) -> dict[str, str]:
    """Make the environment of all parts: the caller's, without settings of another Airflow."""
    env = {
        name: value
        for name, value in os.environ.items()
        # Without bytecode every part takes half as long again to start.
        if not name.startswith(("AIRFLOW_", "_AIRFLOW_")) and name != "PYTHONDONTWRITEBYTECODE"
    }
    env["AIRFLOW_HOME"] = str(home)
    env["PATH"] = os.pathsep.join([str(python.parent), env.get("PATH", os.defpath)])
    env["PYTHONUNBUFFERED"] = "1"
    env["NO_PROXY"] = env["no_proxy"] = "127.0.0.1,localhost"
    env["SCARF_ANALYTICS"] = "false"
    # Airflow 2.11 refuses LocalExecutor on SQLite, which is too slow for a server and enough for one DAG.
    env["_AIRFLOW__SKIP_DATABASE_EXECUTOR_COMPATIBILITY_CHECK"] = "1"
    env |= {f"AIRFLOW_CONN_{name.upper()}": value for name, value in connections.items()}
    return env | extra
