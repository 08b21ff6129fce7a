"""``@task.scantrust_upload``: a function returns rows, an iterator of rows, or a path, and they are uploaded."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from inspect import isasyncgenfunction, iscoroutinefunction
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import (
    SET_DURING_EXECUTION,
    DecoratedOperator,
    context_merge,
    determine_kwargs,
    task_decorator_factory,
)

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context, TaskDecorator


class ScantrustUploadDecoratedOperator(DecoratedOperator, ScantrustUploadOperator):
    """
    Call a function on the worker and upload what it returns, as ``source`` of the operator.

    Rows are read one by one as the function yields them. So they may be more than fit into memory, and they
    do not go through XCom.

    :param python_callable: Returns a path or URL, rows, or an iterator of rows.
    :param op_args: Positional arguments for the function. (templated)
    :param op_kwargs: Keyword arguments for the function. (templated)
    """

    template_fields: Sequence[str] = (
        *DecoratedOperator.template_fields,
        *ScantrustUploadOperator.template_fields,
    )
    template_fields_renderers = {  # noqa: RUF012 - Airflow's own form
        **DecoratedOperator.template_fields_renderers,
        **ScantrustUploadOperator.template_fields_renderers,
    }
    custom_operator_name = "@task.scantrust_upload"

    def __init__(self, *, python_callable: Callable[..., Any], **kwargs: Any) -> None:
        if iscoroutinefunction(python_callable) or isasyncgenfunction(python_callable):
            raise ValueError(
                f"@task.scantrust_upload: {python_callable.__name__} is `async def`, which is not supported. Write `def`, and use "
                "asyncio.run() inside."
            )
        if given := {"items", "source", "constraints", "scm_data"} & kwargs.keys():
            raise ValueError(
                f"@task.scantrust_upload: the function returns the rows, so `{min(given)}` cannot be given."
            )
        super().__init__(python_callable=python_callable, source=SET_DURING_EXECUTION, **kwargs)

    def execute(self, context: Context) -> Any:
        """Call the function, then upload."""
        context_merge(context, self.op_kwargs)
        self.source = self.python_callable(
            *self.op_args, **determine_kwargs(self.python_callable, self.op_args, context)
        )
        return ScantrustUploadOperator.execute(self, context)


def scantrust_upload_task(python_callable: Callable[..., Any] | None = None, **kwargs: Any) -> TaskDecorator:
    """Turn a function into a task that uploads what it returns."""
    return task_decorator_factory(
        python_callable=python_callable,
        decorated_operator_class=ScantrustUploadDecoratedOperator,
        **kwargs,
    )
