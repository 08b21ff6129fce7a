"""Call Scantrust from a worker, with authentication, rate limits and error handling."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Iterable, Mapping
from contextlib import suppress
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar

from airflow.providers.common.compat.sdk import AirflowNotFoundException, BaseHook, mask_secret

from airflow_provider_scantrust.api import endpoints
from airflow_provider_scantrust.api.flow import converse, send_once
from airflow_provider_scantrust.api.messages import Answer, Conversation, Endpoint, Fault, Pause
from airflow_provider_scantrust.api.settings import Budget, Settings
from airflow_provider_scantrust.exceptions import ScantrustError
from airflow_provider_scantrust.get_provider_info import get_provider_info
from airflow_provider_scantrust.hooks.connection import not_found, settings_of
from airflow_provider_scantrust.waits.jobs import poll_job
from airflow_provider_scantrust.waits.pacing import Pacer

if TYPE_CHECKING:
    import requests

    from airflow_provider_scantrust.api.auth import Auth
    from airflow_provider_scantrust.api.models import Task, UploadResult
    from airflow_provider_scantrust.transports.blocking import BlockingTransport

T = TypeVar("T")

_TEST_SECONDS = 10.0


class WorkerStats:
    """
    Send counts of one connection to Airflow's metrics. An error in metrics never fails a task.

    One packet for each request is not too much: uploads are limited to ten a second.
    """

    def __init__(self, conn_id: str) -> None:
        self._tags = {"conn_id": conn_id}

    def meter(self, step: Answer | Fault | Pause) -> None:
        """Count a reply, or the retry after a pause."""
        if isinstance(step, Pause):
            self.count("calls_retried")
            return
        self.count("calls")
        if isinstance(step, Fault) or step.is_failure:
            self.count("calls_failed")
        elif step.status == 429:
            self.count("calls_throttled")

    def count(self, name: str, count: int = 1, **tags: str) -> None:
        """Add to ``scantrust.<name>``."""
        if not count:
            return
        with suppress(Exception):
            # On every version, Airflow sets up this one in the process of a task.
            from airflow.providers.common.compat.sdk import Stats

            Stats.incr(f"scantrust.{name}", count, tags={**self._tags, **tags})


class _Stopped(Exception):
    """Ends an upload in another thread whose result is no longer needed."""


class ScantrustHook(BaseHook):
    """
    Call Scantrust's REST API with the credentials of an Airflow connection.

    Every call waits when Scantrust throttles, and retries temporary errors, within the connection's retry
    budget. ``upload`` and ``submit`` may be called from several threads; together they stay below Scantrust's
    limit of ten calls a second. All errors are
    :class:`~airflow_provider_scantrust.exceptions.ScantrustError`. The subclass says what to do; if
    ``permanent`` is true, a retry of the task cannot help.

    :param scantrust_conn_id: The Airflow connection.
    """

    conn_name_attr = "scantrust_conn_id"
    default_conn_name = "scantrust_default"
    conn_type = "scantrust"
    hook_name = "Scantrust"

    def __init__(self, scantrust_conn_id: str = default_conn_name) -> None:
        super().__init__()
        self.scantrust_conn_id = scantrust_conn_id
        self.pacer = Pacer(random=random.random)
        self.stats = WorkerStats(scantrust_conn_id)
        self._stopped = threading.Event()
        # cached_property has no lock since Python 3.12. With this lock, threads that start together share one
        # lookup, one session and one rate limit.
        self._lock = threading.RLock()
        self._settings: Settings | None = None

    def __reduce__(self) -> tuple[Any, ...]:
        """Copy as a new hook for the same connection: Airflow copies tasks, and with them their arguments."""
        return type(self), (self.scantrust_conn_id,)

    def upload(self, items: Iterable[Mapping[str, Any]], data_key: str = "extended_id") -> UploadResult:
        """
        Set SCM data on codes in one synchronous call.

        Scantrust recommends synchronous calls for fewer than 1000 codes; the operator splits larger uploads.

        :param items: Rows, each with the data key and the fields to set; values are text, numbers or
            booleans.
        :param data_key: The field that selects codes: ``extended_id``, ``serial_number`` or any SCM field.
        :raises RequestRejected: Scantrust refused the data and updated nothing.
        :raises UploadTimedOut: There are too many codes for one call; nothing was updated.
        """
        return self._call_paced(endpoints.upload_scm_data(list(items), data_key, self.settings.dialect))

    def submit(self, constraints: Mapping[str, Any], scm_data: Mapping[str, Any]) -> str:
        """
        Submit one asynchronous job and return its task_id without waiting for the job.

        :param constraints: Field -> value; a code must have all of these values. A list of values is known to
            work for ``extended_id`` only.
        :param scm_data: Field -> value to set on each of these codes.
        :raises InvalidInput: There is no constraint, so all codes would match.
        :raises UnreadableAnswer: The answer has no task_id. The job may still have been submitted.
        """
        dialect = self.settings.dialect
        return self._call_paced(endpoints.upload_scm_data_async(dict(constraints), dict(scm_data), dialect))

    def stop_uploads(self) -> None:
        """End uploads in other threads at their next pause, because the task must stop."""
        self._stopped.set()

    def get_task(self, scantrust_task_id: str) -> Task:
        """
        Return the state of an asynchronous job.

        :raises NotFound: No job of this company has this id.
        """
        return self._call(endpoints.get_scm_task(scantrust_task_id, self.settings.dialect))

    def test_connection(self) -> tuple[bool, str]:
        """
        Return whether the connection works, with host and user, or what is wrong.

        It tries for at most ten seconds, because a user is waiting.
        """
        try:
            who = self._call(
                endpoints.get_me(self.settings.dialect), budget=self.settings.budget.at_most(_TEST_SECONDS)
            )
            return True, f"Connected to Scantrust at {self.settings.host} as {who}."
        except ScantrustError as error:
            return False, str(error)

    def get_conn(self) -> requests.Session:
        """
        Return a ``requests`` session that signs calls to the connection's host, and to no other host.

        For calls that this hook has no method for. The session does not handle rate limits and errors.
        """
        if self._auth.header() is None:
            self._call(endpoints.get_me(self.settings.dialect))
        return self._transport.session

    @property
    def settings(self) -> Settings:
        """
        The connection, read and checked.

        :raises ConfigurationError: The connection does not exist, or one of its fields is wrong.
        :raises TransientError: The connection was not found, and the configured secrets backend may be down.
        """
        with self._lock:
            if self._settings is None:
                self._settings = self._read_settings()
            return self._settings

    def _read_settings(self) -> Settings:
        try:
            connection = self.get_connection(self.scantrust_conn_id)
        except AirflowNotFoundException as error:
            raise not_found(self.scantrust_conn_id) from error
        return settings_of(connection, self.log)

    def poll(self, task_id: str) -> Task:
        """Poll one job with a single try."""
        return self._transport.perform(poll_job(task_id, self.settings, self._auth, random=random.random))

    def send_once(self, endpoint: Endpoint[Any], *, headers: Mapping[str, str], body: bytes | None) -> Answer:
        """Send one request and return its answer, with any status; logs in first if needed."""
        self.get_conn()
        return self._transport.perform(
            send_once(endpoint, self.settings, self._auth, headers=headers, body=body)
        )

    def account_digest(self) -> str | None:
        """Return a digest of the account that jobs belong to; None if the connection cannot be read now."""
        try:
            return self.settings.account_digest
        except Exception:
            return None

    def reload(self) -> bool:
        """
        Look up the connection again and use its settings; return whether host or credentials have changed.

        After an error, the old settings stay in use.
        """
        before, settings = self._settings, self._read_settings()
        if before is not None and before.account == settings.account:
            return False
        for name in ("_auth", "_transport", "_upload_transport"):
            self.__dict__.pop(name, None)
        self._settings = settings
        return before is not None

    @classmethod
    def get_connection_form_widgets(cls) -> dict[str, Any]:
        """Return the form's extra fields for Airflow before 3.2, which does not read them from the provider info."""
        from flask_appbuilder.fieldwidgets import BS3TextFieldWidget  # type: ignore[import-not-found, unused-ignore]
        from wtforms import StringField  # type: ignore[import-untyped, unused-ignore]

        return {
            name: StringField(
                label=field["label"], widget=BS3TextFieldWidget(), description=field["description"]
            )
            for name, field in _connection_type()["conn-fields"].items()
        }

    @classmethod
    def get_ui_field_behaviour(cls) -> dict[str, Any]:
        """Return the form's changes to the standard fields for Airflow before 3.2."""
        behaviour = _connection_type()["ui-field-behaviour"]
        return {name.replace("-", "_"): value for name, value in behaviour.items()}

    @cached_property
    def _auth(self) -> Auth:
        return self.settings.make_auth(time.monotonic, mask_secret)

    @cached_property
    def _transport(self) -> BlockingTransport:
        from airflow_provider_scantrust.transports.blocking import BlockingTransport, make_session

        return BlockingTransport(
            make_session(self.settings, self._auth), log=self.log, meter=self.stats.meter
        )

    @cached_property
    def _upload_transport(self) -> BlockingTransport:
        """The transport for ``upload`` and ``submit``, which share one rate limit."""
        from airflow_provider_scantrust.hooks.gate import GatedTransport
        from airflow_provider_scantrust.hooks.logs import RareLog

        return GatedTransport(
            self._transport.session,
            pacer=self.pacer,
            retry_seconds=self.settings.budget.seconds,
            log=self.log,
            pauses=RareLog(self.log),
            meter=self.stats.meter,
            sleep=self._sleep,
        )

    def _sleep(self, seconds: float) -> None:
        if self._stopped.wait(seconds):
            raise _Stopped

    def _call(self, endpoint: Endpoint[T], budget: Budget | None = None) -> T:
        return self._transport.perform(self.converse(endpoint, budget))

    def _call_paced(self, endpoint: Endpoint[T]) -> T:
        with self._lock:
            transport = self._upload_transport
        return transport.perform(self.converse(endpoint))

    def converse(self, endpoint: Endpoint[T], budget: Budget | None = None) -> Conversation[T]:
        """Return the conversation of a call, signed and with the connection's budget."""
        return converse(endpoint, self.settings, self._auth, random=random.random, budget=budget)


def _connection_type() -> dict[str, Any]:
    (connection_type,) = get_provider_info()["connection-types"]
    return dict(connection_type)
