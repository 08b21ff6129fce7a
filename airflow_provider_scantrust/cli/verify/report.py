"""The report of a survey: text for an issue, and the source of samples."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from airflow_provider_scantrust import __version__
from airflow_provider_scantrust.api.hosts import PRODUCTION
from airflow_provider_scantrust.cli.verify.masks import Masks
from airflow_provider_scantrust.cli.verify.survey import Seen, Survey
from airflow_provider_scantrust.exceptions import InvalidInput

_FORMAT = "airflow-provider-scantrust verify 1"
_STAGING = "https://api.staging.scantrust.io"

# Calls of a survey -> samples of tests/contract.
_SAMPLES = {
    "me": "me/ok",
    "no_credentials": "errors/no_credentials",
    "no_slash": "errors/no_slash",
    "unknown_path": "errors/unknown_path",
    "wrong_method": "errors/wrong_method",
    "not_json": "errors/not_json",
    "broken_json": "errors/broken_json",
    "no_items": "upload/no_items",
    "upload_updated": "upload/updated",
    "upload_nothing_matched": "upload/nothing_matched",
    "upload_field_discarded": "upload/field_discarded",
    "upload_everything_discarded": "upload/everything_discarded",
    "upload_product_unknown": "upload/unknown_product",
    "submit_accepted": "submit/accepted",
    "submit_list_in_field": "submit/list_of_lots",
    "task_unknown": "task/unknown",
}


def make_report(survey: Survey) -> dict[str, Any]:
    """Return the report, masked, as plain JSON."""
    settings = survey.hook.settings
    masks = Masks(_secrets(survey))
    services = {PRODUCTION: "production", _STAGING: "staging"}
    return {
        "format": _FORMAT,
        "version": __version__,
        "service": services.get(settings.base_url, "another host"),
        "findings": [
            {
                "line": each.line,
                "assumption": each.says,
                "verdict": each.verdict,
                "seen": masks.text(each.seen),
            }
            for each in survey.findings
        ],
        "extra": survey.extra,
        "notes": list(map(masks.text, survey.notes)),
        "answers": [masks.answer(seen) for seen in survey.seen],
    }


def write_samples(report_path: str, folder: str) -> list[Path]:
    """
    Turn a report into samples; return their paths.

    :raises InvalidInput: The file is not a report.
    """
    try:
        report = json.loads(Path(report_path).read_bytes())
        if report["format"] != _FORMAT:
            raise ValueError
        answers = [(_sample_name(answer), answer) for answer in report["answers"]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        raise InvalidInput(f"{report_path} is not a report of this command.") from error
    written = {}
    for name, answer in answers:
        path = Path(folder) / f"{name}.{answer['status']}.json"
        if name and path not in written:
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(
                json.dumps(_sample(answer), indent=2, ensure_ascii=False) + "\n", encoding="utf-8"
            )
            written[path] = name
    return list(written)


def _sample(answer: Mapping[str, Any]) -> dict[str, Any]:
    return {
        "source": "observed",
        "note": "From a report of the command verify; ids, names, times and values are masked.",
        **{name: answer[name] for name in ("status", "headers", "body")},
    }


def _sample_name(answer: Mapping[str, Any]) -> str:
    if answer["call"] == "task" and answer["status"] == 200 and isinstance(answer["body"], dict):
        return f"task/{str(answer['body'].get('state')).lower().replace('-', '_').replace(' ', '_')}"
    return _SAMPLES.get(answer["call"], "")


def _secrets(survey: Survey) -> dict[str, str]:
    settings = survey.hook.settings
    found = {settings.secret: "TOKEN", settings.login or "": "LOGIN", settings.host: "HOST"}
    for seen in survey.seen:
        if seen.call.startswith("me"):
            found |= dict.fromkeys(_texts(seen), "text")
    return found | survey.secrets


def _texts(seen: Seen) -> set[str]:
    """Return the texts of an answer that may be names."""
    texts: set[str] = set()
    left = [seen.body]
    while left:
        each = left.pop()
        if isinstance(each, dict):
            left += each.values()
        elif isinstance(each, list):
            left += each
        elif isinstance(each, str) and len(each) >= 4:
            texts.add(each)
    return texts
