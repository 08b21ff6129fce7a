"""
What may differ between a service and the known facts: the paths of the calls, and the states of jobs.

Rule: every path stands here and nowhere else. A connection's extra can change each of them, so a user whose
service differs does not have to wait for a release.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """
    The paths of the calls, and words for states.

    Paths end in ``/``: Scantrust redirects the others, and a redirect turns a POST into a GET in most
    clients.

    :param task_path: With ``{task_id}`` where the id stands.
    :param done_states: Further words for a job that has ended well, as :func:`spell_state` writes them.
    :param failed_states: Further words for a job that has failed.
    """

    upload_path: str = "/api/v2/scm/upload/"
    upload_async_path: str = "/api/v2/scm/upload/async/"
    task_path: str = "/api/v2/scm/tasks/{task_id}/"
    me_path: str = "/api/v2/me/"
    done_states: tuple[str, ...] = ()
    failed_states: tuple[str, ...] = ()


SCANTRUST = Dialect()


def spell_state(word: str) -> str:
    """Return a state's word in one spelling: lower case, with ``_`` for spaces and hyphens."""
    return word.strip().lower().replace(" ", "_").replace("-", "_")
