"""
The same as ``chaos.py`` with CeleryExecutor, two workers, two triggerers, PostgreSQL and Valkey, all on this machine.

    make distributed SEED=7
"""

from __future__ import annotations

import sys
import time

from chaos import CONFIG, CONNECTION, DAGS, SERVICE, read_options, run, say
from chaos_sandbox import SandboxProcess
from chaos_search import TOKEN
from distributed_airflow import DistributedAirflow


def main() -> int:
    """Start everything, make chaos, judge."""
    options = read_options("distributed", runs=20, seconds=200)
    began = time.monotonic()
    say(f"seed {options.seed}; starting the sandbox, PostgreSQL, Valkey and Airflow (Celery)")
    with SandboxProcess(options.home, token=TOKEN, **SERVICE) as sandbox:
        sandbox.jobs(times=None, seconds=3.0)
        connections = {"scantrust_default": sandbox.connection(**CONNECTION)}
        with DistributedAirflow(options.home, DAGS, connections=connections, config=CONFIG) as airflow:
            options.set_up = time.monotonic() - began
            return 0 if run(airflow, sandbox, options, hosts=True) else 1


if __name__ == "__main__":
    sys.exit(main())
