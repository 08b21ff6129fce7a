"""Step conversations by hand: what was said, with answers from a list."""

from __future__ import annotations

import json
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from airflow_provider_scantrust.api.messages import Answer, Conversation, Fault, Notice, Pause, Request
from airflow_provider_scantrust.api.settings import Settings, read_settings

CONTRACT = Path(__file__).parent.parent / "contract"
TOKEN = "marked-token-4711"


def settings(**extra: Any) -> Settings:
    """Return settings as a connection with a token gives them."""
    return read_settings(host="https://scantrust.test", password=TOKEN, extra=extra)


def answer(status: int = 200, body: Any = None, elapsed: float = 0.1, **headers: str) -> Answer:
    """Return an answer; a body that is not bytes is sent as JSON."""
    raw = body if isinstance(body, bytes) else json.dumps(body).encode()
    names = {name.replace("_", "-"): value for name, value in headers.items()}
    return Answer(status, names, raw, elapsed, received_at=1_000_000.0)


def sample(name: str) -> Answer:
    """Return an answer of the contract, such as ``upload/updated.200``."""
    data = json.loads((CONTRACT / f"{name}.json").read_text(encoding="utf-8"))
    body = data["body"]
    raw = body.encode() if isinstance(body, str) else json.dumps(body).encode()
    headers = {key.lower(): value for key, value in data.get("headers", {}).items()}
    return Answer(data["status"], headers, raw, 0.1, received_at=1_000_000.0)


class Talk:
    """
    Perform a conversation with prepared replies and remember all of it.

    :param replies: What the server says, request by request; the last one is repeated.
    """

    def __init__(self, conversation: Conversation[Any], replies: Iterable[Answer | Fault]) -> None:
        self.requests: list[Request] = []
        self.pauses: list[float] = []
        self.notices: list[str] = []
        self._conversation = conversation
        self._replies = list(replies)

    def run(self) -> Any:
        """Return the conversation's result, or raise its error."""
        reply: Answer | Fault | None = None
        try:
            while True:
                step = self._conversation.send(reply)
                reply = None
                if isinstance(step, Request):
                    self.requests.append(step)
                    assert len(self.requests) < 10_000, "the conversation does not end"
                    reply = self._replies.pop(0) if len(self._replies) > 1 else self._replies[0]
                elif isinstance(step, Pause):
                    self.pauses.append(step.seconds)
                else:
                    assert isinstance(step, Notice)
                    self.notices.append(step.text)
        except StopIteration as end:
            return end.value
