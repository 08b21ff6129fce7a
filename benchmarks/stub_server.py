"""
A server that answers uploads as fast as Scantrust might: 0.5 s for a synchronous call, ten calls a second.

It keeps nothing and checks nothing; what is measured is the client. Prints its port once it is bound.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import sys
import time
from collections import deque

from aiohttp import web

SECONDS_PER_CALL = 0.5
CALLS_PER_SECOND = 10
seen: deque[float] = deque()
counts = {"calls": 0, "throttled": 0}
ids = itertools.count(1)
jobs: dict[str, int] = {}


def throttled() -> web.Response | None:
    """Return a 429 when ten calls came within the last second."""
    now = time.monotonic()
    while seen and seen[0] <= now - 1.0:
        seen.popleft()
    counts["calls"] += 1
    if len(seen) >= CALLS_PER_SECOND:
        counts["throttled"] += 1
        return web.json_response(
            {"detail": "Request was throttled.", "code": "throttled"},
            status=429,
            headers={"Retry-After": "1"},
        )
    seen.append(now)
    return None


async def upload(request: web.Request) -> web.Response:
    """Answer a synchronous upload: every key matched, every field was updated."""
    if (refusal := throttled()) is not None:
        return refusal
    started = time.monotonic()
    body = json.loads(await request.read())
    key = body["data_key"]
    items = {item[key]: [name for name in item if name != key] for item in body["items"]}
    await asyncio.sleep(max(0.0, SECONDS_PER_CALL - (time.monotonic() - started)))
    updates = sum(map(len, items.values()))
    return web.json_response(
        {"total_updates": updates, "changes": [], "items": items, "codes_affected": len(items)}
    )


async def submit(request: web.Request) -> web.Response:
    """Answer a submit."""
    if (refusal := throttled()) is not None:
        return refusal
    task_id = f"job-{next(ids)}"
    jobs[task_id] = len(json.loads(await request.read())["constraints"]["extended_id"])
    return web.json_response({"task_id": task_id})


async def status(request: web.Request) -> web.Response:
    """Answer that a job is complete."""
    task_id = request.match_info["task_id"]
    return web.json_response({"id": task_id, "state": "complete", "codes_affected": jobs[task_id]})


async def count(request: web.Request) -> web.Response:
    """Return the counts since the last question."""
    answer = web.json_response(counts)
    counts.update(calls=0, throttled=0)
    return answer


async def main() -> None:
    """Serve until the standard input is closed."""
    app = web.Application(client_max_size=2**30)
    app.router.add_post("/api/v2/scm/upload/", upload)
    app.router.add_post("/api/v2/scm/upload/async/", submit)
    app.router.add_get("/api/v2/scm/tasks/{task_id}/", status)
    app.router.add_get("/counts", count)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, "127.0.0.1", 0)
    await site.start()
    print(runner.addresses[0][1], flush=True)
    await asyncio.to_thread(sys.stdin.read)
    await runner.cleanup()


if __name__ == "__main__":
    asyncio.run(main())
