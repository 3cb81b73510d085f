"""A new version of the graph against the one before: what it makes worse. Pure, and by shares, so that traffic is equal."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

MIN_TURNS = 50
"""Turns of each version below which nothing is said: with fewer, one turn is more than 2 % of them."""

MIN_THUMBS = 20
"""Thumbs of each version below which they are left out: few users give one."""

SURE = 2.33
"""Standard errors that two shares must be apart: so far apart by chance is one in a hundred comparisons of equal versions."""

FAILED_MARGIN, DOWN_MARGIN = 0.01, 0.1
"""Shares of turns that fail, and of thumbs down, by which a version may be worse: with much traffic less is sure, too."""

FACTOR = 1.5
"""By which first words may be later and turns dearer: what people ask the two versions differs by less."""

FIRST_TOKEN_MARGIN = 0.5
"""Seconds by which first words must be later at least: what is less nobody notices, and buckets do not tell."""


@dataclass(frozen=True, slots=True)
class VersionFigures:
    """Of one version of one release. `first_token` is the 95th percentile in seconds, `cost` that of all turns in USD."""

    release: str
    version: str
    turns: float = 0.0
    failed: float = 0.0
    first_token: float | None = None
    cost: float = 0.0
    thumbs_up: float = 0.0
    thumbs_down: float = 0.0

    @property
    def thumbs(self) -> float:
        return self.thumbs_up + self.thumbs_down

    @property
    def enough(self) -> bool:
        """Whether there are turns enough to judge by."""
        return self.turns >= MIN_TURNS


def worse(new: VersionFigures, old: VersionFigures) -> Iterator[str]:
    """In what `new` is worse than `old`, which both have turns enough; nothing when it is as good or better."""
    if _more(new.failed, new.turns, old.failed, old.turns, FAILED_MARGIN):
        yield "more of its turns fail"
    if _later(new.first_token, old.first_token):
        yield "its first words come later"
    if old.cost > 0 and new.cost / new.turns > FACTOR * old.cost / old.turns:
        yield "its turns cost more"
    if min(new.thumbs, old.thumbs) >= MIN_THUMBS and _more(new.thumbs_down, new.thumbs, old.thumbs_down, old.thumbs, DOWN_MARGIN):
        yield "more of its answers get a thumb down"


def _more(new: float, of_new: float, old: float, of_old: float, margin: float) -> bool:
    """Whether a share is larger by more than `margin`, and by more than chance (two proportions, pooled, one-sided)."""
    apart = new / of_new - old / of_old
    pooled = min(1.0, (new + old) / (of_new + of_old))
    error = math.sqrt(pooled * (1 - pooled) * (1 / of_new + 1 / of_old))
    return apart > margin and apart > SURE * error


def _later(new: float | None, old: float | None) -> bool:
    return new is not None and old is not None and new > FACTOR * old and new - old > FIRST_TOKEN_MARGIN
