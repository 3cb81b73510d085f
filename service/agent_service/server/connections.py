"""The open connections of a port: how many, whose, and which one gives way to a new one."""

from collections import Counter
from collections.abc import Callable
from typing import Generic, Protocol, TypeVar

from agent_service.server.limits import MAX_UNFINISHED_BYTES, MAX_UNREAD_BYTES, Limits

Holder = TypeVar("Holder")


class Budget(Generic[Holder]):
    """Bytes that many hold together, with a limit: who has held for longest gives way. Not thread-safe: one event loop's."""

    def __init__(self, limit: int, evict: Callable[[Holder], None]) -> None:
        self._limit = limit
        self._evict = evict
        self._held: dict[Holder, int] = {}  # in the order of the first byte
        self.total = 0

    def hold(self, holder: Holder, amount: int) -> None:
        """Says how much it holds now; evicts the oldest while all together hold too much."""
        self.total += amount - self._held.get(holder, 0)
        self._held[holder] = amount
        while self.total > self._limit:
            oldest = next(iter(self._held))
            self.release(oldest)
            self._evict(oldest)

    def release(self, holder: Holder) -> None:
        """It holds nothing more."""
        self.total -= self._held.pop(holder, 0)

    def renew(self, holder: Holder) -> None:
        """It makes progress: others go before it."""
        if holder in self._held:
            self._held[holder] = self._held.pop(holder)


class Connection(Protocol):
    """What the table of connections needs of one."""

    address: str

    def make_way(self) -> None:
        """Closes it: another one needs its place."""

    def cut_request(self) -> None:
        """Refuses the request that is arriving: together they hold too much."""

    def cut_answer(self) -> None:
        """Drops an answer that its reader does not take."""


class Connections:
    """Of one event loop.

    Args:
        on_change: told how many are open.
        on_cut: told why one was cut (refusals.CUT_REASONS).
    """

    def __init__(
        self, limits: Limits, on_change: Callable[[int], None] = lambda _: None, on_cut: Callable[[str], None] = lambda _: None
    ) -> None:
        self.limits = limits
        self.on_cut = on_cut
        arriving = max(MAX_UNFINISHED_BYTES, 4 * limits.max_body_bytes)
        self.unfinished: Budget[Connection] = Budget(arriving, lambda connection: connection.cut_request())
        self.unread: Budget[Connection] = Budget(MAX_UNREAD_BYTES, lambda connection: connection.cut_answer())
        self._on_change = on_change
        self._open: set[Connection] = set()
        # Without a request that is being answered, each in the order in which they fell silent.
        self._new: dict[Connection, None] = {}
        self._kept: dict[Connection, None] = {}
        self._by_address: Counter[str] = Counter()

    def __len__(self) -> int:
        return len(self._open)

    def admit(self, connection: Connection) -> bool:
        """Counts a new connection; False when there is no place for it.

        At the limit the one that has been idle longest gives way, so that silent connections keep nobody out; first of
        those that never had a request, so that nobody's kept connection goes for them.
        """
        most = self.limits.connections_per_address
        if most and self._by_address[connection.address] >= most:
            return False
        if len(self._open) >= self.limits.connections:
            oldest = next(iter(self._new or self._kept), None)
            if oldest is None:
                return False
            self.remove(oldest)
            oldest.make_way()
        self._open.add(connection)
        self._by_address[connection.address] += 1
        self._new[connection] = None
        self._on_change(len(self._open))
        return True

    def idle(self, connection: Connection) -> None:
        """Its request is answered."""
        if connection in self._open:
            self._kept[connection] = None

    def busy(self, connection: Connection) -> None:
        """It has a request."""
        self._new.pop(connection, None)
        self._kept.pop(connection, None)

    def remove(self, connection: Connection) -> None:
        """Forgets one that is gone, or goes."""
        self.unfinished.release(connection)
        self.unread.release(connection)
        if connection not in self._open:
            return
        self._open.remove(connection)
        self.busy(connection)
        self._by_address[connection.address] -= 1
        if not self._by_address[connection.address]:
            del self._by_address[connection.address]
        self._on_change(len(self._open))
