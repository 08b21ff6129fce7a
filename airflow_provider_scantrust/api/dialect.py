"""
What may differ at a service: the paths of the calls, and the states of jobs.

Rule: every path is here and nowhere else. A connection's extra can change each path, so that a user whose
service differs does not have to wait for a release.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Dialect:
    """
    Paths end in ``/``: Scantrust redirects other paths, and most clients turn a redirected POST into a GET.

    :param task_path: Has ``{task_id}`` in place of the id.
    :param done_states: More words for a job that succeeded, as :func:`spell_state` writes them.
    """

    upload_path: str = "/api/v2/scm/upload/"
    upload_async_path: str = "/api/v2/scm/upload/async/"
    task_path: str = "/api/v2/scm/tasks/{task_id}/"
    me_path: str = "/api/v2/me/"
    done_states: tuple[str, ...] = ()
    failed_states: tuple[str, ...] = ()


SCANTRUST = Dialect()


def spell_state(word: str) -> str:
    """Return the word for a state in lower case, with ``_`` for spaces and hyphens."""
    return word.strip().lower().replace(" ", "_").replace("-", "_")
