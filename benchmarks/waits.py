"""
Thousands of waits in one triggerer: this package beside the triggers of two other providers.

    python benchmarks/waits.py [--quick] [--waits 1000 ...] [--servers "50 in 1 s" ...] [--who scantrust ...]

All waits start at once, on jobs of a minute that end within a second of each other, and ask every ten seconds
over TLS. Each case has a process and a server of its own. The whole takes some 90 minutes by reckoning; 1,000
waits took 16, --quick, with jobs of ten seconds, 8. Goals are for 10,000 waits, and a ``!`` marks what misses
its goal.
"""

from __future__ import annotations

import argparse
import itertools
import json
import os
import ssl
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import certifi
import trustme

from bulk import say
from import_cost import PEERS, install_peers
from waits_server import seconds_of

HERE = Path(__file__).resolve().parent
OURS, BARE, SLEEPS = "scantrust", "bare aiohttp", "only sleeps"
COMPARED = ("dbt-cloud", "http")
WHO = (OURS, BARE, SLEEPS, *COMPARED)
SERVERS: dict[str, list[str]] = {
    "no limit": [],
    "50 in 1 s": ["--limit", "50", "1"],
    "3000 in 60 s": ["--limit", "3000", "60"],
    "1 % 502": ["--bad", "0.01"],
}
# Questions a second that a token is given by default; no poller can tell of N jobs sooner than in N / RATE.
RATE = 40.0


@dataclass(frozen=True)
class Pace:
    """How long jobs take, how often they are asked for, and when to stop waiting for the waits, in seconds."""

    seconds: float = 60.0
    poll: float = 10.0
    timeout: float = 400.0


QUICK = Pace(10.0, 2.0, 90.0)


@dataclass
class Figures:
    """What one case showed."""

    waits: int
    server: str
    who: str
    pace: Pace
    driver: dict[str, Any]
    asked: dict[str, Any]

    def __post_init__(self) -> None:
        ends: dict[str, tuple[float, bool]] = self.driver["ends"]
        succeeded = {int(number): at for number, (at, succeeded) in ends.items() if succeeded}
        self.failed = len(ends) - len(succeeded) + self.driver["crashed"]
        self.not_ended: int = self.driver["not_ended"]
        delays = [at - seconds_of(number, self.pace.seconds) for number, at in succeeded.items()]
        self.median = statistics.median(delays) if delays and self.waiting else None
        self.worst = max(delays) if delays and self.waiting else None
        self.throttled = self.asked["throttled"] / max(1, self.asked["questions"])
        self.cpu: float = self.driver["cpu"]
        self.kilobytes = self.driver["memory"] / self.waits / 1024
        self.connections: int = self.asked["connections"]

    @property
    def waiting(self) -> bool:
        """Whether this waits for jobs at all."""
        return self.who in (OURS, *COMPARED)


def main() -> None:
    """Run the cases and print the tables."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").strip().splitlines()[0])
    parser.add_argument("--waits", type=int, nargs="+", help="how many at once (default: 100 1000 10000)")
    parser.add_argument("--servers", nargs="+", choices=SERVERS, default=list(SERVERS))
    parser.add_argument("--who", nargs="+", choices=WHO, default=list(WHO))
    parser.add_argument("--quick", action="store_true", help="100 and 1000 waits, jobs of ten seconds")
    options = parser.parse_args()
    pace = QUICK if options.quick else Pace()
    install_peers()
    results: list[Figures] = []
    try:
        with tempfile.TemporaryDirectory() as folder:
            certificate, bundle = make_certificate(Path(folder))
            sizes = options.waits or ([100, 1000] if options.quick else [100, 1000, 10_000])
            for waits, server, who in itertools.product(sizes, options.servers, options.who):
                ours = find(results, waits, server, OURS)
                if who in (BARE, SLEEPS) and server != options.servers[0]:
                    continue  # Once for each number of waits is enough.
                if who == BARE and ours is None:
                    continue
                say(f"{waits:,} waits, {server}, {who}")
                questions = ours.asked["pace"] if ours else []
                try:
                    results.append(run(waits, server, who, pace, questions, certificate, bundle))
                except subprocess.SubprocessError as error:
                    say(f"no figures: {error}\n{str(error.stderr)[-2000:]}")  # type: ignore[attr-defined]
    except KeyboardInterrupt:
        say("stopped; what is done so far:")
    print_table(results)
    print_goals(results)


def make_certificate(folder: Path) -> tuple[Path, Path]:
    """Return the server's certificate, and all authorities that a machine trusts with the server's beside them."""
    authority = trustme.CA()
    certificate, bundle = folder / "server.pem", folder / "bundle.pem"
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(str(certificate))
    bundle.write_bytes(Path(certifi.where()).read_bytes() + authority.cert_pem.bytes())
    return certificate, bundle


def run(
    waits: int, server: str, who: str, pace: Pace, questions: list[int], certificate: Path, bundle: Path
) -> Figures:
    """Run one case in processes of its own."""
    with serve(server, pace, certificate) as port, tempfile.TemporaryDirectory() as home:
        url = f"https://127.0.0.1:{port}"
        case = {
            "kind": who,
            "waits": waits,
            "url": url,
            "poll": pace.poll,
            "timeout": pace.timeout,
            "pace": questions,
        }
        done = subprocess.run(
            [sys.executable, HERE / "waits_driver.py"],
            env=environment(url, bundle, home),
            input=json.dumps(case),
            capture_output=True,
            text=True,
            check=True,
            timeout=2 * pace.timeout,
        )
        context = ssl.create_default_context(cafile=bundle)
        with urllib.request.urlopen(f"{url}/counts", context=context) as answer:
            asked = json.load(answer)
    return Figures(waits, server, who, pace, json.loads(done.stdout.splitlines()[-1]), asked)


@contextmanager
def serve(server: str, pace: Pace, certificate: Path) -> Iterator[int]:
    """Run a server and yield its port."""
    arguments = [str(pace.seconds), *SERVERS[server], "--certificate", str(certificate)]
    with subprocess.Popen(
        [sys.executable, HERE / "waits_server.py", *arguments],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            yield int(process.stdout.readline())  # type: ignore[union-attr]
        finally:
            process.stdin.close()  # type: ignore[union-attr]


def environment(url: str, bundle: Path, home: str) -> dict[str, str]:
    """Return the environment of a driver."""
    env = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    env |= {"AIRFLOW_HOME": home, "PYTHONPATH": str(PEERS)}
    # aiohttp reads the first, requests and this package the second.
    env |= {"SSL_CERT_FILE": str(bundle), "REQUESTS_CA_BUNDLE": str(bundle)}
    host = url.removeprefix("https://")
    for name, connection in {
        "SCANTRUST_DEFAULT": {"conn_type": "scantrust", "host": url},
        "DBT_CLOUD_DEFAULT": {"conn_type": "dbt_cloud", "host": host},
        "HTTP_DEFAULT": {"conn_type": "http", "host": url},
    }.items():
        env[f"AIRFLOW_CONN_{name}"] = json.dumps({**connection, "password": "benchmark"})
    return env


def print_table(results: list[Figures]) -> None:
    """Print one line for each case."""
    print(
        f"\n{'waits':>6}  {'server':13} {'trigger':13} {'failed':>6} {'not ended':>9} {'asked':>7} {'429':>6} "
        f"{'median s':>8} {'worst s':>7} {'CPU s':>6} {'KB/wait':>7} {'TCP':>6} {'block, starting':>15} "
        f"{'started':>7} {'lookups':>7}"
    )
    for each in results:
        print(
            f"{each.waits:6}  {each.server:13} {each.who:13} {each.failed:6} {each.not_ended:9} "
            f"{each.asked['questions']:7} {each.throttled:6.1%} {_seconds(each.median):>8} "
            f"{_seconds(each.worst):>7} {each.cpu:6.1f} {each.kilobytes:7.1f} {each.connections:6} "
            f"{1000 * each.driver['block_starting']:12.0f} ms {1000 * each.driver['block']:4.0f} ms "
            f"{each.driver['lookups']:7}"
        )
    if results:
        pace = results[0].pace
        print(
            f"jobs of {pace.seconds:g} s, asked for every {pace.poll:g} s; a case is stopped after {pace.timeout:g} s. "
            "Delays are from a job's end to its event, of the waits that succeeded.\n"
            "Memory at its peak and CPU of all threads are beyond those of the process before the first wait. Blocks "
            "are the longest, while the waits start and after that."
        )


def print_goals(results: list[Figures]) -> None:
    """Print one line for each case of this package, beside its goals."""
    ours = [each for each in results if each.who == OURS]
    if not ours:
        return
    rows = [
        ("", "server", "lost", "429", "median", "worst", "CPU / peer", "/ bare", "KB more", "TCP"),
        ("goal", "", "0", "1.0%", "0.60 N/r", "1.15 N/r", "0.25", "1.50", "2.0", "10"),
    ]
    blocks = [("starting", "started", "lookups"), ("500 ms", "50 ms", "1")]
    for each in ours:
        server, driver = each.server, each.driver
        peers = [find(results, each.waits, server, who) for who in COMPARED]
        best = min((peer.cpu for peer in peers if peer and not peer.failed + peer.not_ended), default=None)
        bare = find(results, each.waits, server, BARE)
        sleeps = next((other for other in results if other.who == SLEEPS and other.waits == each.waits), None)
        more = each.kilobytes - sleeps.kilobytes if sleeps else None
        rows.append(
            (
                f"{each.waits}",
                server,
                _goal(each.failed + each.not_ended, 0, "{:.0f}"),
                _goal(each.throttled, 0.01, "{:.1%}"),
                *_delays(each),
                _goal(each.cpu / best if best else None, 0.25, "{:.2f}"),
                _goal(each.cpu / bare.cpu if bare else None, 1.5, "{:.2f}"),
                _goal(more, 2.0, "{:.1f}"),
                _goal(each.connections, 10, "{:.0f}"),
            )
        )
        blocks.append(
            (
                _goal(1000 * driver["block_starting"], 500, "{:.0f} ms"),
                _goal(1000 * driver["block"], 50, "{:.0f} ms"),
                _goal(driver["lookups"], 1, "{:.0f}"),
            )
        )
    print(f"\n{OURS} beside its goals")
    for row, block in zip(rows, blocks, strict=True):
        print(f"{row[0]:>6}  {row[1]:13}" + "".join(f" {cell:>10}" for cell in (*row[2:], *block)))
    print(
        f"N/r is waits / {RATE:g} a second; where that is less than a poll interval, delays are in poll intervals "
        "and the worst may be 1.50.\nCPU beside the better of the peers that lost no wait, and beside bare aiohttp "
        "asking as many questions in each second; memory beyond the trigger that only sleeps."
    )


def find(results: list[Figures], waits: int, server: str, who: str) -> Figures | None:
    """Return the figures of a case that was run."""
    return next(
        (each for each in results if (each.waits, each.server, each.who) == (waits, server, who)), None
    )


def _delays(ours: Figures) -> tuple[str, str]:
    if ours.median is None or ours.worst is None:
        return "-", "-"
    least = ours.waits / RATE
    if least < ours.pace.poll:
        return f"{ours.median / ours.pace.poll:.2f} poll ", _goal(
            ours.worst / ours.pace.poll, 1.5, "{:.2f} poll"
        )
    return _goal(ours.median / least, 0.6, "{:.2f} N/r"), _goal(ours.worst / least, 1.15, "{:.2f} N/r")


def _goal(figure: float | None, goal: float, form: str) -> str:
    if figure is None:
        return "-"
    return form.format(figure) + ("!" if figure > goal else " ")


def _seconds(figure: float | None) -> str:
    return "-" if figure is None else f"{figure:.1f}"


if __name__ == "__main__":
    main()
