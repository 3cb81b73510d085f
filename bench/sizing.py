"""From figures to advice: cores, pods and databases for a load. Everything it assumes stands here."""

import math
from dataclasses import dataclass

from bench.figures import Results
from bench.servers import OWN, SHARED

LOAD = 0.6
"""How full a core, or a database, is planned to be: the rest is for peaks, and for what a pod that died leaves behind."""

USERS = 1_000
TURN_EVERY_SECONDS = 60
"""A user who is there asks once a minute …"""

ANSWER_SECONDS = 10
"""… and the answer streams for so long: 500 tokens."""

DATABASE_CORES = 32
WAL_MB_PER_SECOND = 200
"""A large server, and what its disk and its standby take without falling behind."""


@dataclass(frozen=True, slots=True)
class Sizing:
    """What to plan. `streams`: of a core; `pods`: of one core, for USERS; `end`: turns a second of one database.

    The others: for 1,000 turns a second.
    """

    streams: int
    pods: int
    postgres_cores: float
    wal_mb: float
    transactions: int
    end: int
    limit: str

    @property
    def end_users(self) -> int:
        """Users who are there at once when the database is full."""
        return self.end * TURN_EVERY_SECONDS


def sizing(results: Results) -> Sizing | None:
    """By the worse of both kinds of graph; None if one of the figures is missing."""
    streams = [value for name in (SHARED, OWN) if (value := results.median("paced_streams", name)) is not None]
    worst = {key: _worst(results, f"c16_{key}") for key in ("postgres_cpu", "wal", "commits")}
    if not streams or None in worst.values() or not min(streams):
        return None
    cpu, wal, commits = (worst[key] or 0.0 for key in ("postgres_cpu", "wal", "commits"))
    planned = max(1, int(min(streams) * LOAD))
    at_once = USERS / TURN_EVERY_SECONDS * ANSWER_SECONDS
    by_cpu, by_wal = DATABASE_CORES * LOAD * 1000 / cpu, WAL_MB_PER_SECOND * 1000 / wal
    return Sizing(
        streams=planned,
        pods=math.ceil(at_once / planned),
        postgres_cores=cpu,
        wal_mb=wal,
        transactions=round(commits * 1000),
        end=int(min(by_cpu, by_wal) // 100 * 100),
        limit="its CPU" if by_cpu < by_wal else "its WAL",
    )


def _worst(results: Results, key: str) -> float | None:
    return max((value for name in (SHARED, OWN) if (value := results.median(key, name)) is not None), default=None)
