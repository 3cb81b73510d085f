"""What a query is before and after it is read, and the way to its reader: statement.py, with sqlglot under it."""

from dataclasses import dataclass
from typing import ClassVar, Final

from agent_service.errors import SlipwayError

MAX_SQL_CHARS: Final = 10_000
"""Characters. Parsing that many took 50 to 220 ms here, and 1 ms for the usual hundred."""


class QueryRefused(SlipwayError):
    """The query may not run, or PostgreSQL could not run it; the detail tells a model what to change."""

    code: ClassVar[str] = "query_refused"
    status: ClassVar[int] = 422


@dataclass(frozen=True, slots=True)
class Statement:
    """`text` is what runs, with $1, $2... for `parameters`; `shown` is the same for people, with their names."""

    text: str
    shown: str
    parameters: tuple[str, ...]


def read_query(sql: str, schemas: tuple[str, ...]) -> Statement:
    """`statement.prepare`, for a child process."""
    from agent_service.data.statement import prepare  # noqa: PLC0415  # only the child needs sqlglot's 8 MB and 0.1 s

    return prepare(sql, schemas)
