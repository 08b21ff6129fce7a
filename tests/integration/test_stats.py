"""What workers send to Airflow's metrics, received over a real socket as a StatsD server would."""

from __future__ import annotations

import re
import socket
from collections import Counter
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from tasks import bottles, run

pytest.importorskip("statsd")
# Older versions set their stats up in other ways, once for a process.
stats = pytest.importorskip("airflow.sdk.observability.stats")
stats_utils = pytest.importorskip("airflow.sdk.observability.metrics.stats_utils")

UPLOAD = "/api/v2/scm/upload/"
_PACKET = re.compile(r"airflow\.scantrust\.(\w+),conn_id=scantrust_default((?:,mode=\w+)?):(\d+)\|c")
Sent = Callable[[], Counter[str]]


@pytest.fixture
def sent(monkeypatch: pytest.MonkeyPatch) -> Iterator[Sent]:
    """Set Airflow's stats up as the process of a task does; yields what returns the sums so far."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
        server.bind(("127.0.0.1", 0))
        server.setblocking(False)
        for name, value in {
            "STATSD_ON": "True",
            "STATSD_HOST": "127.0.0.1",
            "STATSD_PORT": str(server.getsockname()[1]),
            "STATSD_INFLUXDB_ENABLED": "True",
        }.items():
            monkeypatch.setenv(f"AIRFLOW__METRICS__{name}", value)
        loggers: list[Any] = []

        def make() -> Any:
            loggers.append(stats_utils.get_stats_factory()())
            return loggers[-1]

        stats.initialize(factory=make, export_legacy_names=False)
        counted: Counter[str] = Counter()

        def read() -> Counter[str]:
            while True:
                try:
                    packet = server.recv(65_536).decode()
                except BlockingIOError:
                    return counted
                if "scantrust" in packet:
                    found = _PACKET.fullmatch(packet)
                    assert found, packet
                    counted[found[1] + found[2]] += int(found[3])

        yield read
        for logger in loggers:
            logger.statsd.close()
        monkeypatch.delenv("AIRFLOW__METRICS__STATSD_ON")
        stats.initialize(factory=stats_utils.get_stats_factory(), export_legacy_names=False)


def upload(**options: Any) -> None:
    run(lambda: ScantrustUploadOperator(task_id="upload", poll_interval=0.05, max_in_flight=1, **options))


@pytest.mark.usefixtures("quick")
def test_throttled_and_failed_calls_are_counted_with_their_retries(sandbox: Sandbox, sent: Sent) -> None:
    sandbox.fault(path=UPLOAD, status=429)
    sandbox.fault(path=UPLOAD, status=502)
    sandbox.fault(path=UPLOAD, cut="before")
    upload(items=bottles(1, 2))
    assert {
        "calls": 4,
        "calls_throttled": 1,
        "calls_failed": 2,
        "calls_retried": 3,
        "rows,mode=sync": 2,
        "codes_affected,mode=sync": 2,
    } == sent()


@pytest.mark.parametrize("deferrable", [False, True])
def test_rows_and_codes_of_jobs_are_counted_alike_deferred_or_not(
    sandbox: Sandbox, sent: Sent, deferrable: bool
) -> None:
    upload(items=[*bottles(1, 2, 3), *bottles(99_999)], mode="async", deferrable=deferrable)
    counts = sent()
    assert (4, 3, 1) == tuple(
        counts[f"{name},mode=async"] for name in ("rows", "codes_affected", "keys_unmatched")
    )
    assert 1 < counts["calls"]


def test_rows_that_did_not_go_are_counted(sandbox: Sandbox, sent: Sent, tmp_path: Any) -> None:
    source = tmp_path / "rows.csv"
    source.write_text("extended_id,market\nSBX00000001,FR\n,FR\n")
    upload(source=str(source), rejects_path=str(tmp_path / "rejects.csv"), deferrable=False)
    counts = sent()
    mode = next(name.partition(",")[2] for name in counts if name.startswith("rows,"))
    assert (2, 1, 1) == tuple(
        counts[f"{name},{mode}"] for name in ("rows", "rows_rejected", "codes_affected")
    )


def test_a_refused_upload_counts_its_call_and_no_rows(sandbox: Sandbox, sent: Sent) -> None:
    sandbox.fault(path=UPLOAD, status=400, body={"market": ["Not a market."]})
    with pytest.raises(AirflowFailException):
        upload(items=bottles(1, 2))
    assert {"calls": 1} == sent()


def test_metrics_that_fail_cost_nothing(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stats.Stats, "incr", None)
    upload(items=bottles(1, 2))
