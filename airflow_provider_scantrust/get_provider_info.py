"""The provider's metadata. It imports almost nothing, because every Airflow component reads it."""

from __future__ import annotations

from typing import Any

from airflow_provider_scantrust.api.extras import EXTRAS

# Airflow 2 says dataset where Airflow 3 says asset.
_ASSET_URIS = {
    "schemes": ["scantrust"],
    "handler": "airflow_provider_scantrust.assets.scantrust.sanitize_uri",
    "factory": "airflow_provider_scantrust.assets.scantrust.create_asset",
    "to_openlineage_converter": "airflow_provider_scantrust.assets.scantrust.convert_asset_to_openlineage",
}

# Label and description of the extras that the form shows. The other extras are for a service that differs
# from what this package assumes.
_FIELDS = {
    "auth_scheme": (
        "Auth scheme",
        "UAT: a token made in the portal. JWT: a token you already have. "
        "login: user name and password, with the login endpoint below.",
    ),
    "login_endpoint": (
        "Login endpoint",
        "Path of Scantrust's login call. Only with the auth scheme login; there is no default.",
    ),
    "verify": ("Verify TLS", "true, false, or the path of a CA bundle on the workers and the triggerer."),
    "portal_url": ("Portal URL", "URL for the links in the Airflow UI. Not needed for production."),
    "allow_plain_http": (
        "Allow plain http",
        "Send the token unencrypted to a host that is not this machine.",
    ),
    "request_timeout": (
        "Request timeout (s)",
        "Seconds for one request and its answer. Scantrust's gateway times out after 60.",
    ),
    "retry_seconds": (
        "Retry budget (s)",
        "Seconds for which a call is repeated after 429, 5xx or no answer.",
    ),
    "max_polls_per_second": (
        "Status polls per second",
        "Maximum number of status polls from one triggerer. Scantrust allows 50 for a token: "
        "with two triggerers, 23 each.",
    ),
    "connect_timeout": ("Connect timeout (s)", "Seconds to reach the host."),
    "retry_attempts": (
        "Tries",
        "Maximum number of tries for a call that gets a 5xx or no answer. Default: as many as the retry budget allows.",
    ),
    "items_per_call": ("Rows per call", "Maximum number of rows in one synchronous call."),
}


def get_provider_info() -> dict[str, Any]:
    """Return the provider's metadata in the form of Airflow's ``provider_info`` schema."""
    return {
        "package-name": "airflow-provider-scantrust",
        "name": "Scantrust",
        "description": "Upload supply-chain data to Scantrust codes, and wait for the jobs without a worker.",
        "integrations": [
            {
                "integration-name": "Scantrust",
                "external-doc-url": "https://devportal.scantrust.com",
                "tags": ["service"],
            }
        ],
        **{
            kind: [
                {
                    "integration-name": "Scantrust",
                    "python-modules": [f"airflow_provider_scantrust.{kind}.scantrust"],
                }
            ]
            for kind in ("operators", "sensors", "hooks", "triggers")
        },
        "task-decorators": [
            {
                "name": "scantrust_upload",
                "class-name": "airflow_provider_scantrust.decorators.scantrust.scantrust_upload_task",
            }
        ],
        "cli": ["airflow_provider_scantrust.cli.commands.get_commands"],
        "extra-links": [
            "airflow_provider_scantrust.links.scantrust.ScantrustPortalLink",
            "airflow_provider_scantrust.links.scantrust.ScantrustReportLink",
        ],
        "plugins": [
            {
                "name": "scantrust",
                "plugin-class": "airflow_provider_scantrust.plugins.scantrust.ScantrustPlugin",
            }
        ],
        "asset-uris": [_ASSET_URIS],
        "dataset-uris": [_ASSET_URIS],
        "connection-types": [
            {
                "connection-type": "scantrust",
                "hook-class-name": "airflow_provider_scantrust.hooks.scantrust.ScantrustHook",
                "hook-name": "Scantrust",
                "ui-field-behaviour": {
                    # Not the port: without a port, the API of Airflow 3.3.2 refuses the Test button.
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "API base URL",
                        "port": "Port",
                        "login": "User name",
                        "password": "API token",
                    },
                    "placeholders": {
                        "host": "https://api.scantrust.com",
                        "port": "443 (the Test button of Airflow 3.3 needs it; tasks do not)",
                        "login": "only with the auth scheme login",
                        "password": "User Authorization Token from the Scantrust portal",
                        **{
                            name: _spell(EXTRAS[name].default)
                            for name in _FIELDS
                            if EXTRAS[name].default is not None
                        },
                    },
                },
                "conn-fields": {name: _field(name) for name in EXTRAS if name in _FIELDS},
            }
        ],
    }


def _field(name: str) -> dict[str, Any]:
    """
    Return one field of the connection form.

    The default is in its description and not in its schema: Airflow 3 would store it in each connection, and
    a new default would not apply to these.
    """
    extra, (label, description) = EXTRAS[name], _FIELDS[name]
    default = f" Default: {_spell(extra.default)}." if extra.default is not None else ""
    schema: dict[str, Any] = {"type": [extra.type, "null"]}
    if extra.choices:
        schema["enum"] = list(extra.choices)
    if name == "portal_url":
        schema["format"] = "url"
    return {"label": label, "description": f"{description}{default}", "schema": schema}


def _spell(value: Any) -> str:
    if isinstance(value, bool):
        return str(value).lower()
    return f"{value:g}" if isinstance(value, float) else str(value)
