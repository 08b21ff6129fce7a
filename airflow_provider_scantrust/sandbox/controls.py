"""Control of a sandbox: the methods of `Sandbox`, which `/_sandbox/` calls too."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from os import PathLike
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.faults import Fault
from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS
from airflow_provider_scantrust.sandbox.seeding import seed_codes, seed_csv, seed_rows
from airflow_provider_scantrust.sandbox.service import Service
from airflow_provider_scantrust.sandbox.settings import DEFAULT_CAMPAIGN


class Controls:
    """The control calls; safe to call from any thread while the sandbox answers."""

    def __init__(self, service: Service) -> None:
        self._service = service

    def seed(self, count: int, *, codes_per_lot: int = 1000, campaign: int = DEFAULT_CAMPAIGN) -> None:
        """
        Add codes by number: SBX00000001 and on, in lots L-000001…, cases of 6 and pallets of 600.

        Lots are numbered by the numbers of all codes: a second call with another `codes_per_lot` may add to lots
        that are there.

        :param count: How many codes to add to those there are.
        :param codes_per_lot: How many codes share one lot_number.
        :param campaign: The campaign of the codes.
        """
        seed_codes(self._service, count, codes_per_lot=codes_per_lot, campaign=campaign)

    def seed_csv(self, path: str | PathLike[str]) -> int:
        """
        Add the codes of a CSV file; a code that exists gets the values of its row.

        :param path: UTF-8, with a header of extended_id and any of serial_number, campaign, product,
            activation_status, blacklist_reason and SCM fields.
        :returns: The number of rows.
        :raises ValueError: The file names an unknown column, campaign or product; nothing was added.
        """
        return seed_csv(self._service, path)

    def add_codes(self, codes: Iterable[Mapping[str, Any]]) -> int:
        """Add codes given as flat mappings, with the keys that `seed_csv` takes as columns."""
        return seed_rows(self._service, codes)

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
        expires: datetime | float | None = None,
        scheme: Literal["UAT", "JWT"] = "UAT",
    ) -> None:
        """
        Define a token.

        :param token: The token itself; one that exists is replaced.
        :param permissions: Its permissions; by default all that uploads need.
        :param expires: When it expires, as an aware datetime or in seconds from now; never by default.
        :param scheme: The scheme it is good for.
        """
        self._service.registry.add_token(token, permissions, expires, scheme)

    def remove_token(self, token: str) -> None:
        """Revoke a token."""
        self._service.registry.remove_token(token)

    def add_user(self, username: str, password: str) -> None:
        """Define a user who can log in for a JWT."""
        self._service.registry.add_user(username, password)

    def fault(
        self,
        *,
        method: str | None = None,
        path: str = "/",
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
        Script a fault for requests to come; the oldest one that matches and is not used up acts.

        :param method: The method it matches; all by default.
        :param path: What the path begins with.
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
                headers=dict(headers or {}),
                body=body,
                delay=delay,
                cut=cut,
                work=work,
            )
        )

    def faults(self) -> list[dict[str, Any]]:
        """Show the scripted faults, with how often each has acted."""
        return self._service.faults.show()

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

        Orders are used up in turn; without any argument, those that are left are forgotten.

        :param times: How many jobs `fail`, `hang`, `seconds` and `polls` apply to; None for all.
        :param fail: The job ends as failed and updates nothing.
        :param hang: The job never ends: it stays in-progress (True), or in the state named.
        :param seconds: Service seconds the job is in-progress, instead of its cost.
        :param polls: The job ends when its status is asked for the nth time, and not by time: the answers are pending,
            then in-progress, and the nth is the end.
        :param states: The word shown for pending, in-progress, complete or failed; kept until changed.
        :param camel_case: Whether status keys are spelled codesAffected, createdAt, …; kept until changed.
        """
        jobs = self._service.jobs
        if not (fail or hang) and all(each is None for each in (seconds, polls, states, camel_case)):
            jobs.forget_steering()
        jobs.steer(times=times, fail=fail, hang=hang, seconds=seconds, polls=polls)
        if states is not None:
            self._service.settings.change(states=states)
        if camel_case is not None:
            self._service.settings.change(camel_case=camel_case)

    def configure(self, **settings: Any) -> None:
        """
        Change settings while the sandbox runs, for example rate_limits=False; `Settings` names them.

        :raises ValueError: There is no such setting.
        """
        self._service.settings.change(**settings)

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
        found = self._service.store.rows({"extended_id": extended_id}, self._service.registry.field_names)
        return found[0] if found else None

    def codes(self, *, limit: int = 1000, offset: int = 0, **filters: Any) -> list[dict[str, Any]]:
        """Show the codes with these values (extended_id may be a list), in the order they were added."""
        return self._service.store.rows(
            filters, self._service.registry.field_names, limit=limit, offset=offset
        )

    def count(self, **filters: Any) -> int:
        """Count the codes with these values."""
        return self._service.store.count(filters)

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
            "codes": service.store.count({}),
            "tasks": len(service.jobs.show()),
            "requests": service.transcript.number,
        }

    def reset(self) -> None:
        """Go back to the state after the start: codes, tokens, jobs, faults, settings, everything."""
        self._service.reset()
