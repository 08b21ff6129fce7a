"""
What importing the operator's module adds to a DAG file, beside two providers that do alike.

Time and memory beyond what Airflow itself has loaded, medians of several fresh processes taken in turn.
"""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
PEERS = ROOT / ".bench" / "peers"
RUNS = 9
BUDGET = (15.0, 1.5)
MODULES = {
    "scantrust": "airflow_provider_scantrust.operators.scantrust",
    "scantrust, sensor": "airflow_provider_scantrust.sensors.scantrust",
    "http": "airflow.providers.http.operators.http",
    "dbt-cloud": "airflow.providers.dbt.cloud.operators.dbt",
}
# What every DAG file imports before it comes to a provider.
_PROBE = """
import importlib, sys, time
from airflow.sdk import DAG, BaseHook, BaseOperator, BaseSensorOperator, dag, task
def memory():
    with open("/proc/self/statm") as file:
        return int(file.read().split()[1]) * 4 / 1024
before, started = memory(), time.perf_counter()
importlib.import_module(sys.argv[1])
print(1000 * (time.perf_counter() - started), memory() - before)
"""


def main() -> int:
    """Print the table; return 1 when the package is over its budget."""
    install_peers()
    figures: dict[str, list[tuple[float, float]]] = {name: [] for name in MODULES}
    for _ in range(RUNS + 1):
        for name, module in MODULES.items():
            figures[name].append(measure(module))
    # The first run compiled the bytecode.
    medians = {
        name: (statistics.median(ms for ms, _ in runs[1:]), statistics.median(mb for _, mb in runs[1:]))
        for name, runs in figures.items()
    }
    own = medians["scantrust"]
    print(f"{'import of':20} {'ms':>8} {'MB':>8} {'times ours':>11}")
    for name, (ms, mb) in medians.items():
        print(f"{name:20} {ms:8.1f} {mb:8.2f} {ms / own[0]:11.1f}")
    print(f"budget: {BUDGET[0]:g} ms and {BUDGET[1]:g} MB; medians of {RUNS} runs")
    return int(own[0] > BUDGET[0] or own[1] > BUDGET[1])


def install_peers() -> None:
    """Install the two providers beside the environment, without what they depend on: it is there already."""
    if not PEERS.exists():
        print("bench: installing two providers to compare with", flush=True)
        packages = [
            "apache-airflow-providers-http==6.3.0",
            "apache-airflow-providers-dbt-cloud==4.11.1",
            "requests-toolbelt==1.0.0",
            "tenacity==9.2.1",
        ]
        pip = [sys.executable, "-m", "pip", "install", "--quiet", "--disable-pip-version-check", "--no-deps"]
        subprocess.run([*pip, "--target", str(PEERS), *packages], check=True)


def measure(module: str) -> tuple[float, float]:
    """Return milliseconds and megabytes that importing a module adds in a fresh process."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env["PYTHONPATH"] = str(PEERS)
    output = subprocess.check_output([sys.executable, "-c", _PROBE, module], env=env, text=True)
    ms, mb = output.splitlines()[-1].split()
    return float(ms), float(mb)


if __name__ == "__main__":
    sys.exit(main())
