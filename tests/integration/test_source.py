"""Uploading a source over a real socket: files in, codes updated, the fate of every row known."""

from __future__ import annotations

import csv
import gzip
import io
import json
import os
import signal
import time
from functools import partial
from pathlib import Path
from typing import Any

import pyarrow
import pytest
from airflow.providers.common.compat.sdk import AirflowFailException, AirflowTaskTimeout, ObjectStoragePath
from pyarrow import parquet

from airflow_provider_scantrust.decorators.scantrust import ScantrustUploadDecoratedOperator
from airflow_provider_scantrust.exceptions import SourceNotFound, TaskFailed
from airflow_provider_scantrust.hooks.scantrust import ScantrustHook
from airflow_provider_scantrust.operators.files import is_same_place
from airflow_provider_scantrust.operators.scantrust import ScantrustUploadOperator
from airflow_provider_scantrust.sandbox import Sandbox
from airflow_provider_scantrust.sources.fields import REJECTED
from airflow_provider_scantrust.sources.opening import open_source
from tasks import Store, TaskInstance, run

HEADER = ["extended_id", "market", "bottling_date"]


def upload(**options: Any) -> dict[str, Any]:
    options = {"deferrable": False, "poll_interval": 0.05, **options}
    result, _, _ = run(lambda: ScantrustUploadOperator(task_id="upload", **options))
    return dict(result)


def write_csv(path: Path, rows: list[list[str]], header: list[str] = HEADER) -> str:
    with path.open("w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    return str(path)


def bottle(number: int, market: str = "FR", day: str = "2026-11-01") -> list[str]:
    return [f"SBX{number:08d}", market, day]


@pytest.mark.parametrize("form", ["path", "url", "gzip", "json lines", "rows", "parquet"])
def test_source_arrives_in_every_form(sandbox: Sandbox, tmp_path: Path, form: str) -> None:
    rows = [bottle(number, f"M{number % 7}") for number in range(1, 51)]
    records = [dict(zip(HEADER, row, strict=True)) for row in rows]
    path = write_csv(tmp_path / "bottles.csv", rows)
    source: Any = path
    if form == "url":
        source = f"file://{path}"
    elif form == "gzip":
        source = str(tmp_path / "bottles.csv.gz")
        Path(source).write_bytes(gzip.compress(Path(path).read_bytes()))
    elif form == "json lines":
        source = str(tmp_path / "bottles.jsonl")
        Path(source).write_text("".join(json.dumps(record) + "\n" for record in records))
    elif form == "rows":
        source = records
    elif form == "parquet":
        source = str(tmp_path / "bottles.parquet")
        parquet.write_table(pyarrow.Table.from_pylist(records), source)
    context: Any = {"ti": TaskInstance()}
    report = ScantrustUploadOperator(task_id="upload", source=source, deferrable=False).execute(context)
    assert ("sync", 50, 50, 1) == (
        report["mode"],
        report["rows"],
        report["codes_affected"],
        report["requests"],
    )
    for record in records:
        code = sandbox.code(record["extended_id"])
        assert code is not None
        assert record["market"] == code["market"]


def test_columns_are_renamed_left_out_and_added(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "erp.csv", [["SBX00000001", "007", "x"]], ["code", "Country", "internal"])
    upload(
        source=source,
        columns={"code": "extended_id", "Country": "market", "internal": None},
        constants={"grape": "Syrah"},
    )
    code = sandbox.code("SBX00000001")
    assert code is not None
    assert ("007", "Syrah") == (code["market"], code["grape"])
    assert {"extended_id", "market", "grape"} == set(sandbox.transcript()[-1]["body"]["items"][0])


def test_dialect_of_the_source_is_as_given(sandbox: Sandbox, tmp_path: Path) -> None:
    source, rejects = tmp_path / "erp.txt", tmp_path / "rejects.txt"
    source.write_bytes("extended_id~market\nSBX00000001~'Å~\"'\nNOWHERE~'FR'\n".encode("latin-1"))
    given = {"source_format": "csv", "delimiter": "~", "quotechar": "'", "encoding": "latin-1"}
    upload(source=str(source), rejects_path=str(rejects), **given)
    code = sandbox.code("SBX00000001")
    assert code is not None
    assert 'Å~"' == code["market"]
    *_, last = rejects.read_text("latin-1").splitlines()
    assert last.startswith("'3'~'unmatched'~'")
    assert last.endswith("~'NOWHERE'~'FR'")


def test_rows_that_do_not_arrive_are_exactly_in_the_rejects_file(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(49_950)
    rows = [bottle(number) for number in range(1, 50_001)]
    refused, unknown, keyless = {100, 1500, 49_999}, {7, 8, 900, 20_000, 32_500}, {50, 60}
    for number in refused:
        rows[number][1:] = ["FR", "2026-11-01", "no such product"]
    for number in unknown:
        rows[number][0] = f"UNKNOWN{number:05d}"
    for number in keyless:
        rows[number][0] = ""
    table = [[*row, "prod_1"][:4] if len(row) == 3 else row for row in rows]
    for number, row in enumerate(table):
        # Rows that differ go synchronously, where Scantrust tells what became of each.
        row += ["red", f"CASE-{number}"]
    source = write_csv(tmp_path / "bottles.csv", table, [*HEADER, "product", "colour", "case_id"])
    rejects = tmp_path / "out" / "rejects.csv"
    report = upload(source=source, rejects_path=str(rejects), max_in_flight=4)
    assert 49_990 == report["codes_affected"] == sandbox.count(market="FR")
    assert (5, ["colour"]) == (report["unmatched"]["count"], report["discarded_fields"])
    assert {"key missing": 2, "refused": 3} == report["rejected"]
    with rejects.open(encoding="utf-8", newline="") as file:
        found = {int(row["rejected_line"]): row for row in csv.DictReader(file)}
    assert {number + 2 for number in refused | unknown | keyless} == set(found)
    for number in refused:
        assert "refused" == found[number + 2]["rejected_kind"]
        assert "product" in found[number + 2]["rejected_reason"]
    assert {"unmatched"} == {found[number + 2]["rejected_kind"] for number in unknown}
    assert {"key missing"} == {found[number + 2]["rejected_kind"] for number in keyless}


def test_mended_rejects_file_can_be_uploaded_as_it_is(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1), ["UNKNOWN", "FR", "2026-11-01"]])
    rejects = str(tmp_path / "rejects.csv")
    upload(source=source, rejects_path=rejects)
    text = Path(rejects).read_text(encoding="utf-8")
    Path(rejects).write_text(text.replace("UNKNOWN", "SBX00000002"), encoding="utf-8")
    assert 1 == upload(source=rejects)["codes_affected"]
    assert 2 == sandbox.count(market="FR")


@pytest.mark.parametrize("scheme", ["", "file://"])
def test_rejects_of_an_earlier_try_do_not_outlive_a_retry_that_updates_all_rows(
    sandbox: Sandbox, tmp_path: Path, scheme: str
) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1), bottle(51)])
    rejects = tmp_path / "a folder" / "that is not there" / "rejects.csv"
    options: dict[str, Any] = {"rejects_path": f"{scheme}{rejects}", "on_unmatched": "fail"}
    store = Store()
    with pytest.raises(AirflowFailException):
        try_once(store, source, **options)
    assert rejects.exists()
    sandbox.seed(1)
    try_once(store, source, try_number=3, cleared=True, **options)
    assert not rejects.exists()


def test_rejects_of_another_upload_are_never_touched(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1), bottle(51), bottle(52)])
    rejects, second = tmp_path / "rejects.csv", tmp_path / "rejects_2.csv"
    rejects.write_text("not ours")
    store = Store()
    report = try_once(store, source, rejects_path=str(rejects))
    assert ("not ours", str(second)) == (rejects.read_text(), report["rejects_path"])
    # A second try of this task instance replaces what the first one wrote.
    sandbox.seed(1)
    report = try_once(store, source, try_number=3, cleared=True, rejects_path=str(rejects))
    assert (str(second), 1) == (report["rejects_path"], report["unmatched"]["count"])
    with second.open() as file:
        assert ["SBX00000052"] == [row["extended_id"] for row in csv.DictReader(file)]
    # Once a user has changed it, it is the user's.
    second.write_text("fixed by hand")
    sandbox.seed(1)
    try_once(store, source, try_number=5, cleared=True, rejects_path=str(rejects))
    assert ("not ours", "fixed by hand") == (rejects.read_text(), second.read_text())
    assert {"bottles.csv", "rejects.csv", "rejects_2.csv"} == set(os.listdir(tmp_path))


def test_mapped_tasks_that_share_a_rejects_path_add_their_index(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1), bottle(51)])
    for index in (0, 1):
        ti = TaskInstance()
        ti.map_index = index
        context: Any = {"ti": ti}
        task = ScantrustUploadOperator(
            task_id="upload", source=source, rejects_path=str(tmp_path / "rejects.csv.gz")
        )
        assert str(tmp_path / f"rejects_{index}.csv.gz") == task.execute(context)["rejects_path"]


def test_rejects_of_an_earlier_upload_outlive_one_that_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1)])
    rejects = tmp_path / "rejects.csv"
    rejects.write_text("of yesterday")
    sandbox.fault(path="/api/v2/scm/upload/", status=401, times=None)
    with pytest.raises(AirflowFailException):
        upload(source=source, rejects_path=str(rejects))
    assert "of yesterday" == rejects.read_text()


def test_refused_rows_of_one_key_are_all_counted(sandbox: Sandbox, tmp_path: Path) -> None:
    rows = [["SBX00000001", "no such product"], ["SBX00000002", "prod_1"], *[["SBX00000001", "no such"]] * 2]
    source = write_csv(tmp_path / "b.csv", rows, ["extended_id", "product"])
    rejects = tmp_path / "rejects.csv"
    report = upload(source=source, rejects_path=str(rejects))
    assert {"refused": 3} == report["rejected"]
    assert 4 == len(rejects.read_text().splitlines())
    assert report["rejected"] == upload(source=source)["rejected"]
    with pytest.raises(AirflowFailException, match="refused 3 rows, more than max_rejected allows"):
        upload(source=source, max_rejected=2)


def test_log_names_the_first_refused_row_and_the_reason(
    sandbox: Sandbox, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    rows = [["SBX00000001", "prod_1"], ["SBX00000002", "no such product"], ["SBX00000003", "nor this"]]
    upload(source=write_csv(tmp_path / "b.csv", rows, ["extended_id", "product"]), max_in_flight=1)
    text = capsys.readouterr().out
    assert 1 == text.count("First refused row: extended_id 'SBX0000000")
    assert "such product" in text or "nor this" in text


def test_rejects_path_that_is_a_folder_is_refused_before_anything_is_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "b.csv", [bottle(51)])
    for path in (str(tmp_path), f"{tmp_path}/new/", f"file://{tmp_path}/"):
        with pytest.raises(AirflowFailException, match=r"is a folder\. Add the name of a file"):
            upload(source=source, rejects_path=path)
    assert [] == sandbox.transcript()
    assert ["b.csv"] == [entry.name for entry in tmp_path.iterdir()]


@pytest.mark.parametrize("rows", [None, [{"id": "SBX00000001", "day": "2026-11-01"}]])
def test_columns_and_constants_may_be_rendered_to_text(
    sandbox: Sandbox, tmp_path: Path, rows: list[dict[str, str]] | None
) -> None:
    source = rows or write_csv(tmp_path / "b.csv", [["SBX00000001", "2026-11-01"]], ["id", "day"])
    columns, constants = '{"id": "extended_id", "day": "bottling_date"}', "{'market': 'FR'}"
    report = upload(source=source, columns=columns, constants=constants)
    assert (1, []) == (report["codes_affected"], report["discarded_fields"])
    assert 1 == sandbox.count(market="FR", bottling_date="2026-11-01")


def test_login_that_is_refused_rejects_no_row(
    sandbox: Sandbox, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    connection = {
        **json.loads(sandbox.connection_json),
        "login": "sandbox",
        "password": "sandbox-password-not-a-secret",
        "extra": {"auth_scheme": "login", "login_endpoint": "/api/v2/auth/login/"},
    }
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    source = write_csv(tmp_path / "bottles.csv", [bottle(number) for number in range(1, 6)])
    rejects = tmp_path / "rejects.csv"
    wrong = {"non_field_errors": ["Unable to log in with provided credentials."]}
    sandbox.fault(path="/api/v2/auth/login/", status=400, times=None, body=wrong)
    with pytest.raises(
        AirflowFailException, match=r"AuthenticationFailed: .*password is wrong.*Unable to log in"
    ):
        upload(source=source, rejects_path=str(rejects))
    assert not rejects.exists()
    assert ["/api/v2/auth/login/"] == [entry["path"] for entry in sandbox.transcript()]


def test_row_that_went_async_after_a_504_is_counted_once(sandbox: Sandbox, tmp_path: Path) -> None:
    rows = [["UNKNOWN0", "A"], bottle(1)[:2], bottle(2)[:2], ["UNKNOWN3", "B"]]
    source = write_csv(tmp_path / "b.csv", rows, HEADER[:2])
    rejects = tmp_path / "rejects.csv"
    # The call, its first half, and of that the first row.
    sandbox.fault(path="/api/v2/scm/upload/", status=504, times=3)
    report = upload(source=source, rejects_path=str(rejects), max_in_flight=1)
    assert (2, 2) == (report["codes_affected"], report["unmatched"]["count"])
    # The call, its halves, the quarters of the first of them, and the job; there is no call for the job's one
    # row.
    assert 6 == report["requests"]
    assert {"UNKNOWN0", "UNKNOWN3"} == set(report["unmatched"]["examples"])
    with rejects.open() as file:
        # The row of the job was added after the wait.
        assert ["UNKNOWN3", "UNKNOWN0"] == [row["extended_id"] for row in csv.DictReader(file)]


def test_key_of_a_job_that_matched_nothing_is_rejected_without_a_call(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "b.csv", [["L-000001", "FR"], ["UNKNOWN", "DE"]], ["lot_number", "market"])
    rejects = tmp_path / "rejects.csv"
    # Synchronously each of them would time out.
    sandbox.configure(code_seconds=100.0)
    report = upload(source=source, data_key="lot_number", mode="async", rejects_path=str(rejects))
    assert (2, 1, ["UNKNOWN"]) == (
        report["requests"],
        report["unmatched"]["count"],
        report["unmatched"]["examples"],
    )
    with rejects.open() as file:
        assert ["UNKNOWN"] == [row["lot_number"] for row in csv.DictReader(file)]


def test_504_after_a_refused_job_halves_the_call_also_with_mode_async(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "b.csv", [bottle(number) for number in range(1, 9)])
    sandbox.fault(path="/api/v2/scm/upload/async/", status=400)
    sandbox.fault(path="/api/v2/scm/upload/", status=504, skip=1)
    report = upload(source=source, mode="async", max_in_flight=1)
    assert (8, {}) == (report["codes_affected"], report.get("rejected", {}))
    # The job, its first row alone, all rows, and both halves.
    assert 5 == report["requests"]


@pytest.mark.parametrize("field", [None, "case_id"])
def test_column_without_a_name_does_not_hinder_the_search_for_unmatched_rows(
    sandbox: Sandbox, tmp_path: Path, field: str | None
) -> None:
    rows = [["0", "SBX00000001", "FR"], ["0", "UNKNOWN", "FR"], ["0", "", "FR"]]
    source = write_csv(tmp_path / "b.csv", rows, ["", *HEADER[:2]])
    rejects = tmp_path / "rejects.csv"
    report = upload(source=source, columns={"": field}, rejects_path=str(rejects))
    assert (1, 1, {"key missing": 1}) == (
        report["codes_affected"],
        report["unmatched"]["count"],
        report["rejected"],
    )
    with rejects.open() as file:
        assert ["unmatched", "key missing"] == [row["rejected_kind"] for row in csv.DictReader(file)]


def test_identical_rows_become_few_jobs(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(3950)
    source = write_csv(tmp_path / "lots.csv", [bottle(number, f"M{number % 2}") for number in range(1, 4001)])
    report = upload(source=source)
    # Two jobs, and one call that tells which fields the campaign has.
    assert ("mixed", 3, 4000) == (report["mode"], report["requests"], report["codes_affected"])
    assert (2, []) == (len(report["task_ids"]), report["discarded_fields"])


@pytest.mark.parametrize("deferrable", [False, True])
@pytest.mark.parametrize("form", ["csv", "jsonl", "csv.gz", "decorated"])
def test_keys_of_jobs_that_match_nothing_are_found(
    sandbox: Sandbox, tmp_path: Path, deferrable: bool, form: str
) -> None:
    sandbox.jobs(polls=2, times=None)
    keys = ["L-000001", "NONE-1", "L-000002", "", "NONE-2", "L-000003"]
    records = [{"lot_number": key, "market": f"M{number}"} for number, key in enumerate(keys)]
    source = str(tmp_path / f"lots.{form}")
    rejects = str(tmp_path / ("rejects.csv" if form.startswith("csv") else "rejects.jsonl"))
    if form.endswith(".gz"):
        rejects += ".gz"
    options: dict[str, Any] = {
        "data_key": "lot_number",
        "deferrable": deferrable,
        "poll_interval": 0.05,
        "rejects_path": rejects,
    }
    if form == "csv":
        write_csv(Path(source), [list(record.values()) for record in records], ["lot_number", "market"])
    elif form == "csv.gz":
        write_csv(tmp_path / "x", [list(record.values()) for record in records], ["lot_number", "market"])
        Path(source).write_bytes(gzip.compress((tmp_path / "x").read_bytes()))
    elif form == "jsonl":
        Path(source).write_text("".join(json.dumps(record) + "\n" for record in records))

    def make() -> ScantrustUploadOperator:
        if form == "decorated":
            return ScantrustUploadDecoratedOperator(
                task_id="upload", python_callable=lambda: iter(records), **options
            )
        return ScantrustUploadOperator(task_id="upload", source=source, **options)

    report, _, states = run(make)
    assert deferrable == ("deferred" in states)
    assert (30, 2, 5) == (report["codes_affected"], report["unmatched"]["count"], report["requests"])
    assert {"NONE-1", "NONE-2"} == set(report["unmatched"]["examples"])
    first = 2 if form.startswith("csv") else 1
    expected = {
        (1 + first, "unmatched", "NONE-1"),
        (4 + first, "unmatched", "NONE-2"),
        (3 + first, "key missing", ""),
    }
    if form == "decorated" and deferrable:
        # The function is not called again, so the keys are in a file of their own, without lines.
        assert {(None, "unmatched", "NONE-1"), (None, "unmatched", "NONE-2")} == rejected_in(
            str(tmp_path / "rejects_2.jsonl")
        )
        expected = {(3 + first, "key missing", "")}
    assert expected == rejected_in(rejects)


def test_keys_of_rows_that_cannot_be_read_again_are_packed_as_the_name_says(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    rows = [{"lot_number": "L-000001", "market": "M"}, {"lot_number": "NONE", "market": "M"}]
    rejects = tmp_path / "rejects.jsonl.gz"

    def make() -> ScantrustUploadOperator:
        return ScantrustUploadDecoratedOperator(
            task_id="upload",
            python_callable=lambda: iter(rows),
            data_key="lot_number",
            poll_interval=0.05,
            rejects_path=str(rejects),
        )

    sandbox.jobs(polls=2, times=None)
    run(make)
    (written,) = gzip.decompress(rejects.read_bytes()).splitlines()
    assert "NONE" == json.loads(written)["lot_number"]


def rejected_in(path: str) -> set[tuple[int | None, str, str]]:
    columns = {name: name for name in REJECTED}
    with open_source(path, partial(io.FileIO, path), columns=columns) as source:
        rows = [row for _, row in source if isinstance(row, dict)]
    return {
        (
            int(row["rejected_line"]) if row.get("rejected_line") else None,
            row["rejected_kind"],
            row["lot_number"],
        )
        for row in rows
    }


@pytest.mark.parametrize("what", ["changed", "gone", "unreadable"])
def test_source_that_is_not_as_it_was_does_not_fail_an_upload_that_has_ended(
    sandbox: Sandbox, tmp_path: Path, what: str, capsys: pytest.CaptureFixture[str]
) -> None:
    sandbox.jobs(polls=2, times=None)
    path, rejects = tmp_path / "lots.csv", tmp_path / "rejects.csv"
    rows = [["L-000001", "FR"], ["NONE", "DE"], ["L-000002", "IT"]]
    write_csv(path, rows, ["lot_number", "market"])

    def make() -> ScantrustUploadOperator:
        if sandbox.tasks():
            if what == "changed":
                write_csv(path, [["ANOTHER", "FR"], ["ROW", "FR"], *rows], ["lot_number", "market"])
            elif what == "gone":
                path.unlink(missing_ok=True)
            else:
                path.write_bytes(b"\xff\x00")
        return ScantrustUploadOperator(
            task_id="upload",
            source=str(path),
            data_key="lot_number",
            rejects_path=str(rejects),
            poll_interval=0.05,
        )

    report, _, _ = run(make)
    assert (20, 1, 3) == (report["codes_affected"], report["unmatched"]["count"], report["requests"])
    assert {(None, "unmatched", "NONE")} == rejected_in(str(rejects))
    assert "cannot be read as it was uploaded" in capsys.readouterr().out


def test_forced_jobs_count_unmatched_rows_and_do_not_list_them(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", [bottle(1), bottle(2), bottle(99)])
    report = upload(source=source, mode="async", rejects_path=str(tmp_path / "rejects.csv"))
    assert (1, 2, 1) == (report["requests"], report["codes_affected"], report["unmatched"]["count"])
    assert report["discarded_fields"] is None
    assert not (tmp_path / "rejects.csv").exists()


@pytest.mark.parametrize("what", ["changed", "gone"])
def test_rejects_are_the_rows_that_were_read_whatever_became_of_the_source(
    sandbox: Sandbox, tmp_path: Path, what: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    path, rejects = tmp_path / "b.csv", tmp_path / "rejects.csv"
    write_csv(path, [bottle(1), ["UNKNOWN", "FR", "2026-11-01"], bottle(2)])
    real = ScantrustHook.upload

    def upload_and_change(hook: ScantrustHook, *args: Any, **options: Any) -> Any:
        if what == "changed":
            write_csv(path, [["OTHER", "DE", "2026-11-01"]] * 5)
        else:
            path.unlink()
        return real(hook, *args, **options)

    monkeypatch.setattr(ScantrustHook, "upload", upload_and_change)
    report = upload(source=str(path), rejects_path=str(rejects))
    assert (2, 1) == (report["codes_affected"], report["unmatched"]["count"])
    with rejects.open() as file:
        assert [("3", "UNKNOWN")] == [
            (row["rejected_line"], row["extended_id"]) for row in csv.DictReader(file)
        ]


def test_retry_of_an_upload_whose_source_is_gone_only_waits(sandbox: Sandbox, tmp_path: Path) -> None:
    path, store = tmp_path / "lots.csv", Store()
    write_csv(path, [["L-000001", "FR"], ["NONE", "DE"]], ["lot_number", "market"])
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403)
    options: dict[str, Any] = {"data_key": "lot_number", "rejects_path": str(tmp_path / "rejects.csv")}
    with pytest.raises(AirflowFailException, match="PermissionDenied"):
        try_once(store, str(path), **options)
    path.unlink()
    report = try_once(store, str(path), try_number=2, **options)
    assert (2, 10, 1, 2) == (
        report["rows"],
        report["codes_affected"],
        report["unmatched"]["count"],
        report["requests"],
    )
    assert 2 == len(sandbox.tasks())


def test_missing_source_may_come_late(sandbox: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "not yet.csv"
    for source in (str(path), f"file://{path}"):
        with pytest.raises(SourceNotFound, match=r"not yet\.csv"):
            upload(source=source)
    write_csv(path, [bottle(1)])
    assert 1 == upload(source=str(path))["codes_affected"]


def test_field_that_the_campaign_discards_is_found_before_any_job(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(2950)
    rows = [[f"SBX{number:08d}", "L1"] for number in range(1, 2501)]
    source = write_csv(tmp_path / "b.csv", rows, ["extended_id", "LOT"])
    with pytest.raises(AirflowFailException, match=r"DiscardedFields: .*LOT.*No job was submitted"):
        upload(source=source, on_discarded="fail")
    assert [] == sandbox.tasks()
    report = upload(source=source)
    assert (["LOT"], 1) == (report["discarded_fields"], report["jobs"])


def test_after_a_clear_calls_that_discarded_a_field_are_repeated(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(4950)
    rows = [[f"SBX{number:08d}", "FR", "x"] for number in range(1, 2601)]
    source = write_csv(tmp_path / "b.csv", rows, ["extended_id", "market", "cellar"])
    store = Store()
    sandbox.jobs(fail=True)
    with pytest.raises(TaskFailed):
        try_once(store, source)
    # An ordinary retry submits only the job again, a clear also what the field was discarded of.
    sandbox.jobs(fail=True)
    with pytest.raises(TaskFailed):
        try_once(store, source, try_number=2)
    assert 1 == len([entry for entry in sandbox.transcript() if entry["path"] == "/api/v2/scm/upload/"])
    sandbox.clear_transcript()
    report = try_once(store, source, try_number=3, cleared=True)
    assert 1 == len([entry for entry in sandbox.transcript() if entry["path"] == "/api/v2/scm/upload/"])
    assert 2600 == report["codes_affected"]


def test_dry_run_returns_the_plan_and_sends_nothing(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(number, str(number)) for number in range(1, 1500)])
    plan = upload(source=source, dry_run=True)
    assert [] == sandbox.transcript()
    assert (1499, 1499, 2) == (plan["rows"], plan["keys"], plan["sync_calls"])


@pytest.mark.parametrize(("extra", "calls"), [({"items_per_call": 2}, 5), (None, 1)])
def test_dry_run_plans_with_the_connection_if_there_is_one(
    sandbox: Sandbox,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    extra: dict[str, Any] | None,
    calls: int,
) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(number) for number in range(1, 11)])
    connection = json.loads(sandbox.connection_json)
    connection["extra"] = {**connection.get("extra", {}), **(extra or {})}
    monkeypatch.setenv("AIRFLOW_CONN_SCANTRUST_DEFAULT", json.dumps(connection))
    monkeypatch.setenv("_AIRFLOW_PROCESS_CONTEXT", "client")
    conn_id = "scantrust_default" if extra else "nowhere"
    plan = upload(source=source, dry_run=True, mode="sync", scantrust_conn_id=conn_id)
    assert calls == plan["sync_calls"]


@pytest.mark.parametrize(
    ("options", "sent"),
    [({"max_rejected": 1}, False), ({"max_rejected": 0.1}, False), ({"max_rejected": 3}, True), ({}, True)],
)
def test_too_many_bad_rows_end_the_upload(sandbox: Sandbox, tmp_path: Path, options: Any, sent: bool) -> None:
    source = write_csv(
        tmp_path / "b.csv", [*(bottle(number) for number in range(1, 11)), ["", "x", ""], [" ", "x", ""]]
    )
    if sent:
        assert 10 == upload(source=source, **options)["codes_affected"]
        return
    limit = options["max_rejected"]
    with pytest.raises(
        AirflowFailException, match=rf"Nothing was sent \(max_rejected={limit}\): 2 of 12 rows"
    ):
        upload(source=source, rejects_path=str(tmp_path / "rejects.csv"), **options)
    assert [] == sandbox.transcript()
    assert 3 == len((tmp_path / "rejects.csv").read_text().splitlines())


def test_file_without_any_good_row_fails(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", [["A", "B"]], ["wrong", "header"])
    with pytest.raises(AirflowFailException, match="there is no column 'extended_id'"):
        upload(source=source)


@pytest.mark.parametrize("options", [{}, {"max_rejected": 3}])
def test_file_whose_rows_are_all_refused_fails(
    sandbox: Sandbox, tmp_path: Path, options: dict[str, Any]
) -> None:
    rows = [[f"SBX{number:08d}", "no such product", str(number)] for number in range(1, 4)]
    source = write_csv(tmp_path / "b.csv", rows, ["extended_id", "product", "case_id"])
    rejects = tmp_path / "rejects.csv"
    said = "TooManyRejected: Scantrust refused 3 rows and accepted none.*no such product"
    with pytest.raises(AirflowFailException, match=said):
        upload(source=source, rejects_path=str(rejects), **options)
    assert 4 == len(rejects.read_text().splitlines())


def test_missing_column_is_named(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "b.csv", [bottle(1)])
    with pytest.raises(AirflowFailException, match=r"InvalidInput.*EAN"):
        upload(source=source, columns={"EAN": "product"})


def test_empty_file_is_no_call_and_no_failure(sandbox: Sandbox, tmp_path: Path) -> None:
    assert 0 == upload(source=write_csv(tmp_path / "b.csv", []))["rows"]
    assert [] == sandbox.transcript()


def try_once(
    store: Store, source: str, try_number: int = 1, cleared: bool = False, **options: Any
) -> dict[str, Any]:
    ti = TaskInstance()
    ti.try_number = try_number
    if cleared:
        ti.max_tries = try_number - 1 + ti.task.retries
    context: Any = {"ti": ti, "task_state_store": store}
    options = {"deferrable": False, "poll_interval": 0.05, "max_in_flight": 1, **options}
    return dict(ScantrustUploadOperator(task_id="upload", source=source, **options).execute(context))


def test_retry_goes_on_where_the_last_try_stopped(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(4950)
    source = write_csv(tmp_path / "bottles.csv", [bottle(number, str(number)) for number in range(1, 5001)])
    sandbox.fault(path="/api/v2/scm/upload/", status=403, skip=3)
    store = Store()
    with pytest.raises(AirflowFailException, match="PermissionDenied"):
        try_once(store, source)
    assert len(json.dumps(store)) < 2000
    sandbox.clear_transcript()
    report = try_once(store, source, try_number=2)
    assert (5000, 5000, 6) == (report["rows"], report["codes_affected"], report["requests"])
    assert 3 == len(sandbox.transcript())
    sandbox.clear_transcript()
    assert 6 == try_once(store, source, try_number=3, cleared=True)["requests"] == len(sandbox.transcript())


def test_retry_attaches_to_submitted_jobs(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(2950)
    source = write_csv(tmp_path / "lots.csv", [bottle(number) for number in range(1, 3001)])
    store = Store()
    sandbox.fault(path="/api/v2/scm/tasks/*", status=403)
    with pytest.raises(AirflowFailException, match="PermissionDenied"):
        try_once(store, source)
    report = try_once(store, source, try_number=2)
    assert [task["id"] for task in sandbox.tasks()] == report["task_ids"]
    assert (2, 3000) == (report["requests"], report["codes_affected"])


def test_failed_job_is_submitted_anew_by_a_retry(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(2950)
    source = write_csv(tmp_path / "lots.csv", [bottle(number) for number in range(1, 3001)])
    store = Store()
    sandbox.jobs(fail=True)
    with pytest.raises(Exception, match="failed at Scantrust"):
        try_once(store, source)
    assert 3000 == try_once(store, source, try_number=2)["codes_affected"]
    assert 2 == len(sandbox.tasks())


def test_upload_that_runs_out_of_time_ends_at_once(sandbox: Sandbox, tmp_path: Path) -> None:
    sandbox.seed(2950)
    sandbox.fault(path="/api/v2/scm/upload/", status=429, headers={"Retry-After": "200"}, skip=1, times=None)
    source = write_csv(tmp_path / "bottles.csv", [bottle(number, str(number)) for number in range(1, 3001)])
    started = time.monotonic()

    def out_of_time(*_: Any) -> None:
        raise AirflowTaskTimeout("no time left")

    before = signal.signal(signal.SIGALRM, out_of_time)
    signal.setitimer(signal.ITIMER_REAL, 1.5)
    try:
        with pytest.raises(AirflowTaskTimeout):
            upload(source=source, max_in_flight=4)
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert time.monotonic() - started < 10


def test_changed_source_starts_anew_and_says_so(
    sandbox: Sandbox, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    sandbox.seed(1950)
    source = write_csv(tmp_path / "bottles.csv", [bottle(number, str(number)) for number in range(1, 2001)])
    sandbox.fault(path="/api/v2/scm/upload/", status=403, skip=1)
    store = Store()
    with pytest.raises(AirflowFailException):
        try_once(store, source)
    write_csv(tmp_path / "bottles.csv", [bottle(number, f"x{number}") for number in range(1, 2001)])
    assert 2000 == try_once(store, source, try_number=2)["codes_affected"]
    assert "starts over" in capsys.readouterr().out + caplog.text
    assert 0 == sandbox.count(market="1")


@pytest.mark.parametrize("form", ["path object", "url", "roundabout", "link"])
def test_source_is_not_overwritten_by_its_rejects(sandbox: Sandbox, tmp_path: Path, form: str) -> None:
    path = tmp_path / "bottles.csv"
    write_csv(path, [bottle(1), ["", "FR", "2026-11-01"]])
    before = path.read_bytes()
    (tmp_path / "link.csv").symlink_to(path)
    rejects: Any = {
        "path object": path,
        "url": f"file://{path}",
        "roundabout": f"{tmp_path}/../{tmp_path.name}/bottles.csv",
        "link": tmp_path / "link.csv",
    }[form]
    with pytest.raises(AirflowFailException, match="rejects_path is the source itself"):
        upload(source=path, rejects_path=rejects)
    assert before == path.read_bytes()
    assert [] == sandbox.transcript()


def test_paths_may_be_path_objects(sandbox: Sandbox, tmp_path: Path) -> None:
    write_csv(tmp_path / "bottles.csv", [bottle(1), ["", "FR", "2026-11-01"]])
    report = upload(source=tmp_path / "bottles.csv", rejects_path=tmp_path / "rejects.csv")
    assert {"key missing": 1} == report["rejected"]
    assert "key missing" in (tmp_path / "rejects.csv").read_text(encoding="utf-8")


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ("s3://aws_default@box/x.csv", "s3://box/x.csv", True),
        ("s3://box/x.csv", "s3://other/x.csv", False),
        ("s3://one@box/x.csv", "s3://two@box/x.csv", False),
        ("s3://box/x.csv", "gs://box/x.csv", False),
        ("abfss://a@account.dfs.core.windows.net/x", "abfss://b@account.dfs.core.windows.net/x", False),
    ],
)
def test_place_is_the_same_whatever_connection_leads_to_it(one: str, other: str, same: bool) -> None:
    assert same == is_same_place(one, other)


def test_path_of_airflows_object_storage_is_a_path(sandbox: Sandbox, tmp_path: Path) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1), ["UNKNOWN", "FR", "2026-11-01"]])
    rejects = tmp_path / "rejects.csv"
    report = upload(
        source=ObjectStoragePath(f"file://{source}"), rejects_path=ObjectStoragePath(f"file://{rejects}")
    )
    assert (1, 1) == (report["codes_affected"], report["unmatched"]["count"])
    assert 2 == len(rejects.read_text().splitlines())


def test_rejects_path_that_is_none_is_refused_before_anything_is_sent(
    sandbox: Sandbox, tmp_path: Path
) -> None:
    source = write_csv(tmp_path / "bottles.csv", [bottle(1)])
    with pytest.raises(AirflowFailException, match="rejects_path must be a path"):
        upload(source=source, rejects_path=["r.csv"])
    assert [] == sandbox.transcript()


def test_entry_of_a_folder_is_a_path(tmp_path: Path) -> None:
    (tmp_path / "bottles.csv").touch()
    (entry,) = os.scandir(tmp_path)
    assert str(tmp_path / "bottles.csv") == ScantrustUploadOperator(task_id="upload", source=entry).source
