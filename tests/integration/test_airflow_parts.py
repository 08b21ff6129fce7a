"""The processes of a local Airflow end with the process that started them."""

from __future__ import annotations

import os
import select
import signal
import subprocess
import sys
from pathlib import Path

import airflow_parts

SCRIPT = """
import os, sys
from pathlib import Path
from airflow_parts import Part

part = Part("part", ["sleep", "1000"], dict(os.environ), Path(sys.argv[1]))
part.start()
print(part.pid, flush=True)
sys.stdin.read()
"""


def test_parts_end_when_their_starter_is_killed(tmp_path: Path) -> None:
    starter = subprocess.Popen(
        [sys.executable, "-c", SCRIPT, tmp_path / "log"],
        env={**os.environ, "PYTHONPATH": str(Path(airflow_parts.__file__).parent)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert starter.stdout is not None
    pid = int(starter.stdout.readline())
    watched = os.pidfd_open(pid)
    starter.send_signal(signal.SIGKILL)
    starter.communicate()
    try:
        # Readable once the process has ended.
        assert ([watched], [], []) == select.select([watched], [], [], 30)
    finally:
        os.close(watched)
