"""
A local Scantrust that does NOT imitate scans, downloads, work orders, portals or anything but SCM uploads.

Its answers follow the public documentation of the API, and named assumptions where there is none: see
`docs/fidelity.md`. Rule: it imports nothing of the client, so that the two can disagree.
"""

from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS
from airflow_provider_scantrust.sandbox.server import Sandbox
from airflow_provider_scantrust.sandbox.settings import DEFAULT_FIELDS, DEFAULT_TOKEN

__all__ = ["ALL_PERMISSIONS", "DEFAULT_FIELDS", "DEFAULT_TOKEN", "Sandbox"]
