"""The command `scantrust-sandbox`."""

from __future__ import annotations

import argparse
import signal
import sys
import threading
from collections.abc import Sequence

from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS
from airflow_provider_scantrust.sandbox.server import Sandbox
from airflow_provider_scantrust.sandbox.settings import DEFAULT_TOKEN

DEFAULT_PORT = 8017


def main(arguments: Sequence[str] | None = None) -> int:
    """Serve a sandbox until SIGINT or SIGTERM; returns the exit code."""
    options = _parser().parse_args(arguments)
    ended = threading.Event()
    for each in (signal.SIGINT, signal.SIGTERM):
        signal.signal(each, lambda *_: ended.set())
    sandbox = None
    try:
        sandbox = Sandbox(**vars(options))
        sandbox.start()
    except (OSError, ValueError) as error:
        # The port, when the arguments were right.
        where = "" if sandbox is None else f" on port {options.port}"
        print(f"scantrust-sandbox: cannot start{where}: {error}", file=sys.stderr)
        return 1
    try:
        print(
            f"Scantrust sandbox ready on {sandbox.url} with {sandbox.count()} codes",
            f"Control calls and transcript: {sandbox.url}/_sandbox/",
            "The Airflow connection, as a URI or as JSON:",
            f"export AIRFLOW_CONN_SCANTRUST_DEFAULT='{sandbox.connection_uri}'",
            f"export AIRFLOW_CONN_SCANTRUST_DEFAULT='{sandbox.connection_json}'",
            sep="\n",
            flush=True,
        )
        ended.wait()
    finally:
        sandbox.stop()
    return 0


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="scantrust-sandbox",
        description="A local imitation of Scantrust's SCM uploads. Listens on 127.0.0.1 only.",
    )
    # The names are those of the arguments of `Sandbox`.
    add = parser.add_argument
    add("--port", type=int, default=DEFAULT_PORT, help="port to listen on; 0 takes a free one (%(default)s)")
    add("--seed", type=int, default=0, metavar="N", help="start with N codes, from SBX00000001 on")
    add("--seed-csv", metavar="FILE", help="start with the codes of a CSV file")
    add(
        "--field",
        action="append",
        default=[],
        dest="fields",
        metavar="NAME",
        help="another SCM field (may be repeated)",
    )
    add("--token", default=DEFAULT_TOKEN, help="the token that has all permissions (%(default)s)")
    add(
        "--time-scale",
        type=float,
        default=1.0,
        metavar="F",
        help="real seconds per service second for costs, jobs and the 60 s gateway timeout (%(default)s)",
    )
    add("--no-rate-limits", action="store_false", dest="rate_limits", help="never answer 429")
    add(
        "--deviation",
        action="append",
        default=[],
        choices=DEVIATIONS,
        dest="deviations",
        metavar="NAME",
        help="reverse an assumption about the service (may be repeated; /_sandbox/deviations/ lists them)",
    )
    return parser
