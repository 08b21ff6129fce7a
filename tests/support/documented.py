"""The docs' Dags for a real Airflow, with files and a bucket where they say that there are some."""

from __future__ import annotations

import csv
import gzip
from pathlib import Path

from doc_blocks import ROOT, python_blocks

DAY = "2026-11-01"
_ROWS = (ROOT / "dags_examples" / "sample_data" / f"bottling-{DAY}.csv").read_text("utf-8").splitlines()
# A stand-in for the bucket: Airflow's object storage takes any file system for it.
_BUCKETS = """\
from airflow.sdk.io import attach
from fsspec.implementations.dirfs import DirFileSystem

attach("s3", "aws_default", fs=DirFileSystem({folder!r}))

"""


def write_dags(dags: Path, places: Path, page: str = "") -> None:
    """
    Write every Dag of the docs into the Dag folder.

    :param places: Where the docs' ``/data`` is to be, and their bucket.
    :param page: Only those of this page.
    """
    data, bucket = places / "data", places / "bottling"
    for folder in (data, bucket / "rejects"):
        folder.mkdir(parents=True)
    for name in ("rows.csv", "line-7.csv"):
        (data / name).write_text("\n".join(_ROWS[:4]), encoding="utf-8")
    rows = [
        "extended_id,EAN,remarks",
        *(f"{row['extended_id']},prod_1,by hand" for row in csv.DictReader(_ROWS[:6])),
        "NOWHERE,prod_1,",
    ]
    (bucket / f"{DAY}.csv.gz").write_bytes(gzip.compress("\n".join(rows).encode()))
    for block in python_blocks():
        if block.kind in ("dag", "tasks") and block.name.startswith(page):
            head = _BUCKETS.format(folder=str(places)) if "s3://" in block.code else ""
            text = head + block.dag_file.replace('"/data/', f'"{data}/')
            (dags / f"documented_{block.dag_ids[0]}.py").write_text(text, encoding="utf-8")
