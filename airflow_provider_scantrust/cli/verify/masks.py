"""
Remove from a report what belongs to the user: ids, tokens, names and values.

Rule: a text is masked unless it is known to come from the service, such as a state or an error message. The
mask has the same form as the text, so that a report can become a sample.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any
from urllib.parse import urlsplit

from airflow_provider_scantrust.cli.verify.survey import Seen

TASK_ID = "00000000-0000-4000-8000-000000000000"
_UUID = re.compile(r"\b[0-9a-f]{8}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{4}-?[0-9a-f]{12}\b", re.IGNORECASE)
_EMAIL = re.compile(r"[^\s@\"']+@[^\s@\"']+")
_QUOTED = re.compile(r"\"[^\"]*\"|'[^']*'|“[^”]*”|`[^`]*`")
_MIXED = re.compile(r"\b(?=\w*\d)(?=\w*[A-Za-z])\w{4,}\b|\b\d{5,}\b")
_MOMENT = re.compile(r"\d{4}-\d\d-\d\d[T ]\d\d:\d\d:\d\d(\.\d+)?(Z|[+-]\d\d:?\d\d)?")
_WORD = re.compile(r"[A-Za-z][A-Za-z _-]{0,29}")
_NAME = re.compile(r"[A-Za-z_]{1,40}")
_COUNTS = {"codes_affected", "total_updates", "codesAffected", "totalUpdates", "count"}
_HEADERS = ("content-type", "allow", "retry-after", "www-authenticate", "location")
# Names that are known to come from the service; any other name may be the user's.
_KNOWN = {
    *("total_updates", "changes", "items", "codes_affected", "task_id", "detail", "code", "non_field_errors"),
    *("id", "reference", "state", "created_by", "created_at", "started_at", "completed_at", "errors"),
}


class Masks:
    """
    Masks answers.

    :param secrets: Text -> its mask.
    """

    def __init__(self, secrets: Mapping[str, str]) -> None:
        # Long secrets first, because a secret may be part of another.
        self._secrets = dict(
            sorted(((s, m) for s, m in secrets.items() if s), key=lambda pair: -len(pair[0]))
        )

    def answer(self, seen: Seen) -> dict[str, Any]:
        """Return an answer, masked."""
        return {
            "call": seen.call,
            "method": seen.method,
            "path": self.text(seen.path),
            "status": seen.status,
            "headers": self._headers(seen.headers),
            "body": self._body(seen),
        }

    def text(self, text: str) -> str:
        """Return a text of the service with the user's texts masked."""
        for secret, mask in self._secrets.items():
            # A short secret may be a part of any word.
            pattern = re.escape(secret) if len(secret) >= 4 else rf"(?<!\w){re.escape(secret)}(?!\w)"
            text = re.sub(pattern, mask.replace("\\", r"\\"), text)
        return _EMAIL.sub("user@example.com", _UUID.sub(TASK_ID, text))

    def message(self, text: str) -> str:
        """Return an error message, with all quoted texts masked: they may be the user's."""
        text = _QUOTED.sub('"text"', self.text(text))
        return _MIXED.sub("text", text)

    def _headers(self, headers: Mapping[str, str]) -> dict[str, str]:
        kept = {name: headers[name] for name in _HEADERS if name in headers}
        if "location" in kept:
            parts = urlsplit(kept["location"])
            kept["location"] = self.text(parts.path + (f"?{parts.query}" if parts.query else ""))
        if "www-authenticate" in kept:
            kept["www-authenticate"] = _QUOTED.sub('"text"', kept["www-authenticate"])
        return kept

    def _body(self, seen: Seen) -> Any:
        if not seen.is_json:
            return "" if not seen.body else f"a body of {len(seen.body)} characters that is not JSON"
        return self._value(seen.body, "", is_error=seen.status >= 400)

    def _value(self, value: Any, name: str, *, is_error: bool) -> Any:
        if isinstance(value, Mapping):
            return {
                self._key(key, name): self._value(each, key, is_error=is_error) for key, each in value.items()
            }
        if isinstance(value, list):
            return [self._value(each, name, is_error=is_error) for each in value[:20]]
        if isinstance(value, str):
            return self._text_value(value, name, is_error=is_error)
        if isinstance(value, bool) or value is None or name in _COUNTS:
            return value
        return 1 if isinstance(value, int) else 1.0

    def _key(self, key: str, parent: str) -> str:
        if key in _KNOWN:
            return key
        if key in self._secrets:
            return self._secrets[key]
        # In `items`, keys are ids.
        return key if parent != "items" and _NAME.fullmatch(key) else "KEY"

    def _text_value(self, value: str, name: str, *, is_error: bool) -> str:
        if value in self._secrets:
            return self._secrets[value]
        if _MOMENT.fullmatch(value):
            return "2001-01-01" + re.sub(r"\d", "0", value[10:])
        if name == "state" and _WORD.fullmatch(value):
            return value
        if is_error:
            return self.message(value)
        if _UUID.fullmatch(value):
            return TASK_ID
        if "@" in value:
            return "user@example.com"
        return "text" if value else ""
