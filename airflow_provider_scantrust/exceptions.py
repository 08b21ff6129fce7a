"""
All errors of this package, grouped by what the reader should do next.

::

    ScantrustError
    ├── ConfigurationError       fix the connection or the operator's arguments
    │   └── CertificateRejected  fix `verify`, or the server's certificate
    ├── InvalidInput             fix the rows; nothing was sent
    ├── RequestRejected          400: fix the rows; Scantrust processed nothing of this call
    ├── AuthenticationFailed     401: the token is wrong or has expired; create a new one in the portal
    ├── PermissionDenied         403: ask a company admin to give the token more permissions
    ├── NotFound                 404: the job or path does not exist, or belongs to another company
    ├── RequestTooLarge          413: one call carries more than Scantrust or a gateway accepts: send fewer rows in a call
    ├── Conflict                 406, 409: read Scantrust's message
    ├── UnexpectedRedirect       the host in the connection is not the API's own address
    ├── UploadTimedOut           504 of a synchronous upload: nothing was updated; send less, or asynchronously
    ├── UnmatchedKeys            some keys match no code (only with on_unmatched="fail")
    ├── TooManyRejected          too many rows were rejected; fix the file
    ├── DiscardedFields          the campaign does not have a field (only with on_discarded="fail")
    ├── TaskFailed               an asynchronous job ended as failed at Scantrust
    ├── WaitTimedOut             a job did not end before the timeout
    └── TransientError           temporary: try again later
        ├── SourceNotFound       the source is not there (yet)
        ├── UploadInterrupted    the task was stopped; the next try continues
        ├── Throttled            429 for longer than the retry budget
        ├── ServiceUnavailable   500, 502, 503, 504 for longer than the retry budget
        ├── ConnectionFailed     no answer: refused, cut, or timed out, for longer than the retry budget
        └── UnreadableAnswer     an answer that is not what the API documents

Rule: these classes do not import Airflow. ``hooks/outcome.py`` turns ``permanent`` ones into
``AirflowFailException``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ScantrustError(Exception):
    """
    Base class of all errors of this package.

    :param message: What happened and what to do about it, in one or two sentences.
    :param status: HTTP status of the answer, where there was one.
    :param fields: Scantrust's messages by field, as in a 400 answer.
    :param excerpt: The beginning of the answer's body, secrets masked.
    :param retry_after: Seconds that Scantrust asked to wait before the next try.
    """

    permanent: ClassVar[bool] = True
    # An earlier try of the same call had no answer, or a 5xx.
    after_trouble = False

    def __init__(
        self,
        message: str,
        *,
        status: int | None = None,
        fields: Mapping[str, list[str]] | None = None,
        excerpt: str | None = None,
        retry_after: float | None = None,
    ) -> None:
        super().__init__(message)
        self.status = status
        self.fields = dict(fields or {})
        self.excerpt = excerpt
        self.retry_after = retry_after

    def as_dict(self) -> dict[str, Any]:
        """Return the error as plain JSON, for :func:`from_dict`."""
        return {
            "type": type(self).__name__,
            "message": str(self),
            "status": self.status,
            "fields": self.fields,
            "excerpt": self.excerpt,
            "retry_after": self.retry_after,
        }


class ConfigurationError(ScantrustError):
    """The connection or an operator's argument cannot work."""


class CertificateRejected(ConfigurationError):
    """The server's TLS certificate is not trusted, or belongs to another host."""


class InvalidInput(ScantrustError):
    """The rows were refused before anything was sent; the message names row and field."""


class RequestRejected(ScantrustError):
    """Scantrust refused the data (400) and processed nothing of the call."""


class AuthenticationFailed(ScantrustError):
    """Scantrust does not accept the token or the login (401)."""


class PermissionDenied(ScantrustError):
    """The token does not have a permission that the call needs (403)."""


class NotFound(ScantrustError):
    """Scantrust does not know the job or the path (404)."""


class RequestTooLarge(ScantrustError):
    """The call is larger than Scantrust or a gateway accepts (413); nothing was processed."""


class Conflict(ScantrustError):
    """A known API error: Scantrust documents 406 for it; 409 is treated the same way."""


class UnexpectedRedirect(ScantrustError):
    """A redirect that must not be followed, because it is for a POST or leads to another host."""


class UploadTimedOut(ScantrustError):
    """A synchronous upload ran past the gateway's limit (504); no code was updated."""


class UnmatchedKeys(ScantrustError):
    """Some keys match no code, and `on_unmatched` is "fail"."""


class TooManyRejected(ScantrustError):
    """More rows were rejected than `max_rejected` allows, or all rows, or a hundred rows while none was accepted."""


class DiscardedFields(ScantrustError):
    """The campaign discarded some fields, and `on_discarded` is "fail"."""


class TaskFailed(ScantrustError):
    """
    An asynchronous job ended as failed at Scantrust.

    :param failed_jobs: ``jobs`` (their number), ``failed`` (how many failed), and ``task_ids`` (up to 100 of
        the failed ones).
    """

    def __init__(self, message: str, *, failed_jobs: Mapping[str, Any] | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.failed_jobs = dict(failed_jobs or {})

    def as_dict(self) -> dict[str, Any]:
        """Return everything, the jobs included, as plain JSON."""
        return {**super().as_dict(), "failed_jobs": self.failed_jobs}


class WaitTimedOut(ScantrustError):
    """An asynchronous job did not end before the timeout; the job continues at Scantrust."""


class TransientError(ScantrustError):
    """A temporary error; its retry budget is used up."""

    permanent = False


class SourceNotFound(TransientError):
    """There is no file, folder or bucket of this name; files may come late, so a retry looks again."""


class UploadInterrupted(TransientError):
    """The task was stopped while it uploaded; the next try continues with the answers so far."""


class Throttled(TransientError):
    """Scantrust answered 429 for longer than the retry budget."""


class ServiceUnavailable(TransientError):
    """Scantrust answered 5xx, or a gateway 408, 421 or 425, for longer than the retry budget."""


class ConnectionFailed(TransientError):
    """There was no answer for longer than the retry budget."""


class UnreadableAnswer(TransientError):
    """The answer is not what the API documents: HTML, broken JSON, or an unknown shape."""


def from_dict(data: Mapping[str, Any]) -> ScantrustError:
    """
    Return the error that :meth:`ScantrustError.as_dict` wrote.

    An unknown name (written by another version of this package) becomes a plain :class:`ScantrustError`,
    which is permanent: an unknown error must not pass for success.
    """
    known = globals().get(str(data.get("type")))
    cls = known if isinstance(known, type) and issubclass(known, ScantrustError) else ScantrustError
    about = {"failed_jobs": data.get("failed_jobs")} if issubclass(cls, TaskFailed) else {}
    return cls(
        str(data.get("message") or "The trigger reported an error without a message."),
        status=data.get("status"),
        fields=data.get("fields"),
        excerpt=data.get("excerpt"),
        retry_after=data.get("retry_after"),
        **about,
    )
