"""
The calls of a survey and their answers.

Rule: every call is made once, and redirects are not followed. After a 429, a call is repeated after the time
that the service asks for.
"""

from __future__ import annotations

import json
import re
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from airflow_provider_scantrust.api.messages import Answer, Endpoint
from airflow_provider_scantrust.cli.verify.assumptions import ASSUMPTIONS, WHY_NOT
from airflow_provider_scantrust.exceptions import ServiceUnavailable, Throttled

if TYPE_CHECKING:
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

Verdict = Literal["agrees", "differs", "not tried"]

# Half of what Scantrust allows for uploads.
_GAP = 0.2
_TRIES = 4
_LONGEST_PAUSE = 120.0
_SECONDS = re.compile(r"available in (\d+)")


@dataclass(frozen=True)
class Seen:
    """
    One answer.

    :param call: The name of the call, which also names its sample.
    :param body: Parsed JSON, or text if it is not JSON.
    """

    call: str
    method: str
    path: str
    status: int
    headers: Mapping[str, str]
    body: Any
    is_json: bool

    @property
    def fields(self) -> dict[str, Any]:
        """The body's members, with names in snake case; empty if the body is not an object."""
        if not isinstance(self.body, dict):
            return {}
        return {
            re.sub(r"(?<=[a-z])([A-Z])", lambda found: "_" + found[1].lower(), name): value
            for name, value in self.body.items()
        }

    @property
    def is_missing(self) -> bool:
        """Whether the service does not know this path."""
        return self.status in (404, 410) or 300 <= self.status < 400


@dataclass(frozen=True)
class Finding:
    """The result for one assumption."""

    line: str
    verdict: Verdict
    seen: str

    @property
    def says(self) -> str:
        """The assumption."""
        return ASSUMPTIONS[self.line].says


@dataclass
class Survey:
    """
    Calls a service and collects findings.

    :param extra: What to set in the connection's extra, so that this package fits the service.
    :param is_value_changed: The user's field may not have the user's value now.
    :param secrets: Texts that must not be in the report -> their masks.
    """

    hook: ScantrustHook
    sleep: Callable[[float], None] = time.sleep
    clock: Callable[[], float] = time.monotonic
    seen: list[Seen] = field(default_factory=list)
    extra: dict[str, Any] = field(default_factory=dict)
    secrets: dict[str, str] = field(default_factory=dict)
    notes: list[str] = field(default_factory=list)
    is_value_changed: bool = False
    _findings: dict[str, Finding] = field(default_factory=dict)

    @property
    def findings(self) -> list[Finding]:
        """One finding for each assumption."""
        return [
            self._findings.get(line, Finding(line, "not tried", WHY_NOT[each.needs]))
            for line, each in ASSUMPTIONS.items()
        ]

    def judge(self, line: str, agrees: bool, seen: str) -> None:
        """Note whether an assumption holds; one that has failed once stays failed."""
        if line not in ASSUMPTIONS:
            raise KeyError(line)
        before = self._findings.get(line)
        if before is None or before.verdict == "agrees":
            self._findings[line] = Finding(line, "agrees" if agrees else "differs", seen)

    def skip(self, line: str, why: str) -> None:
        """Note why an assumption could not be tried."""
        self._findings[line] = Finding(line, "not tried", why)

    def holds(self, line: str) -> bool:
        """Whether an assumption was found to hold."""
        return line in self._findings and self._findings[line].verdict == "agrees"

    def is_found(self, line: str, setting: str) -> bool:
        """Whether a call was found, at the assumed path or another."""
        return self.holds(line) or setting in self.extra

    def judge_path(self, line: str, setting: str, answers: bool) -> None:
        """Note whether a call is at the assumed path, or at the path in the connection's extra."""
        from airflow_provider_scantrust.api.extras import SCANTRUST

        path, usual = getattr(self.hook.settings.dialect, setting), getattr(SCANTRUST, setting)
        if not answers:
            self.judge(line, False, f"there is nothing at {path}")
            self.notes.append(
                f"A call was expected at {path}. If you know its path, set {setting} in the connection's extra, and start this "
                "command again."
            )
        elif path != usual:
            self.judge(line, False, f"it is at {path}, as {setting} in the connection's extra says")
            self.extra[setting] = path
        else:
            self.judge(line, True, "it is there")

    def call(
        self,
        call: str,
        method: str,
        path: str,
        *,
        json_body: Any = None,
        content: bytes | None = None,
        headers: Mapping[str, str] | None = None,
        signed: bool = True,
    ) -> Seen:
        """
        Make one call.

        :raises Throttled: The call was throttled several times in a row.
        :raises ServiceUnavailable: The service is down.
        """
        sent = dict(headers or {})
        if json_body is not None:
            content = json.dumps(json_body).encode()
        if content is not None:
            sent.setdefault("Content-Type", "application/json")
        for _ in range(_TRIES):
            if method == "POST":
                self.sleep(_GAP)
            seen = _read(call, method, path, self._send(method, path, content, sent, signed=signed))
            self.seen.append(seen)
            # Of a gateway; a 500 may be how the service answers this call.
            if seen.status > 500:
                raise ServiceUnavailable(
                    f"{method} {path} was answered with {seen.status}, which says nothing about an assumption. Try later.",
                    status=seen.status,
                )
            if seen.status != 429:
                return seen
            self._take_throttled(seen)
        raise Throttled("Scantrust throttled this command several times in a row. Try later.", status=429)

    def _send(
        self, method: str, path: str, content: bytes | None, headers: Mapping[str, str], *, signed: bool
    ) -> Answer:
        endpoint = Endpoint(what=f"{method} {path}", method=method, path=path, read=_as_it_is, signed=signed)
        return self.hook.send_once(endpoint, headers=headers, body=content)

    def _take_throttled(self, seen: Seen) -> None:
        header = seen.headers.get("retry-after", "")
        detail = seen.fields.get("detail")
        named = _SECONDS.search(detail) if isinstance(detail, str) else None
        self.judge("retry-after", header.isdecimal(), f"Retry-After: {header or 'none'}")
        if seen.method != "HEAD":
            self.judge("throttle-body", named is not None, "seconds named" if named else "no seconds named")
        seconds = int(header) if header.isdecimal() else int(named[1]) if named else 1
        self.sleep(min(float(seconds), _LONGEST_PAUSE))


def _as_it_is(data: Any) -> Any:
    return data


def _read(call: str, method: str, path: str, answer: Answer) -> Seen:
    text = answer.body.decode("utf-8", errors="replace")
    try:
        body, is_json = json.loads(text), True
    except (ValueError, RecursionError):
        body, is_json = text, False
    return Seen(call, method, path, answer.status, answer.headers, body, is_json)
