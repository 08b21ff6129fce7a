"""Which waits start and end in the triggerer, and how a trigger finds its ids."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import TaskDeferred
from airflow.sdk import DAG, task, task_group
from airflow.triggers.base import TaskSuccessEvent

from airflow_provider_scantrust.exceptions import ConfigurationError, InvalidInput, TransientError
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from airflow_provider_scantrust.triggers import scantrust as triggers
from airflow_provider_scantrust.triggers import sharing, start
from airflow_provider_scantrust.triggers.deferral import ROW_BYTES, defer_wait
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event
from airflow_provider_scantrust.triggers.watcher import TriggerWait
from airflow_provider_scantrust.waits.outcome import Outcome
from tasks import TaskInstance, fire


@task
def submit() -> list[str]:
    return []


def sensor(scantrust_task_id: Any = "t-1", **options: Any) -> ScantrustTaskSensor:
    return ScantrustTaskSensor(
        task_id="wait", scantrust_task_id=scantrust_task_id, start_from_trigger=True, **options
    )


def arguments(sensor: ScantrustTaskSensor) -> dict[str, Any]:
    assert sensor.start_from_trigger, sensor._starts_on_worker
    assert sensor.start_trigger_args is not None
    return dict(sensor.start_trigger_args.trigger_kwargs or {})


def test_start_is_off_by_default_and_belongs_to_one_sensor() -> None:
    started = sensor()
    assert started.start_from_trigger
    plain = ScantrustTaskSensor(task_id="other", scantrust_task_id="t-1")
    assert (False, None) == (plain.start_from_trigger, plain.start_trigger_args)
    assert (False, None) == (ScantrustTaskSensor.start_from_trigger, ScantrustTaskSensor.start_trigger_args)


def test_every_option_reaches_a_trigger_that_airflow_starts() -> None:
    given = arguments(
        sensor(
            ["{{ ds }}", "b"],
            scantrust_conn_id="other",
            poke_interval=3,
            error_budget=7,
            exponential_backoff=True,
            max_wait=60,
            end_from_trigger=True,
            do_xcom_push=False,
        )
    )
    assert {
        "scantrust_task_id": ["{{ ds }}", "b"],
        "spare_seconds": 300.0,
        "poll_interval": 3.0,
        "longest_poll_interval": 60.0,
        "error_budget": 7,
        "scantrust_conn_id": "other",
        "end_from_trigger": True,
        "do_xcom_push": False,
    } == given
    trigger = ScantrustTaskTrigger(**given)
    assert set(given) <= set(trigger.serialize()[1])
    # Airflow renders only arguments that are attributes of the trigger, too.
    assert {name for name in ScantrustTaskSensor.template_fields if hasattr(trigger, name)} == set(
        ScantrustTaskSensor.template_fields
    )


def test_output_of_a_task_becomes_a_template_that_gets_an_answer() -> None:
    with DAG("d", schedule=None):
        output = submit()
        given = arguments(sensor([output, "t-1"], scantrust_conn_id=output))
    pull = "{{ ti.xcom_pull(task_ids='submit', key='return_value', map_indexes=-1) }}"
    assert ([pull, "t-1"], pull) == (given["scantrust_task_id"], given["scantrust_conn_id"])


@pytest.mark.parametrize(
    ("options", "because"),
    [
        ({"deferrable": False}, "not deferrable"),
        ({"scantrust_task_id": "{{ ti.xcom_pull(task_ids='submit') }}"}, "xcom_pull without map_indexes"),
        ({"scantrust_conn_id": "{{ ti.xcom_pull(task_ids='submit') }}"}, "xcom_pull without map_indexes"),
        ({"scantrust_task_id": ["x" * 36] * 1000}, "too many for the row"),
        ({"scantrust_task_id": iter(["a"])}, "list_iterator"),
    ],
)
def test_what_would_not_work_in_the_triggerer_starts_on_a_worker(
    options: dict[str, Any], because: str
) -> None:
    given = sensor(**options)
    assert (False, None) == (given.start_from_trigger, given.start_trigger_args)
    assert because in given._starts_on_worker


@pytest.mark.parametrize(
    ("template", "because"),
    [
        ("{{ my_ids() }}", "my_ids"),
        (["t-1", "{{ ds | spoken }}"], "spoken"),
        (
            "{{ (triggering_asset_events.values() | first | first).extra.task_ids }}",
            "triggering_asset_events",
        ),
        ("{{ dag_run.consumed_asset_events }}", "consumed_asset_events"),
        ("{{ inlet_events[task.inlets[0]][-1].extra.task_ids }}", "inlet_events"),
        ("{{ prev_data_interval_start_success }}", "prev_data_interval_start_success"),
        ("{{ dag_run.conf['ids'] }}", None),
        ("my_ids", None),
    ],
)
def test_template_with_a_name_that_the_triggerer_does_not_know_starts_on_a_worker(
    template: Any, because: str | None
) -> None:
    with DAG("d", schedule=None, user_defined_macros={"my_ids": list}, user_defined_filters={"spoken": str}):
        given = sensor(template)
    assert (because is None) == given.start_from_trigger
    assert because is None or f"does not know {because}" in given._starts_on_worker


def test_output_of_mapped_tasks_starts_on_a_worker() -> None:
    with DAG("d", schedule=None):
        mapped = submit.override(task_id="mapped").partial().expand_kwargs([{}, {}])
        assert "mapped" in sensor(mapped)._starts_on_worker


def test_sensor_in_a_mapped_task_group_starts_on_a_worker() -> None:
    made = []

    @task_group
    def group(value: str) -> None:
        made.append(sensor("t-1"))

    with DAG("d", schedule=None):
        group.expand(value=["a", "b"])
    assert "mapped task group" in made[0]._starts_on_worker


def test_mapped_sensor_has_nothing_to_start_with() -> None:
    with DAG("d", schedule=None):
        mapped = ScantrustTaskSensor.partial(task_id="wait", start_from_trigger=True).expand(
            scantrust_task_id=["a", "b"]
        )
    assert mapped.start_trigger_args is None


def test_older_airflow_starts_and_ends_on_a_worker(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("airflow.__version__", "3.2.9")
    given = sensor(end_from_trigger=True)
    assert not given.start_from_trigger
    assert "older than 3.3" in given._starts_on_worker
    assert not given._trigger_options()["end_from_trigger"]
    monkeypatch.setattr("airflow.__version__", "3.10.0rc1")
    assert start.has_start()


@pytest.mark.parametrize(
    "option",
    [
        {"outlets": ["asset"]},
        {"on_execute_callback": print},
        {"on_success_callback": print},
        {"post_execute": print},
    ],
)
def test_what_only_a_worker_does_brings_the_end_to_one(option: dict[str, Any]) -> None:
    given = arguments(sensor(end_from_trigger=True, **option))
    assert not given["end_from_trigger"]


@pytest.mark.parametrize(
    ("execution_timeout", "airflow_ends", "wait_ends", "deadline_is"),
    [
        (None, 900, 600, "timeout"),
        (2000, 900, 600, "timeout"),
        (700, 700, 600, "timeout"),
        (600, 600, 590, "timeout"),
        (100, 100, 90, "execution_timeout"),
        (10, 10, 9, "execution_timeout"),
    ],
)
def test_wait_ends_before_airflow_ends_it(
    execution_timeout: float | None, airflow_ends: float, wait_ends: float, deadline_is: str
) -> None:
    limit = None if execution_timeout is None else timedelta(seconds=execution_timeout)
    given = sensor(timeout=600, execution_timeout=limit)
    trigger = ScantrustTaskTrigger(**arguments(given))
    assert given.start_trigger_args is not None
    assert timedelta(seconds=airflow_ends) == given.start_trigger_args.timeout
    assert {"deadline_is": deadline_is} == given.start_trigger_args.next_kwargs
    trigger.timeout_after = datetime.fromtimestamp(1000 + airflow_ends, UTC)
    assert 1000 + wait_ends == trigger.deadline


def test_arguments_of_the_version_before_still_make_a_trigger() -> None:
    trigger = ScantrustTaskTrigger(
        task_ids=["a"],
        deadline=5.0,
        poll_interval=1.0,
        longest_poll_interval=None,
        error_budget=3.0,
        scantrust_conn_id="other",
    )
    assert (["a"], 5.0, 3.0) == (trigger.task_ids, trigger.deadline, trigger.error_budget)


@pytest.fixture
def no_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(triggers, "_LOOKUP_PAUSES", (0.0, 0.0, 0.0))


@pytest.mark.usefixtures("no_pauses")
def test_many_ids_are_kept_outside_the_row_and_found_again(monkeypatch: pytest.MonkeyPatch) -> None:
    ti = TaskInstance()
    ids = [f"{number:036d}" for number in range(5000)]
    with pytest.raises(TaskDeferred) as deferred:
        defer_wait(sensor(), {"ti": ti}, ids, deadline=9e9, started=0.0)
    _, stored = deferred.value.trigger.serialize()
    assert len(str(deferred.value.trigger.serialize())) < 1000
    assert len(str(ids)) > ROW_BYTES
    asked = []

    async def wait(wait: TriggerWait) -> Outcome:
        asked.append(list(wait.jobs.open))
        return Outcome.of(dict.fromkeys(wait.jobs.open, 1))

    monkeypatch.setattr(sharing, "wait_shared", wait)
    event = asyncio.run(fire(ScantrustTaskTrigger(**stored), ti))
    assert [ids] == asked
    assert (5000, 5000) == (read_event(event.payload).jobs, read_event(event.payload).codes_affected)
    ti.xcoms.clear()
    event = asyncio.run(fire(ScantrustTaskTrigger(**stored), ti))
    with pytest.raises(TransientError, match="does not find the ids"):
        read_event(event.payload)


def test_template_without_an_answer_ends_the_wait_with_a_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    async def hang() -> None:
        await asyncio.sleep(60)

    async def render_and_run() -> AsyncIterator[Any]:
        import greenback

        await greenback.ensure_portal()
        trigger = ScantrustTaskTrigger(scantrust_task_id="{{ hang() }}", deadline=9e9)
        trigger.template_fields = ("scantrust_task_id",)
        trigger.render_template_fields({"hang": lambda: greenback.await_(hang())})
        async for event in trigger.run():
            yield event

    async def first() -> Any:
        return await anext(render_and_run())

    monkeypatch.setattr(triggers, "_RENDERING_SECONDS", 0.01)
    with pytest.raises(ConfigurationError, match="got no answer in the triggerer"):
        read_event(asyncio.run(first()).payload)


def test_rendered_nothing_is_refused() -> None:
    event = asyncio.run(fire(ScantrustTaskTrigger(scantrust_task_id="None", deadline=9e9)))
    with pytest.raises(InvalidInput, match="pushed no task_id"):
        read_event(event.payload)


def test_result_that_cannot_be_stored_goes_to_a_worker() -> None:
    ti = TaskInstance()
    assert isinstance(asyncio.run(fire(ending(), ti)), TaskSuccessEvent)
    assert {"codes_affected": 0, "tasks": {}} == ti.xcoms["return_value"]
    ti.xcom_push = None  # type: ignore[assignment]
    event = asyncio.run(fire(ending(), ti))
    assert not isinstance(event, TaskSuccessEvent)
    assert 0 == read_event(event.payload).jobs


def test_result_is_not_stored_where_the_task_pushes_none() -> None:
    ti = TaskInstance()
    assert isinstance(asyncio.run(fire(ending(do_xcom_push=False), ti)), TaskSuccessEvent)
    assert {} == ti.xcoms


def ending(**options: Any) -> ScantrustTaskTrigger:
    return ScantrustTaskTrigger(scantrust_task_id=[], deadline=9e9, end_from_trigger=True, **options)


@pytest.mark.parametrize("name", ["deferrable", "start_from_trigger", "end_from_trigger"])
def test_text_is_no_switch_of_a_sensor(name: str) -> None:
    given: Any = {name: "{{ params.wait }}"}
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        ScantrustTaskSensor(task_id="wait", scantrust_task_id="t-1", **given)


@pytest.mark.parametrize("name", ["dry_run", "wait_for_completion", "deferrable"])
def test_text_is_no_switch_of_an_upload(name: str) -> None:
    given: Any = {name: "false"}
    with pytest.raises(ValueError, match=f"`{name}` must be True or False"):
        ScantrustUploadOperator(task_id="upload", source="a.csv", **given)
