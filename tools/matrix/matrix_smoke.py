"""Checks the installed provider against the Airflow it is installed with; run by nox in each environment."""

from __future__ import annotations

import importlib
import json
import os
import pkgutil
import subprocess
import sys
import tempfile
import time
import traceback
from collections.abc import Callable
from pathlib import Path
from urllib.parse import quote

from local_airflow import LocalAirflow

PACKAGE = "airflow_provider_scantrust"
DIST = "airflow-provider-scantrust"
DAG_ID = "scantrust_matrix"
ROWS = 3
PORTAL = "https://portal.example.com/"
# Imported only where they can be: the page's by an API server that has pages, the facets where OpenLineage
# is.
PAGE = {f"{PACKAGE}.plugins.app", f"{PACKAGE}.plugins.internals"}
FACETS = {f"{PACKAGE}.lineage.facets"}


class CheckFailed(Exception):
    """What was checked is not so."""


def require(claim: bool, otherwise: str) -> None:
    """Raise CheckFailed unless the claim holds."""
    if not claim:
        raise CheckFailed(otherwise)


def has_pages() -> bool:
    """Whether this Airflow has pages of plugins in its UI."""
    from airflow import __version__ as release

    return not release.startswith(("2.", "3.0."))


def check_import() -> None:
    """Import every module of the provider."""
    package = importlib.import_module(PACKAGE)
    left_out = FACETS if has_pages() else FACETS | PAGE
    for module in pkgutil.walk_packages(package.__path__, f"{PACKAGE}."):
        if not module.name.endswith(".__main__") and module.name not in left_out:
            importlib.import_module(module.name)


def check_provider() -> None:
    """Ask Airflow for the provider, its hook and its form, and validate what the provider says of itself."""
    import airflow
    import jsonschema  # type: ignore[import-untyped, unused-ignore]
    from airflow.providers_manager import ProvidersManager

    from airflow_provider_scantrust import __version__
    from airflow_provider_scantrust.get_provider_info import get_provider_info

    schema = Path(airflow.__path__[0]) / "provider_info.schema.json"
    jsonschema.validate(get_provider_info(), json.loads(schema.read_text()))
    # The form first: Airflow 3.1 makes it with stand-ins for classes that loading the hook would fix.
    missing = get_provider_info()["connection-types"][0]["conn-fields"].keys() - form_fields()
    require(not missing, f"the connection form lacks {missing}")
    hook = ProvidersManager().hooks["scantrust"]  # type: ignore[no-untyped-call, unused-ignore]
    require(hook is not None, "Airflow can not load the hook")
    command = [sys.executable, "-W", "ignore", "-m", "airflow", "providers", "list", "--output", "json"]
    listed = subprocess.run(command, capture_output=True, text=True, check=True, timeout=120).stdout
    # Some versions print log lines to the same stream.
    rows = json.loads(listed[listed.index("[{") :])
    listed_as = [(row["package_name"], row["version"]) for row in rows]
    require((DIST, __version__) in listed_as, f"`airflow providers list` has only {listed_as}")


def form_fields() -> set[str]:
    """Return the provider's fields in Airflow's connection form."""
    from airflow import __version__ as release
    from airflow.providers_manager import ProvidersManager

    from airflow_provider_scantrust.get_provider_info import get_provider_info

    if release.startswith("2."):
        widgets = ProvidersManager().connection_form_widgets  # type: ignore[no-untyped-call, unused-ignore]
        return {name.rpartition("__")[2] for name in widgets if name.startswith("extra__scantrust__")}
    if release.startswith("3.0."):
        # It shows such fields only if Flask-AppBuilder is installed, which it does not need otherwise.
        return set(get_provider_info()["connection-types"][0]["conn-fields"])
    from airflow.api_fastapi.core_api.services.ui.connections import HookMetaService

    forms = [form for form in HookMetaService.hook_meta_data() if form.connection_type == "scantrust"]
    return set(forms[0].extra_fields or {})


def check_connection(uri: str) -> None:
    """Read the connection from the environment and reach the sandbox with it."""
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

    os.environ["AIRFLOW_CONN_SCANTRUST_DEFAULT"] = uri
    works, message = ScantrustHook().test_connection()
    require(works, message)


def check_deferred_dag(home: Path, uri: str) -> None:
    """Run a DAG that waits in the triggerer, in a whole Airflow."""
    dags = Path(__file__).parent / "matrix_dags"
    with LocalAirflow(home, dags, connections={"scantrust_default": uri}) as airflow:
        run_id = airflow.trigger(DAG_ID)
        seen: set[tuple[str, str | None]] = set()
        state = airflow.wait_for_run(
            DAG_ID,
            run_id,
            timeout=180,
            progress=lambda tasks: seen.update((task.task_id, task.state) for task in tasks),
        )
        logs = [airflow.logs(DAG_ID, run_id, task) for task, end in seen if end == "failed"]
        logs.append(airflow.parts["scheduler"].tail())
        require(state == "success", "\n".join(logs))
        require(("wait", "deferred") in seen, f"the sensor was never seen deferred: {seen}")
        result = airflow.xcom(DAG_ID, run_id, "wait")
        require(result["codes_affected"] == ROWS, str(result))
        for task in ("submit", "wait"):
            check_link(airflow, run_id, task)
        check_page(airflow)


def check_link(airflow: LocalAirflow, run_id: str, task: str) -> None:
    """Ask for the task's link to the portal, as the UI does."""
    links = airflow.api("GET", f"dags/{DAG_ID}/dagRuns/{run_id}/taskInstances/{task}/links")
    require(links.get("extra_links", links).get("Scantrust portal") == PORTAL, f"links of {task}: {links}")


def check_page(airflow: LocalAirflow) -> None:
    """Ask for the page as the UI does, or see that an older Airflow is none the worse for it."""
    plugins = {plugin["name"]: plugin for plugin in airflow.api("GET", "plugins")["plugins"]}
    require("scantrust" in plugins, f"plugins: {sorted(plugins)}")
    apps = plugins["scantrust"].get("react_apps", [])
    require(len(apps) == (5 if has_pages() else 0), f"pages: {apps}")
    for app in apps:
        bundle = airflow.get_text(app["bundle_url"])
        require("globalThis.Scantrust" in bundle, bundle[:200])
    if has_pages():
        found = airflow.api("GET", "/scantrust/uploads")["uploads"]
        require([row.get("codes") for row in found] == [None, ROWS], str(found))


def main(result_path: Path) -> None:
    """Run all checks and write what became of each into a JSON file."""
    from airflow_provider_scantrust.sandbox import Sandbox

    started = time.monotonic()
    results: dict[str, object] = {}

    def check(name: str, what: str, function: Callable[[], None]) -> None:
        print(f"  {what}", flush=True)
        try:
            function()
        except Exception as error:
            traceback.print_exc()
            results[name] = f"FAILED ({type(error).__name__})"
        else:
            results[name] = "ok"

    with tempfile.TemporaryDirectory() as folder, Sandbox(seed=10) as sandbox:
        os.environ["AIRFLOW_HOME"] = f"{folder}/none"
        os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"
        os.environ["AIRFLOW__LOGGING__LOGGING_LEVEL"] = "ERROR"
        # Two questions in the triggerer, so that the wait is long enough to be seen.
        sandbox.jobs(times=None, polls=4)
        uri = sandbox.connection_uri
        uri += f"{'&' if '?' in uri else '?'}portal_url={quote(PORTAL, safe='')}"
        check("import", "importing every module", check_import)
        check("provider", "asking Airflow for the provider, its hook and its form", check_provider)
        check("connection", "testing the connection", lambda: check_connection(uri))
        check("deferred DAG", "running a DAG", lambda: check_deferred_dag(Path(folder) / "home", uri))
    results["seconds"] = round(time.monotonic() - started)
    result_path.write_text(json.dumps(results))


if __name__ == "__main__":
    main(Path(sys.argv[1]))
