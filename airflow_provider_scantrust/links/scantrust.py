"""The links from a task to its report and to Scantrust's portal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlsplit

from airflow.providers.common.compat.sdk import BaseOperatorLink, conf

from airflow_provider_scantrust.plugins import HAS_PAGES, ROUTES

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

log = logging.getLogger(__name__)


class ScantrustPortalLink(BaseOperatorLink):
    """
    The portal of the connection's environment, or the connection's ``portal_url``.

    Airflow 3 makes the link on the worker whenever a task ends, fails or defers, and keeps it as an XCom,
    whose key is made of the class's name; the Scantrust page finds its tasks by this XCom.
    Airflow 2 makes it in the webserver when a user opens the task. Without a known portal, it is empty.
    """

    name = "Scantrust portal"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        try:
            url = _hook_of(operator).settings.portal_url or ""
        except Exception as error:
            # The task itself reports what is wrong with its connection.
            log.debug("No link to the portal: %s", type(error).__name__)
            return ""
        return url if url.startswith(("https://", "http://")) else ""


class ScantrustReportLink(BaseOperatorLink):
    """
    The tab with the report of a task instance, on Airflow 3.1 and later.

    Airflow shows the heading "Extra Links" for each task whose operator has links. With this link, the
    heading is not empty even if no portal is known.
    """

    name = "Scantrust report"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        base = urlsplit(conf.get("api", "base_url", fallback="") or "").path.rstrip("/")
        dag, run, task = (quote(part, safe="") for part in (ti_key.dag_id, ti_key.run_id, ti_key.task_id))
        index = ti_key.map_index
        mapped = f"/mapped/{index}" if index is not None and index >= 0 else ""
        return f"{base}/dags/{dag}/runs/{run}/tasks/{task}{mapped}/plugin/{ROUTES['task_instance']}"


def _hook_of(operator: Any) -> Any:
    """Return the hook that the task has used, because it has read the connection already, or a new one."""
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

    used = vars(operator).get("hook") or vars(operator).get("_hook")
    if used is not None:
        return used
    # Airflow 2 passes a mapped task unexpanded, as in the Dag.
    arguments = getattr(operator, "partial_kwargs", {})
    conn_id = arguments.get("scantrust_conn_id") or getattr(operator, "scantrust_conn_id", None)
    return ScantrustHook(conn_id or ScantrustHook.default_conn_name)


LINKS: tuple[BaseOperatorLink, ...] = (
    (ScantrustPortalLink(), ScantrustReportLink()) if HAS_PAGES else (ScantrustPortalLink(),)
)
