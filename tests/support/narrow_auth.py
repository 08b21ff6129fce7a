"""An auth manager for the tests of the UI: its users may read different Dags, which the simple one can not express."""

from __future__ import annotations

from typing import Any

from airflow.api_fastapi.auth.managers.simple.simple_auth_manager import SimpleAuthManager

# User -> the Dags that the user may see; any other user is as the simple auth manager has it.
READABLE: dict[str, set[str]] = {"guest": {"scantrust_sync_upload"}, "nobody": set()}


class NarrowAuthManager(SimpleAuthManager):
    """Keeps guests to the Dags that are theirs."""

    def is_authorized_dag(
        self, *, method: Any, user: Any, access_entity: Any = None, details: Any = None
    ) -> bool:
        """Return whether the user may do this with this Dag, or with any."""
        readable = READABLE.get(user.username)
        if readable is not None and not (details.id in readable if details and details.id else readable):
            return False
        return super().is_authorized_dag(
            method=method, user=user, access_entity=access_entity, details=details
        )
