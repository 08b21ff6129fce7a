"""Refusals in the odd shapes that a service or its gateway may give them."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest

from tasks import attempt

BAD = ("SBX00000000", "SBX00000009")


class RefusesWithoutFields(BaseHTTPRequestHandler):
    """Refuses calls with a bad key; the body is a list, as Django REST Framework writes an error without a field."""

    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        rows = body.get("items") or [{"extended_id": key} for key in body["constraints"]["extended_id"]]
        keys = [row["extended_id"] for row in rows]
        answer: Any = {"items": {key: ["market"] for key in keys}, "codes_affected": len(keys)}
        if bad := [key for key in keys if key in BAD]:
            answer = [f"{bad[0]} is not an extended_id."]
        elif "constraints" in body:
            answer = {"task_id": "t-1"}
        data = json.dumps(answer).encode()
        self.send_response(400 if bad else 200)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, *_: Any) -> None:
        pass


@pytest.fixture
def service(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    with ThreadingHTTPServer(("127.0.0.1", 0), RefusesWithoutFields) as server:
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        host = f"http://127.0.0.1:{server.server_port}"
        connection = {"conn_type": "scantrust", "host": host, "password": "t-1"}
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
        try:
            yield
        finally:
            server.shutdown()
            thread.join()


@pytest.mark.usefixtures("service")
def test_two_refusals_without_a_field_are_alike_only_if_they_say_the_same(tmp_path: Path) -> None:
    rows = [{"extended_id": f"SBX{number:08d}", "market": "FR"} for number in range(10)]
    path = tmp_path / "rejects.jsonl"
    done = attempt(None, source=rows, mode="async", rejects_path=str(path))
    assert (8, {"refused": 2}) == (done["codes_affected"], done["rejected"])
    assert list(BAD) == [json.loads(line)["extended_id"] for line in path.read_text().splitlines()]
