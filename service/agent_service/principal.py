"""Who calls."""

from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import quote
from uuid import UUID

from pydantic import AfterValidator, Field

CALLER: ContextVar[str] = ContextVar("caller", default="")
"""Label of the principal whose run is executed."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("has a control character")
    return name


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]
"""Name of a tenant or user: it becomes a column, a log field and a part of rate-limit keys."""

Role = Literal["user", "admin", "platform"]
"""An admin sees usage and cost of the own tenant, the platform of all tenants. Sessions are nobody's but their owner's."""


@dataclass(frozen=True, slots=True)
class StreamGrant:
    """What a stream token is good for: to read the stream of one run, and if `starts` to start that run, once."""

    run_id: UUID
    starts: bool


@dataclass(frozen=True, slots=True)
class Principal:
    """Owner of sessions: a user of a tenant. `grant`: it came by a stream token, which allows nothing beyond it.

    `by_key`: it came by an API key.
    """

    tenant: str
    user: str
    role: Role = "user"
    grant: StreamGrant | None = None
    by_key: bool = field(default=False, compare=False)

    @property
    def label(self) -> str:
        """One text for both names, another for each pair: `/` and `%` in a name are escaped."""
        return f"{_escaped(self.tenant)}/{_escaped(self.user)}"

    @property
    def namespace(self) -> tuple[str, str, str]:
        """Of LangGraph's store: what stands under it, the principal reads and writes by LangGraph's clients."""
        return ("callers", namespace_label(self.tenant), namespace_label(self.user))


def namespace_label(text: str) -> str:
    """As a label of LangGraph's store, which must not hold a dot, as e-mail addresses do; `*` would stand for any label."""
    return quote(text, safe="@").replace(".", "%2E")


def _escaped(name: str) -> str:
    return name.replace("%", "%25").replace("/", "%2F")
