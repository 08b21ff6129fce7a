"""
Kill the parts of a real Airflow and disturb the service while uploads of every kind run, and see what became of them.

    make chaos SEED=7

SQLite, LocalExecutor, and the sandbox in a process of its own, which is never killed: its data is the judge.
"""

from __future__ import annotations

import argparse
import random
import shutil
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import requests
from psutil import NoSuchProcess, Process

import reliability_page
from airflow_client import END_STATES, AirflowClient, ApiError
from chaos_judge import Ended, Verdict, judge_codes, judge_jobs, judge_search, judge_tasks
from chaos_sandbox import SandboxProcess
from chaos_script import Event, faults_of, write_script
from chaos_search import TOKEN, ChaosSearch
from chaos_workload import DAG_ID, MEANT_TO_FAIL, Workload
from local_airflow import LocalAirflow

ROOT = Path(__file__).resolve().parents[2]
DAGS = Path(__file__).resolve().parent / "chaos_dags"
# Seconds without a heartbeat after which a scheduler is killed and started again, as a liveness probe has it
# done.
SILENT = 45.0
# A run ends here, also if uploads are still open.
LIMIT = 570.0
# So that a job is still open when the upload that made it is deferred.
SERVICE = {"time_scale": 1.0, "pending_seconds": 4.0}
CONNECTION = {"request_timeout": 8}
# Airflow takes minutes by default to see that a task or a part has died; the local Airflow takes half a
# minute.
CONFIG = {
    "scheduler.use_job_schedule": "False",
    # A worker bears the absence of the API server for as long as it takes to start again here.
    "workers.max_failed_heartbeats": "30",
    # Also how long a queued task's token is good for: shorter than the queue, and tasks are refused when
    # their turn comes.
    "scheduler.task_queued_timeout": "120",
    "scheduler.task_queued_timeout_check_interval": "5",
    "scheduler.num_stuck_in_queued_retries": "10",
}
_ANSWERS_LATER = (requests.RequestException, ApiError)


@dataclass
class Told:
    """What was really done."""

    kills: Counter[str] = field(default_factory=Counter)
    troubles: Counter[str] = field(default_factory=Counter)
    ended_alone: Counter[str] = field(default_factory=Counter)


class Chaos:
    """
    Carries out a script of events.

    :param airflow: Running, with all its parts.
    :param sandbox: Running.
    :param script: The events, in order.
    :param seed: For the faults' own chance.
    """

    def __init__(
        self, airflow: LocalAirflow, sandbox: SandboxProcess, script: list[Event], seed: int
    ) -> None:
        self.airflow = airflow
        self.sandbox = sandbox
        self.told = Told()
        self._seed = seed
        self._started = time.monotonic()
        self._due: list[tuple[float, Callable[[], None]]] = [
            (event.at, partial(self._begin, event)) for event in script
        ]
        self._down: set[str] = set()
        self._trouble: Event | None = None
        self._healthy_at = self._started

    @property
    def is_over(self) -> bool:
        return not self._due

    def step(self) -> None:
        """Do what is due, and start again what has ended by itself, as a supervisor of services would."""
        now = time.monotonic() - self._started
        while self._due and self._due[0][0] <= now:
            self._due.pop(0)[1]()
        for name, part in self.airflow.parts.items():
            if not part.is_running and name not in self._down:
                self.told.ended_alone[name] += 1
                part.start()

    def look_after_scheduler(self) -> None:
        """Kill a scheduler that runs and does nothing."""
        now = time.monotonic()
        try:
            health = self.airflow.api("GET", "/api/v2/monitor/health")["scheduler"]["status"]
        except _ANSWERS_LATER:
            # Its health is unknown.
            health = "healthy"
        if health == "healthy" or "scheduler" in self._down:
            self._healthy_at = now
        elif now - self._healthy_at > SILENT:
            self._healthy_at = now
            self.told.ended_alone["scheduler (silent)"] += 1
            self.airflow.kill("scheduler")

    def start_run(self, at: float, dag_id: str, run_id: str, conf: dict[str, Any]) -> None:
        """Start a run at a time, or as soon after it as there is an API server."""

        def start() -> None:
            try:
                self.airflow.trigger(dag_id, conf=conf, run_id=run_id)
            except (*_ANSWERS_LATER, TimeoutError) as error:
                # The last try may have been heard without an answer.
                if not isinstance(error, ApiError) or error.status != 409:
                    self._later(2.0, start)

        self._due.append((at, start))
        self._due.sort(key=lambda due: due[0])

    def _later(self, seconds: float, action: Callable[[], None]) -> None:
        self._due.append((time.monotonic() - self._started + seconds, action))
        self._due.sort(key=lambda due: due[0])

    def _begin(self, event: Event) -> None:
        say(str(event))
        if event.kind == "worker":
            self._kill_processes(self.airflow.worker_processes(), event, most=1)
        elif event.kind == "workers in a submit":
            self._kill_in_submit(event)
        elif event.kind in ("scheduler", "scheduler with its tasks"):
            self._kill_part("scheduler", event, whole=event.kind != "scheduler")
        elif event.kind in ("api-server", "dag-processor", "triggerer", "celery worker"):
            names = sorted(
                name for name in self.airflow.parts if name.startswith(event.kind.replace(" ", "-"))
            )
            self._kill_part(names[int(event.pick * len(names))], event)
        else:
            self._disturb(event)

    def _kill_processes(self, processes: list[Process], event: Event, most: int) -> None:
        chosen = processes[int(event.pick * len(processes)) :][:most] if most == 1 else processes
        for process in chosen:
            try:
                process.kill()
            except NoSuchProcess:
                continue
            self.told.kills["worker"] += 1

    def _kill_in_submit(self, event: Event) -> None:
        """Let the next submit take long, and kill the workers while it is under way."""
        if self.sandbox.is_stopped:
            # Its submits are under way anyhow.
            self._kill_processes(self.airflow.worker_processes(), event, most=99)
            return
        path = "/api/v2/scm/upload/async/"
        before = sum(fault["acted"] for fault in self.sandbox.faults() if fault["path"] == path)
        self.sandbox.fault(method="POST", path=path, delay=2.0, times=3)
        self._look_for_submit(event, path, before, time.monotonic() + 20)

    def _look_for_submit(self, event: Event, path: str, before: int, until: float) -> None:
        if not self.sandbox.is_stopped:
            acted = sum(fault["acted"] for fault in self.sandbox.faults() if fault["path"] == path)
            if acted > before:
                # The request is at the sandbox, which waits before it does the work.
                self._kill_processes(self.airflow.worker_processes(), event, most=99)
                return
        if time.monotonic() < until:
            self._later(0.2, lambda: self._look_for_submit(event, path, before, until))

    def _kill_part(self, name: str, event: Event, *, whole: bool = True) -> None:
        part = self.airflow.parts[name]
        if not part.is_running:
            return
        self._down.add(name)
        self.airflow.kill(name, signal.SIGKILL, whole=whole)
        self.told.kills[event.kind] += 1

        def start() -> None:
            self._down.discard(name)
            part.start()

        self._later(event.seconds, start)

    def _disturb(self, event: Event) -> None:
        self.told.troubles[event.kind] += 1
        # A trouble ends when the next begins, should this loop be late.
        self._end_trouble(self._trouble)
        self._trouble = event
        self._later(event.seconds, partial(self._end_trouble, event))
        if event.kind == "stopped":
            self.sandbox.stop_answering()
            return
        for fault in faults_of(event.kind, self._seed + int(event.at * 1000)):
            self.sandbox.fault(**fault)
        if event.kind == "throttling":
            self.sandbox.configure(limits={"scm_update": [2, 1.0]})

    def _end_trouble(self, event: Event | None) -> None:
        if event is not self._trouble:
            return
        self.sandbox.go_on()
        self.sandbox.clear_faults()
        self.sandbox.configure(limits={"scm_update": [10, 1.0]})


def run(airflow: LocalAirflow, sandbox: SandboxProcess, options: argparse.Namespace, *, hosts: bool) -> bool:
    """
    Run the workload under the script; return whether all is as it should be.

    :param hosts: Whether workers are processes of their own, which can be killed with all their tasks.
    """
    began = time.monotonic() - options.set_up
    workload = Workload(options.runs, options.home / "sources")
    codes = options.home / "codes.csv"
    workload.write_codes(codes)
    sandbox.add_codes(codes)
    say(
        f"{len(workload.uploads)} uploads in {options.runs} runs, for {len(codes.read_bytes().splitlines()) - 1} codes"
    )
    script = write_script(options.seed, options.seconds, hosts=hosts)
    for dag_id in (DAG_ID, MEANT_TO_FAIL):
        airflow.wait_for_dag(dag_id)
        airflow.unpause(dag_id)
    chaos = Chaos(airflow, sandbox, script, options.seed)
    runs: dict[tuple[str, int], str] = {}
    for dag_id, confs in ((DAG_ID, workload.confs), (MEANT_TO_FAIL, workload.bad_confs)):
        for number, conf in enumerate(confs, start=1):
            runs[dag_id, number] = f"{dag_id}_{number}"
            # There is work for as long as there are events.
            chaos.start_run(number / len(confs) * options.seconds * 0.8, dag_id, runs[dag_id, number], conf)
    pending = dict(runs)
    search = ChaosSearch(airflow)
    asked = said = time.monotonic()
    while (pending or not chaos.is_over) and time.monotonic() - began < LIMIT - 30:
        chaos.step()
        if time.monotonic() - asked > 4:
            asked = time.monotonic()
            chaos.look_after_scheduler()
            search.look_at_deferred()
            for (dag_id, number), run_id in list(pending.items())[:6]:
                try:
                    if airflow.run_state(dag_id, run_id) in END_STATES:
                        del pending[dag_id, number]
                except _ANSWERS_LATER:
                    # Not started yet, or the API server is down.
                    break
        if time.monotonic() - said > 30:
            said = time.monotonic()
            say(f"{len(runs) - len(pending)} of {len(runs)} runs have ended")
        time.sleep(0.1)
    verdict = Verdict(uploads=len(workload.uploads))
    if not chaos.is_over:
        verdict.wrong.append("the time was up before all events had come")
    verdict.wrong += [f"{run_id} has not ended" for run_id in pending.values()]
    say("looking at what has become of it")
    wait_for_jobs(sandbox)
    told = judge_tasks(verdict, all_ended(airflow, runs), airflow.home / "logs")
    judge_jobs(verdict, workload, sandbox.tasks(), told)
    judge_codes(verdict, workload, sandbox.codes())
    search.look_at_all(sandbox)
    judge_search(verdict, search)
    show(verdict, chaos.told, sandbox, options, time.monotonic() - began)
    return not verdict.wrong


def wait_for_jobs(sandbox: SandboxProcess, seconds: float = 20) -> None:
    """Wait until no job is open at the sandbox: those that were submitted again end later."""
    deadline = time.monotonic() + seconds
    while any(job["state"] not in ("complete", "failed") for job in sandbox.tasks()):
        if time.monotonic() > deadline:
            return
        time.sleep(0.5)


def all_ended(airflow: AirflowClient, runs: dict[tuple[str, int], str]) -> list[Ended]:
    """Ask Airflow for every task of the runs and for what the uploads returned."""
    found = []
    for (dag_id, number), run_id in runs.items():
        try:
            tasks = airflow.tasks(dag_id, run_id)
        except ApiError as error:
            say(f"{run_id} was never started: {error}")
            continue
        for task in tasks:
            report = None
            if task.state == "success" and not task.task_id.startswith(("wait_", "blocks")):
                report = airflow.xcom(dag_id, run_id, task.task_id, map_index=task.map_index)
            found.append(Ended(number, task, report))
    return found


def show(
    verdict: Verdict, told: Told, sandbox: SandboxProcess, options: argparse.Namespace, seconds: float
) -> None:
    """Print what was done and what came of it, and put the line into the page."""
    harmed = Counter(entry["fault"] for entry in sandbox.transcript() if entry["fault"])
    refused = sum(entry["status"] == 429 for entry in sandbox.transcript())
    print()
    print("kills:", ", ".join(f"{kind} {count}" for kind, count in sorted(told.kills.items())))
    print(
        "troubles of the service:",
        ", ".join(f"{kind} {count}" for kind, count in sorted(told.troubles.items())),
    )
    print("requests harmed:", ", ".join(f"{kind} {count}" for kind, count in sorted(harmed.items())))
    print("parts that ended by themselves and were started again:", dict(told.ended_alone) or "none")
    print("errors that ended a try:", dict(verdict.errors) or "none")
    print(f"tries beyond the first: {verdict.tries}; answers of 429: {refused}")
    line = {
        "seed": options.seed,
        "minutes": f"{seconds / 60:.1f}",
        "uploads": verdict.uploads,
        "kills": sum(told.kills.values()),
        "faults": harmed.total(),
        "jobs": verdict.jobs,
        "codes checked": verdict.codes,
        "lost": verdict.lost,
        "submitted again, told": verdict.again - verdict.untold,
        "submitted again, untold": verdict.untold,
        "false failures": verdict.false_failures,
        "stuck": verdict.stuck,
        "secrets found": verdict.secrets,
    }
    reliability_page.print_line(line)
    for text in verdict.wrong[:40]:
        print(f"WRONG: {text}")
    if len(verdict.wrong) > 40:
        print(f"WRONG: and {len(verdict.wrong) - 40} more")
    if verdict.wrong:
        print(f"The logs are in {options.home}.")
    elif options.is_whole:
        reliability_page.write_line(options.target, line)
    print(
        f"{'NOT PASSED' if verdict.wrong else 'passed'}: make {options.target} SEED={options.seed}",
        flush=True,
    )


def read_options(target: str, runs: int, seconds: float) -> argparse.Namespace:
    """Read the command line; without a seed, take one by chance."""
    parser = argparse.ArgumentParser(description=f"make {target}")
    parser.add_argument("--seed", type=int, help="replays the events of a run")
    parser.add_argument("--runs", type=int, default=runs, help="runs of the Dag (%(default)s)")
    parser.add_argument("--seconds", type=float, default=seconds, help="over which the events are spread")
    options = parser.parse_args()
    if options.seed is None:
        options.seed = random.SystemRandom().randrange(1, 100_000)
    options.target = target
    options.is_whole = (options.runs, options.seconds) == (runs, seconds)
    options.home = ROOT / ".chaos" / target
    options.set_up = 0.0
    shutil.rmtree(options.home, ignore_errors=True)
    options.home.mkdir(parents=True)
    return options


def say(text: str) -> None:
    """Print one line of progress."""
    print(f"{time.strftime('%H:%M:%S')} {text}", flush=True)


def main() -> int:
    """Start everything, make chaos, judge."""
    options = read_options("chaos", runs=20, seconds=200)
    began = time.monotonic()
    say(f"seed {options.seed}; starting the sandbox and Airflow (SQLite, LocalExecutor)")
    with SandboxProcess(options.home, token=TOKEN, **SERVICE) as sandbox:
        sandbox.jobs(times=None, seconds=3.0)
        connections = {"scantrust_default": sandbox.connection(**CONNECTION)}
        config = {**CONFIG, "core.parallelism": "12"}
        with LocalAirflow(options.home, DAGS, connections=connections, config=config) as airflow:
            options.set_up = time.monotonic() - began
            return 0 if run(airflow, sandbox, options, hosts=False) else 1


if __name__ == "__main__":
    sys.exit(main())
