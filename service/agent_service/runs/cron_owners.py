"""Who was here: crons go on without their owners, and only an issuer of tokens knows whether one of its users may still come."""

import time

from agent_service.principal import Principal

NOTED_SECONDS = 3_600.0
"""For which a caller is not noted again: one write an hour and process, however often it calls."""


class CronOwners:
    """Callers of this process who have shown a valid credential, until the loop of crons writes them down."""

    def __init__(self) -> None:
        self._noted: set[tuple[str, str]] = set()
        self._told: set[tuple[str, str]] = set()
        self._until = 0.0

    def note(self, principal: Principal) -> None:
        """That it called. A stream token says only that somebody had a right when it was given."""
        if principal.grant is not None:
            return
        if (now := time.monotonic()) >= self._until:
            self._noted.clear()
            self._until = now + NOTED_SECONDS
        owner = (principal.tenant, principal.user)
        if owner not in self._noted:
            self._noted.add(owner)
            self._told.add(owner)

    def take(self) -> set[tuple[str, str]]:
        """Those who were noted since the last look."""
        found, self._told = self._told, set()
        return found

    def put_back(self, owners: set[tuple[str, str]]) -> None:
        """They could not be written down."""
        self._told |= owners
