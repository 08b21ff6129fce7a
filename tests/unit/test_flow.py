"""The one conversation, stepped without any driver."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.auth import LoginAuth
from airflow_provider_scantrust.api.flow import LOGIN_LOOK, converse
from airflow_provider_scantrust.api.messages import Answer, Endpoint, Fault, FaultKind, Notice, Pause, Request
from airflow_provider_scantrust.api.settings import Budget, Settings, read_settings
from airflow_provider_scantrust.api.texts import EXCERPT
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
        (405, exc.ConfigurationError),
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
    assert [0.75, 1.5, 3.0] == conversation.pauses
    assert 1 == len({request.body for request in conversation.requests})


def test_backoff_has_jitter_and_a_ceiling() -> None:
    conversation = talk(
        STATUS,
        *[CUT] * 9,
        sample("task/pending.200"),
        random=0.999,
        budget=Budget(attempts=None, seconds=1e6),
    )
    conversation.run()
    assert [1, 2, 4, 8, 16, 30, 30, 30, 30] == [round(pause) for pause in conversation.pauses]
    assert talk(STATUS, CUT, sample("task/pending.200"), random=0.0).run().state_word


@pytest.mark.parametrize("trouble", [answer(503, {"detail": "down"}), answer(500), CUT], ids=repr)
@pytest.mark.parametrize("random", [0.0, 0.5, 0.999])
def test_outage_of_a_minute_costs_no_try_of_the_task(trouble: Answer | Fault, random: float) -> None:
    conversation = talk(UPLOAD, *[trouble] * 5, sample("upload/updated.200"), random=random)
    conversation.run()
    conversation = talk(UPLOAD, trouble, random=random)
    with pytest.raises(exc.TransientError, match=r"retry budget of 300 s") as caught:
        conversation.run()
    assert 230 < sum(conversation.pauses) <= 300
    assert not caught.value.permanent


@pytest.mark.parametrize(("tries", "text"), [(1, "1 try"), (5, "5 tries")])
def test_tries_are_counted_where_the_connection_limits_them(tries: int, text: str) -> None:
    conversation = talk(UPLOAD, answer(503, {"detail": "down"}), using=settings(retry_attempts=tries))
    with pytest.raises(exc.ServiceUnavailable, match=rf"Gave up after {text} .* {text} and 300 s"):
        conversation.run()
    assert tries == len(conversation.requests)


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
        (answer(429, {}, retry_after="0"), 0.75, 0.75),
        (answer(429, {}, retry_after="-3"), 0.75, 0.75),
        (answer(429, {}, retry_after="soon"), 0.75, 0.75),
        (answer(429, b"\xff<html>"), 0.75, 0.75),
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
    assert "Besides job-2, Scantrust may have up to 1 more of this job" in notice


def test_submit_that_is_replayed_often_says_how_often() -> None:
    conversation = talk(
        SUBMIT, CUT, answer(502), answer(429, {}), answer(503), answer(200, {"task_id": "job-4"})
    )
    conversation.run()
    (notice,) = conversation.notices
    assert "the first of 3 tries" in notice
    assert "Besides job-4, Scantrust may have up to 3 more of this job" in notice


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


def by_login(auth: LoginAuth, *replies: Answer | Fault, endpoint: Endpoint[Any] = ME, **options: Any) -> Talk:
    return Talk(converse(endpoint, login_settings(), auth, random=lambda: 0.5, **options), replies)


def signatures(conversation: Talk) -> list[str | None]:
    return [request.headers.get("Authorization") for request in conversation.requests]


def logged_in(clock: Callable[[], float] = lambda: 0.0) -> LoginAuth:
    """Return a signer whose token has worked."""
    auth = login_settings().make_auth(clock)
    assert isinstance(auth, LoginAuth)
    by_login(auth, answer(200, {"token": "old"}), sample("me/ok.200")).run()
    return auth


EXPIRED = sample("errors/expired_jwt.401")


def test_expired_token_costs_one_login() -> None:
    conversation = by_login(
        logged_in(), EXPIRED, answer(200, {"token": "new"}), sample("upload/updated.200"), endpoint=UPLOAD
    )
    conversation.run()
    assert ["JWT old", None, "JWT new"] == signatures(conversation)
    assert ["Scantrust no longer accepts the login's token; logging in again."] == conversation.notices


def test_token_that_a_login_just_gave_is_not_renewed_again() -> None:
    auth = login_settings().make_auth()
    assert isinstance(auth, LoginAuth)
    conversation = by_login(auth, answer(200, {"token": "new"}), EXPIRED)
    with pytest.raises(exc.AuthenticationFailed):
        conversation.run()
    assert 2 == len(conversation.requests)
    # Nor by the next calls, until some time has passed.
    again = by_login(auth, EXPIRED)
    with pytest.raises(exc.AuthenticationFailed):
        again.run()
    assert ["JWT new"] == signatures(again)


def test_conversations_that_need_a_login_together_make_one() -> None:
    auth = login_settings().make_auth()
    talks = [converse(ME, login_settings(), auth, random=lambda: 0.5) for _ in range(60)]
    steps = [next(each) for each in talks]
    logins = [step for step in steps if isinstance(step, Request)]
    assert 1 == len(logins)
    assert 59 == steps.count(Pause(LOGIN_LOOK))
    me = talks[0].send(answer(200, {"token": "jwt"}))
    for each in [me, *(talk.send(None) for talk in talks[1:])]:
        assert isinstance(each, Request)
        assert "JWT jwt" == each.headers["Authorization"]


def test_calls_whose_token_expires_together_make_one_login() -> None:
    auth = logged_in()
    talks = [converse(ME, login_settings(), auth, random=lambda: 0.5) for _ in range(16)]
    for each in talks:
        next(each)
    steps = [each.send(EXPIRED) for each in talks]
    assert 1 == len([step for step in steps if isinstance(step, Notice)])
    steps[0] = next(talks[0])
    assert 1 == len([step for step in steps if isinstance(step, Request)])
    assert 15 == steps.count(Pause(LOGIN_LOOK))


def test_wrong_password_is_tried_once_for_all_calls_until_a_minute_has_passed() -> None:
    now = [0.0]
    auth = login_settings().make_auth(lambda: now[0])
    assert isinstance(auth, LoginAuth)
    talks = [converse(ME, login_settings(), auth, random=lambda: 0.5) for _ in range(16)]
    for each in talks:
        next(each)
    for each in talks:
        with pytest.raises(exc.AuthenticationFailed, match="user name or password is wrong"):
            each.send(answer(401, {"detail": "No."}) if each is talks[0] else None)
    now[0] = 59.0
    late = by_login(auth, answer(401))
    with pytest.raises(exc.AuthenticationFailed):
        late.run()
    assert [] == late.requests
    now[0] = 60.0
    by_login(auth, answer(200, {"token": "jwt"}), sample("me/ok.200")).run()


def test_failure_of_a_login_is_told_each_caller_by_an_error_of_its_own() -> None:
    auth = login_settings().make_auth()
    assert isinstance(auth, LoginAuth)
    errors = []
    for _ in range(2):
        with pytest.raises(exc.ServiceUnavailable, match="the login") as caught:
            by_login(auth, answer(503), budget=Budget(attempts=1, seconds=0.0)).run()
        errors.append(caught.value)
    assert errors[0] is not errors[1]


def test_login_that_is_abandoned_leaves_its_turn_to_others() -> None:
    auth = login_settings().make_auth()
    abandoned = converse(ME, login_settings(), auth, random=lambda: 0.5)
    next(abandoned)
    other = converse(ME, login_settings(), auth, random=lambda: 0.5)
    assert Pause(LOGIN_LOOK) == next(other)
    abandoned.close()
    assert isinstance(next(other), Request)


def test_call_survives_logins_elsewhere_that_end_its_token() -> None:
    now = [0.0]
    auth = logged_in(lambda: now[0])
    now[0] = 100.0
    conversation = by_login(auth, EXPIRED, answer(200, {"token": "jwt-2"}), sample("me/ok.200"))
    conversation.run()
    assert ["JWT old", None, "JWT jwt-2"] == signatures(conversation)
    endless = by_login(auth, *[EXPIRED, answer(200, {"token": "t"})] * 9)
    with pytest.raises(exc.AuthenticationFailed, match=r"came from a login; .* auth_scheme UAT"):
        endless.run()
    assert len(endless.requests) <= 8


def test_tokens_of_logins_are_registered_and_hidden() -> None:
    registered: list[str] = []
    auth = login_settings().make_auth(register=registered.append)
    assert isinstance(auth, LoginAuth)
    by_login(auth, answer(200, {"token": "jwt-marked-1"}), sample("me/ok.200")).run()
    by_login(auth, EXPIRED, answer(200, {"token": "jwt-marked-2"}), sample("me/ok.200")).run()
    assert ["jwt-marked-1", "jwt-marked-2"] == registered
    assert "*** *** ***" == auth.hide("marked-password jwt-marked-1 jwt-marked-2")


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
        auth.succeed("jwt-secret")
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


@pytest.mark.parametrize("shown", [0, 5, 12, 39, 40])
def test_secret_at_the_cut_of_a_long_page_is_masked(shown: int) -> None:
    token = "marked-" + "0123456789" * 3 + "end"
    using = read_settings(host="https://scantrust.test", password=token)
    head = b"<html><style>" + b"x" * 3_000 + b"</style>"
    body = head + b" " * (EXCERPT * 16 - len(head) - shown) + token.encode() + b"<p>" * 100
    with pytest.raises(exc.ServiceUnavailable) as caught:
        talk(ME, answer(500, body), using=using, budget=Budget(attempts=1)).run()
    assert token[:5] not in str(caught.value)


def test_secret_is_masked_as_html_and_urls_write_it() -> None:
    auth = read_settings(password="marked+<4711>&'\"/=").make_auth()
    written = "marked+&lt;4711&gt;&amp;&#x27;&quot;/= marked%2B%3C4711%3E%26%27%22%2F%3D"
    assert "*** ***" == auth.hide(written)


def test_secrets_are_in_no_repr() -> None:
    for using in (settings(), login_settings()):
        auth = using.make_auth()
        conversation = converse(ME, using, auth, random=lambda: 0.5)
        request = next(conversation)
        text = repr((using, auth, request))
        assert TOKEN not in text
        assert "marked-password" not in text


@pytest.mark.parametrize(
    "body",
    [
        b"<html>\r\n<head><title>400 The plain HTTP request was sent to HTTPS port</title></head>",
        b"Client sent an HTTP request to an HTTPS server.\n",
        b"Reason: You're speaking plain HTTP to an SSL-enabled server port.<br />",
    ],
)
def test_plain_http_to_a_port_for_tls_is_a_wrong_connection(body: bytes) -> None:
    using = read_settings(host="http://127.0.0.1:8443", password=TOKEN)
    conversation = talk(UPLOAD, answer(400, body), using=using)
    with pytest.raises(exc.ConfigurationError, match=r"Write https://127\.0\.0\.1:8443"):
        conversation.run()
    assert 1 == len(conversation.requests)


def test_tls_to_a_port_without_it_is_a_wrong_connection() -> None:
    conversation = talk(ME, Fault(FaultKind.SPEAKS_NO_TLS, "WRONG_VERSION_NUMBER"))
    with pytest.raises(exc.ConfigurationError, match=r"write http://scantrust\.test"):
        conversation.run()
    assert 1 == len(conversation.requests)


def test_page_of_a_gateway_is_one_line_of_its_words() -> None:
    page = (
        b"<html>\r\n<head><title>502 Bad Gateway</title><style>a { b: c }</style></head>\r\n<body>\r\n"
        b"<center><h1>502 Bad Gateway</h1></center><hr><center>nginx&nbsp;1.25</center></body></html>"
    )
    conversation = talk(UPLOAD, answer(502, page), using=settings(retry_attempts=1))
    with pytest.raises(exc.ServiceUnavailable, match=r"an HTML page: 502 Bad Gateway nginx 1\.25"):
        conversation.run()


def test_refusal_that_quotes_words_about_plain_http_is_about_the_rows() -> None:
    using = read_settings(host="http://127.0.0.1:8443", password=TOKEN)
    conversation = talk(UPLOAD, answer(400, {"url": ["plain HTTP is not allowed"]}), using=using)
    with pytest.raises(exc.RequestRejected):
        conversation.run()
