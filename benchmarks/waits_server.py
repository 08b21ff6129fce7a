"""
A service whose jobs end by themselves: Scantrust's job status, dbt Cloud's run status, and an address that is 404 till then.

    python benchmarks/waits_server.py SECONDS [--limit 50 1] [--bad 0.01] [--certificate FILE]

It takes no submits: job ``n`` ends a fixed time after ``/start``. One class of its own instead of the
sandbox, because it shares two cores with what is measured; limit, 429 and 502 are the sandbox's. Prints its
port once it is bound.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import random
import resource
import ssl
import sys
import time
from collections import Counter
from collections.abc import Callable
from typing import cast

from airflow_provider_scantrust.sandbox.errors import Refused, gateway
from airflow_provider_scantrust.sandbox.limits import Throttle
from airflow_provider_scantrust.sandbox.settings import Settings

# Seconds over which the jobs' ends are spread.
SPREAD = 1.0
SCANTRUST, DBT, HTTP = "/api/v2/scm/tasks/", "/api/v2/accounts/1/runs/", "/http/"
_DBT_RUNNING, _DBT_SUCCESS = 3, 10
_SCOPE = "authenticated"
_WORDS = {200: "OK", 404: "Not Found", 429: "Too Many Requests", 502: "Bad Gateway"}


def path_of(number: int) -> str:
    """Return the path of a job's status; its id is as long as Scantrust's."""
    return f"{SCANTRUST}{id_of(number)}/"


def id_of(number: int) -> str:
    """Return the id of a job."""
    return f"00000000-0000-4000-8000-{number:012x}"


def seconds_of(number: int, seconds: float) -> float:
    """Return how many seconds after the start a job ends."""
    return seconds + SPREAD * (number % 1000) / 1000


class Service:
    """
    What is answered, and what was asked.

    :param seconds: How long jobs take.
    :param limit: Questions and the window in seconds, over which 429 is answered.
    :param bad: The share of answers that are 502.
    """

    def __init__(
        self,
        seconds: float,
        limit: tuple[int, float] | None = None,
        bad: float = 0.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._seconds = seconds
        self._clock = clock
        self._bad = bad
        self._chance = random.Random(4)
        self._settings = Settings(rate_limits=limit is not None, limits={_SCOPE: limit or (0, 0.0)})
        self._throttle = Throttle(self._settings, clock)
        self._started: float | None = None
        self._answers: Counter[int] = Counter()
        self._per_second: Counter[int] = Counter()
        self.connections = 0

    def start(self) -> dict[str, float]:
        """Let all jobs begin now, and forget what was asked before."""
        self._started = self._clock()
        self._throttle = Throttle(self._settings, self._clock)
        self._answers.clear()
        self._per_second.clear()
        self.connections = 0
        return {"started": self._started}

    def counts(self) -> dict[str, object]:
        """Return what was asked since the start; ``pace`` is the questions of each second."""
        last = max(self._per_second, default=-1)
        return {
            "questions": self._answers.total(),
            "throttled": self._answers[429],
            "bad": self._answers[502],
            "connections": self.connections,
            "pace": [self._per_second[second] for second in range(last + 1)],
        }

    def answer(self, path: str) -> tuple[int, dict[str, str], str]:
        """Return status, headers and body."""
        try:
            self._throttle.count(_SCOPE, "")
            if self._bad and self._chance.random() < self._bad:
                raise gateway(502)
            status, body = self._true_answer(path)
            headers: dict[str, str] = {}
        except Refused as refused:
            status, body, headers = refused.status, refused.body, refused.headers
        self._answers[status] += 1
        if self._started is not None:
            self._per_second[int(self._clock() - self._started)] += 1
        if isinstance(body, str):
            return status, headers, body
        return status, {"Content-Type": "application/json", **headers}, json.dumps(body)

    def _true_answer(self, path: str) -> tuple[int, object]:
        if path.startswith(SCANTRUST):
            task_id = path[len(SCANTRUST) : -1]
            done = self._is_done(int(task_id[-12:], 16))
            return 200, {
                "id": task_id,
                "reference": "SCM-000001",
                "state": "complete" if done else "in-progress",
                "codes_affected": 1000 if done else None,
                "created_by": 1,
                "created_at": "2026-11-22T13:35:07.966618Z",
                "started_at": "2026-11-22T13:35:07.974327Z",
                "completed_at": "2026-11-22T13:36:07.974327Z" if done else None,
            }
        if path.startswith(DBT):
            number = int(path[len(DBT) : -1])
            status = _DBT_SUCCESS if self._is_done(number) else _DBT_RUNNING
            return 200, {
                "status": {"code": 200, "is_success": True},
                "data": {"id": number, "status": status},
            }
        if path.startswith(HTTP) and self._is_done(int(path[len(HTTP) :])):
            return 200, {}
        return 404, {"detail": "Not found."}

    def _is_done(self, number: int) -> bool:
        return self._started is not None and self._clock() >= self._started + seconds_of(
            number, self._seconds
        )


class Connection(asyncio.Protocol):
    """HTTP/1.1 without bodies, kept alive; a web framework would take a core from what is measured."""

    def __init__(self, service: Service) -> None:
        self._service = service
        self._received = b""
        self._counted = False

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        *questions, self._received = (self._received + data).split(b"\r\n\r\n")
        for question in questions:
            self._transport.write(self._answer(question.split(b" ", 2)[1].decode()))

    def _answer(self, path: str) -> bytes:
        status, headers, body = 200, {"Content-Type": "application/json"}, ""
        if path == "/start":
            body = json.dumps(self._service.start())
        elif path == "/counts":
            body = json.dumps(self._service.counts())
        else:
            self._service.connections += not self._counted
            self._counted = True
            status, headers, body = self._service.answer(path)
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        return (
            f"HTTP/1.1 {status} {_WORDS[status]}\r\n{lines}Content-Length: {len(body)}\r\n\r\n{body}".encode()
        )


def raise_file_limit() -> None:
    """Allow as many open sockets as the system does; the peers open thousands."""
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))


async def serve(service: Service, certificate: str | None) -> None:
    """Serve until the standard input is closed."""
    context = None
    if certificate:
        context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
        context.load_cert_chain(certificate)
    loop = asyncio.get_running_loop()
    server = await loop.create_server(
        lambda: Connection(service), "127.0.0.1", 0, ssl=context, backlog=65_535
    )
    print(server.sockets[0].getsockname()[1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    server.close()


def main() -> None:
    """Read the arguments and serve."""
    import uvloop

    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("seconds", type=float)
    parser.add_argument("--limit", type=float, nargs=2, metavar=("QUESTIONS", "SECONDS"))
    parser.add_argument("--bad", type=float, default=0.0)
    parser.add_argument("--certificate")
    options = parser.parse_args()
    raise_file_limit()
    limit = (int(options.limit[0]), options.limit[1]) if options.limit else None
    uvloop.run(serve(Service(options.seconds, limit, options.bad), options.certificate))


if __name__ == "__main__":
    main()
