"""Reading answers: every sample of the contract, and any bytes at all."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from typing import Any

import pendulum
import pytest
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.answers import read_answer, read_retry_after
from airflow_provider_scantrust.api.messages import Answer, Endpoint
from airflow_provider_scantrust.api.models import TaskState, read_account, read_state, read_task, read_upload
from steps import CONTRACT, answer, sample

UPLOAD = endpoints.upload_scm_data([{"extended_id": "A", "lot_number": "L"}], "extended_id")
SUBMIT = endpoints.upload_scm_data_async({"lot_number": "L-1"}, {"market": "FR"})
STATUS = endpoints.get_scm_task("t-1")
ENDPOINTS: dict[str, Endpoint[Any]] = {
    "upload": UPLOAD,
    "submit": SUBMIT,
    "task": STATUS,
    "me": endpoints.get_me(),
    "errors": SUBMIT,
}
SAMPLES = sorted(
    f"{path.parent.name}/{path.stem}" for path in CONTRACT.glob("*/*.json") if path.parent.name in ENDPOINTS
)

any_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(), inner, max_size=4),
    max_leaves=12,
)
known_names = st.sampled_from(
    [
        "task_id",
        "taskId",
        "state",
        "items",
        "codes_affected",
        "codesAffected",
        "total_updates",
        "detail",
        "created_at",
    ]
)
likely_json = st.dictionaries(known_names, any_json, max_size=6)
bodies = st.binary(max_size=200) | (any_json | likely_json).map(lambda value: json.dumps(value).encode())
header_values = st.text(st.characters(max_codepoint=255), max_size=40)


@pytest.mark.parametrize("name", SAMPLES)
def test_contract_sample_is_data_or_a_typed_error(name: str) -> None:
    folder, _, case = name.partition("/")
    status = int(case.rpartition(".")[2])
    reply = sample(name)
    if status == 200:
        assert read_answer(reply, ENDPOINTS[folder]) is not None
    else:
        with pytest.raises(exc.ScantrustError) as caught:
            read_answer(reply, ENDPOINTS[folder])
        assert caught.value.status == status
        assert type(caught.value) is not exc.ScantrustError


@given(
    endpoint=st.sampled_from([UPLOAD, SUBMIT, STATUS, endpoints.get_me()]),
    status=st.integers(100, 599),
    headers=st.dictionaries(
        st.sampled_from(["retry-after", "date", "location", "content-type"]), header_values
    ),
    body=bodies,
)
def test_no_other_exception_escapes_from_any_answer(
    endpoint: Endpoint[Any], status: int, headers: dict[str, str], body: bytes
) -> None:
    reply = Answer(status, headers, body, 0.0, 0.0)
    error = None
    try:
        read_answer(reply, endpoint)
    except exc.ScantrustError as caught:
        error = caught
    if error is not None:
        assert len(str(error)) < 3000
        assert "\n" not in str(error)
        exc.from_dict(json.loads(json.dumps(error.as_dict())))
    seconds = read_retry_after(reply)
    assert seconds is None or 0 <= seconds <= 86_400


@pytest.mark.parametrize(
    ("words", "state"),
    [
        (["pending", "Pending", "PENDING "], TaskState.PENDING),
        (["running", "in-progress", "In progress", "IN_PROGRESS"], TaskState.RUNNING),
        (["complete", "Completed", "success"], TaskState.COMPLETE),
        (["failed", "Error"], TaskState.FAILED),
        (["archived", "done", "cancelled", "", "pend ing"], TaskState.UNKNOWN),
    ],
)
def test_state_words_are_read_in_any_spelling(words: list[str], state: TaskState) -> None:
    assert {state} == {read_state(word) for word in words}


def test_unknown_state_is_no_end() -> None:
    task = read_task("t-1", {"state": "archived"})
    assert not task.is_done
    assert not task.is_failed
    assert "archived" == task.state_word


def test_task_is_read_in_snake_and_camel_case_with_pendulum_times() -> None:
    for name in ("task/complete.200", "task/complete_camel_case.200"):
        task = read_answer(sample(name), STATUS)
        assert task.is_done
        assert isinstance(task.codes_affected, int)
        assert isinstance(task.created_at, pendulum.DateTime)
        assert isinstance(task.completed_at, pendulum.DateTime)


@pytest.mark.parametrize(
    "moment",
    [
        *("yesterday", "", 7, None, "2026-13-01", "P1D", [], "9" * 50),
        *("2026-11-01/12:30:00", "2026-11-01/P3D", "P1Y/2026-11-01", "now", "10:00", "T10"),
    ],
)
def test_unreadable_time_is_no_time(moment: Any) -> None:
    assert read_task("t-1", {"state": "pending", "created_at": moment}).created_at is None


@pytest.mark.parametrize(
    "data",
    [
        {"items": [], "codes_affected": 1},
        {"items": {"a": "lot"}, "codes_affected": 1},
        {"items": {"a": [1]}, "codes_affected": 1},
        {"items": {}},
        {"items": {}, "codes_affected": -1},
        {"items": {}, "codes_affected": True},
        {"items": {}, "codes_affected": 1.5},
        {"codes_affected": 1},
    ],
)
def test_upload_answer_of_another_shape_is_refused(data: Any) -> None:
    with pytest.raises(ValueError, match=r"items|codes_affected|item"):
        read_upload(data)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("3", 3.0),
        ("1.5", 1.5),
        ("9" * 5_000, 86_400.0),
        ("-3", 7.0),
        ("3;x", 7.0),
        ("1e3", 7.0),
        ("\u0663", 7.0),
        ("soon", 7.0),
    ],
)
def test_retry_after_that_is_no_number_leaves_the_number_of_the_body(header: str, seconds: float) -> None:
    body = {"detail": "Request was throttled. Expected available in 7 seconds.", "code": "throttled"}
    assert seconds == read_retry_after(answer(429, body, retry_after=header))


@pytest.mark.parametrize("zone", ["America/New_York", "Asia/Tokyo"])
@pytest.mark.parametrize(
    "date",
    [
        "Fri, 15 Jan 2027 08:00:30 GMT",
        "Friday, 15-Jan-27 08:00:30 GMT",
        "Fri Jan 15 08:00:30 2027",
        "Fri, 15 Jan 2027 08:00:30 -0000",
    ],
)
def test_retry_after_in_each_form_of_a_date_is_in_gmt(
    monkeypatch: pytest.MonkeyPatch, date: str, zone: str
) -> None:
    monkeypatch.setenv("TZ", zone)
    time.tzset()
    try:
        reply = answer(429, {}, retry_after=date)
        assert 30.0 == read_retry_after(replace(reply, received_at=1_800_000_000.0))
    finally:
        monkeypatch.undo()
        time.tzset()


WEB_PAGE = b"<!DOCTYPE html><html><head><title>Sorry, you have been blocked</title></head></html>"


@pytest.mark.parametrize(
    ("status", "body", "error", "said"),
    [
        (401, {"detail": "Token has expired."}, exc.AuthenticationFailed, "make a new one in the portal"),
        (401, WEB_PAGE, exc.AuthenticationFailed, "firewall or gateway"),
        (403, {"detail": "No."}, exc.PermissionDenied, "a company admin can give it"),
        (403, WEB_PAGE, exc.PermissionDenied, "firewall or gateway"),
        (405, {"detail": 'Method "POST" not allowed.'}, exc.ConfigurationError, "host and its paths"),
        (421, WEB_PAGE, exc.ServiceUnavailable, "blocked"),
        (425, b"", exc.ServiceUnavailable, "with 425"),
    ],
)
def test_refusal_by_something_in_front_of_the_api_blames_no_token(
    status: int, body: Any, error: type[exc.ScantrustError], said: str
) -> None:
    with pytest.raises(error, match=said):
        read_answer(answer(status, body), UPLOAD)


@pytest.mark.parametrize("count", ["3", 3.0])
def test_upload_answer_is_read_tolerantly(count: Any) -> None:
    result = read_upload({"items": {"a": ["x", "y"], "b": []}, "codesAffected": count})
    assert (3, 2) == (result.codes_affected, result.total_updates)


def test_account_is_named_as_well_as_can_be() -> None:
    assert "j@x.test" == read_account({"email": "j@x.test", "id": 4})
    assert "4" == read_account({"id": 4})
    assert "does not give" in read_account({"surprise": []})


@pytest.mark.parametrize(
    "task_id", ["../me", "a/b", "a?x=1", "a#b", "", " ", "..", "a b", "ä", None, 5, "x" * 201, "a\n"]
)
def test_task_id_that_could_change_the_path_is_refused(task_id: Any) -> None:
    if task_id == "a\n":
        assert "a" == endpoints.check_task_id(task_id)
        return
    with pytest.raises(exc.InvalidInput):
        endpoints.get_scm_task(task_id)
