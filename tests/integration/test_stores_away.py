"""A task state store that fails for a while, and what is still in it from before."""

from __future__ import annotations

from typing import Any

import pytest
from airflow.providers.common.compat.sdk import AirflowFailException

from airflow_provider_scantrust.sandbox import Sandbox
from tasks import Store, attempt, bottles


class AwayUntilTheEnd(Store):
    """A store that, while it is away, takes no progress but the report of a successful upload."""

    is_away = False

    def set(self, key: str, value: Any) -> None:
        if self.is_away and "ended" not in value:
            raise ConnectionError("the API server is away")
        super().set(key, value)


def test_success_is_not_kept_with_the_progress_of_other_rows(sandbox: Sandbox) -> None:
    store = AwayUntilTheEnd()
    sandbox.fault(path="/api/v2/scm/upload/", status=403, times=1)
    with pytest.raises(AirflowFailException):
        attempt(store, source=bottles(1))
    store.is_away = True
    attempt(store, try_number=2, source=bottles(2))
    store.is_away = False
    attempt(store, try_number=3, source=bottles(1))
    assert "FR" == (sandbox.code("SBX00000001") or {})["market"]
