"""Uploading a whole source: read and plan it, run the plan, and write what did not arrive."""

from __future__ import annotations

import hashlib
import json
import os
from collections.abc import Generator
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from airflow_provider_scantrust.exceptions import ConfigurationError, TooManyRejected
from airflow_provider_scantrust.hooks.logs import ProgressLog
from airflow_provider_scantrust.operators.resume import Progress
from airflow_provider_scantrust.uploads.plan import Limits, Plan, make_plan
from airflow_provider_scantrust.uploads.rejects import check_rejects_name, write_rejects
from airflow_provider_scantrust.uploads.run import Piece, Runner
from airflow_provider_scantrust.uploads.sources import RowSource, Source, open_source
from airflow_provider_scantrust.uploads.spool import Spool

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
    from airflow_provider_scantrust.transports.common import Log
    from airflow_provider_scantrust.uploads.report import Report


class SourceUpload:
    """
    One upload of a source.

    :param operator: Says how; see :class:`ScantrustUploadOperator` for each of its options.
    :param report: Counts what becomes of the rows.
    """

    def __init__(self, operator: ScantrustUploadOperator, report: Report) -> None:
        self.operator = operator
        self.hook = operator.hook
        self.log: Log = operator.log
        self.report = report
        self._rejected_keys: dict[str, tuple[str, str]] = {}

    def run(self, source: Any, context: Context) -> Plan:
        """
        Upload, and return the plan that was carried out (or, with ``dry_run``, that would be).

        :param source: A path or URL, or rows.
        :raises TooManyRejected: More rows cannot be sent, or are refused, than ``max_rejected`` allows; or all of them.
        """
        rows = self._open(source)
        if self.operator.rejects_path is not None:
            check_rejects_name(self.operator.rejects_path, rows.format)
            if self.operator.rejects_path == source:
                raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")
        with Spool(self.operator.data_key, on_duplicate=self.operator.on_duplicate) as spool:
            spool.fill(rows, warn=self._warn)
            plan = make_plan(
                spool,
                mode=self.operator.mode,
                codes_per_key=self.operator.codes_per_key,
                limits=Limits(ids_per_job=self.operator.ids_per_job),
            )
            self.report.mode, self.report.rows = plan.mode, spool.rows
            self.log.info("%s", plan.describe())
            if self.operator.dry_run_only:
                return plan
            for _, kind, _ in spool.rejects():
                self.report.add_rejected(kind, 1)
            try:
                self._check_rejected(spool)
                self._run(spool, plan, context)
            finally:
                self._write_rejects(rows, spool)
        return plan

    def _run(self, spool: Spool, plan: Plan, context: Context) -> None:
        operator = self.operator
        progress = Progress(
            context, self._fingerprint(spool, plan), max_in_flight=operator.max_in_flight, log=self.log
        )
        self.report.add(progress.report)
        for task_id in progress.report.jobs:
            operator.note_job(task_id)
        calls_left = plan.sync_calls + plan.jobs - len(progress.done)
        lines = ProgressLog(self.log, self.hook.pacer, rows=plan.keys, calls=calls_left)
        sizes: dict[int, int] = {}

        def pieces() -> Generator[Piece, None, None]:
            for call in plan.calls(skip=progress.done):
                sizes[call.number] = call.keys
                yield Piece(call.number, rows=call.rows or (), job=call.job)

        def call_done(number: int, counted: Report) -> None:
            lines.calls_done += 1
            lines.rows_done += sizes.pop(number)
            progress.call_done(number, counted)

        runner = Runner(
            operator.data_key,
            self.report,
            upload=self.hook.upload,
            submit=operator.submit,
            warn=self._warn,
            max_in_flight=operator.max_in_flight,
            split=operator.mode == "auto",
            reject=lambda key, kind, reason: self._rejected_keys.update({key: (kind, reason)}),
            max_rejected=self._allowed(spool) - spool.rejected,
            before_call=progress.before_call,
            call_done=call_done,
            tick=lambda: lines.tick(self.report.codes_affected),
            stop=self.hook.stop_uploads,
        )
        try:
            # Closed in this thread, which is the only one that may use the spool.
            with closing(pieces()) as calls:
                runner.run(calls)
        finally:
            progress.save()

    def _open(self, source: Any) -> Source | RowSource:
        operator = self.operator
        if not isinstance(source, str | os.PathLike):
            rows = RowSource(source, columns=operator.columns, constants=operator.constants)
            if operator.rejects_path and not rows.restartable:
                raise ConfigurationError(
                    "rejects_path needs a source that can be read twice: a path, or a list instead of an iterator."
                )
            return rows
        name = os.fspath(source)
        return open_source(
            name,
            lambda: open_path(name, "rb"),
            format=operator.source_format,
            columns=operator.columns,
            constants=operator.constants,
            encoding=operator.encoding,
            delimiter=operator.delimiter,
        )

    def _allowed(self, spool: Spool) -> float:
        """Return how many rows may be rejected; a number below 1 is a share of all rows."""
        limit = self.operator.max_rejected
        if limit is None:
            return float("inf")
        return limit * spool.rows if 0 < limit < 1 else limit

    def _check_rejected(self, spool: Spool) -> None:
        if not spool.rejected:
            return
        line, kind, reason = next(iter(spool.rejects()))
        said = (
            f"{spool.rejected} of {spool.rows} rows cannot be sent, first in line {line} ({kind}): {reason}"
        )
        if spool.rejected > self._allowed(spool) or spool.rejected == spool.rows:
            raise TooManyRejected(f"Nothing was sent: {said}.")
        self.log.warning("%s. They are left out.", said)

    def _write_rejects(self, rows: Source | RowSource, spool: Spool) -> None:
        path = self.operator.rejects_path
        if path is None:
            return
        reasons = {line: (kind, reason) for line, kind, reason in spool.rejects()}
        for key, lines in spool.lines_of(list(self._rejected_keys)).items():
            reasons.update(dict.fromkeys(lines, self._rejected_keys[key]))
        if not reasons:
            self._remove_stale_rejects(path)
            return
        with open_path(path, "wb") as out:
            written = write_rejects(rows, reasons, out, name=path)
        self.log.warning(
            "%s rows did not arrive; they are in %s, to be mended and sent again.", written, path
        )
        if written < len(reasons):
            self.log.warning(
                "%s more rows did not arrive and are no longer in the source: it has changed in the meantime.",
                len(reasons) - written,
            )

    def _remove_stale_rejects(self, path: str) -> None:
        """Nobody should mend and send again what an earlier try wrote and this one has brought home."""
        location: Any = find_path(path)
        try:
            if location.exists():
                location.unlink()
                self.log.info("All rows arrived; %s, left by an earlier upload, is removed.", path)
        except OSError as error:
            self.log.warning("All rows arrived, but %s is of an earlier upload: %s", path, error)

    def _fingerprint(self, spool: Spool, plan: Plan) -> str:
        parts = [spool.fingerprint, plan.summary(), self.hook.scantrust_conn_id]
        return hashlib.sha256(json.dumps(parts, sort_keys=True).encode()).hexdigest()

    def _warn(self, text: str) -> None:
        self.log.warning("%s", text)


def open_path(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a path or URL; the folders of a local file that is written are made."""
    location: Any = find_path(path)
    if mode == "wb" and isinstance(location, Path):
        location.parent.mkdir(parents=True, exist_ok=True)
    return cast("BinaryIO", location.open(mode))


def find_path(path: str) -> Any:
    """Return a local path, or one of any URL that Airflow's object storage knows, with the connection that is in it."""
    if "://" not in path:
        return Path(path)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath(path)
