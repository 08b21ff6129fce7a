"""The command `scantrust-sandbox`."""

from __future__ import annotations

import argparse
import signal
import sqlite3
import sys
import threading
from collections.abc import Sequence

from airflow_provider_scantrust.sandbox.server import Sandbox
from airflow_provider_scantrust.sandbox.settings import DEFAULT_TOKEN

DEFAULT_PORT = 8017


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a sandbox until SIGINT or SIGTERM; returns the exit code."""
    options = _parser().parse_args(arguments)
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    sandbox = Sandbox(
        port=options.port,
        db=options.db,
        seed=options.seed,
        seed_csv=options.seed_csv,
        fields=options.field,
        token=options.token,
        time_scale=options.time_scale,
        rate_limits=not options.no_rate_limits,
    )
    try:
        sandbox.start()
    except (OSError, ValueError, sqlite3.Error) as error:
        print(f"scantrust-sandbox: cannot start on port {options.port}: {error}", file=sys.stderr)
        return 1
    try:
        print(_ready(sandbox), flush=True)
        ended.wait()
    finally:
        sandbox.stop()
    return 0


def _ready(sandbox: Sandbox) -> str:
    return "\n".join(
        (
            f"Scantrust sandbox ready on {sandbox.url} with {sandbox.count()} codes",
            f"Control and transcript: {sandbox.url}/_sandbox/ (listed in docs/fidelity.md)",
            "The Airflow connection, as a URI or as JSON:",
            f"export AIRFLOW_CONN_SCANTRUST_DEFAULT='{sandbox.connection_uri}'",
            f"export AIRFLOW_CONN_SCANTRUST_DEFAULT='{sandbox.connection_json}'",
        )
    )


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scantrust-sandbox",
        description="A local imitation of Scantrust's SCM uploads. Listens on 127.0.0.1 only.",
    )
    add = parser.add_argument
    add(
        "--port", type=_port, default=DEFAULT_PORT, help="port to listen on; 0 takes a free one (%(default)s)"
    )
    add("--db", metavar="PATH", help="file that keeps the state; without it, the state is kept in memory")
    add("--seed", type=int, default=0, metavar="N", help="begin with N codes, SBX00000001 and on")
    add("--seed-csv", metavar="FILE", help="begin with the codes of a CSV file")
    add("--field", action="append", default=[], metavar="NAME", help="another SCM field (may be repeated)")
    add("--token", default=DEFAULT_TOKEN, help="the token that has all permissions (%(default)s)")
    add(
        "--time-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="real seconds per service second for costs, jobs and the 60 s gateway timeout (%(default)s)",
    )
    add("--no-rate-limits", action="store_true", help="never answer 429")
    return parser


def _port(text: str) -> int:
    port = int(text)
    if not 0 <= port <= 65535:
        raise argparse.ArgumentTypeError("a port is 0 to 65535")
    return port
