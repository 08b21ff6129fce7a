"""Airflow's metrics from workers; ``triggers.counters`` sends those of the triggerer."""

from __future__ import annotations

from contextlib import suppress

from airflow_provider_scantrust.api.messages import Answer, Fault


class WorkerStats:
    """
    Send counts of one connection to Airflow's metrics. An error in metrics never fails a task.

    One packet for each request is not too much: uploads are limited to ten a second.
    """

    def __init__(self, conn_id: str) -> None:
        self._tags = {"conn_id": conn_id}

    def replied(self, reply: Answer | Fault) -> None:
        self.count("calls")
        if isinstance(reply, Fault) or reply.is_failure:
            self.count("calls_failed")
        elif reply.status == 429:
            self.count("calls_throttled")

    def retried(self) -> None:
        self.count("calls_retried")

    def count(self, name: str, count: int = 1, **tags: str) -> None:
        """Add to ``scantrust.<name>``."""
        if not count:
            return
        with suppress(Exception):
            # On every version, Airflow sets up this one in the process of a task.
            from airflow.providers.common.compat.sdk import Stats

            Stats.incr(f"scantrust.{name}", count, tags={**self._tags, **tags})
