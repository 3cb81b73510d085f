"""Counts what the service of this process says to its database."""

from collections import Counter
from typing import Any

import psycopg
import pytest


def count_statements(patch: pytest.MonkeyPatch, counts: Counter[str]) -> None:
    """Adds to `statements` until the patch is undone."""
    execute = psycopg.AsyncConnection.execute

    async def counting(self: Any, query: Any, *args: Any, **options: Any) -> Any:
        counts["statements"] += 1
        return await execute(self, query, *args, **options)

    patch.setattr(psycopg.AsyncConnection, "execute", counting)
