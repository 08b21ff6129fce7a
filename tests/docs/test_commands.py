"""Commands, options and connections that the pages name are compared with what there is."""

from __future__ import annotations

import re
import shlex
from importlib.metadata import entry_points, metadata
from importlib.util import find_spec

import pytest

from airflow_provider_scantrust.cli.main import make_parser
from airflow_provider_scantrust.cli.table import COMMANDS
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox.cli import _parser
from doc_blocks import ALL_PAGES, ROOT, commands, options

MAKEFILE = (ROOT / "Makefile").read_text(encoding="utf-8")


def called(program: str) -> list[str]:
    found = [command for command in commands() if command.startswith(program)]
    assert found, f"the pages name no {program}; remove its test"
    return found


@pytest.mark.parametrize("command", called("make "))
def test_make_has_the_target_and_reads_the_setting(command: str) -> None:
    for word in command.split()[1:]:
        setting, is_setting, _ = word.partition("=")
        if is_setting:
            assert f"$({setting})" in MAKEFILE
        else:
            assert re.search(rf"^{word}:", MAKEFILE, re.MULTILINE)


@pytest.mark.parametrize("command", called("scantrust-sandbox "))
def test_sandbox_takes_the_options(command: str) -> None:
    arguments = shlex.split(command)[1:]
    if arguments != ["--help"]:
        _parser().parse_args(arguments)


def test_options_that_stand_alone_are_of_the_sandbox_or_a_command() -> None:
    ours = {flag for command in COMMANDS for argument in command.arguments for flag in argument.flags}
    assert options() <= set(_parser()._option_string_actions) | ours


@pytest.mark.parametrize("command", called("airflow "))
def test_airflow_has_the_command(command: str) -> None:
    from airflow.cli.cli_parser import get_parser

    words = shlex.split(command)[1:]
    if words[0] == "scantrust":
        # Not every Airflow takes commands from providers; the arguments are the same.
        if len(words) > 1 and "…" not in words:
            make_parser().parse_args(words[1:])
    else:
        get_parser().parse_args(words)


@pytest.mark.parametrize("command", called("python "))
def test_script_is_there(command: str) -> None:
    script, *rest = command.split()[1:]
    assert find_spec(rest[0]) if script == "-m" else (ROOT / script).is_file()


@pytest.mark.parametrize("command", called(".venv/bin/"))
def test_tool_is_installed(command: str) -> None:
    name = command.split()[0].rpartition("/")[2]
    assert name in entry_points(group="console_scripts").names


@pytest.mark.parametrize("command", called("export "))
def test_connection_can_be_used(command: str, monkeypatch: pytest.MonkeyPatch) -> None:
    (assignment,) = shlex.split(command)[1:]
    name, _, value = assignment.partition("=")
    monkeypatch.setenv(name, value.replace("<your token>", "token"))
    settings = ScantrustHook().settings
    assert "token" == settings.secret
    assert (90 if "90" in value else 75) == settings.request_timeout


def test_extras_are_declared() -> None:
    text = "".join(page.read_text(encoding="utf-8") for page in ALL_PAGES)
    named = {
        extra
        for extras in re.findall(r"airflow-provider-scantrust\[([\w,-]+)\]", text)
        for extra in extras.split(",")
    }
    assert named
    assert named <= set(metadata("airflow-provider-scantrust").get_all("Provides-Extra") or ())
