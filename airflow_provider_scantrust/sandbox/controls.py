"""Control of a sandbox: the methods of `Sandbox`, which `/_sandbox/` calls too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from os import PathLike
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping, truth, whole
from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS
from airflow_provider_scantrust.sandbox.faults import Fault
from airflow_provider_scantrust.sandbox.jobs import Steering
from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS
from airflow_provider_scantrust.sandbox.seeding import add_codes, seed_codes, seed_csv
from airflow_provider_scantrust.sandbox.service import Service, Start
from airflow_provider_scantrust.sandbox.settings import DEFAULT_CAMPAIGN
from airflow_provider_scantrust.sandbox.store import IDENTITY, SPECIAL


class Controls:
    """
    The control calls; safe to call from any thread, before the start, while the sandbox answers, and after the end.

    Rule: a call with a value that cannot be changes nothing, and raises `WrongValue`, a ValueError.
    """

    def __init__(self, start: Start) -> None:
        self._start = start
        self._service = Service(start)

    def seed(self, count: int, *, codes_per_lot: int = 1000, campaign: int = DEFAULT_CAMPAIGN) -> None:
        """
        Add codes by number, after the last SBX…: SBX00000001 and on, in lots L-000001…, cases of 6, pallets of 600.

        Lots are numbered by the numbers of all codes: a second call with another `codes_per_lot` may add to
        lots that are there.

        :param count: How many codes to add to those there are.
        :param codes_per_lot: How many codes share one lot_number.
        :param campaign: The campaign of the codes.
        """
        service = self._service
        seed_codes(service.store, service.registry, count, codes_per_lot, campaign)

    def seed_csv(self, path: str | PathLike[str]) -> int:
        """
        Add the codes of a CSV file; a code that exists gets the values of its row, and keeps its campaign if none is given.

        :param path: UTF-8, with a header of extended_id and any of serial_number, campaign, product,
            activation_status, blacklist_reason and SCM fields.
        :returns: The number of rows.
        :raises ValueError: The file names an unknown column, campaign or product; nothing was added.
        """
        return seed_csv(self._service.store, self._service.registry, path)

    def add_codes(self, codes: Iterable[Mapping[str, Any]]) -> int:
        """Add codes given as flat mappings, with the keys that `seed_csv` takes as columns and values as in an upload."""
        return add_codes(self._service.store, self._service.registry, codes)

    def add_campaign(self, campaign: int, *, name: str | None = None, fields: Iterable[str] = ()) -> None:
        """Define a campaign with the names of its SCM fields."""
        self._service.registry.add_campaign(campaign, name, fields)

    def add_field(self, name: str, *, campaign: int = DEFAULT_CAMPAIGN) -> None:
        """Define an SCM field on a campaign."""
        self._service.registry.add_field(name, campaign)

    def remove_field(self, name: str, *, campaign: int = DEFAULT_CAMPAIGN) -> None:
        """Take an SCM field from a campaign: uploads of it are then discarded silently."""
        self._service.registry.remove_field(name, campaign)

    def add_product(self, sku: str, *, campaign: int = DEFAULT_CAMPAIGN, name: str | None = None) -> int:
        """Define a product; its id is returned."""
        return self._service.registry.add_product(sku, campaign, name)

    def add_token(
        self,
        token: str,
        *,
        permissions: Iterable[str] = ALL_PERMISSIONS,
        expires: datetime | float | str | None = None,
        scheme: Literal["UAT", "JWT"] = "UAT",
        user: int = 1,
    ) -> None:
        """
        Define a token.

        :param token: The token itself; one that exists is replaced.
        :param permissions: Its permissions; by default all that uploads need.
        :param expires: When it expires, as a time with its zone or in seconds from now; never by default.
        :param scheme: The scheme it is good for.
        :param user: The user it acts for. Rate limits count users, not tokens.
        """
        self._service.registry.add_token(token, permissions, expires, scheme, user)

    def remove_token(self, token: str) -> None:
        """Revoke a token."""
        self._service.registry.remove_token(token)

    def add_user(self, username: str, password: str) -> None:
        """Define a user who can log in for a JWT, or change a password."""
        self._service.registry.add_user(username, password)

    def fault(
        self,
        *,
        method: str | None = None,
        path: str = "*",
        times: int | None = 1,
        skip: int = 0,
        probability: float = 1.0,
        random_seed: int = 0,
        status: int | None = None,
        headers: Mapping[str, str] | None = None,
        body: Any = None,
        delay: float = 0.0,
        cut: Literal["before", "after", "body"] | None = None,
        work: bool = False,
    ) -> None:
        """
        Script a fault for requests to come.

        Faults that act a number of times act in the order given. Where none of them matches, the latest of
        those that act always (`times=None`) does.

        :param method: The method it matches; all by default.
        :param path: The path it matches; with `*` at the end, the paths that begin so.
        :param times: How many requests it acts on; None for all.
        :param skip: How many matching requests pass unharmed first.
        :param probability: The chance that it acts on a request that matches.
        :param random_seed: Seed of that chance.
        :param status: Answer with this status. Without a body, a gateway or Scantrust body that fits is sent.
        :param headers: Headers of that answer, for example Location or Retry-After.
        :param body: Body of that answer: text is sent as it is, anything else as JSON. Without a status: 200.
        :param delay: Real seconds to wait first; alone, the true answer follows.
        :param cut: Cut the connection "before" the work, "after" it, or after it and half of the "body".
        :param work: With a status or body: whether the work is done before that answer is sent.
        """
        self._service.faults.add(
            Fault(
                method=method,
                path=path,
                times=times,
                skip=skip,
                probability=probability,
                random_seed=random_seed,
                status=status,
                headers={} if headers is None else mapping("headers", headers),
                body=body,
                delay=delay,
                cut=cut,
                work=work,
            )
        )

    def faults(self) -> list[dict[str, Any]]:
        """Show the scripted faults, with how often each has acted."""
        return [fault.show() for fault in self._service.faults.all()]

    def clear_faults(self) -> None:
        """Forget all scripted faults."""
        self._service.faults.clear()

    def jobs(
        self,
        *,
        times: int | None = 1,
        fail: bool = False,
        hang: bool | Literal["pending", "in-progress"] = False,
        seconds: float | None = None,
        polls: int | None = None,
        states: Mapping[str, str] | None = None,
        camel_case: bool | None = None,
    ) -> None:
        """
        Steer the jobs that are submitted from now on, and how all jobs are shown.

        Orders for a number of jobs are used up in the order given; then the latest for all jobs
        (`times=None`) counts. Without any argument, those that are left are forgotten.

        :param times: How many jobs `fail`, `hang`, `seconds` and `polls` apply to; None for all.
        :param fail: The job ends as failed and updates nothing.
        :param hang: The job never ends: it stays in-progress (True), or in the state named.
        :param seconds: Service seconds the job is in-progress, instead of its cost.
        :param polls: The job ends at the nth poll of its status, and not by time: the answers are pending,
            then in-progress, and the nth is the end.
        :param states: The word shown for pending, in-progress, complete or failed; kept until changed.
        :param camel_case: Whether status keys are spelled codesAffected, createdAt, …; kept until changed.
        """
        service = self._service
        order = Steering(times=times, fail=fail, hang=hang, seconds=seconds, polls=polls)
        changes: dict[str, Any] = {} if states is None else {"states": states}
        if camel_case is not None:
            others = [name for name in service.settings.deviations if name != "camel_case_keys"]
            changes["deviations"] = (
                [*others, "camel_case_keys"] if truth("camel_case", camel_case) else others
            )
        service.settings.change(**changes)
        if order != Steering(times=times):
            service.jobs.steering.add(order)
        elif not changes:
            service.jobs.steering.clear()

    def configure(self, **settings: Any) -> None:
        """
        Change settings while the sandbox runs, all or none, for example rate_limits=False; `Settings` names them.

        :raises WrongValue: There is no such setting, or it cannot have this value.
        """
        self._service.settings.change(**settings)
        self._service.clock.wake()

    def deviations(self) -> dict[str, dict[str, str]]:
        """Show the assumptions that the setting `deviations` can reverse, by name."""
        return {name: {"line": each.line, "changes": each.changes} for name, each in DEVIATIONS.items()}

    def transcript(self) -> list[dict[str, Any]]:
        """Show the requests so far, oldest first, secrets masked, without calls of `/_sandbox/`."""
        return self._service.transcript.show()

    def clear_transcript(self) -> None:
        """Forget the requests so far."""
        self._service.transcript.clear()

    def code(self, extended_id: str) -> dict[str, Any] | None:
        """
        Show one code: extended_id, campaign, the special fields, and every SCM field of its campaign.

        Values are text, "" when there is none; campaign, activation_status and blacklist_reason are numbers.
        """
        found = self.codes(extended_id=extended_id)
        return found[0] if found else None

    def codes(self, *, limit: int | None = None, offset: int = 0, **filters: Any) -> list[dict[str, Any]]:
        """
        Show the codes with these values, in the order they were added.

        :param limit: How many at most; all by default.
        :param offset: How many to leave out first.
        :param filters: What `code` shows: a value, or a list of values; "" for none.
        """
        service = self._service
        if limit is not None:
            whole("limit", limit)
        return service.store.rows(
            self._selection(filters),
            service.registry.field_names,
            limit=limit,
            offset=whole("offset", offset),
        )

    def count(self, **filters: Any) -> int:
        """Count the codes with these values; see `codes`."""
        return self._service.store.count(self._selection(filters))

    def tasks(self) -> list[dict[str, Any]]:
        """Show the jobs, oldest first, with constraints, scm_data and error besides the documented fields."""
        return self._service.jobs.show()

    def overview(self) -> dict[str, Any]:
        """Show the settings, campaigns, products and counts; no token is shown."""
        service = self._service
        return {
            "settings": vars(service.settings),
            "campaigns": [vars(campaign) for campaign in list(service.registry.campaigns.values())],
            "products": [vars(product) for product in list(service.registry.products.values())],
            "codes": service.store.count([]),
            "tasks": len(service.jobs),
            "requests": service.transcript.number,
        }

    def secrets(self) -> list[str]:
        """Give all tokens and passwords that there are, so that a test can look for them where they must not be."""
        registry = self._service.registry
        return [*list(registry.tokens), *(user.password for user in list(registry.users.values()))]

    def reset(self) -> None:
        """
        Go back to the state after the start: codes, tokens, jobs, faults, settings, everything.

        Requests and jobs in progress change nothing any more; the requests are cut.
        """
        before, self._service = self._service, Service(self._start)
        before.clock.stop()

    def _selection(self, filters: Mapping[str, Any]) -> list[tuple[str, Any]]:
        registry, selection = self._service.registry, []
        for name, value in filters.items():
            if not self._service.store.has_column(name):
                raise WrongValue(name, "no campaign has this field")
            values = list(value) if isinstance(value, list | tuple) else [value]
            if any(isinstance(each, bool) or not isinstance(each, str | int | float) for each in values):
                raise WrongValue(name, f"must be text, a number or a list of them, not {value!r}")
            if name == "product":
                found = [registry.product(str(each)) for each in values]
                values = [p.sku if p else str(each) for p, each in zip(found, values, strict=True)]
            if name not in (IDENTITY, "campaign", *SPECIAL):
                # A code shows the fields of its campaign, and may have kept others.
                selection.append(("campaign", registry.campaigns_with(name)))
            selection.append((name, values if isinstance(value, list | tuple) else values[0]))
        return selection
