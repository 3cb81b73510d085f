"""Pauses between two looks at what another process is about to change."""

import asyncio


class Pauses:
    """Each twice as long as the one before, from `first` to at most `longest` seconds: what is soon over is soon seen, and what
    takes long costs few looks."""

    def __init__(self, first: float, longest: float) -> None:
        self._next = first
        self._longest = longest
        self.taken = 0

    async def take(self) -> None:
        self.taken += 1
        seconds, self._next = self._next, min(2 * self._next, self._longest)
        await asyncio.sleep(seconds)
