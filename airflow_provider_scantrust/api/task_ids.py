"""Read task_ids in every form that templates and upstream tasks produce."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput


def read_task_ids(value: Any) -> list[str]:
    """Return the ids from a template or an upstream task: one id, a list, nested lists, or a list as text."""
    if isinstance(value, str):
        text = value.strip()
        if text.startswith("[") and text.endswith("]"):
            try:
                return read_task_ids(ast.literal_eval(text))
            except (ValueError, TypeError, SyntaxError, MemoryError, RecursionError) as error:
                raise InvalidInput(f"scantrust_task_id is not a list of ids: {text!r:.200}.") from error
        if text in ("", "None"):
            raise InvalidInput("scantrust_task_id is empty: the upstream task has pushed no task_id.")
        return [text]
    if isinstance(value, int) and not isinstance(value, bool):
        # Native rendering turns an id of digits into a number.
        return [str(value)]
    if isinstance(value, Iterable) and not isinstance(value, bytes | dict):
        return [task_id for entry in value for task_id in read_task_ids(entry)]
    if isinstance(value, dict) and "task_ids" in value:
        raise InvalidInput(
            "scantrust_task_id is the report of an upload; give the ids in it, as in `upload.output['task_ids']`."
        )
    raise InvalidInput(
        f"scantrust_task_id must be a task_id or a list of them, not {type(value).__name__}. Did the upstream "
        "task push a task_id?"
    )
