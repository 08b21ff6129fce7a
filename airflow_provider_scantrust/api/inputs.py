"""Read what users give to operators, sensors and triggers: durations, switches, and task_ids in every form."""

from __future__ import annotations

import ast
from collections.abc import Iterable
from datetime import timedelta
from typing import Any

from airflow_provider_scantrust.exceptions import InvalidInput

# Ten years. Airflow adds timeouts to today's date, and in some databases, dates end in 2038.
LONGEST_SECONDS = 3.2e8


def read_seconds(name: str, value: Any) -> float:
    seconds = value.total_seconds() if isinstance(value, timedelta) else value
    if (
        not isinstance(seconds, int | float)
        or isinstance(seconds, bool)
        or not 0 < seconds <= LONGEST_SECONDS
    ):
        raise ValueError(
            f"`{name}` must be a number of seconds or a timedelta, above 0 and at most ten years, not {value!r}."
        )
    return float(seconds)


def check_switch(name: str, value: Any) -> None:
    """Refuse text, such as a template that Airflow does not render: any text would mean True."""
    if isinstance(value, str):
        raise ValueError(f"`{name}` must be True or False, not {value!r}; it is not templated.")


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
