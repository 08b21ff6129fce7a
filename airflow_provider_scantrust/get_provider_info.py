"""What Airflow reads about this provider; it imports nothing, since every Airflow component calls it."""

from __future__ import annotations

from typing import Any

CONNECTION_TYPE = "scantrust"

# Airflow 2 says dataset where Airflow 3 says asset.
_ASSET_URIS = {
    "schemes": ["scantrust"],
    "handler": "airflow_provider_scantrust.assets.scantrust.sanitize_uri",
    "factory": "airflow_provider_scantrust.assets.scantrust.create_asset",
    "to_openlineage_converter": "airflow_provider_scantrust.assets.scantrust.convert_asset_to_openlineage",
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
        "operators": [
            {
                "integration-name": "Scantrust",
                "python-modules": ["airflow_provider_scantrust.operators.scantrust"],
            }
        ],
        "sensors": [
            {
                "integration-name": "Scantrust",
                "python-modules": ["airflow_provider_scantrust.sensors.scantrust"],
            }
        ],
        "hooks": [
            {
                "integration-name": "Scantrust",
                "python-modules": ["airflow_provider_scantrust.hooks.scantrust"],
            }
        ],
        "triggers": [
            {
                "integration-name": "Scantrust",
                "python-modules": ["airflow_provider_scantrust.triggers.scantrust"],
            }
        ],
        "task-decorators": [
            {
                "name": "scantrust_upload",
                "class-name": "airflow_provider_scantrust.decorators.scantrust.scantrust_upload_task",
            }
        ],
        "extra-links": ["airflow_provider_scantrust.links.scantrust.ScantrustPortalLink"],
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
                "connection-type": CONNECTION_TYPE,
                "hook-class-name": "airflow_provider_scantrust.hooks.scantrust.ScantrustHook",
                "hook-name": "Scantrust",
                "ui-field-behaviour": {
                    # Not the port: without one, the Test button of Airflow 3.3.2 is refused by its own API.
                    "hidden-fields": ["schema"],
                    "relabeling": {
                        "host": "API base URL",
                        "port": "Port",
                        "login": "User name",
                        "password": "API token",
                    },
                    "placeholders": {
                        "host": "https://api.scantrust.com (when empty)",
                        "port": "the one of the API base URL (when empty)",
                        "login": "only with the auth scheme login",
                        "password": "User Authorization Token from the Scantrust portal",
                    },
                },
                "conn-fields": {
                    "auth_scheme": {
                        "label": "Auth scheme",
                        "description": "UAT: a token made in the portal. JWT: a token you already have. "
                        "login: user name and password, with the login endpoint below.",
                        "schema": {
                            "type": ["string", "null"],
                            "enum": ["UAT", "JWT", "login"],
                            "default": "UAT",
                        },
                    },
                    "login_endpoint": {
                        "label": "Login endpoint",
                        "description": "Path of Scantrust's login call. Only with the auth scheme login; "
                        "there is no default.",
                        "schema": {"type": ["string", "null"]},
                    },
                    "request_timeout": {
                        "label": "Request timeout (s)",
                        "description": "Seconds for one request and its answer. Scantrust's gateway gives up after 60.",
                        "schema": {"type": ["number", "null"], "default": 75, "minimum": 1, "maximum": 86400},
                    },
                    "connect_timeout": {
                        "label": "Connect timeout (s)",
                        "description": "Seconds to reach the host.",
                        "schema": {"type": ["number", "null"], "default": 10, "minimum": 1, "maximum": 86400},
                    },
                    "retry_attempts": {
                        "label": "Tries",
                        "description": "Tries in all for a call that got a 5xx or no answer.",
                        "schema": {"type": ["integer", "null"], "default": 5, "minimum": 1, "maximum": 1000},
                    },
                    "retry_seconds": {
                        "label": "Retry budget (s)",
                        "description": "Seconds after which a call is given up, waits for the rate limit included.",
                        "schema": {
                            "type": ["number", "null"],
                            "default": 300,
                            "minimum": 1,
                            "maximum": 86400,
                        },
                    },
                    "max_polls_per_second": {
                        "label": "Status questions per second",
                        "description": "How often one triggerer asks for the state of jobs, at most. Scantrust allows "
                        "50 for a token: with two triggerers, 20 to 25 each.",
                        "schema": {"type": ["integer", "null"], "default": 40, "minimum": 1, "maximum": 1000},
                    },
                    "verify": {
                        "label": "Verify TLS",
                        "description": "true, false, or the path of a CA bundle on the workers and the triggerer.",
                        "schema": {"type": ["string", "null"], "default": "true"},
                    },
                    "portal_url": {
                        "label": "Portal URL",
                        "description": "Where links in the Airflow UI lead. Known for production.",
                        "schema": {"type": ["string", "null"], "format": "url"},
                    },
                    "allow_plain_http": {
                        "label": "Allow plain http",
                        "description": "Send the token unencrypted to a host that is not this machine.",
                        "schema": {"type": ["boolean", "null"], "default": False},
                    },
                },
            }
        ],
    }
