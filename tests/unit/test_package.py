"""What the package promises about itself: names, metadata, imports, options."""

from __future__ import annotations

import inspect
import json
import subprocess
import sys
from datetime import timedelta
from importlib.metadata import entry_points, version
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import airflow
import jsonschema
import pytest
from airflow.providers.common.compat.sdk import AirflowTaskTimeout, TaskDeferred

import airflow_provider_scantrust
from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import extras, settings
from airflow_provider_scantrust.api.inputs import read_task_ids
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.hooks.outcome import push_failure
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.triggers.deferral import defer_wait
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event

AIRFLOW = Path(airflow.__file__).parent
(CONNECTION_TYPE,) = get_provider_info()["connection-types"]


def schema(name: str) -> Any:
    return json.loads((AIRFLOW / name).read_text(encoding="utf-8"))


def parameters(function: Any) -> dict[str, Any]:
    return {
        name: each.default for name, each in inspect.signature(function).parameters.items() if name != "self"
    }


def run_python(code: str) -> str:
    return subprocess.check_output([sys.executable, "-c", code], text=True)


def test_results_of_the_hook_pass_through_an_xcom_where_the_docs_allow_them() -> None:
    code = """
import os  # Airflow reads the setting once in each process.
os.environ["AIRFLOW__CORE__ALLOWED_DESERIALIZATION_CLASSES"] = "airflow_provider_scantrust.api.models.*"
try:
    from airflow.sdk.serde import deserialize, serialize
except ImportError:
    from airflow.serialization.serde import deserialize, serialize
from airflow_provider_scantrust.api.models import UploadResult, read_task
result = UploadResult(1, 1, {"CODE0001": ["market"]})
task = read_task("t-1", {"state": "failed", "created_at": "2026-11-28T14:41:48Z"})
pulled = [deserialize(serialize(each)) for each in (result, task)]
print(pulled == [result, task], pulled[1].is_done, pulled[1].is_failed, pulled[1].created_at == task.created_at)
"""
    assert run_python(code).endswith("True True True True\n")


def test_provider_info_meets_airflows_schema() -> None:
    jsonschema.validate(get_provider_info(), schema("provider_info.schema.json"))


def test_connection_form_meets_airflows_schema() -> None:
    form = schema("provider.yaml.schema.json")["properties"]["connection-types"]
    jsonschema.validate(get_provider_info()["connection-types"], form)


def test_airflow_finds_the_provider_under_its_entry_point() -> None:
    (entry,) = [each for each in entry_points(group="apache_airflow_provider") if "scantrust" in each.value]
    assert get_provider_info() == entry.load()()
    assert get_provider_info()["package-name"] == entry.dist.name  # type: ignore[union-attr]


def test_version_is_written_once() -> None:
    assert version("airflow-provider-scantrust") == airflow_provider_scantrust.__version__


def test_form_shows_settings_that_exist_and_names_their_defaults() -> None:
    fields = CONNECTION_TYPE["conn-fields"]
    placeholders = CONNECTION_TYPE["ui-field-behaviour"]["placeholders"]
    assert [name for name in extras.EXTRAS if name in fields] == list(fields)
    for name, field in fields.items():
        # Airflow 3 stores the defaults of a schema in each connection, where later ones do not reach.
        assert "default" not in field["schema"]
        if name in placeholders:
            assert field["description"].endswith(f" Default: {placeholders[name]}.")
            given = settings.read_settings(password="t", extra={name: placeholders[name]})
            assert settings.read_settings(password="t") == given


def test_form_for_airflow_before_3_2_is_the_same() -> None:
    behaviour = ScantrustHook.get_ui_field_behaviour()
    assert CONNECTION_TYPE["ui-field-behaviour"]["hidden-fields"] == behaviour["hidden_fields"]
    assert CONNECTION_TYPE["ui-field-behaviour"]["relabeling"] == behaviour["relabeling"]
    assert "75" == behaviour["placeholders"]["request_timeout"]


@pytest.mark.parametrize(
    "module", ["waits.jobs", "api.flow", "api.endpoints", "exceptions", "uploads.run", "uploads.check"]
)
def test_protocol_needs_neither_airflow_nor_an_http_library(module: str) -> None:
    run_python(
        "import sys\n"
        "for name in ('airflow', 'requests', 'aiohttp', 'urllib3', 'httpx'): sys.modules[name] = None\n"
        f"import airflow_provider_scantrust.{module}"
    )


def test_importing_a_dag_file_imports_no_http_library() -> None:
    code = (
        "import sys\n"
        "from airflow.providers.common.compat.sdk import BaseOperator, BaseSensorOperator, BaseHook\n"
        "import airflow.triggers.base\n"
        "before = set(sys.modules)\n"
        "from airflow_provider_scantrust import decorators\n"
        "from airflow_provider_scantrust.operators import scantrust\n"
        "from airflow_provider_scantrust.sensors import scantrust\n"
        "from airflow_provider_scantrust.triggers import scantrust\n"
        "from airflow_provider_scantrust.hooks import scantrust\n"
        "heavy = ('requests', 'aiohttp', 'urllib3', 'starlette', 'uvicorn', 'csv', 'sqlite3')\n"
        "print([name for name in set(sys.modules) - before if name.partition('.')[0] in heavy "
        "or 'sandbox' in name or 'transports' in name])"
    )
    assert "[]" == run_python(code).splitlines()[-1]


def test_public_interface_is_the_contract() -> None:
    assert {"scantrust_conn_id": "scantrust_default"} == parameters(ScantrustHook.__init__)
    assert "extended_id" == parameters(ScantrustHook.upload)["data_key"]
    assert ["constraints", "scm_data"] == list(parameters(ScantrustHook.submit))
    assert ["scantrust_task_id"] == list(parameters(ScantrustHook.get_task))
    operator = parameters(ScantrustUploadOperator.__init__)
    for name, default in {
        "items": None,
        "constraints": None,
        "scm_data": None,
        "data_key": "extended_id",
        "mode": "auto",
        "codes_per_key": None,
        "wait_for_completion": True,
        "deferrable": True,
        "poll_interval": 10,
        "on_unmatched": "warn",
        "on_discarded": "warn",
        "scantrust_conn_id": "scantrust_default",
    }.items():
        assert default == operator[name], name
    sensor = parameters(ScantrustTaskSensor.__init__)
    assert (True, 10) == (sensor["deferrable"], sensor["poke_interval"])


@pytest.mark.parametrize("cls", [ScantrustUploadOperator, ScantrustTaskSensor, ScantrustTaskTrigger])
def test_every_parameter_is_documented(cls: type) -> None:
    documented = inspect.getdoc(cls) or ""
    missing = [name for name in parameters(cls) if name != "kwargs" and f":param {name}:" not in documented]
    assert [] == missing


def test_template_fields_are_attributes() -> None:
    operator = ScantrustUploadOperator(task_id="t", items=[])
    sensor = ScantrustTaskSensor(task_id="t", scantrust_task_id="x")
    for task in (operator, sensor):
        assert isinstance(task.template_fields, tuple)
        assert all(hasattr(task, name) for name in task.template_fields)
        assert set(task.template_fields_renderers) <= set(task.template_fields)


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ({}, "exactly one of"),
        ({"items": [], "constraints": {"a": "b"}, "scm_data": {"c": "d"}}, "exactly one of"),
        ({"constraints": {"a": "b"}}, "go together"),
        ({"items": [], "scm_data": {"a": "b"}}, "go together"),
        ({"constraints": {"a": "b"}, "scm_data": {"c": "d"}, "mode": "sync"}, "only be submitted async"),
        ({"items": [], "mode": "fast"}, "`mode` must be one of"),
        ({"items": [], "on_unmatched": "explode"}, "`on_unmatched`"),
        ({"items": [], "on_discarded": None}, "`on_discarded`"),
        ({"items": [], "poll_interval": 0}, "`poll_interval`"),
        ({"items": [], "timeout": -1}, "`timeout`"),
        ({"items": [], "ids_per_job": 0}, "`ids_per_job`"),
        ({"items": [], "codes_per_key": 0}, "`codes_per_key`"),
        ({"items": [], "codes_per_key": "5"}, "`codes_per_key`"),
        ({"source": "a.csv", "max_rejected": -1}, "`max_rejected`"),
        ({"source": "a.csv", "max_rejected": "5"}, "`max_rejected`"),
    ],
)
def test_operator_that_cannot_work_is_refused_when_the_dag_is_read(
    arguments: dict[str, Any], said: str
) -> None:
    with pytest.raises(ValueError, match=said):
        ScantrustUploadOperator(task_id="t", **arguments)


def test_trigger_arguments_are_plain_json_and_complete() -> None:
    trigger = ScantrustTaskTrigger(["a", "b"], 5.0, 1.0, 9.0, 3.0, "other")
    path, arguments = trigger.serialize()
    assert set(parameters(ScantrustTaskTrigger.__init__)) == set(arguments)
    again = ScantrustTaskTrigger(**json.loads(json.dumps(arguments)))
    assert (path, arguments) == again.serialize()
    module, _, name = path.rpartition(".")
    assert getattr(sys.modules[module], name) is ScantrustTaskTrigger


@pytest.mark.parametrize(
    "event",
    [
        None,
        True,
        "complete",
        [],
        {},
        {"status": "complete"},
        {"status": "done", "codes_affected": {}},
        {"codes_affected": {}},
        {"status": "complete", "outcome": {"jobs": 1}},
        {"status": "complete", "outcome": {"jobs": 1, "counts": {}}},
    ],
)
def test_event_that_is_not_understood_is_no_success(event: Any) -> None:
    with pytest.raises(exc.ScantrustError, match="does not understand"):
        read_event(event)


@pytest.mark.parametrize(
    "cls",
    [each for each in vars(exc).values() if isinstance(each, type) and issubclass(each, exc.ScantrustError)],
)
def test_error_survives_the_way_through_an_event(cls: type[exc.ScantrustError]) -> None:
    error = cls("what", status=400, fields={"a": ["b"]}, excerpt="x", retry_after=1.5)
    event = json.loads(json.dumps({"status": "error", "error": error.as_dict()}))
    with pytest.raises(cls) as caught:
        read_event(event)
    assert type(caught.value) is cls
    assert vars(error) == vars(caught.value)
    assert cls.__name__ in (exc.__doc__ or "")
    assert cls.__doc__


def test_xcoms_about_a_failed_task_do_not_hide_its_error() -> None:
    pushed = []

    def fail(*, key: str, value: Any) -> None:
        pushed.append(key)
        raise OSError("no XCom backend")

    failed = exc.TaskFailed("1 of 2 jobs failed.", failed_jobs={"jobs": 2, "failed": 1, "task_ids": ["a"]})
    context: Any = {"ti": SimpleNamespace(xcom_push=fail, try_number=1)}
    push_failure(context, failed, permanent=False)
    assert ["failed_jobs", "failure"] == pushed


def test_error_of_another_version_is_permanent() -> None:
    for name in ("FutureError", "Mapping", "from_dict", None):
        assert exc.from_dict({"type": name}).permanent


@pytest.mark.parametrize(
    ("given", "ids"),
    [
        ("t-1", ["t-1"]),
        (["t-1", "t-2"], ["t-1", "t-2"]),
        ([["t-1"], [], ["t-2", "t-3"]], ["t-1", "t-2", "t-3"]),
        (("t-1",), ["t-1"]),
        (iter(["t-1"]), ["t-1"]),
        ("['t-1', 't-2']", ["t-1", "t-2"]),
        ('["t-1"]', ["t-1"]),
        ([], []),
        # As a template gives an id of digits with render_template_as_native_obj.
        (51, ["51"]),
        (["a", 7], ["a", "7"]),
    ],
)
def test_task_ids_are_read_in_every_form_that_tasks_give(given: Any, ids: list[str]) -> None:
    assert ids == read_task_ids(given)


@pytest.mark.parametrize(
    "given", [None, "", "None", 5.0, True, {"a": "b"}, [None], b"x", "[oops]", "[{{}}]", ["a", False]]
)
def test_task_ids_that_are_none_are_refused(given: Any) -> None:
    with pytest.raises(exc.InvalidInput, match="scantrust_task_id"):
        read_task_ids(given)


@pytest.mark.parametrize("operator", [ScantrustUploadOperator, ScantrustTaskSensor])
def test_type_checkers_accept_a_template_and_an_xcom_for_each_templated_parameter(operator: Any) -> None:
    parameters = inspect.signature(operator).parameters
    for name in operator.template_fields:
        assert {"str", "XComArg"} <= set(parameters[name].annotation.split(" | ")), name


def test_every_option_of_the_sensor_reaches_the_trigger() -> None:
    sensor = ScantrustTaskSensor(
        task_id="t",
        scantrust_task_id=["a", "b"],
        scantrust_conn_id="other",
        poke_interval=3,
        timeout=100,
        error_budget=7,
        exponential_backoff=True,
        max_wait=60,
    )
    sensor._deadline, sensor._task_ids = 1000.0, ["a", "b"]
    with pytest.raises(TaskDeferred) as deferred:
        sensor._defer({"ti": None}, now=900.0, account=None)  # type: ignore[typeddict-item]
    _, arguments = deferred.value.trigger.serialize()
    assert {
        "task_ids": ["a", "b"],
        "deadline": 1000.0,
        "poll_interval": 3.0,
        "longest_poll_interval": 60.0,
        "error_budget": 7,
        "scantrust_conn_id": "other",
        "stored_at": None,
        "scantrust_task_id": None,
        "spare_seconds": 0.0,
        "end_from_trigger": False,
        "do_xcom_push": True,
        "account": None,
    } == arguments
    assert {"deadline_is": "timeout", "try_number": None} == deferred.value.kwargs


@pytest.mark.parametrize(
    ("limit", "deadline", "name"), [(50, 950.0, "execution_timeout"), (500, 1000.0, "timeout")]
)
def test_the_earlier_of_both_timeouts_is_the_triggers_deadline(
    limit: int, deadline: float, name: str
) -> None:
    sensor = ScantrustTaskSensor(
        task_id="t", scantrust_task_id="a", execution_timeout=timedelta(seconds=limit)
    )
    with pytest.raises(TaskDeferred) as deferred:
        defer_wait(sensor, {}, ["a"], deadline=1000.0, started=900.0)
    assert deadline == deferred.value.trigger.deadline
    assert name == (deferred.value.kwargs or {})["deadline_is"]
    event = {"status": "error", "error": exc.WaitTimedOut("late").as_dict()}
    with pytest.raises(AirflowTaskTimeout if name == "execution_timeout" else exc.WaitTimedOut):
        read_event(event, name)


@pytest.mark.parametrize(
    "name", ["timeout", "poke_interval", "error_budget", "execution_timeout", "max_wait"]
)
@pytest.mark.parametrize(
    "value", [float("inf"), float("nan"), -1, 0, timedelta(0), timedelta(days=40_000), 1e300]
)
@pytest.mark.parametrize("by_default", [False, True])
def test_sensor_refuses_times_that_cannot_work(name: str, value: Any, by_default: bool) -> None:
    given: dict[str, Any] = {"default_args": {name: value}} if by_default else {name: value}
    with pytest.raises(ValueError, match=f"`{name}`") as caught:
        ScantrustTaskSensor(task_id="t", scantrust_task_id="a", **given)
    assert by_default == ("(from default_args)" in str(caught.value))


@pytest.mark.parametrize(("name", "right", "wrong"), [("timeout", 60, -1), ("mode", "sync", "poke")])
def test_operator_tells_its_own_arguments_from_default_args(name: str, right: Any, wrong: Any) -> None:
    options: dict[str, Any] = {"task_id": "t", "items": []}
    with pytest.raises(ValueError, match=r"It comes from `default_args`"):
        ScantrustUploadOperator(**options, default_args={name: wrong})
    with pytest.raises(ValueError, match=f"`{name}`") as caught:
        ScantrustUploadOperator(**options, **{name: wrong}, default_args={name: right})
    assert "default_args" not in str(caught.value)


def test_sensor_names_a_mode_that_default_args_mean_for_the_operator() -> None:
    with pytest.raises(ValueError, match=r"\(from default_args\): `mode` of a sensor"):
        ScantrustTaskSensor(task_id="t", scantrust_task_id="a", default_args={"mode": "sync"})
