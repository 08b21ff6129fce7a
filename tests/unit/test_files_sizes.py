"""Files of any size: what is read in blocks is the same as what was written, and so are the rejects."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

from uploaded import KEY, upload

pytest.importorskip("python_calamine")

MEBI = 1024 * 1024
BENCHMARKS = Path(__file__).parents[2] / "benchmarks"
# Letters of one to four bytes, so that blocks end within one.
NOTE = "aé漢😀;, " * 60


@pytest.mark.parametrize("mebibytes", [1.5, 11])
@pytest.mark.parametrize("form", ["csv", "jsonl"])
def test_file_and_rejects_of_many_blocks_arrive_as_written(form: str, mebibytes: float) -> None:
    line = (
        '"CODE{:07}","L{}","' + NOTE + '"\r\n'
        if form == "csv"
        else '{{"extended_id": "CODE{:07}", "lot": "L{}", "note": "' + NOTE + '"}}\n'
    )
    count = int(mebibytes * MEBI / len(line.format(0, 0).encode())) + 1
    head = f"{KEY},lot,note\r\n" if form == "csv" else ""
    data = head.encode() + "".join(line.format(number, number % 7) for number in range(count)).encode()
    assert len(data) > mebibytes * MEBI
    expected = {f"CODE{number:07}": {"lot": f"L{number % 7}", "note": NOTE} for number in range(count)}
    found = upload(data, f"rows.{form}", refused=dict.fromkeys(expected, "no such lot"))
    assert expected == found.rows
    assert len(found.rejects) > mebibytes * MEBI
    again = upload(found.rejects, found.rejects_name)
    assert (expected, []) == (again.rows, again.rejected)


def test_line_end_between_two_blocks_is_one_line_end() -> None:
    # All lines have 64 bytes but the first, which has one more: each block ends between return and line feed.
    head = f"{KEY},{'l' * 51}\r\n"
    data = head + "".join(f"CODE{number:07},{'x' * 50}\r\n" for number in range(10_000))
    assert 65 == len(head)
    assert b"\n" == data.encode()[256 * 1024 :][:1]
    found = upload(data, refused={"CODE0009999": "no such lot"})
    assert 10_000 == len(found.rows)
    assert [10_001] == [line for line, _, _ in found.rejected]


def test_workbook_is_read_within_its_memory() -> None:
    command = [sys.executable, str(BENCHMARKS / "excel.py"), "--rows", "10000"]
    done = subprocess.run(command, capture_output=True, text=True, cwd=BENCHMARKS.parent, check=False)
    assert 0 == done.returncode, done.stdout + done.stderr
    assert done.stdout.startswith("10,000 rows of a workbook: ")
