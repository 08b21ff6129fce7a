"""What Airflow knows about an upload: the number of this try, and the progress of earlier tries."""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from airflow_provider_scantrust.uploads.kept import STORE_KEY, Log, Store, Try, fingerprint
from airflow_provider_scantrust.uploads.options import Options
from airflow_provider_scantrust.uploads.progress import Progress

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook


def store_of(context: Context) -> Store | None:
    """Return Airflow's task state store; None before Airflow 3.3, and in a test's own context."""
    return cast("Store | None", cast("Any", context).get("task_state_store"))


def try_of(context: Context) -> Try:
    """Return which try this is."""
    ti: Any = context.get("ti")
    # A clear sets max_tries to the tries that were made plus the task's retries. The retries are in the
    # series, too: if the Dag has fewer retries now, the sum could be the same as before.
    series = (_number(ti, "max_tries"), _number(getattr(ti, "task", None), "retries"))
    try_id = getattr(ti, "id", None)
    # `airflow tasks test` is not a retry.
    number = 0 if os.environ.get("AIRFLOW_TEST_MODE") else _number(ti, "try_number")
    return Try(series, number, str(try_id) if isinstance(try_id, str | UUID) else None)


def progress_of(
    context: Context,
    hook: ScantrustHook,
    options: Options,
    source: Any,
    file_options: Mapping[str, Any],
    log: Log,
) -> Callable[[], Progress]:
    """Return a function that makes the progress of an upload; the function looks up the connection."""

    def make() -> Progress:
        return Progress(
            store_of(context),
            try_of(context),
            account=hook.settings.account_digest,
            options=fingerprint([asdict(options), source, dict(file_options)]),
            max_in_flight=options.max_in_flight,
            log=log,
        )

    return make


def is_of_another_account(context: Context, hook: ScantrustHook) -> bool:
    """Whether the progress of this task belongs to another account than the connection has now."""
    store = store_of(context)
    saved = None if store is None else store.get(STORE_KEY)
    return isinstance(saved, dict) and saved.get("account") not in (None, hook.settings.account_digest)


def map_index_of(context: Context) -> int:
    """Return the map index of a task; -1 for a task that is not mapped."""
    index = getattr(context.get("ti"), "map_index", None)
    return index if isinstance(index, int) else -1


def _number(thing: Any, name: str) -> int:
    """Return a number that Airflow keeps; 0 if there is none, as in a test's own context."""
    number = getattr(thing, name, None)
    return number if isinstance(number, int) else 0
