"""
The asset scheme ``scantrust://<API host>/<what>``, such as ``scantrust://api.scantrust.com/campaigns/126``.

The user chooses the name after the host, because Scantrust's answers do not name the campaign. The OpenLineage
dataset of the same codes has the namespace ``scantrust://<API host>`` and the name ``<what>``.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from contextlib import suppress
from typing import TYPE_CHECKING, Any
from urllib.parse import SplitResult, urlsplit

if TYPE_CHECKING:
    from airflow.providers.common.compat.assets import Asset
    from airflow.providers.common.compat.openlineage.facet import Dataset

SCHEME = "scantrust"
PRODUCTION_HOST = "api.scantrust.com"
# The name of the updated codes if the task has no outlet with this scheme.
CODES = "codes"


def sanitize_uri(uri: SplitResult) -> SplitResult:
    """
    Return the normal form of an asset's URI: a host in lower case, a name, and nothing else.

    :raises ValueError: The host or the name is missing, or there is a user, a password or a query: they are
        not part of the name and may contain a token.
    """
    if "@" in uri.netloc:
        raise ValueError("URI format scantrust:// must not contain a user or a token")
    if not uri.netloc or uri.query:
        raise ValueError(f"URI format scantrust:// must be scantrust://{PRODUCTION_HOST}/<what>")
    path = "/".join(part for part in uri.path.split("/") if part)
    if not path:
        raise ValueError(
            "URI format scantrust:// must name what is updated, such as scantrust://<host>/codes"
        )
    return uri._replace(netloc=uri.netloc.lower(), path=f"/{path}")


def create_asset(
    *, name: str = CODES, host: str = PRODUCTION_HOST, extra: dict[str, Any] | None = None
) -> Asset:
    """
    Return the asset of some codes.

    :param name: A name of your choice: ``codes``, ``campaigns/126``.
    :param host: Host of the connection, if it is not production.
    """
    from airflow.providers.common.compat.assets import Asset

    return Asset(uri=f"{SCHEME}://{host}/{name.strip('/')}", extra=extra)


def convert_asset_to_openlineage(asset: Asset, lineage_context: Any) -> Dataset:
    from airflow.providers.common.compat.openlineage.facet import Dataset

    namespace, name = dataset_name(str(asset.uri))
    return Dataset(namespace=namespace, name=name)


def dataset_name(uri: str) -> tuple[str, str]:
    """Return the OpenLineage namespace and name of an asset's URI."""
    parts = urlsplit(uri)
    return f"{SCHEME}://{parts.netloc}", parts.path.strip("/") or CODES


def scantrust_outlets(outlets: Iterable[Any], context: Any = None) -> list[Any]:
    """Return the Scantrust assets of some outlets; only a running task knows the URI of an ``Asset.ref(name=…)``."""
    return [each for each in outlets if _uri_of(each, context).startswith(f"{SCHEME}://")]


def _uri_of(outlet: Any, context: Any) -> str:
    if type(outlet).__name__ == "AssetNameRef" and context is not None:
        # Airflow reports an unknown name itself.
        with suppress(Exception):
            return str(context["outlet_events"][outlet].key.uri)
    return str(getattr(outlet, "uri", ""))


def describe_events(context: Any, outlets: Iterable[Any], report: Mapping[str, Any]) -> None:
    """Put the report into the events that Airflow creates for a task's Scantrust outlets when the task succeeds."""
    for asset in scantrust_outlets(outlets, context):
        context["outlet_events"][asset].extra = dict(report)
