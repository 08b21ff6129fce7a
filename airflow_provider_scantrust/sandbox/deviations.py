"""
The assumptions that can be reversed, to test that a check of assumptions sees the difference.

Each has a name, for `Settings.deviations`, and describes what it changes. `line` is the id of the line on the
page "Fidelity" that describes the normal behavior.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

from airflow_provider_scantrust.sandbox import reversals as do
from airflow_provider_scantrust.sandbox.reversals import Change

TASK_PATH = "/api/v2/scm/tasks/<id>/"
# The public client writes two slashes, and none at the end.
PATHS: dict[str, tuple[str, ...]] = {
    "upload": ("/api/v2/scm/upload/",),
    "submit": ("/api/v2/scm/upload/async/",),
    "task": (TASK_PATH, "/api/v2/scm/tasks//<id>/"),
    "me": ("/api/v2/me/",),
    "login": ("/api/v2/auth/login/",),
}


@dataclass(frozen=True)
class Deviation:
    """One reversed assumption: other paths, a change `before` a body is read, or a change `after` any answer."""

    line: str
    changes: str
    before: Change | None = None
    after: Change | None = None
    paths: Mapping[str, str] = field(default_factory=dict)


def paths_of(call: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of a call with these deviations."""
    moved = [DEVIATIONS[name].paths[call] for name in names if call in DEVIATIONS[name].paths]
    return tuple(moved) or PATHS[call]


def _path(line: str, call: str, path: str) -> Deviation:
    return Deviation(line, f"{call}: {path}", paths={call: path})


def _before(line: str, changes: str, change: Change) -> Deviation:
    return Deviation(line, changes, before=change)


def _after(line: str, changes: str, change: Change) -> Deviation:
    return Deviation(line, changes, after=change)


# In the order in which they act.
DEVIATIONS: dict[str, Deviation] = {
    "upload_path": _path("upload-path", "upload", "/api/v2/scm/uploads/"),
    "submit_path": _path("submit-path", "submit", "/api/v2/scm/jobs/"),
    "task_path": _path("task-path", "task", "/api/v2/scm/jobs/<id>/status/"),
    "client_task_path": _path("task-path-client", "task", TASK_PATH),
    "me_path": _path("me-path", "me", "/api/v2/users/me/"),
    "no_redirect": _after("slash", "a path without its last slash: 404", do.no_redirect),
    # Requests
    "key_required": _before("key-default", "an upload without data_key: 400", do.no_key_default),
    "scm_key_refused": _before("key-any", "an SCM field as data_key: 400", do.no_scm_key),
    "unknown_field_refused": _before(
        "field-unknown", "a field that no campaign has: 400", do.refuse(do.is_unknown_field)
    ),
    "dates_refused": _before("dates", "a date other than YYYY-MM-DD: 400", do.refuse(do.is_odd_date)),
    "empty_refused": _before("clear", '"" as a value: 400', do.refuse(do.is_empty)),
    "sync_numbers_refused": _before(
        "numbers-sync", "a number in an item: 400", do.refuse(do.is_number, "upload")
    ),
    "async_numbers_refused": _before(
        "numbers-async", "a number in scm_data: 400", do.refuse(do.is_number, "submit")
    ),
    "null_refused": _before("null-discarded", "a null in any field: 400", do.refuse(do.is_null)),
    "null_accepted": _before("null", "a null leaves its field alone", do.drop(do.is_null)),
    "product_unchecked": _before("product-unknown", "any product is taken", do.drop(do.is_product)),
    "special_unchecked": _before(
        "special-values", "impossible values are left out", do.drop(do.is_odd_special)
    ),
    "id_lists_refused": _before("ids-list", "a list of extended_ids: 400", do.no_id_lists),
    "lists_accepted": _before("other-list", "a list in any constraint is taken", do.any_lists),
    "one_constraint": _before("constraints-all", "only the first constraint counts", do.first_constraint),
    # Answers to uploads
    "unmatched_in_items": _after(
        "items-unmatched",
        "a key that matched nothing is in items, with []",
        do.on("upload", do.unmatched_in_items),
    ),
    "same_not_counted": _after(
        "same-value", "a value that was uploaded before is no update", do.on("upload", do.same_not_counted)
    ),
    "counted_per_item": _after(
        "code-once", "codes_affected counts items", do.on("upload", do.counted_per_item)
    ),
    "discarded_not_in_items": _after(
        "all-discarded",
        "a key with nothing updated is not in items",
        do.on("upload", do.discarded_not_in_items),
    ),
    "changes_listed": _after("changes", "changes lists the updates", do.on("upload", do.changes_listed)),
    "values_in_items": _after(
        "items-fields", "items has an object for each key", do.on("upload", do.values_in_items)
    ),
    "unknown_key_accepted": _after(
        "key-unknown", "an unknown data_key matches nothing", do.accept("data_key")
    ),
    "no_items_accepted": _after("no-items", "an upload without items: 200", do.accept("items")),
    "camel_case_upload": _after(
        "upload-answer", "codesAffected, totalUpdates", do.on("upload", do.camel_case)
    ),
    # Jobs
    "other_task_id": _after(
        "submit-answer", "the id of a job is under id", do.on("submit", do.other_task_id)
    ),
    "codes_affected_text": _after(
        "task-codes",
        "codes_affected of a job is text",
        do.task_value(lambda codes: codes if codes is None else str(codes), "codes_affected"),
    ),
    "codes_affected_zero": _after(
        "task-codes-null",
        "codes_affected of an open job is 0",
        do.task_value(lambda codes: codes or 0, "codes_affected"),
    ),
    "created_by_text": _after(
        "task-created-by", "created_by is text", do.task_value(lambda user: f"user-{user}", "created_by")
    ),
    "times_in_seconds": _after(
        "task-times",
        "times are seconds since 1970",
        do.task_value(do.seconds, "created_at", "started_at", "completed_at"),
    ),
    "other_states": _after(
        "task-states", "queued, processing, finished, aborted", do.task_value(do.other_words, "state")
    ),
    "no_reference": _after("task-fields", "a job has no reference", do.on("task", do.no_reference)),
    "camel_case_keys": _after("task-keys", "codesAffected, createdAt, …", do.on("task", do.camel_case)),
    "unknown_task_found": _after("task-unknown", "an unknown job: 200", do.unknown_task),
    # Access, limits, HTTP
    "login_ends_others": Deviation("jwt-others", "a login ends the user's earlier JWTs"),
    "me_nested": _after("me-answer", "the answer is under user", do.on("me", do.nested)),
    "forbidden_403": _after("unauthenticated", "no valid token: 403", do.status(401, 403)),
    "no_www_authenticate": _after(
        "www-authenticate", "no WWW-Authenticate", do.no_header("WWW-Authenticate")
    ),
    "no_retry_after": _after("retry-after", "no Retry-After", do.no_header("Retry-After")),
    "other_throttle_body": _after("throttle-body", "a 429 names no seconds", do.throttle_body),
    "error_list": _after("error-body", "a 400 has a list of errors", do.error_list),
    "broken_json_500": _after("json", "malformed JSON: 500", do.broken_json),
    "media_type_400": _after("media-type", "another media type: 400", do.status(415, 400)),
    "wrong_method_404": _after("method", "a wrong method: 404", do.status(405, 404)),
    "no_head": _after("head", "HEAD: 405", do.no_method("HEAD")),
    "no_options": _after("options", "OPTIONS: 405", do.no_method("OPTIONS")),
    "html_if_accepted": _after("accept", "a page, if Accept asks for one", do.html_if_accepted),
    "html_404": _after("unknown-path", "an unknown path: 404 with a page", do.html_404),
}
