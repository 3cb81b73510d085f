"""Who issues keys: clients of their HTTP APIs, and the errors that all of them speak."""

from dataclasses import dataclass, field
from datetime import datetime


class ProviderError(Exception):
    """A provider did not do what was asked. `reason` is a condition's, in CamelCase; the message holds no key.

    `refused`: asking again soon does not help, a person must change something.
    """

    def __init__(self, reason: str, message: str, *, refused: bool = False) -> None:
        super().__init__(message)
        self.reason = reason
        self.refused = refused


@dataclass(frozen=True, slots=True)
class NewKey:
    """A key that was just made. Its value is told once."""

    id: str
    value: str = field(repr=False)


@dataclass(frozen=True, slots=True)
class IssuedKey:
    """A key at the provider. `last_used` is None when it was never used, or the provider does not tell."""

    id: str
    name: str
    last_used: datetime | None = None
