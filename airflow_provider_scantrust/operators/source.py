"""Uploading a whole source: read and plan it, run the plan, and write what did not arrive."""

from __future__ import annotations

import os
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Mapping
from contextlib import closing
from math import inf
from pathlib import Path
from typing import TYPE_CHECKING, Any, BinaryIO, Literal, cast

from airflow_provider_scantrust.exceptions import ConfigurationError, TooManyRejected
from airflow_provider_scantrust.hooks.logs import ProgressLog
from airflow_provider_scantrust.lineage.scantrust import split_url
from airflow_provider_scantrust.operators.arguments import as_path
from airflow_provider_scantrust.operators.resume import Progress, fingerprint
from airflow_provider_scantrust.sources.opening import RowSource, Source, open_source
from airflow_provider_scantrust.sources.tables import REJECTED
from airflow_provider_scantrust.uploads.calls import cut
from airflow_provider_scantrust.uploads.plan import Call, Limits, Plan, make_plan
from airflow_provider_scantrust.uploads.rejects import check_rejects_name, read_line_rejects, write_rejects
from airflow_provider_scantrust.uploads.report import Report, make_example
from airflow_provider_scantrust.uploads.run import UNMATCHED, Piece, Runner
from airflow_provider_scantrust.uploads.spool import Spool

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import Context

    from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
    from airflow_provider_scantrust.transports.common import Log
    from airflow_provider_scantrust.waits.outcome import Outcome

_HOPELESS_AFTER = 100


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
        path = operator.rejects_path
        self._rejects_path = as_path(path)
        if path is not None and self._rejects_path is None:
            raise ConfigurationError(f"rejects_path must be a path or URL, not {type(path).__name__}.")

    def run(self, source: Any, context: Context) -> Plan:
        """
        Upload, and return the plan that was carried out (or, with ``dry_run``, that would be).

        :param source: A path or URL, or rows.
        :raises TooManyRejected: More rows cannot be sent, or are refused, than ``max_rejected`` allows; or all of them; or
            a hundred before Scantrust took any.
        """
        rows = self._open(source)
        if self._rejects_path is not None:
            check_rejects_name(self._rejects_path, rows.format, self.operator.delimiter)
            if (name := as_path(source)) is not None and is_same_place(name, self._rejects_path):
                raise ConfigurationError("rejects_path is the source itself, which would be overwritten.")
        with Spool(self.operator.data_key, on_duplicate=self.operator.on_duplicate) as spool:
            spool.fill(rows, warn=self._warn)
            plan = self._plan(spool)
            self.report.mode, self.report.rows = plan.mode, spool.rows
            self.report.fingerprint = self._fingerprint(spool, plan)
            self.log.info("%s", plan.describe())
            if self.operator.dry_run_only:
                return plan
            progress = Progress(
                context,
                self.report.fingerprint,
                jobs=plan.jobs,
                max_in_flight=self.operator.max_in_flight,
                log=self.log,
            )
            self.operator.note_jobs(progress.report.jobs)
            if progress.ended:
                self.report.take_over(progress.report)
                return plan
            for _, kind, _ in spool.rejects():
                self.report.add_rejected(kind, 1)
            try:
                self._check_rejected(spool)
                self._run(spool, plan, progress)
            finally:
                self._write_rejects(rows, spool)
            if not spool.count_rejects():
                self._remove_stale_rejects()
        return plan

    def find_unmatched(self, source: Any, outcome: Outcome) -> None:
        """
        Find the rows that matched nothing among those of jobs which updated fewer codes than they have keys.

        Scantrust does not tell which they are, so these rows are sent once more, synchronously, and the answers are counted
        instead of the jobs. The rows that matched nothing join those in the rejects file.

        :param source: The same that was uploaded.
        :param outcome: Of the jobs, as the report has counted it.
        """
        short = self.report.short_jobs(outcome)
        if not short:
            return
        rows = self._open(source)
        with Spool(self.operator.data_key, on_duplicate=self.operator.on_duplicate) as spool:
            spool.fill(rows, warn=lambda text: None)
            plan = self._plan(spool)
            if self._fingerprint(spool, plan) != self.report.fingerprint:
                self._warn(
                    "The source has changed since it was uploaded, so which rows matched nothing is not known."
                )
                return
            alone, together = self._tell_apart(short)
            if together:
                self.log.info(
                    "%s jobs updated fewer codes than they have keys. Their rows are sent once more, synchronously, to see "
                    "which of them match nothing.",
                    len(together),
                )
            answers = Report(self.report.mode, 0, 0.0)
            pieces = (
                rows
                for call in self._calls(plan, together.values())
                for rows in cut(call.all_rows(self.operator.data_key), plan.items_per_call)
            )
            spool.note_rejects(self._read_rejects(rows))
            self._reject_alone(spool, plan, alone)
            try:
                # Closed in this thread, as in _run.
                with closing(pieces):
                    self._make_runner(spool, answers).run(Piece(*piece) for piece in enumerate(pieces))
            finally:
                self._write_rejects(rows, spool)
        self.report.count_instead(together, outcome, answers)

    def _tell_apart(self, short: Mapping[str, int]) -> tuple[dict[int, set[str]], dict[str, int]]:
        """Return the keys of jobs of a single row, by call, and the jobs of many rows, each with its call."""
        alone: dict[int, set[str]] = {}
        together = {}
        for task_id, number in short.items():
            keys, example, *_ = self.report.jobs[task_id]
            if keys == 1:
                alone.setdefault(number, set()).add(example)
            else:
                together[task_id] = number
        return alone, together

    def _calls(self, plan: Plan, numbers: Iterable[int]) -> Iterator[Call]:
        return plan.calls(skip=set(range(plan.jobs + plan.sync_calls)).difference(numbers))

    def _reject_alone(self, spool: Spool, plan: Plan, alone: Mapping[int, set[str]]) -> None:
        """
        Note the rows of jobs that had only this one, so that nobody has to be asked.

        Such a job may be what a 504 left of a larger call, whose other rows have been answered for. Where several of them
        begin with the same eighty characters, nobody knows which it was.
        """
        data_key = self.operator.data_key
        for call in self._calls(plan, alone):
            keys = [row[data_key] for row in call.all_rows(data_key)]
            times = Counter(map(make_example, keys))
            for key in keys:
                if (example := make_example(key)) in alone[call.number] and times[example] == 1:
                    spool.reject(key, "unmatched", UNMATCHED)

    def _plan(self, spool: Spool) -> Plan:
        return make_plan(
            spool,
            mode=self.operator.mode,
            codes_per_key=self.operator.codes_per_key,
            limits=Limits(ids_per_job=self.operator.ids_per_job),
        )

    def _run(self, spool: Spool, plan: Plan, progress: Progress) -> None:
        self.report.add(progress.report)
        lines = ProgressLog(
            self.log,
            self.hook.pacer,
            rows=plan.keys - plan.keys_in(progress.done),
            calls=plan.sync_calls + plan.jobs - len(progress.done),
        )
        sizes: dict[int, int] = {}

        def pieces() -> Generator[Piece, None, None]:
            for call in plan.calls(skip=progress.done):
                sizes[call.number] = call.keys
                yield Piece(call.number, rows=call.rows or (), job=call.job)

        def call_done(number: int, counted: Report) -> None:
            lines.calls_done += 1
            lines.rows_done += sizes.pop(number)
            progress.call_done(number, counted)

        runner = self._make_runner(
            spool,
            self.report,
            max_rejected=self._allowed(spool) - spool.rejected,
            # To find each row of a file that is simply wrong would take two calls a row.
            hopeless_after=_HOPELESS_AFTER if self.operator.max_rejected is None else inf,
            before_call=progress.before_call,
            call_done=call_done,
            tick=lambda: lines.tick(self.report.codes_affected),
        )
        # The calls are closed in this thread, which is the only one that may use the spool.
        with progress.kept(), closing(pieces()) as calls:
            runner.run(calls)
        if self.report.rejected.get("refused") == plan.rows - spool.rejected:
            raise runner.none_taken()

    def _make_runner(self, spool: Spool, report: Report, **options: Any) -> Runner:
        return Runner(
            self.operator.data_key,
            report,
            upload=self.hook.upload,
            submit=self.operator.submit,
            warn=self._warn,
            max_in_flight=self.operator.max_in_flight,
            split=self.operator.mode != "sync",
            reject=spool.reject,
            stop=self.hook.stop_uploads,
            **options,
        )

    def _open(self, source: Any) -> Source | RowSource:
        operator = self.operator
        name = as_path(source)
        if name is None:
            rows = RowSource(source, columns=operator.columns, constants=operator.constants)
            if self._rejects_path and not rows.restartable:
                raise ConfigurationError(
                    "rejects_path needs a source that can be read twice: a path, or a list instead of an iterator."
                )
            return rows
        return open_source(
            name,
            lambda: open_path(name, "rb"),
            format=operator.source_format,
            columns=operator.columns,
            constants=operator.constants,
            encoding=operator.encoding,
            delimiter=operator.delimiter,
            quotechar=operator.quotechar,
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

    def _read_rejects(self, rows: Source | RowSource) -> Iterator[tuple[int, str, str]]:
        """Return line, kind and reason of the rows that are in the rejects file already."""
        path = str(self._rejects_path)
        if not find_path(path).exists():
            return
        if rows.format == "jsonl":
            with open_path(path, "rb") as raw:
                yield from read_line_rejects(path, raw, self.operator.encoding)
            return
        rejects = open_source(
            path,
            lambda: open_path(path, "rb"),
            format=rows.format,
            # The source's own columns may be such as cannot be read: without a name, or twice the same.
            columns={**dict.fromkeys(self.operator.columns or ()), **{name: name for name in REJECTED}},
            encoding=self.operator.encoding,
            delimiter=self.operator.delimiter,
            quotechar=self.operator.quotechar,
        )
        for _, row in rejects:
            if isinstance(row, dict):
                line, kind, reason = (row[name] for name in REJECTED)
                yield int(line), kind, reason

    def _write_rejects(self, rows: Source | RowSource, spool: Spool) -> None:
        path = self._rejects_path
        if path is None:
            return
        count = spool.count_rejects()
        if not count:
            return
        with open_path(path, "wb") as out:
            written = write_rejects(rows, spool.rejects, out, name=path, data_key=spool.data_key)
        self.log.warning(
            "%s rows did not arrive; they are in %s, to be mended and sent again.", written, path
        )
        if written < count:
            self.log.warning(
                "%s more rows did not arrive and are no longer in the source: it has changed in the meantime.",
                count - written,
            )

    def _remove_stale_rejects(self) -> None:
        """Nobody should mend and send again what an earlier try wrote and this one has brought home."""
        path = self._rejects_path
        if path is None:
            return
        location: Any = find_path(path)
        try:
            if location.exists():
                location.unlink()
                self.log.info("No row was rejected; %s, left by an earlier upload, is removed.", path)
        except OSError as error:
            self.log.warning("No row was rejected, but %s is of an earlier upload: %s", path, error)

    def _fingerprint(self, spool: Spool, plan: Plan) -> str:
        sizes = [plan.items_per_call, plan.limits.ids_per_job]
        return fingerprint([spool.fingerprint, plan.summary(), sizes, self.hook.scantrust_conn_id])

    def _warn(self, text: str) -> None:
        self.log.warning("%s", text)


def open_path(path: str, mode: Literal["rb", "wb"]) -> BinaryIO:
    """Open a path or URL; the folders of a local file that is written are made."""
    location: Any = find_path(path)
    if mode == "wb" and (isinstance(location, Path) or location.protocol in ("file", "local")):
        location.parent.mkdir(parents=True, exist_ok=True)
    return cast("BinaryIO", location.open(mode))


def find_path(path: str) -> Any:
    """Return a local path, or one of any URL that Airflow's object storage knows, with the connection that is in it."""
    if "://" not in path:
        return Path(path)
    from airflow.providers.common.compat.sdk import ObjectStoragePath

    return ObjectStoragePath(path)


def is_same_place(one: str, other: str) -> bool:
    """Whether two paths or URLs lead to one file, however each of them is written."""
    local = [path.removeprefix("file://").removeprefix("local://") for path in (one, other)]
    if not any("://" in path for path in local):
        return os.path.realpath(local[0]) == os.path.realpath(local[1])
    scheme, connection, *place = split_url(one)
    other_scheme, other_connection, *other_place = split_url(other)
    # Two connections may lead to two services; one that is not named may be either.
    may_be_one = connection == other_connection or not (connection and other_connection)
    return (scheme, place) == (other_scheme, other_place) and may_be_one
