"""
The parameters of an upload operator; the docstring of ``ScantrustUploadOperator`` describes them.

Rule: a wrong argument in the Dag's own text raises ``ValueError`` when Airflow reads the Dag. A value that
a template produces is checked when the task runs.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from datetime import timedelta
from math import inf
from os import PathLike, fspath
from typing import TYPE_CHECKING, Any, Literal

from airflow.providers.common.compat.sdk import BaseOperator

from airflow_provider_scantrust.api.inputs import check_switch, read_seconds

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import ObjectStoragePath, XComArg

    from airflow_provider_scantrust.uploads.options import Options
    from airflow_provider_scantrust.uploads.reaction import Reaction

# Options that are passed to the reader of a file.
_FILE_OPTIONS = (
    "columns",
    "constants",
    "source_format",
    "encoding",
    "delimiter",
    "quotechar",
    "skip_rows",
    "null_values",
    "sheet",
)
_REACTIONS = ("warn", "fail", "ignore")
_CHOICES = {
    "mode": ("auto", "sync", "async"),
    "on_unmatched": _REACTIONS,
    "on_discarded": _REACTIONS,
    "on_duplicate": ("last", "fail"),
}


class UploadParameters(BaseOperator):
    template_fields: Sequence[str] = (
        "items",
        "source",
        "columns",
        "constants",
        "rejects_path",
        "constraints",
        "scm_data",
        "data_key",
        "scantrust_conn_id",
    )
    template_fields_renderers = dict.fromkeys(
        ("items", "columns", "constants", "constraints", "scm_data"), "json"
    )

    def __init__(
        self,
        *,
        items: Iterable[Mapping[str, Any]] | XComArg | str | None = None,
        source: str | PathLike[str] | ObjectStoragePath | Iterable[Mapping[str, Any]] | XComArg | None = None,
        columns: Mapping[str, str | None] | XComArg | str | None = None,
        constants: Mapping[str, Any] | XComArg | str | None = None,
        source_format: Literal["csv", "tsv", "jsonl", "parquet", "xlsx", "xlsb", "ods", "xls"] | None = None,
        encoding: str | None = None,
        delimiter: str | None = None,
        quotechar: str | None = None,
        skip_rows: int | None = None,
        null_values: Sequence[str] | None = None,
        sheet: str | int | None = None,
        on_duplicate: Literal["last", "fail"] = "last",
        max_in_flight: int = 16,
        max_rejected: float | None = None,
        rejects_path: str | PathLike[str] | ObjectStoragePath | XComArg | None = None,
        dry_run: bool = False,
        constraints: Mapping[str, Any] | XComArg | str | None = None,
        scm_data: Mapping[str, Any] | XComArg | str | None = None,
        data_key: str | XComArg = "extended_id",
        mode: Literal["auto", "sync", "async"] = "auto",
        codes_per_key: float | None = None,
        wait_for_completion: bool = True,
        deferrable: bool = True,
        poll_interval: timedelta | float = 10,
        timeout: timedelta | float = 24 * 60 * 60,
        error_budget: timedelta | float = 600,
        ids_per_job: int = 20_000,
        items_per_call: int = 999,
        on_unmatched: Reaction = "warn",
        on_discarded: Reaction = "warn",
        scantrust_conn_id: str | XComArg = "scantrust_default",
        **kwargs: Any,
    ) -> None:
        from airflow_provider_scantrust.hooks.retry_policy import use_by_default

        super().__init__(**kwargs)
        self.items = items
        self.source = as_path(source) or source
        self.columns = columns
        self.constants = constants
        self.source_format = source_format
        self.encoding = encoding
        self.delimiter = delimiter
        self.quotechar = quotechar
        self.skip_rows = skip_rows
        self.null_values = null_values
        self.sheet = sheet
        self.on_duplicate = on_duplicate
        self.max_in_flight = max_in_flight
        self.max_rejected = max_rejected
        self.rejects_path = as_path(rejects_path) or rejects_path
        self.dry_run_only = dry_run
        self.constraints = constraints
        self.scm_data = scm_data
        # Airflow replaces an XComArg before the task runs.
        self.data_key: Any = data_key
        self.mode = mode
        self.codes_per_key = codes_per_key
        self.wait_for_completion = wait_for_completion
        self.deferrable = deferrable
        self.ids_per_job = ids_per_job
        self.items_per_call = items_per_call
        self.on_unmatched = on_unmatched
        self.on_discarded = on_discarded
        self.scantrust_conn_id: Any = scantrust_conn_id
        with _name_default_args(kwargs.get("default_args") or {}, locals()):
            self._check_what_is_given()
            for name, allowed in _CHOICES.items():
                if getattr(self, name) not in allowed:
                    raise ValueError(
                        f"`{name}` must be one of {', '.join(allowed)}, not {getattr(self, name)!r}."
                    )
            check_switch("dry_run", dry_run)
            check_switch("wait_for_completion", wait_for_completion)
            check_switch("deferrable", deferrable)
            _check_number("ids_per_job", ids_per_job, 1)
            _check_number("items_per_call", items_per_call, 1, 999)
            _check_number("max_in_flight", max_in_flight, 1)
            if max_rejected is not None:
                _check_number("max_rejected", max_rejected, 0)
            if codes_per_key is not None:
                _check_number("codes_per_key", codes_per_key, 0)
                if codes_per_key == 0:
                    raise ValueError("`codes_per_key` must be above 0, not 0.")
            self.poll_interval = read_seconds("poll_interval", poll_interval)
            self.timeout = read_seconds("timeout", timeout)
            self.error_budget = read_seconds("error_budget", error_budget)
        self.names_map_index = "map_index" in str(rejects_path)
        use_by_default(self)

    def render_template(self, content: Any, *args: Any, **kwargs: Any) -> Any:
        """Render templates, but no other text: native rendering would turn "007" into 7."""
        if isinstance(content, str) and "{{" not in content and "{%" not in content:
            return content
        return super().render_template(content, *args, **kwargs)

    def _check_what_is_given(self) -> None:
        if sum(rows is not None for rows in (self.items, self.source, self.constraints)) != 1:
            raise ValueError("Give exactly one of `items`, `source`, or `constraints` (with `scm_data`).")
        if (self.constraints is None) != (self.scm_data is None):
            raise ValueError("`constraints` and `scm_data` go together.")
        if self.constraints is not None and self.mode == "sync":
            raise ValueError(
                "`constraints` can only be submitted asynchronously; use `items` for mode='sync'."
            )
        for name in ("items", "source"):
            if isinstance(rows := getattr(self, name), Iterator):
                raise ValueError(
                    f"`{name}` is a {type(rows).__name__}: each parse of the Dag file makes a new one. Yield the rows in a "
                    "function under @task.scantrust_upload, or give a list."
                )
        if self.source is None:
            given = {name: getattr(self, name) for name in (*_FILE_OPTIONS, "max_rejected", "rejects_path")}
            given["dry_run"] = self.dry_run_only or None
            for name, value in given.items():
                if value is not None:
                    raise ValueError(f"`{name}` is for `source` only, which also accepts a list of rows.")

    def upload_options(self) -> Options:
        from airflow_provider_scantrust.uploads.options import Options

        return Options(
            data_key="extended_id" if self.constraints is not None else self.data_key,
            mode=self.mode,
            codes_per_key=self.codes_per_key,
            ids_per_job=self.ids_per_job,
            items_per_call=self.items_per_call,
            max_in_flight=self.max_in_flight,
            on_duplicate=self.on_duplicate,
            max_rejected=self.max_rejected,
            is_strict=self.source is None,
            stop_on_discarded=self.on_discarded == "fail",
        )

    def file_options(self) -> dict[str, Any]:
        """Return the options of a file that were given."""
        from airflow_provider_scantrust.operators.rows import from_template

        given = {name: getattr(self, name) for name in _FILE_OPTIONS}
        given["format"] = given.pop("source_format")
        for name in ("columns", "constants"):
            given[name] = from_template(given[name], name)
        return {name: value for name, value in given.items() if value is not None}


def as_path(value: Any) -> str | None:
    """Return a path or URL as text, because templates need text; None for other values, such as rows."""
    if isinstance(value, str):
        return value
    # Not on every Airflow is an ObjectStoragePath a PathLike. Its text has the connection, which os.fspath
    # leaves out.
    if hasattr(value, "protocol") and hasattr(value, "open"):
        return str(value)
    path = fspath(value) if isinstance(value, PathLike) else None
    return path if isinstance(path, str) else None


def _check_number(name: str, number: Any, least: float, most: float = inf) -> None:
    if isinstance(number, bool) or not isinstance(number, int | float) or not least <= number <= most:
        wanted = f"at least {least:g}" if most == inf else f"{least:g} to {most:g}"
        raise ValueError(f"`{name}` must be {wanted}, not {number!r}.")


@contextmanager
def _name_default_args(default_args: Mapping[str, Any], given: Mapping[str, Any]) -> Iterator[None]:
    """Add to an option's error that it comes from ``default_args``, which many kinds of tasks share."""
    try:
        yield
    except ValueError as error:
        name = re.match(r"`(\w+)`", str(error))
        # Airflow has already merged default_args into the arguments; only identity tells them apart.
        if name and name[1] in default_args and default_args[name[1]] is given.get(name[1]):
            raise ValueError(f"{error} It comes from `default_args`; set it for this task.") from error
        raise
