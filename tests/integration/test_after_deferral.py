"""
How a task continues after a deferral on Airflow 3.0 and 3.1, where it is not as on other versions.

Airflow 3.0 to 3.1.0 continues a retry where the last try failed, with the event of that try. Airflow 3.0 to
3.1.6 fails a sensor with ``soft_fail`` whose trigger sent no event.
"""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import (
    AirflowSensorTimeout,
    AirflowSkipException,
    BaseOperator,
    BaseSensorOperator,
    TaskDeferred,
)

from airflow_provider_scantrust.decorators.scantrust import ScantrustUploadDecoratedOperator
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sensors.scantrust import ScantrustTaskSensor
from tasks import AIRFLOW_2, TaskInstance, bottles, fire

ONCE: dict[str, Any] = {"task_id": "task", "poll_interval": 0.05}
UPLOADS: dict[str, Callable[[], Any]] = {
    "items": lambda: ScantrustUploadOperator(items=bottles(1, 2), mode="async", **ONCE),
    "function": lambda: ScantrustUploadDecoratedOperator(
        python_callable=lambda: bottles(1, 2), op_args=[], op_kwargs={}, mode="async", **ONCE
    ),
}


def defer(task: Any, ti: TaskInstance) -> dict[str, Any]:
    """Run a task until it defers, and return what Airflow continues it with."""
    context: Any = {"ti": ti}
    with pytest.raises(TaskDeferred) as deferred:
        task.execute(context)
    event = asyncio.run(fire(deferred.value.trigger, ti))
    kwargs: dict[str, Any] = json.loads(json.dumps({**(deferred.value.kwargs or {}), "event": event.payload}))
    return kwargs


@pytest.mark.parametrize("what", UPLOADS)
def test_retry_of_an_upload_uploads_again(sandbox: Sandbox, what: str) -> None:
    sandbox.jobs(polls=3, fail=True)
    sandbox.jobs(polls=3, times=None)
    first = TaskInstance()
    kwargs = defer(UPLOADS[what](), first)
    context: Any = {"ti": first}
    with pytest.raises(Exception, match="1 of 1 job failed"):
        UPLOADS[what]().resume_execution("execute_complete", kwargs, context)
    assert 1 == len(sandbox.tasks())
    retry: Any = {"ti": TaskInstance(try_number=2)}
    with pytest.raises(TaskDeferred):
        UPLOADS[what]().resume_execution("execute_complete", kwargs, retry)
    assert 2 == len(sandbox.tasks())


def test_retry_of_a_sensor_waits_again(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=3)
    task_id = ScantrustHook().submit({"extended_id": [bottles(1)[0]["extended_id"]]}, {"market": "FR"})

    def sensor() -> ScantrustTaskSensor:
        return ScantrustTaskSensor(task_id="wait", scantrust_task_id=task_id, poke_interval=0.05)

    kwargs = defer(sensor(), TaskInstance())
    kwargs["event"] = {"status": "error", "error": {"type": "ConnectionFailed", "message": "no answer"}}
    first: Any = {"ti": TaskInstance()}
    with pytest.raises(Exception, match="no answer"):
        sensor().resume_execution("execute_complete", kwargs, first)
    retry: Any = {"ti": TaskInstance(try_number=2)}
    assert 1 == sensor().resume_execution("execute_complete", kwargs, retry)["codes_affected"]


def test_retry_whose_jobs_have_ended_well_uploads_nothing_again(sandbox: Sandbox) -> None:
    sandbox.jobs(polls=3)
    kwargs = defer(UPLOADS["items"](), TaskInstance())
    retry: Any = {"ti": TaskInstance(try_number=2)}
    assert 2 == UPLOADS["items"]().resume_execution("execute_complete", kwargs, retry)["codes_affected"]
    assert 1 == len(sandbox.tasks())


@pytest.mark.skipif(AIRFLOW_2, reason="Airflow 2 has one error for all faults of a deferral")
@pytest.mark.parametrize("option", ["soft_fail", "never_fail"])
def test_silent_triggerer_skips_a_sensor_that_may_be_skipped(
    option: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    def resume(self: Any, method: str, kwargs: dict[str, Any], context: Any) -> Any:
        """As in Airflow 3.0 to 3.1.6."""
        try:
            return BaseOperator.resume_execution(self, method, kwargs, context)
        except Exception as error:
            raise AirflowSensorTimeout(*error.args) from error

    monkeypatch.setattr(BaseSensorOperator, "resume_execution", resume)
    options: dict[str, Any] = {"task_id": "wait", "scantrust_task_id": "t-1", option: True}
    context: Any = {"ti": TaskInstance()}
    with pytest.raises(AirflowSkipException):
        ScantrustTaskSensor(**options).resume_execution("__fail__", {"error": "Trigger timeout"}, context)
