"""When a task is tried again on Airflow 3.3."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from airflow_provider_scantrust.exceptions import (
    ConfigurationError,
    ConnectionFailed,
    PermissionDenied,
    TaskFailed,
    Throttled,
)
from airflow_provider_scantrust.hooks.retry_policy import ScantrustRetryPolicy
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

retry_policy = pytest.importorskip(
    "airflow.sdk.definitions.retry_policy", reason="Airflow 3.3 has retry policies"
)


@pytest.mark.parametrize(
    ("error", "action", "seconds"),
    [
        (Throttled("busy", retry_after=90.0), "retry", 90.0),
        (Throttled("busy"), "default", None),
        (ConnectionFailed("no answer"), "default", None),
        (PermissionDenied("no"), "fail", None),
        (ConfigurationError("no token"), "fail", None),
        (TaskFailed("the job failed"), "default", None),
        (ZeroDivisionError(), "default", None),
    ],
)
def test_error_decides(error: Exception, action: str, seconds: float | None) -> None:
    decision = ScantrustRetryPolicy().evaluate(error, 1, 3)
    assert action == decision.action.value
    assert (None if seconds is None else timedelta(seconds=seconds)) == decision.retry_delay


def test_operator_has_it_unless_the_user_names_another() -> None:
    class Other(retry_policy.RetryPolicy):  # type: ignore[misc, name-defined]
        def evaluate(self, *args: Any, **kwargs: Any) -> Any:
            return retry_policy.RetryDecision.default()

    theirs = Other()
    for options, expected in (({}, ScantrustRetryPolicy), ({"retry_policy": theirs}, Other)):
        operator: Any = ScantrustUploadOperator(task_id="upload", items=[], **options)
        assert expected is type(operator.retry_policy)
    by_default: Any = ScantrustUploadOperator(
        task_id="upload", items=[], default_args={"retry_policy": theirs}
    )
    assert theirs is by_default.retry_policy
    assert isinstance(
        ScantrustRetryPolicy.deserialize(ScantrustRetryPolicy().serialize()), ScantrustRetryPolicy
    )
