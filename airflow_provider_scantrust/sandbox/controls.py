"""Control of a sandbox: the methods of `Sandbox`, which `/_sandbox/` calls too."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import asdict
from os import PathLike
from typing import Any, Literal

from airflow_provider_scantrust.sandbox.checks import WrongValue, mapping, text, whole
from airflow_provider_scantrust.sandbox.deviations import DEVIATIONS
from airflow_provider_scantrust.sandbox.orders import Fault, Steering
from airflow_provider_scantrust.sandbox.registry import ALL_PERMISSIONS
from airflow_provider_scantrust.sandbox.seeding import add_codes, seed_codes, seed_csv
from airflow_provider_scantrust.sandbox.service import Service
from airflow_provider_scantrust.sandbox.settings import DEFAULT_CAMPAIGN
from airflow_provider_scantrust.sandbox.store import COLUMNS


class Controls:
    """
    The control calls; safe from any thread, before the start, while the sandbox answers, and after the end.

    Rule: a call with an invalid value changes nothing, and raises `WrongValue`, a ValueError.
    """

    def __init__(self, make_service: Callable[[], Service]) -> None:
        self._make_service = make_service
        self._service = make_service()

    def seed(self, count: int, *, codes_per_lot: int = 1000) -> None:
        """
        Add numbered codes after the last one: SBX00000001, …, in lots L-000001, …, cases of 6, pallets of 600.

        The number of a code decides its lot: a second call with another `codes_per_lot` may add codes to
        existing lots.

        :param count: How many codes to add.
        :param codes_per_lot: How many codes share one lot_number.
        """
        seed_codes(self._service.store, count, codes_per_lot)

    def seed_csv(self, path: str | PathLike[str]) -> int:
        """
        Add the codes of a CSV file.

        An existing code gets the values of its row, and keeps its campaign if the row has none.

        :param path: UTF-8, with a header of extended_id and any of serial_number, campaign, product,
            activation_status, blacklist_reason and SCM fields.
        :returns: The number of rows.
        :raises ValueError: The file names an unknown column, campaign or product; nothing was added.
        """
        return seed_csv(self._service.store, self._service.registry, path)

    def add_codes(self, codes: Iterable[Mapping[str, Any]]) -> int:
        """Add codes from flat mappings, with the columns of `seed_csv` as keys and values as in an upload."""
        return add_codes(self._service.store, self._service.registry, codes)

    def add_campaign(self, campaign: int, *, fields: Iterable[str] = ()) -> None:
        """Define a campaign with the names of its SCM fields."""
        self._service.registry.add_campaign(campaign, fields)

    def add_field(self, name: str, *, campaign: int = DEFAULT_CAMPAIGN) -> None:
        """Define an SCM field on a campaign."""
        self._service.registry.add_field(name, campaign)

    def add_product(self, sku: str, *, campaign: int = DEFAULT_CAMPAIGN) -> int:
        """Define a product; its id is returned."""
        return self._service.registry.add_product(sku, campaign)

    def add_token(
        self,
        token: str,
        *,
        permissions: Iterable[str] = ALL_PERMISSIONS,
        expires: float | None = None,
        scheme: Literal["UAT", "JWT"] = "UAT",
        user: int = 1,
    ) -> None:
        """
        Define a token.

        :param token: The token itself; an existing token is replaced.
        :param permissions: Its permissions; by default all that uploads need.
        :param expires: In how many seconds it expires; by default never.
        :param scheme: The scheme that accepts this token.
        :param user: The token's user. Rate limits count users, not tokens.
        """
        self._service.registry.add_token(token, permissions, expires, scheme, user)

    def remove_token(self, token: str) -> None:
        """Revoke a token."""
        self._service.registry.tokens.pop(text("token", token), None)

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
        Script a fault for future requests.

        Faults with a number of `times` act first, in the order given. If none of them matches, the latest
        fault with `times=None` acts.

        :param method: The method that the fault matches; by default all.
        :param path: The path that the fault matches; with `*` at the end, all paths with this beginning.
        :param times: On how many requests it acts; None for all.
        :param skip: How many matching requests are answered normally first.
        :param probability: The chance that it acts on a matching request.
        :param random_seed: Seed for the probability.
        :param status: Answer with this status. Without `body`, a typical body of Scantrust or a gateway is
            sent.
        :param headers: Headers of this answer, for example Location or Retry-After.
        :param body: Body of this answer: text is sent as it is, anything else as JSON. Without `status`: 200.
        :param delay: Real seconds to wait first. With no other argument, the normal answer follows.
        :param cut: Cut the connection "before" the work, "after" it, or after it and half of the "body".
        :param work: With a status or body: whether the work is done before this answer is sent.
        """
        self._service.faults.append(
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
        return [fault.show() for fault in self._service.faults.copy()]

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
    ) -> None:
        """
        Control the jobs that are submitted from now on.

        Orders with a number of `times` are used first, in the order given; after them, the latest order with
        `times=None` applies. A call without arguments removes all remaining orders.

        :param times: How many jobs `fail`, `hang`, `seconds` and `polls` apply to; None for all.
        :param fail: The job ends as failed and updates nothing.
        :param hang: The job never ends: it stays in-progress (True), or in the named state.
        :param seconds: For how many service seconds the job is in-progress, instead of its cost.
        :param polls: The job ends at the nth poll of its status, not by time: the answers are pending, then
            in-progress, and the nth shows the end.
        """
        order = Steering(times=times, fail=fail, hang=hang, seconds=seconds, polls=polls)
        if order == Steering(times=times):
            self._service.jobs.steering.clear()
        else:
            self._service.jobs.steering.append(order)

    def configure(self, **settings: Any) -> None:
        """
        Change settings while the sandbox runs, all or none, for example rate_limits=False.

        `Settings` lists them.

        :raises WrongValue: The setting does not exist, or cannot have this value.
        """
        self._service.settings.change(**settings)
        self._service.clock.wake()

    def deviations(self) -> dict[str, dict[str, str]]:
        """Show the assumptions that the setting `deviations` can reverse, by name."""
        return {name: each._asdict() for name, each in DEVIATIONS.items()}

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

        :returns: None if there is no such code.
        """
        found = self.codes(extended_id=extended_id)
        return found[0] if found else None

    def codes(self, *, limit: int | None = None, offset: int = 0, **filters: Any) -> list[dict[str, Any]]:
        """
        Show the codes with these values, in the order in which they were added.

        :param limit: Maximum number of codes to show; by default all.
        :param offset: How many codes to skip first.
        :param filters: Field, as in `code` -> a value, or a list of values; "" for no value.
        """
        service = self._service
        if limit is not None:
            whole("limit", limit)
        selection = self._selection(filters)
        return service.store.rows(selection, service.registry.campaigns, limit, whole("offset", offset))

    def count(self, **filters: Any) -> int:
        """Count the codes with these values; see `codes`."""
        return self._service.store.count(self._selection(filters))

    def tasks(self) -> list[dict[str, Any]]:
        """Show the jobs, oldest first, with the documented fields and constraints, scm_data and error."""
        return self._service.jobs.show()

    def overview(self) -> dict[str, Any]:
        """Show the settings, the fields of each campaign, the campaign of each product, and counts; no token."""
        service = self._service
        return {
            "settings": asdict(service.settings),
            "campaigns": {
                number: names.copy() for number, names in service.registry.campaigns.copy().items()
            },
            "products": service.registry.products.copy(),
            "codes": service.store.count([]),
            "tasks": len(service.jobs),
            "requests": service.transcript.number,
        }

    def secrets(self) -> list[str]:
        """Return all tokens and passwords, so that a test can search for them where they must not be."""
        registry = self._service.registry
        return [*registry.tokens.copy(), *registry.users.copy().values()]

    def reset(self) -> None:
        """
        Go back to the state after the start: codes, tokens, jobs, faults, settings, everything.

        Requests and jobs in progress have no effect any more, and the requests are cut.
        """
        before, self._service = self._service, self._make_service()
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
                values = [registry.product(str(each)) or str(each) for each in values]
            if name not in COLUMNS:
                # A code shows only the fields of its campaign, but may have kept others.
                selection.append(("campaign", registry.campaigns_with(name)))
            selection.append((name, values if isinstance(value, list | tuple) else values[0]))
        return selection
