"""Bytes that many hold together, with a limit: who has held for longest gives way."""

from collections.abc import Callable
from typing import Generic, TypeVar

Holder = TypeVar("Holder")


class Budget(Generic[Holder]):
    """Not thread-safe: one event loop's."""

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
        self.total -= self._held.pop(holder, 0)

    def renew(self, holder: Holder) -> None:
        """It makes progress: others go before it."""
        if holder in self._held:
            self._held[holder] = self._held.pop(holder)
