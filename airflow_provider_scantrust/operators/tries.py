"""What Airflow knows about an upload: the number of this try, and the progress of earlier tries."""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, cast
from uuid import UUID

from airflow_provider_scantrust.uploads.kept import Log, Store, Try, fingerprint, read_saved
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
) -> Progress:
    """Return the progress of an upload; this looks up the connection."""
    return Progress(
        store_of(context),
        try_of(context),
        account=hook.settings.account_digest,
        options=fingerprint([asdict(options), source, dict(file_options)]),
        max_in_flight=options.max_in_flight,
        log=log,
    )


def is_of_another_account(context: Context, hook: ScantrustHook) -> bool:
    """Whether the progress of this task belongs to another account than the connection has now."""
    saved = read_saved(store_of(context))
    return saved is not None and saved.get("account") not in (None, hook.settings.account_digest)


def map_index_of(context: Context) -> int:
    """Return the map index of a task; -1 for a task that is not mapped."""
    return _number(context.get("ti"), "map_index", -1)


def _number(thing: Any, name: str, otherwise: int = 0) -> int:
    """Return a number that Airflow keeps; another if there is none, as in a test's own context."""
    number = getattr(thing, name, None)
    return number if isinstance(number, int) else otherwise
