"""Two replicas that know several kinds of callers, a victim of one tenant, and the count of what others try."""

import asyncio
import re
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from itertools import cycle
from pathlib import Path
from typing import Any
from uuid import uuid4

import httpx

from agent_service.auth.api_keys import create_key
from tests.support.jwks import SigningKey, make_key, serve_issuer
from tests.support.replicas import Replica, running_replicas
from tests.support.service import JWT_SECRET

ISSUER, AUDIENCE = "https://id.example", "slipway"

SECRET_WORD = "plutonium"
"""What the victim said; no answer to anybody else holds it."""

EPHEMERAL = re.compile(
    rb"\"(seconds|created)\":[0-9.e-]+|[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}|[0-9a-f]{32}|\d{4}-\d\d-\d\dT[0-9:.+Z]+"
)
"""How long a node took, run ids, request ids and times, which differ between any two calls."""


@dataclass
class Attacks:
    """What was tried, and what of it succeeded."""

    tried: int = 0
    succeeded: list[str] = field(default_factory=list)

    def refused(self, name: str, answer: httpx.Response, *statuses: int) -> None:
        self.tried += 1
        if answer.status_code not in statuses or SECRET_WORD in answer.text:
            self.succeeded.append(f"{name}: {answer.status_code} {answer.text[:200]}")

    def same(self, name: str, foreign: tuple[str, httpx.Response], free: tuple[str, httpx.Response]) -> None:
        """Each with the id that was sent in it."""
        self.tried += 1
        if shown(*foreign) != shown(*free) or SECRET_WORD in foreign[1].text:
            self.succeeded.append(f"{name}: {shown(*foreign)!r} is not {shown(*free)!r}")


def shown(sent: str, answer: httpx.Response) -> tuple[int, list[tuple[str, str]], bytes]:
    """Status, headers and body, without the id that was sent and what differs between any two calls."""
    # The rate is the caller's own, and each run that begins changes it.
    ignored = {"date", "x-request-id", "content-length", "ratelimit-remaining", "ratelimit-reset"}
    headers = sorted((name, value) for name, value in answer.headers.items() if name not in ignored)
    return answer.status_code, headers, EPHEMERAL.sub(b"*", answer.content.replace(sent.encode(), b"*"))


@dataclass(frozen=True)
class World:
    replicas: list[httpx.AsyncClient]
    key: SigningKey
    keys: dict[str, str]
    logs: list[Path]

    turns: Iterator[httpx.AsyncClient]

    def any(self) -> httpx.AsyncClient:
        """The next replica in turn."""
        return next(self.turns)

    def bearer(self, user: str, tenant: str, role: str = "user", **more: Any) -> dict[str, str]:
        return {"Authorization": f"Bearer {self.key.sign(claims(sub=user, tenant=tenant, role=role, **more))}"}


def claims(**changes: Any) -> dict[str, Any]:
    now = int(time.time())
    base = {"sub": "mallory", "tenant": "evil", "iss": ISSUER, "aud": AUDIENCE, "iat": now, "exp": now + 300}
    return {name: value for name, value in {**base, **changes}.items() if value is not None}


@asynccontextmanager
async def replicas_of_two_tenants(database_url: str, tmp_path: Path) -> AsyncIterator[World]:
    folder = tmp_path / "keys"
    keys = {
        name: create_key(folder, user=name, tenant=tenant, role="user") for name, tenant in (("ann", "acme"), ("mallory", "evil"))
    }
    key = make_key("right", "RS256")
    async with serve_issuer(key) as issuer:
        env = {
            "AUTH": "required",
            "JWT_SECRET": JWT_SECRET,
            "JWT_JWKS_URL": issuer.url,
            "JWT_ISSUER": ISSUER,
            "JWT_AUDIENCE": AUDIENCE,
            "API_KEYS_DIR": str(folder),
            "DATABASE_URL": database_url,
            "AGENT_GRAPH": "tests.support.graphs:asking_or_saying",
            "LOG_LEVEL": "debug",
        }
        async with running_replicas(2, env, tmp_path) as replicas, clients(replicas) as opened:
            yield World(opened, key, keys, [replica.log for replica in replicas], cycle(opened))


@asynccontextmanager
async def clients(replicas: list[Replica]) -> AsyncIterator[list[httpx.AsyncClient]]:
    opened = [httpx.AsyncClient(base_url=replica.url, timeout=60) for replica in replicas]
    try:
        yield opened
    finally:
        await asyncio.gather(*(client.aclose() for client in opened))


@dataclass(frozen=True)
class Victim:
    user: str
    headers: dict[str, str]
    session: str
    run: str
    waiting_session: str
    waiting_run: str

    async def everything(self, client: httpx.AsyncClient) -> list[Any]:
        """All that the API shows her; an attack must not change a byte of it."""
        paths = [f"/sessions/{self.session}/messages", f"/sessions/{self.waiting_session}/messages", f"/runs/{self.run}"]
        paths += [f"/runs/{self.waiting_run}", "/sessions", "/usage?group_by=session"]
        return [(await client.get(path, headers=self.headers)).json() for path in paths]


async def victim_of(world: World) -> Victim:
    user = f"ann-{uuid4().hex[:8]}"
    headers = world.bearer(user, "acme")

    async def ask(question: str, session: str) -> str:
        body = {"question": question, "session_id": session}
        answer = await world.any().post("/chat", json=body, headers={**headers, "Idempotency-Key": f"{session}-key"})
        assert answer.status_code == 200, answer.text
        return str(answer.json()["run_id"])

    said, waiting = await ask(f"say {SECRET_WORD}", "hers"), await ask(f"ask {SECRET_WORD}", "hers-waiting")
    return Victim(user, headers, "hers", said, "hers-waiting", waiting)
