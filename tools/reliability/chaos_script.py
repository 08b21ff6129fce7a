"""
What is done to Airflow and to the sandbox, and when, by a seed.

Two lines of events run side by side: kills of Airflow's parts and workers, and troubles of the service, of
which one ends before the next begins. The same seed makes the same events; what a process was doing when it
is killed is up to the machine.
"""

from __future__ import annotations

import random
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True)
class Event:
    """
    One thing that is done.

    :param at: Seconds after the start.
    :param kind: A kill or a trouble.
    :param seconds: How long the part stays down, or the trouble lasts.
    :param pick: In [0, 1): which of several is meant.
    """

    at: float
    kind: str
    seconds: float
    pick: float

    def __str__(self) -> str:
        return f"{self.at:6.1f} s  {self.kind}" + (f" for {self.seconds:.1f} s" if self.seconds else "")


# Kind of kill -> times in a run, longest time down.
KILLS = {
    "worker": (9, 0.0),
    "workers in a submit": (3, 0.0),
    "triggerer": (3, 6.0),
    "scheduler": (1, 3.0),
    "scheduler with its tasks": (1, 3.0),
    "api-server": (2, 4.0),
    "dag-processor": (1, 3.0),
}
# Where workers are processes of their own (Celery), each with all its tasks.
HOST_KILLS = {"celery worker": (2, 5.0)}
# Kind of trouble -> times in a run, shortest and longest time.
TROUBLES = {
    "stopped": (2, 6.0, 20.0),
    "resets": (1, 5.0, 12.0),
    "slow": (1, 8.0, 15.0),
    "throttling": (2, 8.0, 15.0),
    "faulty": (2, 12.0, 20.0),
}

# One request in a hundred each.
FAULTS: list[dict[str, Any]] = [
    {"status": 500},
    {"status": 502},
    {"status": 502, "work": True},
    {"status": 503, "headers": {"Retry-After": "1"}},
    {"status": 429, "headers": {"Retry-After": "1"}},
    {"status": 429},
    {"cut": "before"},
    {"cut": "after"},
    {"cut": "body"},
    {"body": "<html>a proxy's page</html>", "work": True},
]


def write_script(seed: int, seconds: float, *, hosts: bool) -> list[Event]:
    """
    Return the events of a run, in order.

    :param seconds: Over how long they are spread.
    :param hosts: Whether workers are processes of their own.
    """
    chance = random.Random(seed)  # noqa: S311  (chance that can be repeated is the point)
    kills = [
        (kind, chance.uniform(0.0, longest))
        for kind, (times, longest) in (KILLS | (HOST_KILLS if hosts else {})).items()
        for _ in range(times)
    ]
    troubles = [
        (kind, chance.uniform(shortest, longest))
        for kind, (times, shortest, longest) in TROUBLES.items()
        for _ in range(times)
    ]
    events = []
    for line in (kills, troubles):
        chance.shuffle(line)
        # What is left of the time, cut by chance into the pauses before each of them.
        pauses = sorted(chance.uniform(0.0, 1.0) for _ in line)
        lasting = sum(lasts for _, lasts in line) if line is troubles else 0.0
        over = 0.0
        for (kind, lasts), share in zip(line, pauses, strict=True):
            events.append(Event(share * max(0.0, seconds - lasting) + over, kind, lasts, chance.random()))
            over += lasts if line is troubles else 0.0
    return sorted(events, key=lambda event: event.at)


def faults_of(kind: str, seed: int) -> list[dict[str, Any]]:
    """Return the sandbox's faults that make a trouble."""
    every: dict[str, Any] = {"times": None, "random_seed": seed}
    if kind == "resets":
        return [{**every, "cut": "before"}]
    if kind == "slow":
        return [{**every, "delay": 3.0, "probability": 0.4}]
    if kind == "throttling":
        return [
            {**every, "status": 429, "headers": {"Retry-After": "3"}, "probability": 0.25},
            {**every, "random_seed": seed + 1, "status": 429, "probability": 0.15},
        ]
    return [
        {**every, **fault, "random_seed": seed + number, "probability": 0.05}
        for number, fault in enumerate(FAULTS)
    ]
