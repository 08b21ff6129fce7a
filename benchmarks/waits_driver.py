"""
One case of ``waits.py``: start so many triggers in an event loop of its own, as a triggerer does, and measure.

Takes the case as JSON and prints the figures as JSON. A trigger runs as in Airflow's triggerer: a task, with
a greenback portal, its log lines as JSON into a pipe that is not read. What any of the triggers would import
is imported first, for all alike: memory and CPU are those of the waits. The connections come from the
environment.
"""

from __future__ import annotations

import asyncio
import gc
import importlib
import json
import os
import resource
import sys
import time
import urllib.request
from collections.abc import AsyncIterator, Callable
from typing import Any, NamedTuple

import aiohttp
import greenback
import requests.utils  # noqa: F401 - not to be measured
from airflow.sdk.definitions.connection import Connection
from airflow.sdk.log import configure_logging
from airflow.triggers.base import BaseTrigger, TriggerEvent

from waits_server import HTTP, id_of, path_of, raise_file_limit

# Seconds between two beats of the heart, and between two looks at the memory.
BEAT, LOOK = 0.02, 0.5
BARE_CONNECTIONS = 10
_FAR = time.time() + 86_400


class SleepTrigger(BaseTrigger):
    """Only sleep: what Airflow itself needs."""

    def __init__(self, seconds: float) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.seconds = seconds

    def serialize(self) -> tuple[str, dict[str, Any]]:
        """Return the class path and the arguments."""
        return "waits_driver.SleepTrigger", {"seconds": self.seconds}

    async def run(self) -> AsyncIterator[TriggerEvent]:
        """Sleep, and yield True."""
        await asyncio.sleep(self.seconds)
        yield TriggerEvent(True)  # type: ignore[no-untyped-call]


class Kind(NamedTuple):
    """
    A trigger to measure.

    :param arguments: Makes its arguments from a job's number and the poll interval.
    :param success: Says whether an event's payload means that the job succeeded.
    """

    module: str
    name: str
    arguments: Callable[[int, float], dict[str, Any]]
    success: Callable[[Any], bool]


KINDS = {
    "scantrust": Kind(
        "airflow_provider_scantrust.triggers.scantrust",
        "ScantrustTaskTrigger",
        lambda number, poll: {"task_ids": [id_of(number)], "deadline": _FAR, "poll_interval": poll},
        lambda payload: payload["status"] == "complete",
    ),
    "dbt-cloud": Kind(
        "airflow.providers.dbt.cloud.triggers.dbt",
        "DbtCloudRunJobTrigger",
        lambda number, poll: {
            "conn_id": "dbt_cloud_default",
            "run_id": number,
            "end_time": _FAR,
            "poll_interval": poll,
            "account_id": 1,
        },
        lambda payload: payload["status"] == "success",
    ),
    "http": Kind(
        "airflow.providers.http.triggers.http",
        "HttpSensorTrigger",
        lambda number, poll: {"endpoint": f"{HTTP}{number}", "method": "GET", "poke_interval": poll},
        lambda payload: payload is True,
    ),
    "only sleeps": Kind(
        "__main__", "SleepTrigger", lambda number, poll: {"seconds": poll}, lambda payload: True
    ),
}


class Heart:
    """Beats on the loop, and knows how late it came at worst and how large the process grew."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.latest = 0.0
        self.peak = memory()
        self._look_at = 0.0
        self._due = self._loop.time() + BEAT
        self._loop.call_at(self._due, self._beat)

    def take_latest(self) -> float:
        """Return the worst since the last call, a beat that is overdue included."""
        worst = max(self.latest, self._loop.time() - self._due)
        self.latest = 0.0
        return worst

    def _beat(self) -> None:
        now = self._loop.time()
        self.latest = max(self.latest, now - self._due)
        if now >= self._look_at:
            self.peak = max(self.peak, memory())
            self._look_at = now + LOOK
        self._due = now + BEAT
        self._loop.call_at(self._due, self._beat)


async def run(case: dict[str, Any]) -> dict[str, Any]:
    """Run a case and return its figures."""
    kind = KINDS.get(case["kind"])
    trigger = getattr(importlib.import_module(kind.module), kind.name) if kind else None
    lookups = count_lookups()
    gc.collect()
    started = await asyncio.to_thread(start_jobs, case["url"])
    memory_before, cpu_before = memory(), cpu()
    heart = Heart()
    ends: dict[int, tuple[float, bool]] = {}
    tasks = []

    async def wait_for(number: int, instance: BaseTrigger) -> None:
        await greenback.ensure_portal()
        async for event in instance.run():
            succeeded = kind is not None and kind.success(event.payload)
            ends.setdefault(number, (time.monotonic() - started, succeeded))

    if kind is None or trigger is None:
        tasks.append(asyncio.create_task(ask(case["url"], case["pace"])))
    else:
        for number in range(case["waits"]):
            # Twice, as the triggerer does before each.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            arguments = kind.arguments(number, case["poll"])
            tasks.append(asyncio.create_task(wait_for(number, trigger(**arguments))))
    await asyncio.sleep(0)
    starting_took = time.monotonic() - started
    block_starting = heart.take_latest()
    _, late = await asyncio.wait(tasks, timeout=case["timeout"] - starting_took)
    figures = {
        "ends": ends,
        "not_ended": len(late),
        "crashed": sum(task.exception() is not None for task in tasks if task.done()),
        "seconds": time.monotonic() - started,
        "cpu": cpu() - cpu_before,
        "memory": max(heart.peak, memory()) - memory_before,
        "starting": starting_took,
        "block_starting": block_starting,
        "block": heart.take_latest(),
        "lookups": len(lookups),
    }
    # Cancelling thousands takes a while, and is not what is measured.
    print(json.dumps(figures), flush=True)
    os._exit(0)


async def ask(url: str, pace: list[int]) -> None:
    """Ask as many questions in each second as ``pace`` says, with nothing but aiohttp."""
    loop = asyncio.get_running_loop()
    started = loop.time()
    under_way: set[asyncio.Task[None]] = set()

    async def question(number: int) -> None:
        async with session.get(f"{url}{path_of(number)}", headers={"Authorization": "UAT bench"}) as response:
            json.loads(await response.read())

    connector = aiohttp.TCPConnector(limit=BARE_CONNECTIONS)
    async with aiohttp.ClientSession(connector=connector) as session:
        for second, count in enumerate(pace):
            for number in range(count):
                pause = started + second + number / count - loop.time()
                if pause > 0:
                    await asyncio.sleep(pause)
                task = asyncio.create_task(question(number))
                under_way.add(task)
                task.add_done_callback(under_way.discard)
        await asyncio.gather(*under_way)


def start_jobs(url: str) -> float:
    """Let the jobs begin, and return when that was; the server shares the monotonic clock."""
    with urllib.request.urlopen(f"{url}/start") as answer:
        started: float = json.load(answer)["started"]
    return started


def count_lookups() -> list[str]:
    """Return a list that grows with each lookup of a connection."""
    found: list[str] = []
    get, async_get = Connection.get, Connection.async_get

    def counted_get(conn_id: str) -> Any:
        found.append(conn_id)
        return get(conn_id)

    async def counted_async_get(conn_id: str) -> Any:
        found.append(conn_id)
        return await async_get(conn_id)

    Connection.get = counted_get  # type: ignore[method-assign]
    Connection.async_get = counted_async_get  # type: ignore[method-assign]
    return found


def memory() -> int:
    """Return the bytes that the process holds now."""
    with open("/proc/self/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * resource.getpagesize()


def cpu() -> float:
    """Return the seconds that all threads have used."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


if __name__ == "__main__":
    raise_file_limit()
    for each in ("airflow_provider_scantrust.transports.aio", "airflow_provider_scantrust.hooks.scantrust"):
        importlib.import_module(each)
    with open(os.devnull, "wb", buffering=0) as log:
        configure_logging(json_output=True, output=log, sending_to_supervisor=True)
        # An error of the benchmark itself is to be seen.
        sys.excepthook = sys.__excepthook__
        asyncio.run(run(json.loads(sys.stdin.read())))
