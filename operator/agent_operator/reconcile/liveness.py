"""Is the operator alive? Not whether its port answers, but whether objects are attended to and the watch tells of changes."""

from collections.abc import Mapping
from datetime import datetime, timedelta

from agent_operator.reconcile.tools import Key
from slipway_clients.clock import Clock

LOOP_SILENCE = timedelta(minutes=5)
"""Without a look at all objects. One is due each minute, and one that fails counts: a restart mends no API server."""

LONGEST_RECONCILE = timedelta(minutes=10)
"""A reconcile makes calls of at most ten seconds each; one that is at it this long hangs."""

DEAF_AFTER = timedelta(minutes=3)
"""That the watch has not told of a version which a list showed. kopf reopens a silent watch after 70 seconds."""


class Liveness:
    """What the loops report; the probe asks for complaints."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._looked = clock.now()
        self._listed = False
        self._active: dict[Key, datetime] = {}
        self._watched: dict[Key, str] = {}
        self._missing: dict[Key, datetime] = {}

    def began(self, key: Key) -> None:
        """A reconcile is at the object."""
        self._active[key] = self._clock.now()

    def ended(self, key: Key) -> None:
        """It is done, or failed."""
        self._active.pop(key, None)

    def heard(self, key: Key, version: str) -> None:
        """The watch told of an object."""
        self._watched[key] = version
        self._missing.pop(key, None)

    def heard_end(self, key: Key) -> None:
        """The watch told that an object is gone."""
        self._watched.pop(key, None)
        self._missing.pop(key, None)

    def looked(self, listed: Mapping[Key, str] | None) -> None:
        """All objects were listed, with their versions; None when that failed."""
        now = self._looked = self._clock.now()
        if listed is None:
            return
        self._listed = True
        self._watched = {key: version for key, version in self._watched.items() if key in listed}
        # A list may be ahead of the watch by a moment; what counts is how long no word of the object comes.
        self._missing = {key: self._missing.get(key, now) for key, version in listed.items() if self._watched.get(key) != version}

    def deaf(self) -> int:
        """Objects that the watch has been behind on for too long."""
        return sum(self._clock.now() - since > DEAF_AFTER for since in self._missing.values())

    def complaints(self) -> list[str]:
        """Why the process is not ready, or should be restarted; empty while it is well."""
        now = self._clock.now()
        # A missing role shows as a pod that never gets ready, and a rollout that stops.
        found = [] if self._listed else ["objects could not be listed yet"]
        found += [f"reconcile of {key} hangs" for key, since in self._active.items() if now - since > LONGEST_RECONCILE]
        if now - self._looked > LOOP_SILENCE:
            found.append(f"objects were last looked at {now - self._looked} ago")
        if deaf := self.deaf():
            found.append(f"the watch is behind on {deaf} objects")
        return found
