"""The server of the waits' benchmark speaks as Scantrust does: the samples of the contract hold it too."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from waits_server import DBT, HTTP, SPREAD, Service, path_of

SAMPLES = Path(__file__).parent.parent / "contract"
SECONDS = 60.0


class Clock:
    def __init__(self) -> None:
        self.seconds = 1000.0

    def __call__(self) -> float:
        return self.seconds


@pytest.fixture
def clock() -> Clock:
    return Clock()


def sample(name: str) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((SAMPLES / f"{name}.json").read_text(encoding="utf-8"))
    return found


def shape(body: dict[str, Any]) -> dict[str, str]:
    return {name: type(value).__name__ for name, value in body.items()}


@pytest.mark.parametrize(
    ("after", "name"), [(SECONDS - 0.1, "task/in_progress.200"), (SECONDS + SPREAD, "task/complete.200")]
)
def test_status_has_the_shape_of_the_contract(clock: Clock, after: float, name: str) -> None:
    service = Service(SECONDS, clock=clock)
    service.start()
    clock.seconds += after
    status, headers, body = service.answer(path_of(7))
    expected = sample(name)
    assert expected["status"] == status
    assert expected["headers"]["content-type"] == headers["Content-Type"]
    assert shape(expected["body"]) == shape(json.loads(body))
    assert expected["body"]["state"] == json.loads(body)["state"]
    assert len(expected["body"]["id"]) == len(json.loads(body)["id"])


def test_question_over_the_limit_is_throttled_as_in_the_contract(clock: Clock) -> None:
    service = Service(SECONDS, limit=(2, 7.0), clock=clock)
    service.start()
    answers = [service.answer(path_of(number)) for number in range(3)]
    _, headers, body = answers[-1]
    expected = sample("errors/throttled.429")
    assert [200, 200, expected["status"]] == [status for status, _, _ in answers]
    assert expected["headers"] == {name.lower(): value for name, value in headers.items()}
    assert expected["body"] == json.loads(body)
    clock.seconds += 7.0
    assert service.answer(path_of(0))[0] == 200
    assert service.counts()["throttled"] == 1


def test_bad_gateway_is_the_contracts(clock: Clock) -> None:
    status, headers, body = Service(SECONDS, bad=1.0, clock=clock).answer(path_of(0))
    expected = sample("errors/bad_gateway.502")
    assert (expected["status"], expected["body"]) == (status, body)
    assert expected["headers"] == {name.lower(): value for name, value in headers.items()}


def test_all_three_services_end_a_job_at_the_same_time(clock: Clock) -> None:
    service = Service(SECONDS, clock=clock)
    service.start()

    def seen() -> tuple[str, int, int]:
        scantrust, dbt = (json.loads(service.answer(path)[2]) for path in (path_of(7), f"{DBT}7/"))
        return scantrust["state"], dbt["data"]["status"], service.answer(f"{HTTP}7")[0]

    # dbt Cloud: 3 is running, 10 is success.
    assert seen() == ("in-progress", 3, 404)
    clock.seconds += SECONDS + SPREAD * 7 / 1000
    assert seen() == ("complete", 10, 200)
