"""The code and the field that a user lets ``verify`` write to."""

from __future__ import annotations

import dataclasses
import secrets


def _unknown_key() -> str:
    return f"verify-{secrets.token_hex(10)}"


@dataclasses.dataclass(frozen=True)
class Target:
    """
    What may be written.

    :param unknown_key: A key that no code has.
    :param no_field: A field that no campaign has.
    """

    extended_id: str
    field: str
    value: str
    unknown_key: str = dataclasses.field(default_factory=_unknown_key)
    no_field: str = dataclasses.field(default_factory=lambda: f"verify_{secrets.token_hex(6)}")

    @property
    def other(self) -> str:
        """A value that the field has only during the test."""
        return f"{self.value}-1"

    @property
    def masks(self) -> dict[str, str]:
        """The user's texts -> their masks in the report."""
        return {
            self.other: "OTHER-VALUE",
            self.extended_id: "EXTENDED-ID",
            self.field: "field_name",
            self.value: "VALUE",
            self.unknown_key: "NO-CODE",
            self.no_field: "no_such_field",
        }
