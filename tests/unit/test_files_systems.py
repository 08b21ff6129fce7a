"""Files as business systems and people have them: each arrives as it was meant, or one sentence says what to do."""

from __future__ import annotations

import io
from typing import Any

import pytest

from airflow_provider_scantrust.exceptions import InvalidInput
from uploaded import KEY, upload

pyarrow: Any = pytest.importorskip("pyarrow")
parquet: Any = pytest.importorskip("pyarrow.parquet")
pytest.importorskip("python_calamine")


def table(*rows: tuple[str, str], **options: Any) -> bytes:
    keys, lots = zip(*rows, strict=True) if rows else ((), ())
    text = pyarrow.string()
    out = io.BytesIO()
    parquet.write_table(
        pyarrow.table({KEY: pyarrow.array(keys, text), "lot": pyarrow.array(lots, text)}), out, **options
    )
    return out.getvalue()


@pytest.mark.parametrize("options", [{}, {"write_page_index": True}, {"use_dictionary": False}])
@pytest.mark.parametrize("last", [[("CODE0003", "L3"), ("CODE0004", "L4")], [("CODE0003", "L3")], []])
def test_parquet_files_that_were_joined_are_refused(
    last: list[tuple[str, str]], options: dict[str, Any]
) -> None:
    first = table(("CODE0001", "L1"), ("CODE0002", "L2"), **options)
    assert 2 == len(upload(first, "a.parquet").rows)
    with pytest.raises(InvalidInput, match=r"several Parquet files in one.*upload them one by one"):
        upload(first + table(*last, **options), "a.parquet")
