"""The assumptions that can be reversed by name, to test that a check of assumptions sees the difference."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, NamedTuple

from airflow_provider_scantrust.sandbox.errors import Refused
from airflow_provider_scantrust.sandbox.store import SPECIAL

TASK_PATH = "/api/v2/scm/tasks/<id>/"
# The public client writes two slashes, and none at the end.
PATHS: dict[str, tuple[str, ...]] = {
    "upload": ("/api/v2/scm/upload/",),
    "submit": ("/api/v2/scm/upload/async/",),
    "task": (TASK_PATH, "/api/v2/scm/tasks//<id>/"),
    "me": ("/api/v2/me/",),
    "login": ("/api/v2/auth/login/",),
}
MOVED = {
    "upload_path": ("upload", "/api/v2/scm/uploads/"),
    "submit_path": ("submit", "/api/v2/scm/jobs/"),
    "task_path": ("task", "/api/v2/scm/jobs/<id>/status/"),
    "client_task_path": ("task", TASK_PATH),
    "me_path": ("me", "/api/v2/users/me/"),
}


class Deviation(NamedTuple):
    """A reversed assumption; `line` is the id of the line on the page "Fidelity" with the normal behavior."""

    line: str
    changes: str


DEVIATIONS: dict[str, Deviation] = {
    "upload_path": Deviation("upload-path", "upload: /api/v2/scm/uploads/"),
    "submit_path": Deviation("submit-path", "submit: /api/v2/scm/jobs/"),
    "task_path": Deviation("task-path", "task: /api/v2/scm/jobs/<id>/status/"),
    "client_task_path": Deviation("task-path-client", "task: /api/v2/scm/tasks/<id>/ only"),
    "me_path": Deviation("me-path", "me: /api/v2/users/me/"),
    "no_redirect": Deviation("slash", "a path without its last slash: 404"),
    # Requests
    "key_required": Deviation("key-default", "an upload without data_key: 400"),
    "scm_key_refused": Deviation("key-any", "an SCM field as data_key: 400"),
    "unknown_field_refused": Deviation("field-unknown", "a field that no campaign has: 400"),
    "dates_refused": Deviation("dates", "a date other than YYYY-MM-DD: 400"),
    "empty_refused": Deviation("clear", '"" as a value: 400'),
    "sync_numbers_refused": Deviation("numbers-sync", "a number in an item: 400"),
    "async_numbers_refused": Deviation("numbers-async", "a number in scm_data: 400"),
    "null_refused": Deviation("null-discarded", "a null in any field: 400"),
    "null_accepted": Deviation("null", "a null leaves its field unchanged"),
    "product_unchecked": Deviation("product-unknown", "any product is accepted"),
    "special_unchecked": Deviation("special-values", "impossible values are ignored"),
    "id_lists_refused": Deviation("ids-list", "a list of extended_ids: 400"),
    "lists_accepted": Deviation("other-list", "a list in any constraint is accepted"),
    "one_constraint": Deviation("constraints-all", "only the first constraint counts"),
    # Answers to uploads
    "unmatched_in_items": Deviation("items-unmatched", "a key that matched nothing is in items, with []"),
    "same_not_counted": Deviation("same-value", "a value that was uploaded before is no update"),
    "counted_per_item": Deviation("code-once", "codes_affected counts items"),
    "discarded_not_in_items": Deviation("all-discarded", "a key with nothing updated is not in items"),
    "changes_listed": Deviation("changes", "changes lists the updates"),
    "values_in_items": Deviation("items-fields", "items has an object for each key"),
    "unknown_key_accepted": Deviation("key-unknown", "an unknown data_key matches nothing"),
    "no_items_accepted": Deviation("no-items", "an upload without items: 200"),
    "camel_case_upload": Deviation("upload-answer", "codesAffected, totalUpdates"),
    # Jobs
    "other_task_id": Deviation("submit-answer", "the id of a job is under id"),
    "codes_affected_text": Deviation("task-codes", "codes_affected of a job is text"),
    "codes_affected_zero": Deviation("task-codes-null", "codes_affected of an open job is 0"),
    "created_by_text": Deviation("task-created-by", "created_by is text"),
    "times_in_seconds": Deviation("task-times", "times are seconds since 1970"),
    "other_states": Deviation("task-states", "queued, processing, finished, aborted"),
    "no_reference": Deviation("task-fields", "a job has no reference"),
    "camel_case_keys": Deviation("task-keys", "codesAffected, createdAt, …"),
    "unknown_task_found": Deviation("task-unknown", "an unknown job: 200"),
    # Access, limits, HTTP
    "login_ends_others": Deviation("jwt-others", "a login ends the user's earlier JWTs"),
    "me_nested": Deviation("me-answer", "the answer is under user"),
    "forbidden_403": Deviation("unauthenticated", "no valid token: 403"),
    "no_www_authenticate": Deviation("www-authenticate", "no WWW-Authenticate"),
    "no_retry_after": Deviation("retry-after", "no Retry-After"),
    "other_throttle_body": Deviation("throttle-body", "a 429 names no seconds"),
    "error_list": Deviation("error-body", "a 400 has a list of errors"),
    "broken_json_500": Deviation("json", "malformed JSON: 500"),
    "media_type_400": Deviation("media-type", "another media type: 400"),
    "wrong_method_404": Deviation("method", "a wrong method: 404"),
    "no_head": Deviation("head", "HEAD: 405"),
    "no_options": Deviation("options", "OPTIONS: 405"),
    "html_if_accepted": Deviation("accept", "HTML, if Accept asks for it"),
    "html_404": Deviation("unknown-path", "an unknown path: 404 with HTML"),
}
_PAGE = "<!doctype html>\n<html><body></body></html>\n"
_STATES = {"pending": "queued", "in-progress": "processing", "complete": "finished", "failed": "aborted"}


@dataclass
class Turn:
    """
    One request and its answer.

    :param deviations: The names of the active deviations.
    :param is_field: Whether a name is an SCM field of some campaign.
    :param uploaded: The values that sync uploads have written so far, by key and field.
    :param call: The name of the call in `PATHS` that answers; empty if none does.
    """

    method: str
    accept: str
    deviations: frozenset[str]
    is_field: Callable[[str], bool]
    uploaded: dict[tuple[str, str], Any]
    call: str = ""
    sent: Any = None
    status: int = 200
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def part(self, name: str, kind: type[Any]) -> Any:
        """Return a part of the body, or an empty one if it is not of this kind."""
        found = self.sent.get(name) if isinstance(self.sent, dict) else None
        return found if isinstance(found, kind) else kind()

    def key(self) -> str:
        return self.part("data_key", str) or "extended_id"


def paths_of(call: str, deviations: Iterable[str]) -> tuple[str, ...]:
    """Return the paths of a call with these deviations."""
    moved = [path for moves, path in (MOVED[name] for name in deviations if name in MOVED) if moves == call]
    return tuple(moved) or PATHS[call]


def change_request(turn: Turn) -> None:
    """
    Change the body of a request before it is read.

    :raises Refused: 400.
    """
    active, key, constraints = turn.deviations, turn.key(), turn.part("constraints", dict)
    if "key_required" in active and turn.call == "upload" and not turn.part("data_key", str):
        raise Refused(400, {"data_key": ["This field is required."]})
    if "scm_key_refused" in active and key not in ("extended_id", "serial_number"):
        raise Refused(400, {"data_key": [f'"{key}" is not a valid choice.']})
    refused = [_REFUSED[name] for name in active if name in _REFUSED]
    dropped = [_DROPPED[name] for name in active if name in _DROPPED]
    for place in [*turn.part("items", list), turn.part("scm_data", dict)]:
        for name, value in list(place.items()) if isinstance(place, dict) else []:
            if name != key and any(test(turn, name, value) for test in refused):
                raise Refused(400, {name: ["This value is not allowed."]})
            if name != key and any(test(turn, name, value) for test in dropped):
                del place[name]
    if "id_lists_refused" in active and isinstance(constraints.get("extended_id"), list):
        raise Refused(400, {"extended_id": ["Not a valid string."]})
    for number, (name, value) in enumerate(list(constraints.items())):
        if "lists_accepted" in active and isinstance(value, list) and value and name != "extended_id":
            constraints[name] = value[0]
        if "one_constraint" in active and number:
            del constraints[name]


def change_answer(turn: Turn) -> None:
    active, answer = turn.deviations, turn.answer
    if turn.status == 200:
        _change_200(turn, active)
    elif turn.status == 400:
        _change_400(turn, active)
    elif turn.status == 404:
        if "unknown_task_found" in active and turn.call == "task":
            _replace(turn, 200, {"id": None, "state": "unknown"})
        if "html_404" in active and not turn.call:
            _replace(turn, 404, _PAGE)
    elif turn.status == 301 and "no_redirect" in active:
        _replace(turn, 404, {"detail": "Not found."})
    elif turn.status == 401 and "forbidden_403" in active:
        _replace(turn, 403, answer)
    elif turn.status == 405 and "wrong_method_404" in active:
        _replace(turn, 404, answer)
    elif turn.status == 415 and "media_type_400" in active:
        _replace(turn, 400, answer)
    elif turn.status == 429 and "other_throttle_body" in active:
        turn.answer = {"error": "rate limit exceeded"}
    if "no_www_authenticate" in active:
        turn.headers.pop("WWW-Authenticate", None)
    if "no_retry_after" in active:
        turn.headers.pop("Retry-After", None)


def _replace(turn: Turn, status: int, answer: Any) -> None:
    turn.status, turn.answer = status, answer
    turn.headers = {"Content-Type": "text/html"} if answer == _PAGE else {}


def _change_200(turn: Turn, active: frozenset[str]) -> None:
    if turn.call == "upload":
        turn.answer = _upload(turn, active)
    elif turn.call == "task":
        turn.answer = _job(turn.answer, active)
    elif turn.call == "submit" and "other_task_id" in active:
        turn.answer = {"id": turn.answer["task_id"]}
    elif turn.call == "me" and "me_nested" in active:
        turn.answer = {"user": turn.answer}
    if f"no_{turn.method.lower()}" in active:
        _replace(turn, 405, {"detail": f'Method "{turn.method}" not allowed.'})
    elif "html_if_accepted" in active and "text/html" in turn.accept:
        _replace(turn, 200, _PAGE)


def _change_400(turn: Turn, active: frozenset[str]) -> None:
    accepted = {"unknown_key_accepted": "data_key", "no_items_accepted": "items"}
    if turn.call == "upload" and any(accepted.get(name) in turn.answer for name in active):
        _replace(turn, 200, {"total_updates": 0, "changes": [], "items": {}, "codes_affected": 0})
    elif "detail" not in turn.answer:
        if "error_list" in active:
            turn.answer = {
                "errors": [{"field": name, "messages": each} for name, each in turn.answer.items()]
            }
    elif "broken_json_500" in active and turn.answer["detail"].startswith("JSON parse error"):
        _replace(turn, 500, _PAGE)


def _upload(turn: Turn, active: frozenset[str]) -> Any:
    answer, items = turn.answer, turn.answer["items"]
    sent = [(str(item[turn.key()]), item) for item in turn.sent["items"]]
    if "unmatched_in_items" in active:
        for key, _ in sent:
            items.setdefault(key, [])
    if "same_not_counted" in active:
        changed: dict[str, list[str]] = {key: [] for key in items}
        for key, item in sent:
            for name in set(item) & set(items.get(key, ())):
                if turn.uploaded.get((key, name)) != item[name]:
                    changed[key].append(name)
                turn.uploaded[key, name] = item[name]
        items, answer["codes_affected"] = changed, sum(map(bool, changed.values()))
    if "counted_per_item" in active:
        answer["codes_affected"] = sum(bool(items.get(key)) for key, _ in sent)
    if "discarded_not_in_items" in active:
        items = {key: names for key, names in items.items() if names}
    if "changes_listed" in active:
        answer["changes"] = [{"key": key, "field": name} for key, names in items.items() for name in names]
    if "values_in_items" in active:
        items = {key: dict.fromkeys(names, "") for key, names in items.items()}
    answer["items"] = items
    return _camel_case(answer) if "camel_case_upload" in active else answer


def _job(job: dict[str, Any], active: frozenset[str]) -> dict[str, Any]:
    if "codes_affected_text" in active and job["codes_affected"] is not None:
        job["codes_affected"] = str(job["codes_affected"])
    if "codes_affected_zero" in active:
        job["codes_affected"] = job["codes_affected"] or 0
    if "created_by_text" in active:
        job["created_by"] = f"user-{job['created_by']}"
    if "times_in_seconds" in active:
        for name in ("created_at", "started_at", "completed_at"):
            job[name] = job[name] and datetime.fromisoformat(job[name]).timestamp()
    if "other_states" in active:
        job["state"] = _STATES.get(job["state"], job["state"])
    if "no_reference" in active:
        del job["reference"]
    return _camel_case(job) if "camel_case_keys" in active else job


def _camel_case(answer: dict[str, Any]) -> dict[str, Any]:
    return {re.sub(r"_(\w)", lambda found: found[1].upper(), key): each for key, each in answer.items()}


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _is_odd_date(value: Any) -> bool:
    parts = re.split(r"[-./]", value) if isinstance(value, str) else []
    lengths = [len(part) for part in parts]
    return len(parts) == 3 and all(part.isdecimal() for part in parts) and lengths != [4, 2, 2]


def _is_odd_special(name: str, value: Any) -> bool:
    highest = {"activation_status": 2, "blacklist_reason": 10}.get(name)
    return highest is not None and not (str(value).isdecimal() and int(str(value)[:9]) <= highest)


_Test = Callable[[Turn, str, Any], bool]
_REFUSED: dict[str, _Test] = {
    "unknown_field_refused": lambda turn, name, value: name not in SPECIAL and not turn.is_field(name),
    "dates_refused": lambda turn, name, value: _is_odd_date(value),
    "empty_refused": lambda turn, name, value: value == "",
    "sync_numbers_refused": lambda turn, name, value: turn.call == "upload" and _is_number(value),
    "async_numbers_refused": lambda turn, name, value: turn.call == "submit" and _is_number(value),
    "null_refused": lambda turn, name, value: value is None,
}
_DROPPED: dict[str, _Test] = {
    "null_accepted": lambda turn, name, value: value is None,
    "product_unchecked": lambda turn, name, value: name == "product",
    "special_unchecked": lambda turn, name, value: _is_odd_special(name, value),
}
