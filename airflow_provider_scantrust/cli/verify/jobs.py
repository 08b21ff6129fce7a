"""Check assumptions about jobs: the submit, the status until the end, and the path of the status."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from airflow_provider_scantrust.api.extras import spell_state
from airflow_provider_scantrust.api.models import TaskState, read_state
from airflow_provider_scantrust.cli.verify.masks import TASK_ID
from airflow_provider_scantrust.cli.verify.reading import default_task_paths, describe
from airflow_provider_scantrust.cli.verify.survey import Seen, Survey

if TYPE_CHECKING:
    from airflow_provider_scantrust.cli.verify.target import Target

_FIELDS = {
    "id",
    "reference",
    "state",
    "codes_affected",
    "created_by",
    "created_at",
    "started_at",
    "completed_at",
}
_STATES = {"pending", "in-progress", "complete", "failed"}
_MOMENT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?Z")
_POLL_SECONDS, _LONGEST_POLL, _MOST_SECONDS = 0.5, 5.0, 180.0


class Jobs:
    """Submits jobs for the code of a target and follows them."""

    def __init__(self, survey: Survey, target: Target) -> None:
        self._survey = survey
        self._target = target
        self._path = survey.hook.settings.dialect.task_path

    def try_all(self) -> None:
        """Submit and follow."""
        target, survey = self._target, self._survey
        mine, wanted = {"extended_id": target.extended_id}, {target.field: target.value}
        first = self._submit("accepted", mine, wanted)
        if first.status != 200:
            survey.judge("submit-answer", False, describe(first))
            return
        has_task_id = isinstance(first.body, dict) and bool(first.body.get("task_id"))
        survey.judge("submit-answer", has_task_id, f"names: {', '.join(sorted(first.fields)) or 'no object'}")
        task_id = _task_id(first)
        if task_id is None:
            return
        if (status := self._find(task_id)) is not None:
            self._judge_status(self._follow(status, task_id))
        self._try_constraints(mine, wanted)

    def _submit(self, call: str, constraints: dict[str, Any], scm_data: dict[str, Any]) -> Seen:
        seen = self._survey.call(
            f"submit_{call}",
            "POST",
            self._survey.hook.settings.dialect.upload_async_path,
            json_body={"constraints": constraints, "scm_data": scm_data},
        )
        if (task_id := _task_id(seen)) is not None:
            self._survey.secrets[task_id] = TASK_ID
        return seen

    def _find(self, task_id: str) -> Seen | None:
        """Find out where the status is; return it, or None."""
        survey = self._survey
        status = self._status("task", task_id, self._path)
        client = self._status("task_client_path", task_id, default_task_paths()[-1])
        leads = client.status == 200
        if 300 <= client.status < 400:
            to = urlsplit(client.headers.get("location", ""))
            leads = survey.call("task_client_path_followed", "GET", to.path).status == 200
        survey.judge("task-path-client", leads, describe(client))
        if status.status == 200:
            survey.judge_path("task-path", "task_path", True)
            return status
        for path in default_task_paths():
            if (status := self._status("task_variant", task_id, path)).status == 200:
                survey.judge("task-path", False, f"it is at {path}")
                survey.extra["task_path"] = self._path = path
                return status
        survey.judge_path("task-path", "task_path", False)
        survey.skip("task-unknown", "the path of the status is not known")
        return None

    def _status(self, call: str, task_id: str, path: str) -> Seen:
        return self._survey.call(call, "GET", path.replace("{task_id}", task_id))

    def _follow(self, status: Seen, task_id: str) -> list[Seen]:
        """Poll until a job has ended; return all statuses, the given one first."""
        survey, pause = self._survey, _POLL_SECONDS
        end = survey.clock() + _MOST_SECONDS
        followed = [status]
        while followed[-1].status == 200 and not _has_ended(followed[-1]):
            if survey.clock() > end:
                survey.notes.append(f"A job had not ended after {_MOST_SECONDS:.0f} s.")
                break
            survey.sleep(pause)
            pause = min(pause * 2, _LONGEST_POLL)
            followed.append(self._status(status.call, task_id, self._path))
        return followed

    def _judge_status(self, followed: list[Seen]) -> None:
        survey, last = self._survey, followed[-1]
        fields, names = last.fields, set(last.body) if isinstance(last.body, dict) else set()
        missing = _FIELDS - fields.keys()
        survey.judge("task-fields", not missing, f"missing: {', '.join(sorted(missing)) or 'none'}")
        odd = sorted(name for name in names if not re.fullmatch(r"[a-z0-9_]+", name))
        survey.judge("task-keys", not odd, f"others: {', '.join(odd) or 'none'}")
        words = list(dict.fromkeys(str(seen.fields.get("state")) for seen in followed))
        survey.judge("task-states", set(words) <= _STATES, f"seen: {', '.join(words)}")
        self._suggest_states(last)
        affected = fields.get("codes_affected")
        survey.judge("task-codes", _is_number(affected), f"type {type(affected).__name__}")
        open_ones = [seen.fields.get("codes_affected") for seen in followed if not _has_ended(seen)]
        if open_ones:
            survey.judge(
                "task-codes-null",
                open_ones == [None] * len(open_ones),
                f"seen: {', '.join(sorted(set(map(json.dumps, open_ones))))}",
            )
        else:
            survey.skip("task-codes-null", "the job had ended at the first poll")
        user = fields.get("created_by")
        survey.judge("task-created-by", _is_number(user), f"type {type(user).__name__}")
        moments = [fields.get(name) for name in ("created_at", "started_at", "completed_at")]
        are_moments = all(isinstance(each, str) and _MOMENT.fullmatch(each) for each in moments)
        survey.judge("task-times", are_moments, "as assumed" if are_moments else "another form")

    def _suggest_states(self, last: Seen) -> None:
        word = last.fields.get("state")
        dialect = self._survey.hook.settings.dialect
        if isinstance(word, str) and _has_ended(last) and read_state(word, dialect) is TaskState.UNKNOWN:
            affected = last.fields.get("codes_affected")
            self._survey.extra["done_states" if affected else "failed_states"] = spell_state(word)

    def _try_constraints(self, mine: dict[str, Any], wanted: dict[str, Any]) -> None:
        target, survey = self._target, self._survey
        # If only the first constraint counts, the code still gets the value that the user wants.
        both = self._submit("two_constraints", {**mine, target.field: target.unknown_key}, wanted)
        task_id = _task_id(both)
        if task_id is not None and survey.is_found("task-path", "task_path"):
            status = self._status("task_two_constraints", task_id, self._path)
            ended = self._follow(status, task_id)[-1]
            affected = ended.fields.get("codes_affected")
            survey.judge("constraints-all", str(affected) == "0", f"codes_affected {affected}")
        seen = self._submit("list_of_ids", {"extended_id": [target.extended_id]}, wanted)
        survey.judge("ids-list", seen.status == 200, describe(seen))
        constraints = {"extended_id": target.unknown_key, target.field: [target.unknown_key, target.no_field]}
        seen = self._submit("list_in_field", constraints, wanted)
        survey.judge("other-list", seen.status == 400, describe(seen))
        seen = self._submit("number", {"extended_id": target.unknown_key}, {target.field: 1})
        survey.judge("numbers-async", seen.status == 200, describe(seen))


def _has_ended(seen: Seen) -> bool:
    word = seen.fields.get("state")
    known = isinstance(word, str) and read_state(word) in (TaskState.COMPLETE, TaskState.FAILED)
    return known or seen.fields.get("completed_at") is not None


def _is_number(value: Any) -> bool:
    return isinstance(value, int) and not isinstance(value, bool)


def _task_id(seen: Seen) -> str | None:
    """Return the id of a submitted job; the service may call this field differently."""
    if seen.status != 200:
        return None
    texts = [seen.fields.get(name) for name in ("task_id", "id", "task", "uuid")]
    return next((str(text) for text in texts if isinstance(text, str | int) and str(text)), None)
