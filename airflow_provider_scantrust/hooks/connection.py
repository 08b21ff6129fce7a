"""Turn an Airflow connection into settings: check it, and mask its secrets in logs."""

from __future__ import annotations

import json
import os
from typing import Any

from airflow.providers.common.compat.sdk import conf, mask_secret

from airflow_provider_scantrust.api.settings import Settings, read_settings
from airflow_provider_scantrust.exceptions import ConfigurationError, ScantrustError, TransientError


def not_found(conn_id: str) -> ScantrustError:
    """
    Return the error for a connection that Airflow does not find.

    Airflow also says "not found" when a secrets backend is down. So with a secrets backend, a retry may find
    the connection; without one, the connection does not exist.
    """
    backends = [("secrets", "backend"), ("workers", "secrets_backend")]
    backend = next(filter(None, (conf.get(*option, fallback=None) for option in backends)), None)
    # A backend that is down is no excuse for an empty id.
    if backend is None or not conn_id:
        variable = f"AIRFLOW_CONN_{conn_id}".upper()
        if os.environ.get(variable):
            return ConfigurationError(
                f"{variable} is set, and Airflow cannot read it. Check the JSON and its names (the token is `password`); in a URI, "
                "percent-encode the token."
            )
        return ConfigurationError(
            f"There is no Airflow connection {conn_id!r}. Create it, or correct the id."
        )
    return TransientError(
        f"Airflow does not find the connection {conn_id!r}. It may not exist, or the secrets backend ({backend}) may be "
        "down, which Airflow reports in the same way."
    )


def settings_of(connection: Any, log: Any) -> Settings:
    """
    Read an Airflow connection and register its secret with Airflow's masker.

    This blocks: on an event loop, call it in a thread.
    """
    settings = read_settings(
        host=connection.host,
        schema=connection.schema,
        port=connection.port,
        login=connection.login,
        password=connection.password,
        extra=_read_extra(connection.extra),
    )
    # Both as stored and as used: a secret mounted from a file ends with a line break, which is removed.
    for secret in dict.fromkeys((connection.password, settings.secret)):
        mask_secret(secret)
    if settings.ignored:
        log.warning(
            "The extra of connection %r has unknown fields, which are ignored: %s.",
            connection.conn_id,
            ", ".join(settings.ignored),
        )
    return settings


def _read_extra(text: str | None) -> Any:
    """Parse the extra; with ``extra_dejson``, logs would mask each of its values, such as the word "login"."""
    try:
        return json.loads(text or "{}")
    except (ValueError, RecursionError):
        raise ConfigurationError(
            "The connection's extra must be a JSON object, but it is not valid JSON."
        ) from None
