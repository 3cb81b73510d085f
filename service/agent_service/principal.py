"""Who calls."""

from dataclasses import dataclass
from typing import Literal

Role = Literal["user", "admin"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Owner of sessions: a user of a tenant.

    `stream_only` marks a principal that came by a stream token: it may read streams and start nothing else.
    """

    tenant: str
    user: str
    role: Role = "user"
    stream_only: bool = False

    @property
    def label(self) -> str:
        return f"{self.tenant}/{self.user}"
