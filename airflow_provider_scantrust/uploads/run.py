"""Performing an upload: the calls in turn, and what a 504 asks for."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from airflow_provider_scantrust.api.models import UploadResult
from airflow_provider_scantrust.exceptions import UploadTimedOut
from airflow_provider_scantrust.uploads.calls import Job, make_jobs
from airflow_provider_scantrust.uploads.report import Report
from airflow_provider_scantrust.uploads.rows import Row

Upload = Callable[[Sequence[Row], str], UploadResult]
Submit = Callable[[Mapping[str, Any], Mapping[str, Any]], str]


def run_sync(
    calls: Iterable[Sequence[Row]],
    data_key: str,
    report: Report,
    *,
    upload: Upload,
    submit: Submit,
    warn: Callable[[str], None],
    split: bool,
) -> None:
    """
    Make synchronous calls, one after the other, and count their answers into the report.

    A call that ends in 504 updated nothing. With ``split`` it is halved until it passes; a single item that still
    times out is handed to an asynchronous job.

    :raises UploadTimedOut: A call ended in 504 and ``split`` is off.
    :raises ScantrustError: As ``upload`` and ``submit`` raise them; what was done before is in the report.
    """
    waiting = list(reversed(list(calls)))
    while waiting:
        rows = waiting.pop()
        report.requests += 1
        try:
            result = upload(rows, data_key)
        except UploadTimedOut:
            if not split:
                raise
            if len(rows) > 1:
                half = len(rows) // 2
                waiting += [rows[half:], rows[:half]]
                warn(f"A synchronous call of {len(rows)} items timed out and updated nothing; it is halved.")
            else:
                warn(
                    f"{data_key} {rows[0][data_key]!r} is on too many codes for a synchronous call; it goes async."
                )
                run_async(make_jobs(rows, data_key), report, submit=submit)
        else:
            report.add_answer(rows, data_key, result)


def run_async(jobs: Iterable[Job], report: Report, *, submit: Submit) -> None:
    """
    Submit jobs, one after the other, and write each task_id down.

    :raises ScantrustError: As ``submit`` raises it; the jobs submitted before are in the report.
    """
    for job in jobs:
        report.requests += 1
        report.add_job(job, submit(job.constraints, job.scm_data))
