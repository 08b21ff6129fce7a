"""The link from a task to Scantrust's portal."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

from airflow.providers.common.compat.sdk import BaseOperatorLink

if TYPE_CHECKING:
    from airflow.providers.common.compat.sdk import BaseOperator, TaskInstanceKey

log = logging.getLogger(__name__)


class ScantrustPortalLink(BaseOperatorLink):
    """
    The portal of the connection's environment, or the connection's ``portal_url``.

    Airflow 3 asks for it on the worker whenever a task stops there (it ended, failed or deferred) and keeps it as an
    XCom; Airflow 2 asks in the webserver when the task is looked at. Empty where no portal is known.
    """

    name = "Scantrust portal"

    @property
    def xcom_key(self) -> str:
        """The XCom in which Airflow 3 keeps the link; the Scantrust page knows its tasks by it."""
        return "_link_ScantrustPortalLink"

    def get_link(self, operator: BaseOperator, *, ti_key: TaskInstanceKey) -> str:
        """Return the portal's URL, or an empty text."""
        try:
            url = _hook_of(operator).settings.portal_url or ""
        except Exception as error:
            # The task has said what is wrong with its connection; a link has no business to say it again.
            log.debug("No link to the portal: %s", type(error).__name__)
            return ""
        return url if url.startswith(("https://", "http://")) else ""


def _hook_of(operator: Any) -> Any:
    """Return the hook that the task has used, whose connection is read already, or a new one."""
    from airflow_provider_scantrust.hooks.scantrust import ScantrustHook

    used = vars(operator).get("hook") or vars(operator).get("_hook")
    if used is not None:
        return used
    # Airflow 2 passes a mapped task as it is in the Dag.
    arguments = getattr(operator, "partial_kwargs", {})
    conn_id = arguments.get("scantrust_conn_id") or getattr(operator, "scantrust_conn_id", None)
    return ScantrustHook(conn_id or ScantrustHook.default_conn_name)
