"""A URL whose storage this Airflow does not have."""

from __future__ import annotations

import pytest

from airflow_provider_scantrust.exceptions import ConfigurationError
from airflow_provider_scantrust.operators.files import find_path


class _Path:
    def __init__(self, path: str) -> None:
        self.path = path

    @property
    def fs(self) -> object:
        raise _Path.error

    error: Exception


@pytest.mark.parametrize(
    ("error", "advice"),
    [
        (
            ValueError("No filesystem registered for scheme s3"),
            "Install apache-airflow-providers-amazon[s3fs].",
        ),
        (
            ImportError("run: pip install apache-airflow-providers-amazon[s3fs]"),
            "cannot be used: run: pip install",
        ),
    ],
)
def test_missing_storage_is_an_error_of_the_configuration_that_says_what_to_install(
    monkeypatch: pytest.MonkeyPatch, error: Exception, advice: str
) -> None:
    monkeypatch.setattr("airflow.providers.common.compat.sdk.ObjectStoragePath", _Path, raising=False)
    monkeypatch.setattr(_Path, "error", error, raising=False)
    with pytest.raises(ConfigurationError) as caught:
        find_path("s3://bucket/rows.csv")
    assert "s3://bucket/rows.csv: " == str(caught.value)[:22]
    assert advice in str(caught.value)
    assert caught.value.permanent
