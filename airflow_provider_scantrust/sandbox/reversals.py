"""How deviations change a request before it is read (`no_…`, `refuse`, `drop`), and its answer (the rest)."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from airflow_provider_scantrust.sandbox.errors import Refused

_PAGE = "<!doctype html>\n<html><body></body></html>\n"


@dataclass
class Turn:
    """
    One request and its answer.

    :param call: The name of the call in `deviations.PATHS`; empty for an unknown path.
    :param is_field: Whether a name is a field of some campaign, or a special field.
    :param uploaded: The values that sync uploads have written so far, by key and field.
    """

    call: str
    method: str
    accept: str
    is_field: Callable[[str], bool]
    uploaded: dict[tuple[str, str], Any]
    sent: Any = None
    status: int = 200
    answer: Any = None
    headers: dict[str, str] = field(default_factory=dict)

    def values(self) -> Iterator[tuple[dict[str, Any], str, Any]]:
        """Return the values to write: the place, the field, and the value."""
        items: Any = self.part("items") if self.call == "upload" else [self.part("scm_data")]
        for item in items if isinstance(items, list) else []:
            for name, value in list(item.items()) if isinstance(item, dict) else []:
                if name != self.key:
                    yield item, name, value

    def part(self, name: str) -> Any:
        """Return a part of the body."""
        return self.sent.get(name) if isinstance(self.sent, dict) else None

    @property
    def key(self) -> Any:
        """The data_key of a sync upload."""
        return (self.part("data_key") or "extended_id") if self.call == "upload" else None

    @property
    def constraints(self) -> dict[str, Any]:
        """The constraints of an async upload."""
        found = self.part("constraints") if self.call == "submit" else None
        return found if isinstance(found, dict) else {}

    def items(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Return the items of an accepted sync upload, with the value of the key."""
        return ((str(item[self.key]), item) for item in self.sent["items"])


Change = Callable[[Turn], None]
Test = Callable[[Turn, str, Any], bool]


def refuse(wrong: Test, call: str = "") -> Change:
    """Refuse requests with a value of some kind."""

    def before(turn: Turn) -> None:
        for _, name, value in turn.values():
            if call in ("", turn.call) and wrong(turn, name, value):
                raise Refused(400, {name: ["This value is not allowed."]})

    return before


def drop(wrong: Test) -> Change:
    """Remove values of some kind from requests."""

    def before(turn: Turn) -> None:
        for place, name, value in turn.values():
            if wrong(turn, name, value):
                del place[name]

    return before


def is_null(turn: Turn, name: str, value: Any) -> bool:
    return value is None


def is_empty(turn: Turn, name: str, value: Any) -> bool:
    return isinstance(value, str) and value == ""


def is_number(turn: Turn, name: str, value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def is_product(turn: Turn, name: str, value: Any) -> bool:
    return name == "product"


def is_unknown_field(turn: Turn, name: str, value: Any) -> bool:
    return not turn.is_field(name)


def is_odd_date(turn: Turn, name: str, value: Any) -> bool:
    parts = re.split(r"[-./]", value) if isinstance(value, str) else []
    lengths = [len(part) for part in parts]
    return len(parts) == 3 and all(part.isdecimal() for part in parts) and lengths != [4, 2, 2]


def is_odd_special(turn: Turn, name: str, value: Any) -> bool:
    highest = {"activation_status": 2, "blacklist_reason": 10}.get(name)
    return highest is not None and not (str(value).isdecimal() and int(str(value)[:9]) <= highest)


def no_key_default(turn: Turn) -> None:
    if turn.call == "upload" and turn.part("data_key") is None:
        raise Refused(400, {"data_key": ["This field is required."]})


def no_scm_key(turn: Turn) -> None:
    if turn.key not in (None, "extended_id", "serial_number"):
        raise Refused(400, {"data_key": [f'"{turn.key}" is not a valid choice.']})


def no_id_lists(turn: Turn) -> None:
    if isinstance(turn.constraints.get("extended_id"), list):
        raise Refused(400, {"extended_id": ["Not a valid string."]})


def any_lists(turn: Turn) -> None:
    for name, value in turn.constraints.items():
        if isinstance(value, list) and value and name != "extended_id":
            turn.constraints[name] = value[0]


def first_constraint(turn: Turn) -> None:
    for name in list(turn.constraints)[1:]:
        del turn.constraints[name]


def on(call: str, change: Change) -> Change:
    """Change the 200 answers to a call."""

    def after(turn: Turn) -> None:
        if (turn.call, turn.status) == (call, 200) and isinstance(turn.answer, dict):
            change(turn)

    return after


def task_value(change: Callable[[Any], Any], *names: str) -> Change:
    """Change values in the status of a job."""
    return on("task", lambda turn: turn.answer.update({name: change(turn.answer[name]) for name in names}))


def camel_case(turn: Turn) -> None:
    turn.answer = {re.sub(r"_(\w)", lambda found: found[1].upper(), key): v for key, v in turn.answer.items()}


def other_task_id(turn: Turn) -> None:
    turn.answer = {"id": turn.answer["task_id"]}


def no_reference(turn: Turn) -> None:
    del turn.answer["reference"]


def nested(turn: Turn) -> None:
    turn.answer = {"user": turn.answer}


def seconds(value: Any) -> Any:
    return value if value is None else datetime.fromisoformat(value).timestamp()


def other_words(value: Any) -> Any:
    words = {"pending": "queued", "in-progress": "processing", "complete": "finished", "failed": "aborted"}
    return words.get(value, value)


def unmatched_in_items(turn: Turn) -> None:
    for key, _ in turn.items():
        turn.answer["items"].setdefault(key, [])


def discarded_not_in_items(turn: Turn) -> None:
    turn.answer["items"] = {key: fields for key, fields in turn.answer["items"].items() if fields}


def values_in_items(turn: Turn) -> None:
    turn.answer["items"] = {key: dict.fromkeys(names, "") for key, names in turn.answer["items"].items()}


def counted_per_item(turn: Turn) -> None:
    turn.answer["codes_affected"] = sum(bool(turn.answer["items"].get(key)) for key, _ in turn.items())


def same_not_counted(turn: Turn) -> None:
    changed: dict[str, list[str]] = {key: [] for key in turn.answer["items"]}
    for key, item in turn.items():
        for name in set(item) & set(turn.answer["items"].get(key, ())):
            if turn.uploaded.get((key, name)) != item[name]:
                changed[key].append(name)
            turn.uploaded[key, name] = item[name]
    turn.answer.update(items=changed, codes_affected=sum(map(bool, changed.values())))


def changes_listed(turn: Turn) -> None:
    items = turn.answer["items"].items()
    turn.answer["changes"] = [{"key": key, "field": name} for key, names in items for name in names]


def accept(error: str) -> Change:
    """Answer a sync upload with an error in this field like one that matched no code."""

    def after(turn: Turn) -> None:
        if (turn.call, turn.status) == ("upload", 400) and error in turn.answer:
            turn.status = 200
            turn.answer = {"total_updates": 0, "changes": [], "items": {}, "codes_affected": 0}

    return after


def status(old: int, new: int) -> Change:
    """Replace one status with another."""

    def after(turn: Turn) -> None:
        turn.status = new if turn.status == old else turn.status

    return after


def error_list(turn: Turn) -> None:
    if turn.status == 400 and "detail" not in turn.answer:
        turn.answer = {"errors": [{"field": name, "messages": each} for name, each in turn.answer.items()]}


def broken_json(turn: Turn) -> None:
    if turn.status == 400 and str(turn.answer.get("detail", "")).startswith("JSON parse error"):
        html(500)(turn)


def throttle_body(turn: Turn) -> None:
    if turn.status == 429:
        turn.answer = {"error": "rate limit exceeded"}


def no_header(name: str) -> Change:
    """Remove a header."""

    def after(turn: Turn) -> None:
        turn.headers.pop(name, None)

    return after


def no_method(method: str) -> Change:
    """Refuse a method."""

    def after(turn: Turn) -> None:
        if turn.method == method and turn.status == 200:
            turn.status, turn.answer = 405, {"detail": f'Method "{method}" not allowed.'}

    return after


def no_redirect(turn: Turn) -> None:
    if turn.status == 301:
        turn.status, turn.answer, turn.headers = 404, {"detail": "Not found."}, {}


def unknown_task(turn: Turn) -> None:
    if (turn.call, turn.status) == ("task", 404):
        turn.status, turn.answer = 200, {"id": None, "state": "unknown"}


def html(code: int) -> Change:
    """Answer with an HTML page."""

    def after(turn: Turn) -> None:
        turn.status, turn.answer = code, _PAGE
        turn.headers["Content-Type"] = "text/html"

    return after


def html_404(turn: Turn) -> None:
    if turn.status == 404 and not turn.call:
        html(404)(turn)


def html_if_accepted(turn: Turn) -> None:
    if "text/html" in turn.accept and turn.status == 200:
        html(200)(turn)
