"""
Find the rows of jobs that matched no code, after a deferral: the upload ran in another process.

Rule: no error here fails an upload that has ended.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import BinaryIO

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.sources.tables import Source
from airflow_provider_scantrust.uploads.kept import Log
from airflow_provider_scantrust.uploads.options import RejectsFile
from airflow_provider_scantrust.uploads.plan import Plan
from airflow_provider_scantrust.uploads.rejects import write_keys, write_rejects
from airflow_provider_scantrust.uploads.report import make_example
from airflow_provider_scantrust.uploads.run import UNMATCHED

Mine = dict[str, str] | None


@dataclass(frozen=True)
class LateRejects:
    """
    Add rows to a rejects file.

    :param wanted: Number of a call -> the keys that matched no code; of a long key, only the beginning.
    """

    file: RejectsFile
    data_key: str
    wanted: Mapping[int, list[str]]
    log: Log

    def write(self, read_again: Callable[[], tuple[Source, Plan]], mine: Mine) -> Mine:
        """
        Add the rows; return the path and the digest of the rejects file.

        :param read_again: Reads the source once more; raises if it cannot be read as it was uploaded.
        :param mine: The rejects file of this upload, if there is one.
        """
        try:
            return self._append(*read_again(), mine)
        except Exception as error:  # the file, the service or the program may be gone
            keys = [example for examples in self.wanted.values() for example in examples if example]
            self.log.warning(
                "%s of jobs matched no code. The source cannot be read as it was uploaded (%.200s), so only the known keys "
                "(%s) are written.",
                plural(sum(map(len, self.wanted.values())), "row"),
                error,
                len(keys),
            )
            return self._write_keys(keys, mine) or mine

    def _append(self, source: Source, plan: Plan, mine: Mine) -> Mine:
        missing = sum(map(len, self.wanted.values()))
        for key in find_keys(plan, self.data_key, self.wanted):
            plan.spool.reject(key, "unmatched", UNMATCHED)
            missing -= 1
        if missing:
            self.log.warning(
                "%s of jobs matched no code and cannot be told from others; counted, and not in the rejects file.",
                plural(missing, "row"),
            )

        def found() -> Iterator[tuple[int, str, str]]:
            return (each for each in plan.spool.rejects() if each[1] == "unmatched")

        def write(out: BinaryIO, name: str, with_rows: bool) -> None:
            rows = found if with_rows else lambda: iter(())
            write_rejects(source, rows, out, name=name)

        written = self.file.append(write, mine)
        self.log.warning("Rows of jobs that matched no code were added to %s.", written["path"])
        return written

    def _write_keys(self, keys: Sequence[str], mine: Mine) -> Mine:
        """Write keys and the reason to a new rejects file."""
        if not keys:
            return None
        try:
            written = self.file.write(
                lambda out: write_keys(keys, UNMATCHED, out, name=self.file.path, data_key=self.data_key),
                None,
            )
        except Exception as error:  # as above
            self.log.warning("The keys cannot be written to %s (%s).", self.file.path, type(error).__name__)
            return None
        others = f"; the rows that were rejected before are in {mine['path']}" if mine else ""
        self.log.warning("The keys are in %s%s.", written["path"], others)
        return written


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
