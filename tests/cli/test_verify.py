"""`verify`: that it sees what differs, writes back what it changes, and gives nothing away."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from airflow_provider_scantrust.cli.output import Output
from airflow_provider_scantrust.cli.verify.assumptions import ASSUMPTIONS
from airflow_provider_scantrust.cli.verify.command import run_survey
from airflow_provider_scantrust.cli.verify.report import make_report
from airflow_provider_scantrust.cli.verify.survey import Survey
from airflow_provider_scantrust.cli.verify.target import Target
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS

from .conftest import Ran

Run = Callable[..., Ran]
ID, FIELD, VALUE = "SBX00000001", "lot_number", "L-verified"
CONTRACT = Path(__file__).parent.parent / "contract"


@pytest.fixture
def survey(sandbox: Sandbox, monkeypatch: pytest.MonkeyPatch) -> Callable[..., Survey]:
    """Make a survey in which everything is tried: with a login, a slow job, and a call that is throttled."""
    sandbox.add_user("jo", "pass-word")
    login = {"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"}

    def make(*deviations: str, target: bool = True, **extra: Any) -> Survey:
        connection = {
            "conn_type": "scantrust",
            "host": sandbox.url,
            "login": "jo",
            "password": "pass-word",
            "extra": {**login, **extra},
        }
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
        sandbox.configure(
            deviations=list(deviations), rate_limits=True, limits={"authenticated": (2, 3600.0)}
        )
        sandbox.jobs(times=None, polls=4)
        # Instead of waiting until the limit is over.
        found = Survey(ScantrustHook(), sleep=lambda seconds: sandbox.configure(rate_limits=False))
        mine = Target(ID, FIELD, VALUE)
        found.secrets |= mine.masks
        run_survey(found, mine if target else None, Output("json"))
        return found

    return make


def differing(survey: Survey) -> set[str]:
    return {each.line for each in survey.findings if each.verdict == "differs"}


def test_every_line_that_can_be_reversed_is_tried() -> None:
    assert {each.line for each in DEVIATIONS.values()} == set(ASSUMPTIONS)


def test_without_a_deviation_all_agree(survey: Callable[..., Survey]) -> None:
    assert [] == [each for each in survey().findings if each.verdict != "agrees"]


# With a login, the hook itself needs the usual path of `me`.
@pytest.mark.parametrize("name", [name for name in DEVIATIONS if name != "me_path"])
def test_reversed_assumption_is_seen_and_the_value_is_restored(
    sandbox: Sandbox, survey: Callable[..., Survey], name: str
) -> None:
    assert DEVIATIONS[name].line in differing(survey(name))
    code: Any = sandbox.code(ID)
    assert VALUE == code[FIELD] or name == "upload_path"


def test_another_path_of_me_is_seen(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    sandbox.configure(deviations=["me_path"])
    ran = run("verify", "--report", tmp_path / "report.json")
    assert 3 == ran.code
    assert "set me_path in the connection's extra" in ran.err


@pytest.mark.parametrize(
    ("fault", "code", "said"),
    [
        ({"status": 401}, 1, "AuthenticationFailed"),
        ({"status": 503}, 75, "ServiceUnavailable"),
        ({"body": "<html><title>A shop</title>"}, 75, "an HTML page: A shop"),
        ({"cut": "before"}, 75, "ConnectionFailed"),
        ({"path": "/api/v2/scm/*", "status": 502}, 75, "ServiceUnavailable"),
        ({"body": " " * 20_000_000}, 75, "longer than any answer of the API"),
    ],
)
def test_connection_that_does_not_work_says_nothing_about_assumptions(
    sandbox: Sandbox,
    monkeypatch: pytest.MonkeyPatch,
    run: Run,
    tmp_path: Path,
    fault: dict[str, Any],
    code: int,
    said: str,
) -> None:
    sandbox.fault(times=None, **fault)
    connection = json.loads(sandbox.connection_json)
    monkeypatch.setenv(
        "AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps({**connection, "extra": {"retry_attempts": 1}})
    )
    ran = run("verify", "--report", str(tmp_path / "report.json"))
    assert (code, True) == (ran.code, said in ran.err)
    assert "differ" not in ran.out + ran.err


def test_nothing_is_written_without_a_code(sandbox: Sandbox, survey: Callable[..., Survey]) -> None:
    before = sandbox.codes()
    found = survey(target=False)
    assert before == sandbox.codes()
    assert set() == differing(found)
    assert [] == [
        entry for entry in sandbox.transcript() if "/tasks/" in entry["path"] and entry["status"] == 200
    ]


def test_states_that_are_not_known_give_an_extra_with_which_the_hook_works(
    sandbox: Sandbox, survey: Callable[..., Survey]
) -> None:
    assert {"done_states": "finished"} == survey("other_states").extra


def test_path_that_the_connection_names_is_used(survey: Callable[..., Survey]) -> None:
    found = survey("upload_path", upload_path="/api/v2/scm/uploads/")
    assert {"upload-path"} == differing(found)
    assert {"upload_path": "/api/v2/scm/uploads/"} == found.extra


def test_report_gives_nothing_away(sandbox: Sandbox, survey: Callable[..., Survey]) -> None:
    found = survey()
    text = json.dumps(make_report(found))
    jobs = [task["id"] for task in sandbox.tasks()]
    assert jobs
    host = sandbox.url.removeprefix("http://")
    for secret in [*jobs, ID, FIELD, VALUE, "pass-word", '"jo"', "Sandbox winery", "sandbox@", host]:
        assert secret not in text


def test_samples_have_the_shape_of_those_of_the_contract(
    survey: Callable[..., Survey], tmp_path: Path, run: Run
) -> None:
    report = tmp_path / "report.json"
    report.write_text(json.dumps(make_report(survey())))
    ran = run("verify", "--samples", report, tmp_path / "contract", "--output", "json")
    written = [Path(path) for path in json.loads(ran.out)]
    assert 18 <= len(written)
    for path in written:
        known = json.loads((CONTRACT / path.relative_to(tmp_path / "contract")).read_bytes())
        sample = json.loads(path.read_bytes())
        assert "observed" == sample["source"]
        assert known["headers"].keys() <= sample["headers"].keys()
        assert type(known["body"]) is type(sample["body"])
        if path.parent.name != "upload" and isinstance(known["body"], dict):
            # Of a refused list, the key is the user's field.
            is_known = known["body"].keys() == sample["body"].keys()
            assert is_known or (path.name, ["field_name"]) == ("list_of_lots.400.json", list(sample["body"]))


def test_no_report_makes_no_samples(tmp_path: Path, run: Run) -> None:
    path = tmp_path / "report.json"
    path.write_text("{}")
    assert 1 == run("verify", "--samples", path, tmp_path).code


def test_writing_is_confirmed(sandbox: Sandbox, run: Run, tmp_path: Path) -> None:
    sandbox.clear_transcript()
    target = ["--extended-id", ID, "--field", FIELD, "--value", VALUE]
    ran = run("verify", *target, "--report", tmp_path / "report.json")
    assert 1 == ran.code
    assert "give --yes" in ran.err
    assert [] == sandbox.transcript()
    assert 1 == run("verify", "--extended-id", ID).code


@pytest.mark.parametrize(("extended_id", "field"), [("NOWHERE123", FIELD), (ID, "colour")])
def test_code_or_field_that_is_not_there_ends_it_with_nothing_written(
    sandbox: Sandbox, run: Run, tmp_path: Path, extended_id: str, field: str
) -> None:
    before = sandbox.codes()
    report = tmp_path / "report.json"
    ran = run(
        "verify", "--extended-id", extended_id, "--field", field, "--value", "x", "--yes", "--report", report
    )
    assert 1 == ran.code
    assert "nothing was written" in ran.err
    assert before == sandbox.codes()
    assert report.exists()
