"""Check assumptions without a write: the upload calls here have nothing that Scantrust could store."""

from __future__ import annotations

import secrets
from urllib.parse import urlsplit
from uuid import uuid4

from airflow_provider_scantrust.api.extras import SCANTRUST
from airflow_provider_scantrust.cli.check import check_access
from airflow_provider_scantrust.cli.verify.survey import Seen, Survey
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

_BROKEN = b'{"items": '


def look(survey: Survey) -> None:
    """
    Make the calls that write nothing.

    :raises ScantrustError: The connection does not work, so no answer would say anything about an assumption.
    """
    me = survey.call("me", "GET", survey.hook.settings.dialect.me_path)
    if not me.is_missing and (me.status != 200 or not me.is_json):
        check_access(survey.hook)
    survey.judge_path("me-path", "me_path", not me.is_missing)
    if me.status == 200:
        _look_at_me(survey, me)
    unknown = survey.call("unknown_path", "GET", f"/api/v2/verify-{secrets.token_hex(4)}/")
    survey.judge("unknown-path", unknown.status == 404 and unknown.is_json, describe(unknown))
    _look_at_uploads(survey)
    unknown = survey.call(
        "task_unknown", "GET", survey.hook.settings.dialect.task_path.replace("{task_id}", str(uuid4()))
    )
    survey.judge("task-unknown", unknown.status == 404, describe(unknown))


def judge_errors(survey: Survey) -> None:
    """Look at the bodies of all refusals."""
    refused = [seen for seen in survey.seen if seen.status == 400]
    for seen in refused:
        is_object = isinstance(seen.body, dict) and all(map(_is_messages, seen.body.values()))
        survey.judge("error-body", is_object, f"{seen.call}: {'as assumed' if is_object else 'another form'}")


def describe(seen: Seen) -> str:
    """Return an answer in a few words."""
    kind = seen.headers.get("content-type", "no content type").partition(";")[0]
    return f"{seen.status}, {kind}"


def _is_messages(value: object) -> bool:
    return isinstance(value, str) or (
        isinstance(value, list) and all(isinstance(each, str) for each in value)
    )


def _look_at_me(survey: Survey, me: Seen) -> None:
    path = me.path
    survey.judge(
        "me-answer", {"id", "email"} <= me.fields.keys(), f"names: {', '.join(sorted(me.fields)) or 'none'}"
    )
    anonymous = survey.call("no_credentials", "GET", path, signed=False)
    survey.judge("unauthenticated", anonymous.status == 401, describe(anonymous))
    if anonymous.status in (401, 403):
        has_header = "www-authenticate" in anonymous.headers
        survey.judge("www-authenticate", has_header, "there" if has_header else "not there")
    bare = survey.call("no_slash", "GET", f"{path.rstrip('/')}?verify=1")
    to = urlsplit(bare.headers.get("location", ""))
    is_same = to.path.endswith(path) and to.query == "verify=1"
    survey.judge("slash", bare.status == 301 and is_same, describe(bare))
    page = survey.call("accept", "GET", path, headers={"Accept": "text/html"})
    survey.judge("accept", page.status == 200 and page.is_json, describe(page))
    head = survey.call("head", "HEAD", path)
    survey.judge("head", head.status == 200 and not head.body, describe(head))
    options = survey.call("options", "OPTIONS", path)
    survey.judge("options", options.status == 200, describe(options))


def _look_at_uploads(survey: Survey) -> None:
    dialect = survey.hook.settings.dialect
    broken = survey.call("broken_json", "POST", dialect.upload_path, content=_BROKEN)
    survey.judge_path("upload-path", "upload_path", not broken.is_missing and broken.status != 405)
    submit = survey.call("submit_broken_json", "POST", dialect.upload_async_path, content=_BROKEN)
    survey.judge_path("submit-path", "upload_async_path", not submit.is_missing and submit.status != 405)
    if broken.is_missing:
        return
    survey.judge("json", broken.status == 400, describe(broken))
    wrong = survey.call("wrong_method", "GET", dialect.upload_path)
    survey.judge("method", wrong.status == 405, describe(wrong))
    text = survey.call(
        "not_json", "POST", dialect.upload_path, content=b"no items", headers={"Content-Type": "text/plain"}
    )
    survey.judge("media-type", text.status == 415, describe(text))
    none = survey.call(
        "no_items", "POST", dialect.upload_path, json_body={"data_key": "extended_id", "items": []}
    )
    survey.judge("no-items", none.status == 400, describe(none))


def look_at_logins(survey: Survey) -> None:
    """Log in once more. This is the last call, because it may end the login of all others."""
    if survey.hook.settings.auth_scheme != "login" or not survey.seen or survey.seen[0].status != 200:
        return
    # A new hook logs in as the same user and gets its own token.
    ScantrustHook(survey.hook.scantrust_conn_id).get_conn()
    again = survey.call("me_after_login", "GET", survey.hook.settings.dialect.me_path)
    survey.judge("jwt-others", again.status == 200, describe(again))


def default_task_paths() -> tuple[str, ...]:
    """Return where the status of a job may be, the assumed path first."""
    usual = SCANTRUST.task_path
    return usual, usual.rstrip("/"), usual.replace("/{task_id}/", "//{task_id}")
