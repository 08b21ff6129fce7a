"""`verify`: check the assumptions about the service against the service."""

from __future__ import annotations

import argparse
import json
import os
import sys
from pathlib import Path

from airflow_provider_scantrust.api.texts import plural
from airflow_provider_scantrust.cli.hook import CommandHook
from airflow_provider_scantrust.cli.output import NOT_ALL, Output, rows
from airflow_provider_scantrust.cli.verify.reading import judge_errors, look, look_at_logins
from airflow_provider_scantrust.cli.verify.report import make_report, write_samples
from airflow_provider_scantrust.cli.verify.survey import Survey
from airflow_provider_scantrust.cli.verify.target import Target
from airflow_provider_scantrust.cli.verify.writing import write
from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook


def verify(arguments: argparse.Namespace, out: Output) -> int:
    """Check the service, or turn a report into samples."""
    if arguments.samples:
        written = write_samples(*arguments.samples)
        out.result([str(path) for path in written], rows(("sample",), [[path] for path in written]))
        return 0
    hook = CommandHook(arguments.conn_id, out)
    target = _target(arguments)
    survey = Survey(hook)
    if target is not None:
        survey.secrets |= target.masks
        if not arguments.yes:
            _confirm(hook, target, out)
    try:
        run_survey(survey, target, out)
    finally:
        # Also after an error or Ctrl-C, write a report of the calls before it.
        if survey.seen:
            _write_report(survey, arguments.report, out)
    found = survey.findings
    if differs := [each for each in found if each.verdict == "differs"]:
        out.say(f"{plural(len(differs), 'assumption')} differ{'s' if len(differs) == 1 else ''}.")
        out.say(f"Please attach {arguments.report} to an issue; look at it first.")
    if survey.extra:
        out.say("Set this in the connection's extra:")
        out.say(json.dumps(survey.extra))
    return NOT_ALL if differs else 0


def run_survey(survey: Survey, target: Target | None, out: Output) -> None:
    """Make all calls."""
    with out.waiting(f"Calling {survey.hook.settings.host}"):
        look(survey)
        try:
            if target is not None:
                write(survey, target)
            look_at_logins(survey)
        finally:
            judge_errors(survey)
            if target is not None and survey.is_value_changed:
                out.warning(
                    "The field %r of %r may not have the value %r now. Please set it.",
                    target.field,
                    target.extended_id,
                    target.value,
                )
    for note in survey.notes:
        out.warning("%s", note)


def _target(arguments: argparse.Namespace) -> Target | None:
    given = [arguments.extended_id, arguments.field, arguments.value]
    if given == [None, None, None]:
        return None
    if not all(given):
        raise ConfigurationError("--extended-id, --field and --value go together, and none may be empty.")
    return Target(*given)


def _confirm(hook: ScantrustHook, target: Target, out: Output) -> None:
    out.say(
        f"This writes to the code {target.extended_id!r} at {hook.settings.base_url}: the field {target.field!r} gets some "
        f"other values, one after the other, and at the end {target.value!r}. It makes about 20 uploads and 5 jobs."
    )
    if not sys.stdin.isatty():
        raise ConfigurationError("There is no terminal to confirm this; give --yes. Nothing was sent.")
    out.say("Write it? [y/N] ")
    if sys.stdin.readline().strip().lower() not in ("y", "yes"):
        raise ConfigurationError("It was not confirmed. Nothing was sent.")


def _write_report(survey: Survey, path: str, out: Output) -> None:
    report = make_report(survey)
    found = report["findings"]
    columns = ("line", "assumption", "verdict", "seen")
    out.result(report, rows(("id", *columns[1:]), [[each[name] for name in columns] for each in found]))
    part = Path(f"{path}.{os.getpid()}.part")
    try:
        part.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        os.replace(part, path)
    finally:
        part.unlink(missing_ok=True)
    out.say(f"The report, with all ids, tokens, names and values masked, is {path}.")
