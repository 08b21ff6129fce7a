"""Dags built as public bug reports about deferrable operators describe them; each run has the conf of the test."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from airflow.exceptions import AirflowSkipException
from airflow.sdk import DAG, Asset, TriggerRule, XComArg, task, task_group

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor

SHORT: dict[str, Any] = {"mode": "async", "poll_interval": 1}


@task
def give(what: str, **context: Any) -> Any:
    return context["dag_run"].conf[what]


@task
def look_at(value: Any) -> Any:
    """Show what a task downstream of an upload or of a sensor gets."""
    return list(value) if not isinstance(value, dict) else value


# An event that arrives before Airflow has recorded the deferral. A scheduler whose loop takes longer than the
# shortest deferral, on a machine with too much to do, still fails a try.
with DAG("short_deferrals", schedule=None, default_args={"retries": 2, "retry_delay": timedelta(0)}):
    uploads = ScantrustUploadOperator.partial(task_id="upload", **SHORT).expand(items=give("many"))
    look_at(uploads.output)

# The ids of many uploads, each in a group of its own, go to one sensor.
with DAG("mapped_group", schedule=None):

    @task_group
    def market(items: Any) -> None:
        upload = ScantrustUploadOperator(task_id="upload", items=items, wait_for_completion=False, **SHORT)
        ids = XComArg(upload, key="task_ids")
        ScantrustTaskSensor(task_id="sensor", scantrust_task_id=ids, poke_interval=1)

    market.expand(items=give("many"))


def fail(context: Any) -> None:
    raise RuntimeError("a callback that is broken")


with DAG("callback_raises", schedule=None):
    ScantrustUploadOperator(
        task_id="upload",
        items="{{ dag_run.conf['many'][0] | tojson }}",
        on_execute_callback=fail,
        on_success_callback=fail,
        **SHORT,
    )


@task
def skip() -> None:
    raise AirflowSkipException("no rows today")


with DAG("upstream_is_skipped", schedule=None, default_args={"retries": 2}):
    ScantrustUploadOperator(task_id="upload", items=skip(), trigger_rule=TriggerRule.ALL_DONE)

# The wait is a teardown: it must not decide over the run, and must see the ids of its setup.
with DAG("setup_and_teardown", schedule=None):
    setup = ScantrustUploadOperator(
        task_id="upload",
        items="{{ dag_run.conf['many'][0] | tojson }}",
        wait_for_completion=False,
        **SHORT,
    ).as_setup()  # type: ignore[no-untyped-call]
    teardown = ScantrustTaskSensor(
        task_id="sensor",
        scantrust_task_id="{{ ti.xcom_pull('upload', key='task_ids') }}",
        poke_interval=1,
    ).as_teardown(setups=setup)
    setup >> look_at({"between": 1}) >> teardown

with DAG("native_rendering", schedule=None, render_template_as_native_obj=True):
    ScantrustUploadOperator(
        task_id="upload",
        items=[
            {"extended_id": "7M6ETZWF057J6W0ZMDSG", "market": "1_000"},
            {"extended_id": "PPR4N5JJX9K1QQXV5SZ7", "market": "+41"},
            {"extended_id": "VZSGTY1E836VY9YE7XYG", "market": "1e5"},
        ],
    )

with DAG("no_xcom", schedule=None):
    ScantrustUploadOperator(
        task_id="upload", items="{{ dag_run.conf['many'][0] | tojson }}", do_xcom_push=False, **SHORT
    )


# An operator in the code of another task, which Airflow could not continue after a deferral.
with DAG("operator_in_a_task", schedule=None):

    @task
    def call_operators(**context: Any) -> list[int]:
        given: Any = context
        rows = given["dag_run"].conf["many"][:2]
        tasks = [ScantrustUploadOperator(task_id=f"in_{n}", items=row, **SHORT) for n, row in enumerate(rows)]
        return [each.execute(given)["codes_affected"] for each in tasks]

    call_operators()

# Nothing to map over, and tasks behind it that run anyway.
with DAG("empty_map", schedule=None):
    nothing = ScantrustUploadOperator.partial(task_id="mapped", **SHORT).expand(items=give("nothing"))
    ANYWAY: dict[str, Any] = {"trigger_rule": TriggerRule.ALL_DONE}
    ScantrustUploadOperator(task_id="upload", items=nothing.output, **ANYWAY)
    ScantrustTaskSensor(task_id="sensor", scantrust_task_id=XComArg(nothing, key="task_ids"), **ANYWAY)

# Deferred tasks keep their slot, and need one to continue.
with DAG("one_slot", schedule=None):
    ScantrustUploadOperator.partial(task_id="upload", pool="one_slot", **SHORT).expand_kwargs(
        give("many").map(lambda rows: {"items": rows, "scantrust_conn_id": "scantrust_default"})
    )

ASSET = Asset("situation", "scantrust://127.0.0.1/situation")
with DAG("asset_by_name", schedule=None):
    name = Asset.ref(name=ASSET.name)
    items = "{{ dag_run.conf['many'][0] | tojson }}"
    ScantrustUploadOperator(task_id="upload", items=items, outlets=[name])
    ScantrustUploadOperator(task_id="dry_run", source=give("many"), dry_run=True, outlets=[name])

with DAG("asset_is_known", schedule=[ASSET]):
    give("nothing")
