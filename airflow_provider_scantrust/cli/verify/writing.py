"""
Check assumptions with writes: uploads and jobs for one code and one field that the user owns.

Rule 1: at the end the field has the user's value, also after an error.
Rule 2: a call that could do harm if an assumption is wrong uses a key that no code has.
"""

from __future__ import annotations

from typing import Any

from airflow_provider_scantrust.cli.verify.jobs import Jobs
from airflow_provider_scantrust.cli.verify.reading import describe
from airflow_provider_scantrust.cli.verify.survey import Seen, Survey
from airflow_provider_scantrust.cli.verify.target import Target
from airflow_provider_scantrust.exceptions import InvalidInput


def write(survey: Survey, target: Target) -> None:
    """
    Make the calls that write.

    :raises InvalidInput: No code has the extended_id, or its campaign does not have the field.
    """
    uploads = _Uploads(survey, target)
    if survey.is_found("upload-path", "upload_path"):
        uploads.try_all()
    if survey.is_found("submit-path", "upload_async_path"):
        Jobs(survey, target).try_all()


class _Uploads:
    def __init__(self, survey: Survey, target: Target) -> None:
        self._survey = survey
        self._target = target
        self._path = survey.hook.settings.dialect.upload_path

    def try_all(self) -> None:
        target = self._target
        first = self._upload("updated", {target.field: target.other})
        if first.status != 200:
            self._survey.notes.append(
                f"The upload of the value was answered with {first.status}, so uploads were not tried further."
            )
            return
        try:
            self._judge_answer(first)
            self._survey.is_value_changed = True
            self._try_keys()
            self._try_fields()
            self._try_values()
        finally:
            self.restore()

    def restore(self) -> None:
        """Set the user's value."""
        if self._survey.is_value_changed:
            seen = self._upload("restored", {self._target.field: self._target.value})
            self._survey.is_value_changed = seen.status != 200

    def _upload(self, call: str, data: dict[str, Any], key: str = "") -> Seen:
        return self._send(call, [{"extended_id": key or self._target.extended_id, **data}])

    def _send(self, call: str, items: list[dict[str, Any]], data_key: str | None = "extended_id") -> Seen:
        body: dict[str, Any] = {"items": items}
        if data_key is not None:
            body["data_key"] = data_key
        return self._survey.call(f"upload_{call}", "POST", self._path, json_body=body)

    def _judge_answer(self, seen: Seen) -> None:
        target, survey = self._target, self._survey
        known = {"total_updates", "changes", "items", "codes_affected"}
        names = set(seen.body) if isinstance(seen.body, dict) else set()
        survey.judge("upload-answer", known <= names, f"names: {', '.join(sorted(names))}")
        items = seen.fields.get("items")
        if not isinstance(items, dict):
            survey.judge("items-fields", False, "items is not an object")
            return
        updated = items.get(target.extended_id)
        if target.extended_id not in items:
            raise InvalidInput(
                f"No code that this token sees has the extended_id {target.extended_id!r}; nothing was written."
            )
        if isinstance(updated, list) and target.field not in updated:
            raise InvalidInput(
                f"The campaign of this code does not have the field {target.field!r}; nothing was written."
            )
        survey.judge("items-fields", isinstance(updated, list), f"type {type(updated).__name__} for each key")
        changes = seen.fields.get("changes")
        survey.judge("changes", changes == [], "empty" if changes == [] else "not empty")

    def _try_keys(self) -> None:
        target, survey = self._target, self._survey
        mine = {"extended_id": target.extended_id}
        wanted = {target.field: target.value}
        self._send("value", [{**mine, **wanted}])
        seen = self._send("no_data_key", [{**mine, **wanted}], data_key=None)
        survey.judge("key-default", seen.status == 200 and target.extended_id in _items(seen), describe(seen))
        seen = self._send("same_value", [{**mine, **wanted}])
        counted = seen.fields.get("codes_affected") == 1
        named = target.field in (_items(seen).get(target.extended_id) or ())
        survey.judge("same-value", counted and named, "counted" if counted and named else "not counted")
        seen = self._send("twice", [{**mine, target.field: target.other}, {**mine, **wanted}])
        affected = seen.fields.get("codes_affected")
        survey.judge("code-once", affected == 1, f"codes_affected {affected} for one code in two items")
        seen = self._upload("nothing_matched", wanted, target.unknown_key)
        is_absent = seen.status == 200 and target.unknown_key not in _items(seen)
        survey.judge("items-unmatched", is_absent, "not in items" if is_absent else "in items, or refused")
        # No code has this value, so nothing is written.
        item = {target.field: target.unknown_key, "activation_status": "1"}
        seen = self._send("scm_key", [item], data_key=target.field)
        survey.judge("key-any", seen.status == 200, describe(seen))
        seen = self._send("unknown_key", [{target.no_field: "x", **wanted}], data_key=target.no_field)
        survey.judge("key-unknown", seen.status == 400, describe(seen))

    def _try_fields(self) -> None:
        target, survey = self._target, self._survey
        seen = self._upload("field_discarded", {target.field: target.value, target.no_field: "x"})
        names = _items(seen).get(target.extended_id, ())
        is_discarded = seen.status == 200 and target.no_field not in names
        survey.judge("field-unknown", is_discarded, describe(seen))
        if not is_discarded:
            for line in ("all-discarded", "null-discarded"):
                survey.skip(line, "a field that the campaign lacks is not discarded")
            return
        seen = self._upload("everything_discarded", {target.no_field: "x"})
        items = _items(seen)
        is_empty = target.extended_id in items and not items[target.extended_id]
        is_counted = bool(seen.fields.get("codes_affected"))
        survey.judge(
            "all-discarded",
            is_empty and not is_counted,
            f"{'in' if target.extended_id in items else 'not in'} items, {'' if is_counted else 'not '}counted",
        )
        seen = self._upload("null_discarded", {target.no_field: None})
        survey.judge("null-discarded", seen.status == 200, describe(seen))

    def _try_values(self) -> None:
        target, survey = self._target, self._survey
        for line, value, status in (
            ("null", None, 400),
            ("dates", "01/12/2016", 200),
            ("clear", "", 200),
            ("numbers-sync", 1, 200),
        ):
            seen = self._upload(line.replace("-", "_"), {target.field: value})
            survey.judge(line, seen.status == status, describe(seen))
        for line, name, text in (
            ("product-unknown", "product", target.no_field),
            ("special-values", "activation_status", "9"),
        ):
            seen = self._upload(line.replace("-", "_"), {name: text}, target.unknown_key)
            survey.judge(line, seen.status == 400, describe(seen))


def _items(seen: Seen) -> dict[str, Any]:
    items = seen.fields.get("items")
    return items if isinstance(items, dict) else {}
