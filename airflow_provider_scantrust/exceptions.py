"""
Every way a conversation with Scantrust can fail, split by what the reader should do next.

::

    ScantrustError
    ├── ConfigurationError       mend the connection or the operator's arguments
    │   └── CertificateRejected  mend `verify`, or the server's certificate
    ├── InvalidInput             mend the rows: found before anything was sent
    ├── RequestRejected          400: mend the rows: Scantrust processed nothing of this call
    ├── AuthenticationFailed     401: the token is wrong or has expired: make a new one in the portal
    ├── PermissionDenied         403: a company admin must give the token more permissions
    ├── NotFound                 404: no such thing, or not of this company
    ├── RequestTooLarge          413: one call carries more than Scantrust or a gateway accepts: send fewer rows in a call
    ├── Conflict                 406, 409: Scantrust knows why; read the message
    ├── UnexpectedRedirect       the host in the connection is not the API's own address
    ├── UploadTimedOut           504 of a synchronous upload: nothing was updated; send less, or asynchronously
    ├── UnmatchedKeys            some keys are on no code (only with on_unmatched="fail")
    ├── TooManyRejected          Scantrust refused more rows than max_rejected: mend the file
    ├── DiscardedFields          the campaign lacks a field (only with on_discarded="fail")
    ├── TaskFailed               an asynchronous job ended as failed at Scantrust
    ├── WaitTimedOut             a job did not end within the time that the user gave it
    └── TransientError           may pass: trying again later is right
        ├── SourceNotFound       the source is not there (yet)
        ├── UploadInterrupted    the task was stopped; the next try continues
        ├── Throttled            429 for longer than the retry budget
        ├── ServiceUnavailable   500, 502, 503, 504 for longer than the retry budget
        ├── ConnectionFailed     no answer: refused, cut, or timed out, for longer than the retry budget
        └── UnreadableAnswer     an answer that is not what the API documents

Rule: these classes know no Airflow. The edge in ``hooks`` turns ``permanent`` ones into ``AirflowFailException``.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar


class ScantrustError(Exception):
    """
    Base of all errors of this package.

    :param message: What happened and what to do about it, in one or two sentences.
    :param status: HTTP status of the answer, where there was one.
    :param fields: Scantrust's messages by field, as in a 400 answer.
    :param excerpt: The beginning of the answer's body, secrets masked.
    :param retry_after: Seconds after which Scantrust said that trying again makes sense.
    """

    permanent: ClassVar[bool] = True

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
        """Return what :func:`from_dict` needs to make the same error again, as plain JSON."""
        return {
            "type": type(self).__name__,
            "message": str(self),
            "status": self.status,
            "fields": self.fields,
            "excerpt": self.excerpt,
            "retry_after": self.retry_after,
        }


class ConfigurationError(ScantrustError):
    """The connection or an operator's argument cannot work as it is."""


class CertificateRejected(ConfigurationError):
    """The server's TLS certificate is not trusted, or is another host's."""


class InvalidInput(ScantrustError):
    """The rows were refused before anything was sent; the message names row and field."""


class RequestRejected(ScantrustError):
    """Scantrust refused the data (400) and processed nothing of the call."""


class AuthenticationFailed(ScantrustError):
    """Scantrust does not accept the token or the login (401)."""


class PermissionDenied(ScantrustError):
    """The token lacks a permission (403)."""


class NotFound(ScantrustError):
    """There is no such thing at Scantrust (404)."""


class RequestTooLarge(ScantrustError):
    """One call is larger than Scantrust or a gateway accepts (413); nothing of it was processed."""


class Conflict(ScantrustError):
    """A known API error: Scantrust documents 406 for it, and 409 is read alike."""


class UnexpectedRedirect(ScantrustError):
    """A redirect that must not be followed: of a POST, or to another host."""


class UploadTimedOut(ScantrustError):
    """A synchronous upload ran past the gateway's limit (504); no code was updated."""


class UnmatchedKeys(ScantrustError):
    """Some keys matched no code and the operator was told to fail then."""


class TooManyRejected(ScantrustError):
    """Scantrust refused more rows than the operator was told to put up with."""


class DiscardedFields(ScantrustError):
    """Some fields were discarded by the campaign and the operator was told to fail then."""


class TaskFailed(ScantrustError):
    """
    An asynchronous job ended as failed at Scantrust.

    :param failed_jobs: How many ``jobs`` have ended, how many of them ``failed``, and the ``task_ids`` of those, as far as
        they are kept.
    """

    def __init__(self, message: str, *, failed_jobs: Mapping[str, Any] | None = None, **about: Any) -> None:
        super().__init__(message, **about)
        self.failed_jobs = dict(failed_jobs or {})

    def as_dict(self) -> dict[str, Any]:
        """Return everything, the jobs included, as plain JSON."""
        return {**super().as_dict(), "failed_jobs": self.failed_jobs}


class WaitTimedOut(ScantrustError):
    """An asynchronous job did not end within the time given; it goes on at Scantrust."""


class TransientError(ScantrustError):
    """Something that may pass; the retry budget for it is used up."""

    permanent = False


class SourceNotFound(TransientError):
    """There is no file, folder or bucket of this name; files may come late, so a retry looks again."""


class UploadInterrupted(TransientError):
    """The task was stopped while it uploaded; what Scantrust answered until then is kept for the next try."""


class Throttled(TransientError):
    """Scantrust answered 429 for longer than the retry budget."""


class ServiceUnavailable(TransientError):
    """Scantrust answered 5xx, or a gateway 408, for longer than the retry budget."""


class ConnectionFailed(TransientError):
    """No answer came for longer than the retry budget."""


class UnreadableAnswer(TransientError):
    """The answer is not what the API documents: HTML, broken JSON, or an unknown shape."""


def from_dict(data: Mapping[str, Any]) -> ScantrustError:
    """
    Make the error again that :meth:`ScantrustError.as_dict` wrote down.

    An unknown name (written by another version of this package) becomes a plain :class:`ScantrustError`,
    which is permanent: failing closed is the safe reading.
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
