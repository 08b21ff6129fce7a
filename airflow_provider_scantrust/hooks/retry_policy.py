"""
When Airflow 3.3 retries a task, and after how many seconds.

Airflow before 3.3 has no retry policies. There, an error that a retry cannot fix also fails the task without
a retry. After any other error the task waits for its ``retry_delay``.
"""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Any

from airflow_provider_scantrust.exceptions import ScantrustError, TaskFailed, TransientError

try:
    from airflow.sdk.definitions.retry_policy import RetryDecision, RetryPolicy
except ImportError:
    RetryPolicy = object  # type: ignore[assignment, misc]

if TYPE_CHECKING:
    from airflow.sdk.definitions.context import Context


class ScantrustRetryPolicy(RetryPolicy):
    """
    Decide by the error whether to retry; the default of this package's operator and sensor on Airflow 3.3.

    Scantrust throttles or is down for longer than a call's budget: retry, after the time in ``Retry-After``
    if there is one. Bad data, no permission, wrong configuration: fail without using a retry. Other errors,
    and failures without an exception (a lost worker): the task's own ``retries`` and ``retry_delay``.
    """

    def evaluate(
        self, exception: BaseException, try_number: int, max_tries: int, context: Context | None = None
    ) -> RetryDecision:
        """Return what to do; the task is never retried more than ``retries`` times."""
        if isinstance(exception, TransientError) and exception.retry_after:
            return RetryDecision.retry(
                timedelta(seconds=exception.retry_after),
                f"Scantrust asks to wait {exception.retry_after:.0f} s",
            )
        # A retry submits the jobs that failed again.
        if (
            isinstance(exception, ScantrustError)
            and exception.permanent
            and not isinstance(exception, TaskFailed)
        ):
            return RetryDecision.fail(f"{type(exception).__name__}: a retry cannot fix this")
        return RetryDecision.default()

    def serialize(self) -> dict[str, Any]:
        return {}

    @classmethod
    def deserialize(cls, data: dict[str, Any]) -> ScantrustRetryPolicy:
        return cls()


def use_by_default(operator: Any) -> None:
    """Give an operator this policy, if this Airflow has retry policies and the user has not set one."""
    if RetryPolicy is not object and getattr(operator, "retry_policy", None) is None:
        operator.retry_policy = ScantrustRetryPolicy()
