"""What the chaos runs rest on: a script that can be repeated, and a judge that sees what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import yaml  # type: ignore[import-untyped]

import reliability_page
from airflow_client import TaskInstance
from chaos_judge import (
    ANY_NUMBER,
    NOT_KEPT,
    SUBMITTED_AGAIN,
    Ended,
    Verdict,
    judge_codes,
    judge_jobs,
    judge_search,
    judge_tasks,
)
from chaos_script import HOST_KILLS, KILLS, TROUBLES, write_script
from chaos_workload import DAG_ID, MEANT_TO_FAIL, Workload
from doc_blocks import ROOT
from secret_search import SecretSearch


@pytest.fixture
def workload(tmp_path: Path) -> Workload:
    return Workload(1, tmp_path)


def codes_of(workload: Workload) -> Iterator[dict[str, str]]:
    for upload in workload.uploads:
        for code, (market, case_id) in upload.expected.items():
            yield {"extended_id": code, "market": market, "case_id": case_id}
    for code in workload.bad_codes:
        yield {"extended_id": code, "market": "", "case_id": ""}


def jobs_of(workload: Workload) -> list[dict[str, Any]]:
    return [
        {
            "id": "1",
            "constraints": {"n": n},
            "scm_data": {"market": upload.name},
            "state": "complete",
        }
        for upload in workload.uploads
        for n in range(upload.jobs)
    ]


def task(task_id: str, state: str, **raw: Any) -> TaskInstance:
    return TaskInstance(task_id, -1, state, 2, None, None, None, {"dag_id": DAG_ID, "dag_run_id": "r", **raw})


def write_log(folder: Path, task_id: str, *lines: str) -> None:
    path = folder / f"dag_id={DAG_ID}" / "run_id=r" / f"task_id={task_id}" / "attempt=1.log"
    path.parent.mkdir(parents=True)
    path.write_text("\n".join(lines))


def test_same_seed_makes_the_same_events() -> None:
    assert write_script(7, 200, hosts=True) == write_script(7, 200, hosts=True)
    assert write_script(7, 200, hosts=True) != write_script(8, 200, hosts=True)


@pytest.mark.parametrize("seed", range(20))
def test_script_has_all_its_events_in_time_and_one_trouble_after_the_other(seed: int) -> None:
    script = write_script(seed, 200, hosts=True)
    assert sum(times for times, *_ in (KILLS | HOST_KILLS | TROUBLES).values()) == len(script)
    assert script == sorted(script, key=lambda event: event.at)
    troubles = [event for event in script if event.kind in TROUBLES]
    for one, next_one in pairwise(troubles):
        assert one.at + one.seconds <= next_one.at + 1e-6
    assert all(event.at + (event.seconds if event in troubles else 0) <= 200 for event in script)


def test_uploads_share_no_code(workload: Workload) -> None:
    codes = [code["extended_id"] for code in codes_of(workload)]
    assert len(codes) == len(set(codes))


def test_judge_finds_nothing_where_nothing_is_wrong(workload: Workload) -> None:
    verdict = Verdict()
    judge_codes(verdict, workload, codes_of(workload))
    judge_jobs(verdict, workload, jobs_of(workload), {})
    assert ([], 0, 0) == (verdict.wrong, verdict.lost, verdict.untold)
    assert verdict.codes > 2000


def test_judge_finds_a_code_with_another_value_and_one_that_is_gone(workload: Workload) -> None:
    verdict = Verdict()
    _, first, *codes = codes_of(workload)
    judge_codes(verdict, workload, [{**first, "market": "old"}, *codes])
    assert 2 == verdict.lost == len(verdict.wrong)


def test_judge_finds_jobs_that_were_submitted_again_and_not_told(workload: Workload) -> None:
    jobs = jobs_of(workload)
    name = jobs[0]["scm_data"]["market"]
    verdict = Verdict()
    judge_jobs(verdict, workload, [*jobs, jobs[0]], {name: 1})
    assert (1, 0, []) == (verdict.again, verdict.untold, verdict.wrong)
    verdict = Verdict()
    judge_jobs(verdict, workload, [*jobs, jobs[0]], {})
    assert (1, 1, 1) == (verdict.again, verdict.untold, len(verdict.wrong))


def test_judge_finds_jobs_that_are_missing_or_nobodys(workload: Workload) -> None:
    verdict = Verdict()
    stranger = {"id": "2", "constraints": {}, "scm_data": {"market": "?"}, "state": "complete"}
    judge_jobs(verdict, workload, [*jobs_of(workload)[1:], stranger], {})
    assert 2 == len(verdict.wrong)


def test_judge_reads_reports_and_logs(tmp_path: Path) -> None:
    failed = (
        '{"event": "Task failed with exception", "error_detail": '
        '[{"exc_type": "ServiceUnavailable", "exc_value": "Scantrust answered the status of task 1 with 502."}]}'
    )
    write_log(
        tmp_path,
        "lot",
        f'{{"event": "{SUBMITTED_AGAIN} of a cut"}}',
        '{"event": "cut by a kil',
        failed,
    )
    write_log(tmp_path, "items_sync", f'{{"event": "{NOT_KEPT} (AirflowRuntimeError)."}}')
    verdict = Verdict()
    ended = [
        Ended(1, task("lot", "success"), {"possibly_submitted_twice": 2}),
        Ended(1, task("items_sync", "running"), None),
        Ended(1, task("bad_row", "failed", dag_id=MEANT_TO_FAIL), None),
        Ended(2, task("bad_row", "success", dag_id=MEANT_TO_FAIL), None),
    ]
    told = judge_tasks(verdict, ended, tmp_path)
    assert (3, ANY_NUMBER) == (told["1-lot"], told["1-items_sync"])
    assert (1, 1, 4) == (verdict.false_failures, verdict.stuck, verdict.tries)
    assert 3 == len(verdict.wrong)


def test_judge_finds_a_secret_and_a_place_that_was_not_searched() -> None:
    search = SecretSearch(["secret"], [("logs/*", "mark"), ("database/*", "mark")])
    search.look([("logs/a", b"mark"), ("logs/b", b"a secret")])
    verdict = Verdict()
    judge_search(verdict, search)
    assert (1, 2) == (verdict.secrets, len(verdict.wrong))


def test_page_keeps_the_newest_lines_of_a_target(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "page.md"
    file.write_text("before\n<!-- soup: written by the runs -->\n<!-- soup: end -->\nafter\n")
    monkeypatch.setattr(reliability_page, "PAGE", file)
    for seed in range(5):
        reliability_page.write_line("soup", {"seed": seed, "lost": 0})
    text = file.read_text()
    assert text.startswith("before\n")
    assert text.endswith("after\n")
    rows = [f"| {seed} | 0 |" for seed in (2, 3, 4)]
    assert ["| seed | lost |", "| --- | --- |", *rows] == [line for line in text.splitlines() if "|" in line]
    with pytest.raises(ValueError, match="no place"):
        reliability_page.write_line("chaos", {"seed": 1})


def test_every_folder_that_the_compose_file_mounts_is_there() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"].values()
    mounts = {mount.partition(":")[0] for service in services for mount in service.get("volumes", ())}
    folders = {mount for mount in mounts if mount.startswith(".")}
    assert folders
    assert [] == [folder for folder in folders if not (ROOT / folder).is_dir()]


def test_compose_file_has_the_parts_of_the_distributed_run() -> None:
    services = yaml.safe_load((ROOT / "compose.yaml").read_text(encoding="utf-8"))["services"]
    assert {"sandbox", "postgres", "valkey", "api-server", "scheduler", "dag-processor"} <= services.keys()
    assert {"triggerer-1", "triggerer-2", "worker-1", "worker-2"} <= services.keys()
    for name, service in services.items():
        assert name == "sandbox" or service["network_mode"] == "service:sandbox"
        assert service.get("depends_on", {}).keys() <= services.keys()
        assert "image" in service or "build" in service
