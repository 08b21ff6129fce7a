"""Start and stop, the command, the connection."""

from __future__ import annotations

import json
import signal
import socket
import subprocess
import sys
import threading
from pathlib import Path

import pytest
import requests

from airflow_provider_scantrust.sandbox import Sandbox, cli
from system_steps import wait_until

from .conftest import Caller

COMMAND = [sys.executable, "-m", "airflow_provider_scantrust.sandbox"]


def test_sandbox_listens_on_this_machine_only(sandbox: Sandbox) -> None:
    assert sandbox.url == f"http://127.0.0.1:{sandbox.port}"
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.2", sandbox.port), timeout=5)


def test_socket_is_bound_when_the_block_begins_and_free_when_it_ends() -> None:
    with Sandbox() as sandbox:
        assert requests.get(f"{sandbox.url}/api/v2/me/", timeout=5).status_code == 401
        port = sandbox.port
    with Sandbox(port=port) as again:
        assert again.port == port


def test_port_that_is_taken_is_an_os_error(sandbox: Sandbox) -> None:
    with pytest.raises(OSError, match="in use"), Sandbox(port=sandbox.port):
        pass


def test_two_sandboxes_share_nothing() -> None:
    with Sandbox(seed=1) as one, Sandbox(seed=2, token="another") as two:
        assert (one.count(), two.count()) == (1, 2)
        headers = {"Authorization": f"UAT {two.token}"}
        statuses = [
            requests.get(f"{each.url}/api/v2/me/", headers=headers, timeout=5).status_code
            for each in (one, two)
        ]
        assert statuses == [401, 200]


def test_stop_cuts_what_is_under_way() -> None:
    seen: list[BaseException] = []
    with Sandbox() as sandbox:
        sandbox.fault(delay=3600)

        def call() -> None:
            try:
                requests.get(f"{sandbox.url}/api/v2/me/", timeout=60)
            except requests.ConnectionError as error:
                seen.append(error)

        thread = threading.Thread(target=call)
        thread.start()
        wait_until(sandbox.transcript)
    thread.join()
    assert len(seen) == 1


@pytest.mark.parametrize("path", ["/api/v2/scm/upload/", "/_sandbox/codes/"])
def test_request_that_breaks_off_is_dropped_without_a_word(
    sandbox: Sandbox, caller: Caller, caplog: pytest.LogCaptureFixture, path: str
) -> None:
    with socket.create_connection(("127.0.0.1", sandbox.port), timeout=5) as client:
        client.sendall(f"POST {path} HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{{".encode())
        client.shutdown(socket.SHUT_WR)
        while client.recv(1000):
            pass
    assert caller.me().status_code == 200
    assert [entry["path"] for entry in sandbox.transcript()] == ["/api/v2/me/"]
    assert caplog.text == ""


def test_unknown_option_is_refused() -> None:
    with pytest.raises(ValueError, match="no_such"):
        Sandbox(no_such=1)


@pytest.mark.parametrize("token", ["sandbox-token-not-a-secret", "a/b:c@d%e é?#"])
def test_both_connections_are_the_same_to_airflow(token: str) -> None:
    connection = pytest.importorskip("airflow.models.connection").Connection
    with Sandbox(token=token) as sandbox:
        from_uri = connection(uri=sandbox.connection_uri)
        from_json = json.loads(sandbox.connection_json)
        assert ("scantrust", sandbox.url, token) == (from_uri.conn_type, from_uri.host, from_uri.password)
        assert {"conn_type": "scantrust", "host": sandbox.url, "password": token} == from_json
        again = connection(uri=from_uri.get_uri())
        assert (sandbox.url, token, None) == (again.host, again.password, again.port)


@pytest.mark.parametrize("ending", [signal.SIGINT, signal.SIGTERM])
def test_command_says_when_it_is_ready_and_ends_cleanly(tmp_path: Path, ending: signal.Signals) -> None:
    csv = tmp_path / "codes.csv"
    csv.write_text("extended_id,colour\nNEW00000001,red\n")
    options = ["--port", "0", "--seed", "5", "--seed-csv", str(csv), "--field", "colour", "--token", "t"]
    process = subprocess.Popen(
        [*COMMAND, *options, "--no-rate-limits", "--time-scale", "0.01"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    lines = [process.stdout.readline() for _ in range(5)]
    url = lines[0].split()[4]
    assert f"Scantrust sandbox ready on {url} with 6 codes\n" == lines[0]
    as_json = json.loads(lines[4].partition("'")[2].rstrip("'\n"))
    assert {"conn_type": "scantrust", "host": url, "password": "t"} == as_json
    assert lines[3].startswith(
        "export AIRFLOW_CONN_SCANTRUST_DEFAULT='scantrust://:t@http%3A%2F%2F127.0.0.1%3A"
    )
    headers = {"Authorization": "UAT t"}
    assert requests.get(f"{url}/api/v2/me/", headers=headers, timeout=5).status_code == 200
    process.send_signal(ending)
    assert process.communicate(timeout=20) == ("", "")
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed-csv", "no-such-file.csv"], "no-such-file.csv"),
        (["--field", "product"], "product"),
    ],
)
def test_command_fails_with_one_line(options: list[str], message: str) -> None:
    done = subprocess.run(
        [*COMMAND, "--port", "0", *options], capture_output=True, text=True, timeout=30, check=False
    )
    assert (done.returncode, done.stdout) == (1, "")
    assert message in done.stderr
    assert done.stderr.count("\n") == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--seed", "-5"], "count: must be a whole number"),
        (["--seed", "1.5"], "--seed"),
        (["--time-scale", "nan"], "time_scale: must be a number"),
        (["--time-scale", "1e999"], "time_scale: must be a number"),
        (["--time-scale", "-1"], "time_scale: must be a number"),
        (["--port", "70000"], "port: must be a whole number"),
        (["--field", "product"], "'product' cannot be the name"),
        (["--token", ""], "token: must be a text"),
        (["--deviation", "no_such"], "--deviation"),
        (["--db", "x"], "--db"),
    ],
)
def test_command_refuses_options_that_cannot_be(
    options: list[str], message: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as stopped:
        sys.exit(cli.main(["--port", "0", *options]))
    assert stopped.value.code in (1, 2)
    output = capsys.readouterr()
    assert (message in output.err, output.out) == (True, "")


def test_command_says_that_the_port_is_taken(sandbox: Sandbox) -> None:
    command = [*COMMAND, "--port", str(sandbox.port)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=30, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert f"cannot start on port {sandbox.port}" in done.stderr
    assert done.stderr.count("\n") == 1


def test_sandbox_imports_nothing_of_the_client() -> None:
    script = (
        "import sys, airflow_provider_scantrust.sandbox.cli\n"
        "print([name for name in sys.modules if name.split('.')[0] in ('airflow', 'requests', 'aiohttp')"
        " or name.startswith('airflow_provider_scantrust.')"
        " and not name.startswith('airflow_provider_scantrust.sandbox')])"
    )
    done = subprocess.run(
        [sys.executable, "-c", script], capture_output=True, text=True, timeout=30, check=True
    )
    assert done.stdout.strip() == "[]"
