"""The page "From the command line": each of its blocks runs, in its order."""

from __future__ import annotations

import shlex
from pathlib import Path

import pytest

from airflow_provider_scantrust.cli.main import main, make_parser
from airflow_provider_scantrust.cli.table import COMMANDS
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.sandbox import Sandbox
from doc_blocks import ROOT, indented_blocks

PAGE = ROOT / "docs" / "command-line.md"
BLOCKS = [text.strip() for _, text in indented_blocks([PAGE])]
_TASK_ID = "207b8ca0-9dc4-4531-8663-8854ae50acee"


def test_every_block_of_the_page_runs(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "rows.csv").write_text("extended_id,lot,note\nSBX00000001,L-1,x\n,L-2,y\n", encoding="utf-8")
    with Sandbox(seed=20) as sandbox:
        monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", sandbox.connection_uri)
        monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "server")
        task_id = ScantrustHook().submit({"lot_number": "L-000001"}, {"market": "FR"})
        for block in BLOCKS:
            program, group, *words = shlex.split(block.replace(_TASK_ID, task_id))
            assert ("airflow", "scantrust") == (program, group)
            if words[0] == "sandbox":
                # It runs until it is stopped; tests/cli does that.
                assert make_parser().parse_args(words)
                continue
            code = main(words)
            err = capsys.readouterr().err
            # A row of the file has no key.
            assert (3 if words[0] in ("plan", "upload") else 0) == code, f"{block}: {err}"
    assert (tmp_path / "rejects.csv").is_file()
    assert any((tmp_path / "tests" / "contract").rglob("*.json"))


def test_page_names_every_command() -> None:
    text = PAGE.read_text(encoding="utf-8")
    assert {command.name for command in COMMANDS} == {
        command.name for command in COMMANDS if f"| `{command.name}` |" in text
    }
    assert {command.name for command in COMMANDS} <= {block.split()[2] for block in BLOCKS}
