"""
A local Scantrust that does NOT imitate scans, downloads, work orders, portals or anything but SCM uploads.

It answers from what is publicly known of the API, and from named assumptions where nothing is known: see
`docs/fidelity.md`. Rule: it imports nothing of the client, so that the two can disagree.
"""

from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS
from airflow_provider_scantrust.sandbox.server import Sandbox
from airflow_provider_scantrust.sandbox.settings import DEFAULT_FIELDS, DEFAULT_TOKEN

__all__ = ["ALL_PERMISSIONS", "DEFAULT_FIELDS", "DEFAULT_TOKEN", "Sandbox"]
