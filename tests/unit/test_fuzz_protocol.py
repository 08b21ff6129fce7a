"""Any answer and any connection give data, or one typed error that can be shown and stored."""

from __future__ import annotations

import ipaddress
import json
from typing import Any
from urllib.parse import urlsplit

import pytest
import requests
import yarl
from hypothesis import given
from hypothesis import strategies as st

from airflow_provider_scantrust import exceptions as exc
from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.answers import read_answer, read_retry_after
from airflow_provider_scantrust.api.extras import EXTRAS
from airflow_provider_scantrust.api.flow import converse
from airflow_provider_scantrust.api.inputs import read_task_ids
from airflow_provider_scantrust.api.messages import Answer, Endpoint
from airflow_provider_scantrust.api.models import Task, UploadResult
from airflow_provider_scantrust.api.settings import read_settings
from steps import TOKEN, Talk, settings

UPLOAD = endpoints.upload_scm_data([{"extended_id": "A", "lot_number": "L"}], "extended_id")
SUBMIT = endpoints.upload_scm_data_async({"lot_number": "L-1"}, {"market": "FR"})
STATUS = endpoints.get_scm_task("t-1")
ME = endpoints.get_me()

# Longer than any of them has a reason to be; events and XComs hold them.
LONGEST_ERROR = 5_000
BIG = "9" * 4_000

# Values

odd_text = st.sampled_from(
    ["", " ", "\0", "\ud800", "\r\nSet-Cookie: a=b", "\x1b[31m", "\u202e", "x" * 100_000, "NaN", "-1", BIG]
) | st.text(max_size=20)
odd_number = (
    st.sampled_from([0, -1, -0.0, 1e308, 2**63, -(2**63), int(BIG), True]) | st.integers() | st.floats()
)
odd_json = st.recursive(
    st.none() | odd_number | odd_text,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(odd_text, inner, max_size=3),
    max_leaves=6,
)
answer_names = st.sampled_from(
    [
        "task_id",
        "taskId",
        "state",
        "items",
        "codes_affected",
        "codesAffected",
        "total_updates",
        "reference",
        "created_by",
        "created_at",
        "completed_at",
        "detail",
        "code",
        "email",
        "username",
        "id",
    ]
)
task_states = st.sampled_from(["pending", "in-progress", "complete", "failed"])
answer_json = st.dictionaries(answer_names, odd_json | task_states, max_size=6)


def spell(value: Any) -> bytes:
    """Return JSON with what json.dumps refuses as well: NaN, lone surrogates as they are."""
    return json.dumps(value, ensure_ascii=False).encode(errors="surrogatepass")


def with_a_name_twice(pair: tuple[str, Any, Any]) -> bytes:
    name, *values = pair
    return b"{" + b", ".join(spell(name) + b": " + spell(value) for value in values) + b"}"


RIGHT: dict[str, Any] = {
    "upload": {"total_updates": 1, "changes": [], "items": {"A": ["lot_number"]}, "codes_affected": 1},
    "submit": {"task_id": "0f3c"},
    "task": {
        "id": "t-1",
        "reference": "SCM-1",
        "state": "complete",
        "codes_affected": 3,
        "created_by": "jane",
        "created_at": "2026-11-01T08:00:00Z",
    },
    "me": {"email": "jane@x.test"},
    "refusal": {"lot_number": ["Too long."], "detail": "No."},
}


@st.composite
def nearly_right(draw: st.DrawFn) -> bytes:
    """A right answer with one thing in it that is not."""
    right = dict(draw(st.sampled_from(list(RIGHT.values()))))
    name = draw(st.sampled_from(list(right)))
    if name == "items" and draw(st.booleans()):
        right["items"] = {draw(odd_text): draw(odd_json)}
    elif draw(st.integers(0, 3)):
        right[name] = draw(odd_json)
    else:
        right[draw(odd_text)] = right.pop(name)
    return spell(right)


bodies = st.one_of(
    st.binary(max_size=100),
    nearly_right(),
    (odd_json | answer_json).map(spell),
    nearly_right().map(lambda body: body[: len(body) // 2]),
    st.tuples(answer_names, odd_json, odd_json).map(with_a_name_twice),
)
LONG = b"x" * 1_000_000
HOSTILE = [
    b"",
    b"[" * 200_000,
    b'{"state":' * 50_000 + b"1" + b"}" * 50_000,
    b'{"detail": ' + b"[" * 900 + b"]" * 900 + b"}",
    b'{"codes_affected": ' + b"9" * 5_000 + b', "items": {}}',
    b'{"codes_affected": ' + BIG.encode() + b', "items": {}, "total_updates": 1e400, "state": "complete"}',
    b'{"items": {"' + LONG + b'": 1}, "codes_affected": 1}',
    b'{"' + LONG + b'": "m"}',
    b'{"lot": "' + LONG + b'"}',
    b'{"state": "'
    + LONG
    + b'", "reference": "'
    + LONG
    + b'", "created_at": "'
    + LONG
    + b'", "email": "'
    + LONG
    + b'"}',
    b'{"state": "a\\r\\nb", "reference": "\\ud800\\r\\n", "email": "\\ud800\\u0000\\u001b[31m", "lot": ["\\ud800"]}',
    b'{"\\ud800\\r\\n": ["no"]}',
    b'{"task_id": "' + LONG + b'"}',
    b'{"task_id": NaN, "codes_affected": NaN, "items": {}, "state": NaN, "detail": NaN, "email": NaN}',
    b'{"codes_affected": -Infinity, "items": {}, "email": -Infinity, "state": "complete"}',
    b'{"codes_affected": -1, "items": {}, "state": "complete"}',
    b"\xff\xfe{\0}\0",
    b"\xef\xbb\xbf{}",
    b"\x1f\x8b\x08\0",
    b"<html>" + LONG,
]
times = st.sampled_from(
    [
        "0",
        "1",
        "-5",
        "1.5",
        "1e9",
        "99999999999999999999",
        "٣",
        "soon",
        "Wed,_21_Oct_2065_07:28:00_GMT",
        "Wed,_99_Oct_9999_99:99:99_GMT",
        "Mon,_01_Jan_0001_00:00:00_+2359",
        "3,_5",
        "0x10",
        "½",
    ]
).map(lambda text: text.replace("_", " "))
headers = st.fixed_dictionaries(
    {},
    optional={
        "retry-after": times | st.text(max_size=12),
        "date": times | st.text(max_size=12),
        "location": st.sampled_from(
            [
                "http://[",
                "//evil.test",
                "\\\\evil.test",
                "/\r\nX: y",
                "https://u:p@scantrust.test/",
                "http://a:b",
            ]
        )
        | st.text(max_size=12),
        "content-type": st.sampled_from(
            ["text/html; charset=utf-7", "application/json; charset=nonsense", ""]
        ),
    },
)
statuses = st.sampled_from(
    [200, 201, 204, 301, 307, 400, 401, 403, 404, 413, 429, 500, 502, 503, 504]
) | st.integers(0, 999)


def check_shown(text: str) -> None:
    assert len(text) < LONGEST_ERROR
    text.encode()
    assert text.isprintable()


def check_error(error: exc.ScantrustError) -> None:
    assert type(error) is not exc.ScantrustError
    check_shown(str(error))
    check_shown(error.excerpt or "")
    stored = json.dumps(error.as_dict(), allow_nan=False)
    assert len(stored) < 400_000
    again = exc.from_dict(json.loads(stored))
    assert (type(error), str(error), error.fields) == (type(again), str(again), again.fields)


def check_result(result: Any) -> None:
    """What is read can be counted, shown and kept."""
    if isinstance(result, Task):
        check_shown(result.describe())
        assert result.codes_affected is None or 0 <= result.codes_affected < 10**18
    elif isinstance(result, UploadResult):
        assert 0 <= result.codes_affected < 10**18
        assert 0 <= result.total_updates < 10**18
    else:
        check_shown(result)


@pytest.mark.parametrize("status", [200, 307, 400, 401, 404, 429, 503])
@pytest.mark.parametrize("body", HOSTILE, ids=lambda body: repr(body[:30]))
def test_hostile_answer_is_data_or_a_typed_error(status: int, body: bytes) -> None:
    for endpoint in (UPLOAD, SUBMIT, STATUS, ME):
        check_answer(endpoint, status, {"location": "/" + "x" * 100_000, "retry-after": BIG}, body)


@given(endpoint=st.sampled_from([UPLOAD, SUBMIT, STATUS, ME]), status=statuses, headers=headers, body=bodies)
def test_any_answer_is_data_or_a_typed_error(
    endpoint: Endpoint[Any], status: int, headers: dict[str, str], body: bytes
) -> None:
    check_answer(endpoint, status, headers, body)


def check_answer(endpoint: Endpoint[Any], status: int, headers: dict[str, str], body: bytes) -> None:
    reply = Answer(status, headers, body, 0.0, 0.0)
    try:
        check_result(read_answer(reply, endpoint))
    except exc.ScantrustError as error:
        check_error(error)
    seconds = read_retry_after(reply)
    assert seconds is None or 0 <= seconds <= 86_400


@given(
    endpoint=st.sampled_from([UPLOAD, SUBMIT, STATUS, ME]),
    replies=st.lists(
        st.builds(Answer, statuses, headers, bodies, st.just(1.0), st.just(0.0)), min_size=1, max_size=6
    ),
)
def test_any_conversation_ends_within_its_budget_and_keeps_the_token(
    endpoint: Endpoint[Any], replies: list[Answer]
) -> None:
    connection = settings(retry_attempts=3, retry_seconds=60)
    talk = Talk(converse(endpoint, connection, connection.make_auth(), random=lambda: 0.5), replies)
    try:
        check_result(talk.run())
    except exc.ScantrustError as error:
        check_error(error)
        assert TOKEN not in str(error.as_dict())  # noqa: PT017 - any raise is fine, this is more
    assert sum(talk.pauses) <= 60
    assert {"https://scantrust.test"} == {request.url[:22] for request in talk.requests}
    for text in talk.notices:
        check_shown(text)


# Connections

ODD_HOSTS = [
    "https://good.test\\.evil.test",
    "https://good.test\\@evil.test",
    "https://evil.test#@good.test",
    "https://good.test:80:90",
    "https://good.test:0",
    "https://good.test:-1",
    "https://good.test:٨",
    "https://:443",
    "https://",
    "://x",
    "https://[::1",
    "https://[::1%25eth0]",
    "https://[v1.x]",
    "https://[::ffff:127.0.0.1]:8443/x",
    "https://[2001:DB8::1]",
    "https://münchen.test",
    "https://xn--mnchen-3ya.test",
    "https://good..test",
    "https://-.test",
    "https://good.test.",
    "https://a%2eb.test",
    "https://good.test/a/../b",
    "https://good.test/./",
    "https://good.test//x//",
    "https://good.test/a?",
    "https://good.test/%0d%0aX",
    "good.test\r\nX-Evil: 1",
    "good.test\0",
    "good.test\t",
    "user:secret-4711@good.test",
    "https://user:se/cret-4711@good.test",
    "https://secret-4711",
    "https://good.test:secret-4711",
    "http://127.0.0.1",
    "http://localhost:1",
    "http://127.1",
    "http://127.0.0.1.evil.test",
    "http://0x7f.1",
    "javascript:alert(1)",
    "1.2.3.4",
]
hosts = st.one_of(
    st.sampled_from(ODD_HOSTS),
    st.from_regex(r"(https?://)?[a-z0-9.@:%\[\]\\/?# -]{0,20}", fullmatch=True),
    st.text(max_size=30),
)
ODD_VALUES: list[Any] = [
    *(0, 1, -1, 1.5, 10**400, float("nan"), float("inf"), True, False, None, [], {}, ["UAT"], {"a": []}),
    *(
        "",
        " ",
        "UAT marked-token",
        "//evil.test/",
        "/a/../b/",
        "https://evil.test/",
        "\\\\evil.test",
        "x\r\nX: y",
    ),
    *(
        "javascript:alert(1)",
        "https://portal.test/",
        "\0",
        "\ud800",
        "ä",
        "x" * 100_000,
        "1e400",
        "nan",
        "٣",
        "30",
    ),
]
extras = st.dictionaries(
    st.sampled_from(sorted(EXTRAS)) | odd_text,
    odd_json | st.sampled_from([*ODD_VALUES, "login", "JWT", "/login/", "true"]),
    max_size=5,
)
secrets = st.sampled_from(
    [
        "marked-token-4711",
        "marked-token\r\nX: y",
        "marked\0token",
        "märkedtoken",
        "marked\ud800token",
        "marked token",
        "",
        " ",
    ]
) | st.text(max_size=12)


ODD_CONNECTIONS: list[dict[str, Any]] = [
    *({"host": host} for host in ODD_HOSTS),
    *(
        {"host": "good.test", "schema": schema}
        for schema in ("https://evil.test/?", "ftp", "http://127.0.0.1", "s:")
    ),
    *({"host": "good.test", "port": port} for port in (-1, 0, 65_536, 10**20)),
    *({"extra": {name: value}} for name in sorted(EXTRAS) for value in ODD_VALUES),
    *(
        {"extra": {"auth_scheme": "login", "login_endpoint": value}}
        for value in (*ODD_VALUES, "a/b/", "/x?a=1")
    ),
    *({"password": f"marked{odd}token-4711"} for odd in ("\r\n", "\0", "ä", "\ud800", " ", "\u2028")),
    {"password": "marked\ud800token-4711", "extra": {"auth_scheme": "login", "login_endpoint": "/login/"}},
    {"extra": {"auth_scheme": "UAT marked-token-4711"}},
    {"login": "\ud800", "extra": {"auth_scheme": "login", "login_endpoint": "/login/"}},
]


@pytest.mark.parametrize(
    "fields", ODD_CONNECTIONS, ids=lambda fields: repr(fields)[:60].encode("ascii", "replace").decode()
)
def test_odd_connection_works_or_is_refused_by_name(fields: dict[str, Any]) -> None:
    check_connection({"login": "jane", "password": "marked-token-4711", **fields})


@given(
    host=st.none() | hosts,
    schema=st.none()
    | st.sampled_from(["http", "https", "HTTPS", "https://evil.test/?", "ftp", ""])
    | st.text(max_size=5),
    port=st.none() | st.integers(-1, 70_000),
    login=st.none() | odd_text,
    password=st.none() | secrets,
    extra=extras,
)
def test_any_connection_works_or_is_refused_by_name(**fields: Any) -> None:
    check_connection(fields)


def check_connection(fields: dict[str, Any]) -> None:
    try:
        connection = read_settings(**fields)
    except exc.ConfigurationError as error:
        check_shown(str(error))
        assert "4711" not in str(error)  # noqa: PT017 - any raise is fine, this is more
        return
    check_shown(repr(connection))
    for name in connection.ignored:
        check_shown(name)
    auth = connection.make_auth()
    request = next(converse(SUBMIT, connection, auth, random=lambda: 0.5))
    assert isinstance(request.url, str)  # type: ignore[union-attr]
    check_alike(request.url)  # type: ignore[union-attr]
    for value in request.headers.values():  # type: ignore[union-attr]
        assert all(32 <= ord(letter) < 127 for letter in value)


def check_alike(url: str) -> None:
    """All three readers of a URL find the same host, port and path in it, so that both transports go to one place."""
    parts = urlsplit(url)
    prepared = urlsplit(requests.Request("POST", url).prepare().url or "")
    other = yarl.URL(url)
    port = parts.port or (443 if parts.scheme == "https" else 80)
    there = [(parts.hostname, port), (prepared.hostname, prepared.port or port), (other.raw_host, other.port)]
    assert 1 == len({(read_ip(host or ""), port) for host, port in there})
    assert prepared.path == other.raw_path


def read_ip(host: str) -> object:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return host


@given(hosts)
def test_plain_http_needs_this_machine_or_a_word(host: str) -> None:
    try:
        connection = read_settings(host=host, password="marked-token-4711")
    except exc.ConfigurationError:
        return
    parts = urlsplit(connection.base_url)
    assert "https" == parts.scheme or parts.hostname in ("localhost", "127.0.0.1", "::1")


# Task ids

PATHS = [
    "../me",
    "..",
    ".",
    "a/b?x=1",
    "a/../../me",
    "%2e%2e",
    "%2e%2e%2fme",
    "..%2fme",
    "a\\b",
    "a#b",
    "a;b",
    "a\r\nHost: evil.test",
    "a\0",
    "",
    " ",
    "ä",
    "\ud800",
    "a b",
    "//evil.test",
    "@evil.test",
    "x" * 100_000,
]


@given(st.sampled_from(PATHS) | st.text(max_size=30) | odd_json)
def test_task_id_cannot_leave_its_path(task_id: Any) -> None:
    try:
        endpoint = endpoints.get_scm_task(task_id)
    except exc.InvalidInput as error:
        check_shown(str(error))
        return
    url = f"https://scantrust.test{endpoint.path}"
    parts = urlsplit(url)
    assert f"/api/v2/scm/tasks/{task_id.strip()}/" == parts.path == yarl.URL(url).path
    assert url == requests.Request("GET", url).prepare().url
    assert ("", "") == (parts.query, parts.fragment)


@pytest.mark.parametrize("task_id", PATHS)
def test_submit_that_answers_with_a_path_is_not_understood(task_id: str) -> None:
    reply = Answer(200, {}, spell({"task_id": task_id}), 0.0, 0.0)
    with pytest.raises(exc.UnreadableAnswer, match="may still have been submitted"):
        read_answer(reply, SUBMIT)


@given(st.sampled_from([str(PATHS), "[" * 100_000 + "]" * 100_000, "[1, 2]", "['a', ['b']]"]) | odd_json)
def test_any_value_of_the_sensor_is_ids_or_refused(value: Any) -> None:
    try:
        found = read_task_ids(value)
    except exc.InvalidInput as error:
        assert len(str(error)) < LONGEST_ERROR  # noqa: PT017 - any raise is fine, this is more
        return
    assert all(isinstance(task_id, str) for task_id in found)
