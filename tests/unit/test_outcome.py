"""What a wait found out, and how small it stays."""

from __future__ import annotations

import json
import uuid

import pytest

from airflow_provider_scantrust.triggers.scantrust import read_event
from airflow_provider_scantrust.waits.outcome import KEPT, NAMED, Outcome


def test_few_jobs_are_all_named() -> None:
    outcome = Outcome.of({"a": 2, "b": None, "c": 0})
    assert {"codes_affected": 2, "tasks": {"a": 2, "b": None, "c": 0}} == outcome.result()
    assert (
        "All 3 jobs are complete: 2 codes affected. 1 of them affected no code. "
        "Scantrust gives no number of codes for 1 job."
    ) == outcome.describe()


@pytest.mark.parametrize(
    ("codes", "said"),
    [
        (1, "The job is complete: 1 code affected."),
        (0, "The job is complete: 0 codes affected."),
        (None, "The job is complete. Scantrust gives no number of codes."),
    ],
)
def test_sentence_about_one_job_is_in_the_singular(codes: int | None, said: str) -> None:
    assert said == Outcome.of({"a": codes}).describe()


def test_sentence_about_no_job_claims_nothing_about_scantrust() -> None:
    assert "There is no job to wait for." == Outcome.of({}).describe()


def test_of_many_jobs_those_worth_a_look_are_named() -> None:
    codes = {f"t-{number}": number % 50 for number in range(1000)} | {"unsaid": None}
    result = Outcome.of(codes).result()
    assert (1001, sum(range(50)) * 20) == (result["jobs"], result["codes_affected"])
    assert {name: number for name, number in codes.items() if not number} == result["tasks"]


def test_even_those_are_bounded() -> None:
    assert NAMED == len(Outcome.of({f"t-{number}": 0 for number in range(5000)}).result()["tasks"])


def test_least_are_kept_with_the_unsaid_first() -> None:
    codes: dict[str, int | None] = {f"t-{number}": number for number in range(4999, 0, -1)}
    outcome = Outcome.of(codes | {"unsaid": None})
    assert [None, *range(1, KEPT)] == list(outcome.counts.values())
    assert (5000, 0, 1) == (outcome.jobs, outcome.nothing, outcome.unsaid)


def test_event_of_five_thousand_jobs_stays_small_and_comes_back_the_same() -> None:
    outcome = Outcome.of({str(uuid.UUID(int=number)): number for number in range(5000)})
    stored = json.dumps({"status": "complete", "outcome": outcome.as_dict()})
    assert len(stored) < 48 * 1024
    assert outcome == read_event(json.loads(stored))


def test_event_of_an_older_triggerer_is_still_read() -> None:
    assert Outcome.of({"a": 2, "b": 0}) == read_event(
        {"status": "complete", "codes_affected": {"a": 2, "b": 0}}
    )


@pytest.mark.parametrize("data", [{}, {"jobs": "1"}, {"counts": {}}])
def test_what_is_no_outcome_is_refused(data: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="not an outcome"):
        Outcome.from_dict(data)
