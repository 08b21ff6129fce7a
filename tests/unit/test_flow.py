"""The one conversation, stepped without any driver."""

from __future__ import annotations

import json
from typing import Any

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.auth import LoginAuth
from airflow_provider_scantrust.api.flow import converse
from airflow_provider_scantrust.api.messages import Answer, Endpoint, Fault, FaultKind
from airflow_provider_scantrust.api.settings import Budget, Settings, read_settings
from steps import TOKEN, Talk, answer, sample, settings

ROW = {"extended_id": "ABC12345", "lot_number": "L-1"}
CUT = Fault(FaultKind.CUT, "reset by peer", 0.1)
UPLOAD = endpoints.upload_scm_data([ROW], "extended_id")
SUBMIT = endpoints.upload_scm_data_async({"lot_number": "L-1"}, {"market": "FR"})
STATUS = endpoints.get_scm_task("t-1")
ME = endpoints.get_me()


def talk(
    endpoint: Endpoint[Any],
    *replies: Answer | Fault,
    random: float = 0.5,
    budget: Budget | None = None,
    using: Settings | None = None,
) -> Talk:
    using = using or settings()
    return Talk(converse(endpoint, using, using.make_auth(), random=lambda: random, budget=budget), replies)


def login_settings() -> Settings:
    return read_settings(
        host="https://scantrust.test",
        login="jane",
        password="marked-password",
        extra={"auth_scheme": "login", "login_endpoint": "some/login/"},
    )


def test_request_is_signed_and_complete() -> None:
    conversation = talk(UPLOAD, sample("upload/updated.200"))
    conversation.run()
    (request,) = conversation.requests
    assert "POST" == request.method
    assert "https://scantrust.test/api/v2/scm/upload/" == request.url
    assert request.headers["Authorization"] == f"UAT {TOKEN}"
    assert "application/json" == request.headers["Content-Type"]
    assert json.loads(request.body or b"") == {"data_key": "extended_id", "items": [ROW]}
    assert (10.0, 75.0) == request.timeout


@pytest.mark.parametrize("endpoint", [UPLOAD, SUBMIT, STATUS, ME], ids=lambda each: each.what)
def test_every_path_ends_in_a_slash(endpoint: Endpoint[Any]) -> None:
    assert endpoint.path.startswith("/api/v2/")
    assert endpoint.path.endswith("/")


@pytest.mark.parametrize(
    ("status", "error"),
    [
        (400, exc.RequestRejected),
        (401, exc.AuthenticationFailed),
        (403, exc.PermissionDenied),
        (404, exc.NotFound),
        (406, exc.Conflict),
        (409, exc.Conflict),
        (405, exc.RequestRejected),
        (413, exc.RequestTooLarge),
    ],
)
def test_refusals_are_typed_and_never_sent_again(status: int, error: type[exc.ScantrustError]) -> None:
    conversation = talk(UPLOAD, answer(status, {"product": ["Unknown product."]}))
    with pytest.raises(error, match=r"product: Unknown product") as caught:
        conversation.run()
    assert 1 == len(conversation.requests)
    assert caught.value.permanent
    assert caught.value.status == status
    assert {"product": ["Unknown product."]} == caught.value.fields
    assert "Unknown product" in (caught.value.excerpt or "")


@pytest.mark.parametrize("trouble", [answer(500, {}), answer(502, b"<html>"), answer(503, {}), CUT], ids=repr)
@pytest.mark.parametrize("endpoint", [UPLOAD, STATUS, ME], ids=lambda each: each.what)
def test_passing_trouble_is_retried_with_exponential_backoff(
    endpoint: Endpoint[Any], trouble: Answer | Fault
) -> None:
    good = {UPLOAD.path: "upload/updated.200", STATUS.path: "task/pending.200", ME.path: "me/ok.200"}
    conversation = talk(endpoint, trouble, trouble, trouble, sample(good[endpoint.path]))
    conversation.run()
    assert [0.5, 1.0, 2.0] == conversation.pauses
    assert 1 == len({request.body for request in conversation.requests})


def test_backoff_has_full_jitter_and_a_ceiling() -> None:
    conversation = talk(
        STATUS,
        *[CUT] * 9,
        sample("task/pending.200"),
        random=0.999,
        budget=Budget(attempts=None, seconds=1e6),
    )
    conversation.run()
    assert [1, 2, 4, 8, 16, 30, 30, 30, 30] == [round(pause / 0.999) for pause in conversation.pauses]
    assert talk(STATUS, CUT, sample("task/pending.200"), random=0.0).run().state_word


def test_tries_are_counted() -> None:
    conversation = talk(UPLOAD, answer(503, {"detail": "down"}))
    with pytest.raises(exc.ServiceUnavailable, match=r"Gave up after 5 tries .* 5 tries and 300 s") as caught:
        conversation.run()
    assert 5 == len(conversation.requests)
    assert not caught.value.permanent


def test_seconds_are_counted_answers_included() -> None:
    slow = answer(503, {}, elapsed=40.0)
    conversation = talk(STATUS, slow, budget=Budget(attempts=None, seconds=100))
    with pytest.raises(exc.ServiceUnavailable):
        conversation.run()
    assert 3 == len(conversation.requests)


def test_connection_faults_end_as_connection_failed() -> None:
    with pytest.raises(exc.ConnectionFailed, match=r"scantrust\.test: the connection was cut"):
        talk(UPLOAD, CUT).run()


def test_untrusted_certificate_is_permanent() -> None:
    conversation = talk(ME, Fault(FaultKind.CERTIFICATE, "self-signed"))
    with pytest.raises(exc.CertificateRejected, match="verify"):
        conversation.run()
    assert 1 == len(conversation.requests)


@pytest.mark.parametrize(
    ("reply", "least", "most"),
    [
        (answer(429, {"detail": "x"}, retry_after="7"), 7.0, 7.7),
        (answer(429, {"detail": "Request was throttled. Expected available in 7 seconds."}), 7.0, 7.7),
        (
            answer(
                429, {}, retry_after="Sun, 06 Nov 1994 08:49:37 GMT", date="Sun, 06 Nov 1994 08:49:30 GMT"
            ),
            7.0,
            7.7,
        ),
        (answer(429, {}, retry_after="Mon, 12 Jan 1970 13:46:47 GMT"), 7.0, 7.7),
        (answer(429, {}, retry_after="0"), 0.5, 0.5),
        (answer(429, {}, retry_after="-3"), 0.5, 0.5),
        (answer(429, {}, retry_after="soon"), 0.5, 0.5),
        (answer(429, b"\xff<html>"), 0.5, 0.5),
    ],
    ids=["seconds", "detail", "date", "date-without-a-date", "zero", "negative", "words", "garbage"],
)
def test_throttled_call_waits_as_told(reply: Answer, least: float, most: float) -> None:
    conversation = talk(UPLOAD, reply, sample("upload/updated.200"))
    conversation.run()
    (pause,) = conversation.pauses
    assert least <= pause <= most


def test_being_throttled_is_no_failed_try_but_costs_budget() -> None:
    conversation = talk(UPLOAD, answer(429, {}, retry_after="10"), random=0.0)
    with pytest.raises(exc.Throttled) as caught:
        conversation.run()
    assert 29 == len(conversation.pauses)
    assert 10.0 == caught.value.retry_after


def test_throttle_longer_than_the_budget_is_given_up_at_once() -> None:
    conversation = talk(UPLOAD, answer(429, {}, retry_after="99999999999999999999"))
    with pytest.raises(exc.Throttled):
        conversation.run()
    assert [] == conversation.pauses


def test_gateway_timeout_is_final_for_a_synchronous_upload_only() -> None:
    conversation = talk(UPLOAD, sample("upload/gateway_timeout.504"))
    with pytest.raises(exc.UploadTimedOut, match="updated nothing"):
        conversation.run()
    assert 1 == len(conversation.requests)
    for endpoint, good in ((SUBMIT, "submit/accepted.200"), (STATUS, "task/pending.200")):
        conversation = talk(endpoint, sample("upload/gateway_timeout.504"), sample(good))
        conversation.run()
        assert 2 == len(conversation.requests)


def test_replayed_submit_says_what_is_known_of_both_jobs() -> None:
    conversation = talk(SUBMIT, CUT, answer(200, {"task_id": "job-2"}))
    assert "job-2" == conversation.run()
    (notice,) = conversation.notices
    assert "reset by peer" in notice
    assert "unknown id besides job-2, at most 1;" in notice


def test_submit_that_is_replayed_often_says_how_often() -> None:
    conversation = talk(
        SUBMIT, CUT, answer(502), answer(429, {}), answer(503), answer(200, {"task_id": "job-4"})
    )
    conversation.run()
    (notice,) = conversation.notices
    assert "the first of 3 tries" in notice
    assert "job-4, at most 3;" in notice


def test_throttled_submit_leaves_no_doubt() -> None:
    conversation = talk(SUBMIT, answer(429, {}, retry_after="1"), answer(200, {"task_id": "job-1"}))
    conversation.run()
    assert [] == conversation.notices


@pytest.mark.parametrize(
    "reply",
    [
        answer(200, b"<html>maintenance</html>"),
        answer(200, b'{"task_id": "x'),
        answer(200, []),
        answer(200, {}),
        answer(200, {"task_id": None}),
        answer(200, {"task_id": "../me"}),
        answer(200, b""),
        answer(200, b"[" * 100_000),
        answer(204, b""),
        answer(199, b""),
    ],
    ids=lambda reply: repr(reply.body[:20]),
)
def test_unreadable_submit_says_that_the_job_may_run(reply: Answer) -> None:
    conversation = talk(SUBMIT, reply)
    with pytest.raises(exc.UnreadableAnswer) as caught:
        conversation.run()
    assert 1 == len(conversation.requests)
    assert caught.value.excerpt is not None


def test_unreadable_answer_is_asked_again_while_waiting() -> None:
    budget = Budget(attempts=None, seconds=60, retry_unreadable=True)
    conversation = talk(STATUS, answer(200, b"<html>"), sample("task/complete.200"), budget=budget)
    assert conversation.run().is_done


def test_get_follows_redirects_within_its_origin() -> None:
    conversation = talk(
        ME,
        answer(301, b"", location="/elsewhere/"),
        answer(302, b"", location="https://scantrust.test:443/x/"),
        sample("me/ok.200"),
    )
    conversation.run()
    assert [
        "https://scantrust.test/elsewhere/",
        "https://scantrust.test:443/x/",
    ] == [request.url for request in conversation.requests[1:]]


@pytest.mark.parametrize(
    "location",
    [
        "https://evil.test/api/v2/me/",
        "http://scantrust.test/api/v2/me/",
        "https://scantrust.test:8443/api/v2/me/",
        "//evil.test/",
        "https://user@scantrust.test/",
        "https://scantrust.test:x/",
        "https://[::1",
        "ftp://scantrust.test/",
        "",
    ],
)
def test_the_token_never_leaves_its_origin(location: str) -> None:
    conversation = talk(ME, answer(302, b"", location=location))
    with pytest.raises(exc.UnexpectedRedirect):
        conversation.run()
    assert 1 == len(conversation.requests)


def test_endless_redirect_ends() -> None:
    conversation = talk(ME, answer(302, b"", location="/round/"))
    with pytest.raises(exc.UnexpectedRedirect):
        conversation.run()
    assert 6 == len(conversation.requests)


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_redirected_post_is_an_error_that_says_so(status: int) -> None:
    conversation = talk(SUBMIT, answer(status, b"", location="/api/v2/scm/upload/async/"))
    with pytest.raises(exc.UnexpectedRedirect, match="a redirected POST would lose its data"):
        conversation.run()
    assert 1 == len(conversation.requests)


def test_login_comes_first_and_once() -> None:
    using = login_settings()
    auth = using.make_auth()
    replies = [answer(200, {"token": "jwt-1"}), sample("me/ok.200")]
    conversation = Talk(converse(ME, using, auth, random=lambda: 0.5), replies)
    conversation.run()
    login, me = conversation.requests
    assert "https://scantrust.test/some/login/" == login.url
    assert "Authorization" not in login.headers
    assert {"username": "jane", "password": "marked-password"} == json.loads(login.body or b"")
    assert "JWT jwt-1" == me.headers["Authorization"]
    again = Talk(converse(ME, using, auth, random=lambda: 0.5), [sample("me/ok.200")])
    again.run()
    assert 1 == len(again.requests)


def test_expired_token_costs_one_login() -> None:
    using = login_settings()
    auth = using.make_auth()
    auth.renew("old")
    replies = [sample("errors/expired_jwt.401"), answer(200, {"token": "new"}), sample("upload/updated.200")]
    conversation = Talk(converse(UPLOAD, using, auth, random=lambda: 0.5), replies)
    conversation.run()
    assert [
        "JWT old",
        None,
        "JWT new",
    ] == [request.headers.get("Authorization") for request in conversation.requests]


def test_token_that_a_login_just_gave_is_not_renewed_again() -> None:
    using = login_settings()
    replies = [answer(200, {"token": "new"}), sample("errors/expired_jwt.401")]
    conversation = Talk(converse(ME, using, using.make_auth(), random=lambda: 0.5), replies)
    with pytest.raises(exc.AuthenticationFailed):
        conversation.run()
    assert 2 == len(conversation.requests)


def test_throttled_login_is_waited_for() -> None:
    using = login_settings()
    replies = [answer(429, {}, retry_after="6"), answer(200, {"access": "jwt"}), sample("me/ok.200")]
    conversation = Talk(converse(ME, using, using.make_auth(), random=lambda: 0.0), replies)
    conversation.run()
    assert [6.0] == conversation.pauses


@pytest.mark.parametrize("secret", [TOKEN, "marked-password", "jwt-secret"])
def test_no_error_carries_a_secret(secret: str) -> None:
    using = settings() if secret == TOKEN else login_settings()
    auth = using.make_auth()
    if isinstance(auth, LoginAuth):
        auth.renew("jwt-secret")
    for reply in (
        answer(400, {"detail": f"you sent {secret}", secret[:3]: [secret]}),
        answer(503, f"debug page: {secret}".encode()),
        answer(200, f"<html>{secret}".encode()),
        Fault(FaultKind.CUT, f"while sending {secret}"),
    ):
        conversation = Talk(converse(UPLOAD, using, auth, random=lambda: 0.5), [reply])
        with pytest.raises(exc.ScantrustError) as caught:
            conversation.run()
        error: BaseException | None = caught.value
        while error is not None:
            assert secret not in str(error) + repr(error) + repr(vars(error))
            error = error.__cause__


def test_secrets_are_in_no_repr() -> None:
    for using in (settings(), login_settings()):
        auth = using.make_auth()
        conversation = converse(ME, using, auth, random=lambda: 0.5)
        request = next(conversation)
        text = repr((using, auth, request, auth.renewal()))
        assert TOKEN not in text
        assert "marked-password" not in text
