"""
Find the rows of jobs that matched no code, after a deferral: the upload ran in another process.

Rule: no error here fails an upload that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import BinaryIO

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.kept import Log
from airflow_provider_scantrust.uploads.options import RejectsFile
from airflow_provider_scantrust.uploads.plan import Plan
from airflow_provider_scantrust.uploads.rejects import write_keys, write_rejects
from airflow_provider_scantrust.uploads.report import make_example
from airflow_provider_scantrust.uploads.run import UNMATCHED


def add_late_rejects(
    file: RejectsFile,
    wanted: Mapping[int, list[str]],
    *,
    read_again: Callable[[], tuple[Source, Plan]],
    data_key: str,
    log: Log,
) -> None:
    """
    Add rows to the rejects file of the upload, or write one.

    :param wanted: Number of a call -> the keys that matched no code; of a long key, only the beginning.
    :param read_again: Reads the source once more; raises if it cannot be read as it was uploaded.
    """
    rows = sum(map(len, wanted.values()))
    try:
        source, plan = read_again()
        found = [plan.spool.reject(key, "unmatched", UNMATCHED) for key in find_keys(plan, data_key, wanted)]
        if missing := rows - len(found):
            log.warning(
                "%s of jobs matched no code and cannot be told from others; counted, and not in the rejects file.",
                plural(missing, "row"),
            )

        def write(out: BinaryIO, name: str, with_rows: bool) -> None:
            rejects = plan.spool.rejects() if with_rows else ()
            write_rejects(
                source, lambda: (each for each in rejects if each[1] == "unmatched"), out, name=name
            )

        log.warning("Rows of jobs that matched no code were added to %s.", file.append(write))
        return
    except Exception as error:  # the file, the service or the program may be gone
        keys = [example for examples in wanted.values() for example in examples if example]
        log.warning(
            "%s of jobs matched no code. The source cannot be read as it was uploaded (%.200s), so only the known keys "
            "(%s) are written.",
            plural(rows, "row"),
            error,
            len(keys),
        )
    if not keys:
        return
    others = f"; the rows that were rejected before are in {file.mine['path']}" if file.mine else ""
    try:
        path = file.write(
            lambda out: write_keys(keys, UNMATCHED, out, name=file.path, data_key=data_key), beside=True
        )
    except Exception as error:  # as above
        log.warning("The keys cannot be written to %s (%s).", file.path, type(error).__name__)
    else:
        log.warning("The keys are in %s%s.", path, others)


def find_keys(plan: Plan, data_key: str, wanted: Mapping[int, list[str]]) -> Iterator[str]:
    """
    Return the whole keys of jobs that had a single key.

    Such a job may come from a larger call that timed out (504) and whose other rows got an answer. If several
    keys of that call begin with the same eighty characters, the job's key is not known and is left out.

    :param wanted: Number of a call -> the beginnings of the keys.
    """
    total = range(plan.sync_calls + plan.jobs)
    for call in plan.calls(skip=set(total).difference(wanted)):
        if call.is_job and call.keys == 1:
            yield str(call.as_rows(data_key)[0][data_key])
            continue
        beginnings: dict[str, list[str]] = {}
        for row in call.as_rows(data_key):
            beginnings.setdefault(make_example(row[data_key]), []).append(row[data_key])
        for example in wanted[call.number]:
            if len(beginnings.get(example, ())) == 1:
                yield beginnings[example][0]
