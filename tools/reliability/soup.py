"""
Fault soup: thousands of waits and uploads against a service of whose answers half are broken.

    make soup SEED=7

Of all answers, 5 % each are: 500, 502, 503, a reset before the work and one after it, half a body, garbage,
429 with and without Retry-After, and a true answer that takes 30 s. What runs is the real trigger with its
watcher, and the real operator with its retries; Airflow's part is played by this script, with tries and a
store that outlives them.

Time is scaled: for the client a second passes in a fortieth of one, for all its clocks, pauses, budgets,
rates and timeouts alike. So the 30 s of an answer are 0.75 s here, and its timeout of 75 s is 1.9 s.

The waits are spread over ten event loops, as over ten triggerers of a thousand waits each, which is what one
takes by default.
"""

from __future__ import annotations

import argparse
import asyncio
import atexit
import json
import logging
import os
import random
import selectors
import shutil
import sys
import tempfile
import threading
import time
import types
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

SPEED = 40
_real_monotonic, _real_sleep = time.monotonic, time.sleep


def _fast_monotonic() -> float:
    return _real_monotonic() * SPEED


def _fast_sleep(seconds: Any) -> None:
    _real_sleep(seconds / SPEED)


# Before anything else looks at the clock.
time.monotonic, time.sleep = _fast_monotonic, _fast_sleep
os.environ["AIRFLOW_HOME"] = tempfile.mkdtemp(prefix="soup-airflow-")
atexit.register(shutil.rmtree, os.environ["AIRFLOW_HOME"], ignore_errors=True)
os.environ["AIRFLOW__CORE__LOAD_EXAMPLES"] = "False"

import requests  # noqa: E402
import structlog  # noqa: E402
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowSensorTimeout  # noqa: E402

import reliability_page  # noqa: E402
from airflow_provider_scantrust.api.endpoints import get_me  # noqa: E402
from airflow_provider_scantrust.api.flow import make_request  # noqa: E402
from airflow_provider_scantrust.api.messages import FaultKind  # noqa: E402
from airflow_provider_scantrust.exceptions import ScantrustError  # noqa: E402
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook  # noqa: E402
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator  # noqa: E402
from airflow_provider_scantrust.transports import blocking  # noqa: E402
from airflow_provider_scantrust.triggers.scantrust import ScantrustTaskTrigger, read_event  # noqa: E402
from chaos_judge import SUBMITTED_AGAIN  # noqa: E402
from chaos_sandbox import SandboxProcess  # noqa: E402
from tasks import Store, TaskInstance  # noqa: E402

WAITS, UPLOADS = 10_000, 2_000
CODES = 7
UPLOAD_ROWS = 4
THREADS = 32
TRIGGERERS = 10
# Airflow's tries of one upload.
TRIES = 6
SLOW = 30.0
MINUTE = 60.0
# Of one kind in the log of a task, before it is told once a minute only.
FREE_LINES = 5
FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 502},
    {"status": 503},
    {"cut": "before"},
    {"cut": "after"},
    {"cut": "body"},
    {"body": "<html>garbage: not what was asked for"},
    # For the client three seconds.
    {"status": 429, "headers": {"Retry-After": "3"}},
    {"status": 429},
    {"delay": SLOW / SPEED},
]


class FastSelector(selectors.DefaultSelector):
    """Waits a fortieth of what the event loop asks for."""

    def select(self, timeout: float | None = None) -> Any:
        return super().select(timeout if timeout is None else timeout / SPEED)


class FastAdapter(requests.adapters.HTTPAdapter):
    """Gives its sockets a fortieth of the timeouts."""

    def send(self, *args: Any, **options: Any) -> Any:
        options["timeout"] = tuple(seconds / SPEED for seconds in options["timeout"])
        return super().send(*args, **options)


# The end of an answer is looked for by the timeout of its socket, which is scaled already.
vars(blocking)["time"] = types.SimpleNamespace(monotonic=_real_monotonic)


class Lines:
    """All lines that are logged: when, by whom, and what."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, str, str]] = []
        self.told_again: Counter[str] = Counter()

    def take(self, who: str, text: str) -> None:
        """Keep a line."""
        self.seen.append((time.monotonic(), who, text))
        # A task has a log for each of its tries.
        self.told_again[who.partition(",")[0]] += text.startswith(SUBMITTED_AGAIN)

    def too_often(self, free: int) -> list[str]:
        """
        Return what one log has told of one kind of fault more often than once a minute.

        :param free: How many of a kind a log may tell before that begins.
        """
        found = []
        told: dict[tuple[str, str], list[float]] = {}
        for at, who, text in self.seen:
            if text.startswith(SUBMITTED_AGAIN):
                # Each of them is another job.
                continue
            kind = "".join(letter for letter in text[:60] if not letter.isdigit())
            times = told.setdefault((who, kind), [])
            if len(times) >= free and at - times[-free] < MINUTE * 0.99:
                found.append(f"{who}: {text:.150}")
            times.append(at)
        return found


class StdlibLines(logging.Handler):
    def __init__(self, lines: Lines) -> None:
        super().__init__(logging.WARNING)
        self.lines = lines

    def emit(self, record: logging.LogRecord) -> None:
        """Keep what the watcher says."""
        self.lines.take(f"watcher {threading.current_thread().name}", record.getMessage())


class FastHook(ScantrustHook):
    """Pauses, and gives up on an answer, in the script's time."""

    def _sleep(self, seconds: float) -> None:
        super()._sleep(seconds / SPEED)

    def speed_up(self) -> None:
        """Exchange the adapters of the session, which all calls use."""
        for scheme in ("https://", "http://"):
            self.get_conn().mount(scheme, FastAdapter(pool_maxsize=UPLOAD_ROWS))


class TaskLog:
    """The log of one task."""

    def __init__(self, lines: Lines, who: str) -> None:
        self._lines, self._who = lines, who

    def info(self, event: str, *args: Any, **_: Any) -> None:
        """Not of interest."""

    debug = info

    def warning(self, event: str, *args: Any, **_: Any) -> None:
        """Keep the line."""
        self._lines.take(self._who, event % args if args else event)

    error = warning


class Upload:
    """One upload of four rows: odd ones in one synchronous call, even ones as two jobs that are waited for."""

    def __init__(self, number: int, lines: Lines) -> None:
        self.name = f"upload {number}"
        self.is_async = number % 2 == 0
        first = number * UPLOAD_ROWS
        self.rows = [
            {"extended_id": f"SBX{first + row + 1:08d}", "market": f"U{number}", "case_id": str(row // 2)}
            for row in range(UPLOAD_ROWS)
        ]
        self.tries = 0
        self.told = 0
        self.wrong: str | None = None
        self._lines = lines

    def run(self) -> None:
        """Try as often as Airflow would."""
        store = Store()
        while self.wrong is None:
            self.tries += 1
            operator = ScantrustUploadOperator(
                task_id="upload",
                items=self.rows,
                mode="async" if self.is_async else "sync",
                deferrable=False,
                poll_interval=2,
                scantrust_conn_id="soup",
                retries=TRIES - 1,
            )
            hook = FastHook("soup")
            hook._log = operator._log = TaskLog(self._lines, f"{self.name}, try {self.tries}")  # type: ignore[assignment]
            operator.__dict__["hook"] = hook
            hook.speed_up()
            try:
                report = operator.execute(
                    {"ti": TaskInstance(operator, self.tries), "task_state_store": store}  # type: ignore[typeddict-item]
                )
            except (AirflowFailException, AirflowSensorTimeout) as error:
                self.wrong = f"failed for good in try {self.tries}: {error}"
            except ScantrustError as error:
                if self.tries == TRIES:
                    self.wrong = f"failed {TRIES} times: {error}"
            else:
                self.told = report.get("possibly_submitted_twice", 0)
                if (report["rows"], report["codes_affected"], report["unmatched"]["count"]) != (
                    UPLOAD_ROWS,
                    UPLOAD_ROWS,
                    0,
                ):
                    self.wrong = f"reported {report}"
                return


def run_waits(jobs: dict[str, int], lines: Lines) -> tuple[list[str], list[str]]:
    """Wait for all jobs at once; return what failed, and what came out wrong."""

    async def wait(task_id: str) -> Any:
        trigger = ScantrustTaskTrigger(
            [task_id], time.time() + 1e6, poll_interval=10.0, scantrust_conn_id="soup"
        )
        trigger._log = TaskLog(lines, f"wait {task_id}")  # type: ignore[assignment]
        async for event in trigger.run():
            return event.payload
        return None

    def triggerer(task_ids: list[str]) -> dict[str, Any]:
        async def wait_for_all() -> list[Any]:
            return await asyncio.gather(*(wait(task_id) for task_id in task_ids))

        with asyncio.Runner(loop_factory=lambda: asyncio.SelectorEventLoop(FastSelector())) as runner:
            return dict(zip(task_ids, runner.run(wait_for_all()), strict=True))

    payloads: dict[str, Any] = {}
    with ThreadPoolExecutor(TRIGGERERS, thread_name_prefix="triggerer") as threads:
        for some in threads.map(triggerer, (list(jobs)[n::TRIGGERERS] for n in range(TRIGGERERS))):
            payloads |= some
    failed, wrong = [], []
    for task_id, codes in jobs.items():
        try:
            if (result := read_event(payloads[task_id]).counts) != {task_id: codes}:
                wrong.append(f"wait for {task_id}: {result}, not {codes}")
        except ScantrustError as error:
            failed.append(f"wait for {task_id}: {type(error).__name__}: {error}")
    return failed, wrong


def wrong_timeouts(sandbox: SandboxProcess) -> list[str]:
    """Ask, as uploads and as questions do, what is answered too late; return what was not given up in scaled time."""
    hook = FastHook("soup")
    hook.speed_up()
    request = make_request(get_me(), hook.settings, hook._auth)
    limit = request.timeout[1] / SPEED
    wrong = []
    sandbox.fault(path="/api/*", delay=2 * limit)
    began = _real_monotonic()
    reply = hook._transport._send(request)
    seconds = _real_monotonic() - began
    if getattr(reply, "kind", None) is not FaultKind.TIMEOUT or not limit <= seconds < 1.5 * limit:
        wrong.append(f"an answer was waited for {seconds:.2f} s, not {limit:.2f} s: {reply}")
    sandbox.clear_faults()
    return wrong


def submit_jobs(sandbox: SandboxProcess, count: int, first: int) -> dict[str, int]:
    """Submit jobs as somebody else would, of one to seven codes each; return task_id -> codes."""
    headers = {"Authorization": f"UAT {sandbox.token}"}
    pool = [f"SBX{first + number:08d}" for number in range(1, CODES + 1)]

    def submit(number: int) -> tuple[str, int]:
        codes = 1 + number % CODES
        body = {"constraints": {"extended_id": pool[:codes]}, "scm_data": {"market": "WAIT"}}
        with requests.Session() as session:
            answer = session.post(
                f"{sandbox.url}/api/v2/scm/upload/async/", json=body, headers=headers, timeout=60
            )
        return str(answer.json()["task_id"]), codes

    with ThreadPoolExecutor(8) as threads:
        return dict(threads.map(submit, range(count)))


def judge_uploads(sandbox: SandboxProcess, uploads: list[Upload], lines: Lines) -> tuple[list[str], int, int]:
    """Compare every code and every job with what the uploads set; return what is wrong, jobs again, and untold."""
    expected = {row["extended_id"]: row for upload in uploads for row in upload.rows}
    wrong = []
    for code in sandbox.codes():
        row = expected.get(code["extended_id"])
        if row is not None and {name: code[name] for name in row} != row:
            wrong.append(f"code {code['extended_id']} has not what its upload sets")
    submitted = Counter(
        (job["scm_data"]["market"], json.dumps(job["scm_data"], sort_keys=True))
        for job in sandbox.tasks()
        if job["scm_data"]["market"] != "WAIT"
    )
    again: Counter[str] = Counter(market for (market, _), count in submitted.items() if count > 1)
    untold = 0
    for upload in uploads:
        told = upload.told + lines.told_again[upload.name]
        untold += max(0, again[upload.rows[0]["market"]] - told)
    return wrong, again.total(), untold


def steps(options: argparse.Namespace, lines: Lines) -> Iterator[str]:
    """Run it all; yield what is wrong."""
    began = _real_monotonic()
    with SandboxProcess(
        Path(os.environ["AIRFLOW_HOME"]), 30.0 * SPEED, time_scale=1 / SPEED, rate_limits=False
    ) as sandbox:
        uploads = [Upload(number, lines) for number in range(options.uploads)]
        codes = Path(os.environ["AIRFLOW_HOME"]) / "codes.csv"
        count = options.uploads * UPLOAD_ROWS + CODES
        codes.write_text("extended_id\n" + "".join(f"SBX{number:08d}\n" for number in range(1, count + 1)))
        sandbox.add_codes(codes)
        os.environ["AIRFLOW_CONN_SOUP"] = sandbox.connection(max_polls_per_second=50)
        late = wrong_timeouts(sandbox)
        # Half of them are open when they are first asked about.
        sandbox.jobs(times=options.waits // 2, polls=2)
        jobs = submit_jobs(sandbox, options.waits, options.uploads * UPLOAD_ROWS)
        sandbox.jobs()
        say(f"{len(jobs)} jobs are there to be waited for, after {_real_monotonic() - began:.0f} s")
        for number, fault in enumerate(FAULTS):
            # Each looks at what the ones after it have let pass.
            share = 0.05 / (1 - 0.05 * (len(FAULTS) - 1 - number))
            sandbox.fault(
                path="/api/*", times=None, probability=share, random_seed=options.seed + number, **fault
            )
        with ThreadPoolExecutor(THREADS) as threads:
            running = [threads.submit(upload.run) for upload in uploads]
            failed, wrong = run_waits(jobs, lines)
            say(f"all waits have ended, after {_real_monotonic() - began:.0f} s")
            for each in running:
                each.result()
        say(f"all uploads have ended, after {_real_monotonic() - began:.0f} s")
        acted = {json.dumps({**FAULTS[n]}): fault["acted"] for n, fault in enumerate(sandbox.faults())}
        sandbox.clear_faults()
        false_failures = failed + [f"{upload.name} {upload.wrong}" for upload in uploads if upload.wrong]
        wrong_codes, again, untold = judge_uploads(sandbox, uploads, lines)
        wrong += wrong_codes
    often = lines.too_often(FREE_LINES) + _only(lines, "watcher").too_often(1)
    asked = sum(acted.values())
    print("faults:", ", ".join(f"{name} {count}" for name, count in acted.items()))
    print(f"tries of uploads beyond the first: {sum(upload.tries - 1 for upload in uploads)}")
    line = {
        "seed": options.seed,
        "seconds": round(_real_monotonic() - began),
        "waits": len(jobs),
        "uploads": len(uploads),
        "faults": asked,
        "false failures": len(false_failures),
        "wrong results": len(wrong),
        "submitted again, told": again - untold,
        "submitted again, untold": untold,
        "lines too often": len(often),
    }
    reliability_page.print_line(line)
    yield from late + false_failures + wrong + often
    if untold:
        yield f"{untold} jobs were submitted again and not told"
    is_whole = (options.waits, options.uploads) == (WAITS, UPLOADS)
    if is_whole and not (late or false_failures or wrong or often or untold):
        reliability_page.write_line("soup", line)


def _only(lines: Lines, who: str) -> Lines:
    some = Lines()
    some.seen = [line for line in lines.seen if line[1].startswith(who)]
    return some


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Cook it and taste it."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--waits", type=int, default=WAITS)
    parser.add_argument("--uploads", type=int, default=UPLOADS)
    parser.add_argument("--seed", type=int, help="of the faults")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 100_000)
    lines = Lines()
    logging.getLogger("airflow_provider_scantrust").addHandler(StdlibLines(lines))
    logging.getLogger("airflow_provider_scantrust").propagate = False
    # Airflow itself warns once for each operator that runs outside of a task.
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))
    say(f"seed {options.seed}; {options.waits} waits and {options.uploads} uploads, {SPEED} times as fast")
    wrong = list(steps(options, lines))
    print(*[f"WRONG: {text}" for text in wrong[:30]], sep="\n")
    print(f"{'NOT PASSED' if wrong else 'passed'}: make soup SEED={options.seed}", flush=True)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
