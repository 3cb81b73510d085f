"""A client without credentials that wants a replica's memory, connections and time. Counted against a real process."""

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from tests.attack.rawhttp import MB, Push, bystander, closed, connect, resident_mb, told
from tests.support.replicas import Replica, running_replicas
from tests.support.service import JWT_SECRET
from tests.support.tokens import bearer

REQUEST_SECONDS = 1
"""Instead of 10, so that the test is short."""

PATIENCE_SECONDS = 10
"""Until a connection counts as held: the ops port gives a head 5 s, and then there are the two of its farewell."""

GROWTH_MB = 24
"""Under the 32 MiB that all unfinished requests may hold together; one connection alone is far below."""

PIECE = b"x" * 65_536

POST = b"POST /chat HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
CHUNKED = POST + b"Transfer-Encoding: chunked\r\n\r\n"


@dataclass
class Report:
    """One attack: what was sent and heard, and the replica's memory in MB."""

    name: str
    sent_mb: float = 0.0
    heard: str = ""
    before: float = 0.0
    peak: float = 0.0
    after: float = 0.0
    worst: float = 0.0
    open: int = 0

    def __str__(self) -> str:
        return (
            f"{self.name:<34} {self.sent_mb:>8.1f} {self.heard:<14} {self.before:>7.0f} {self.peak:>7.0f} {self.after:>7.0f}"
            f" {self.worst:>8.2f}"
        )


HEADER = f"{'attack':<34} {'MB taken':>8} {'heard':<14} {'before':>7} {'peak':>7} {'after':>7} {'others s':>8}"


@dataclass
class Attacked:
    replica: Replica
    port: int
    url: str
    reports: list[Report] = field(default_factory=list)

    @property
    def is_ops(self) -> bool:
        return self.port == self.replica.ops_port

    @property
    def pid(self) -> int:
        assert self.replica.process
        return self.replica.process.pid

    async def suffer(self, name: str, attack: Callable[[Report], Awaitable[None]]) -> Report:
        """Runs an attack beside a usual client; the memory is looked at ten times a second."""
        report = Report(name, before=resident_mb(self.pid))

        async def watch() -> None:
            while True:
                report.peak = max(report.peak, resident_mb(self.pid))
                await asyncio.sleep(0.1)

        async with bystander(self.url, bearer("alice")) as seen:
            watching = asyncio.create_task(watch())
            await attack(report)
            answers = seen.answers
            while seen.answers < answers + 2:  # it is served after the attack, and was within
                await asyncio.sleep(0.02)
            watching.cancel()
        report.after, report.worst = resident_mb(self.pid), seen.worst
        self.reports.append(report)
        assert seen.failures == []
        assert self.replica.process
        assert self.replica.process.returncode is None
        return report

    def print(self) -> None:
        print(f"\n{self.url}\n{HEADER}", *self.reports, sep="\n")


@pytest.fixture
async def ports(database_url: str, tmp_path: Path) -> AsyncIterator[list[Attacked]]:
    """Both ports of a replica."""
    env = {
        "AUTH": "required",
        "JWT_SECRET": JWT_SECRET,
        "DATABASE_URL": database_url,
        "REQUEST_SECONDS": str(REQUEST_SECONDS),
    }
    async with running_replicas(1, env, tmp_path, anew=True) as (replica,):
        yield [
            Attacked(replica, replica.port, f"{replica.url}/v1/models"),
            Attacked(replica, replica.ops_port, f"{replica.ops_url}/ready"),
        ]


def one_connection(port: int, *pieces: bytes, then: bytes = PIECE, most_mb: int = 200) -> Callable[[Report], Awaitable[None]]:
    """Sends the pieces, then one of them for ever, or until the server has taken so much."""

    async def attack(report: Report) -> None:
        raw = await connect(port)
        push = Push(raw)
        pushing = asyncio.create_task(push(itertools.chain(pieces, itertools.repeat(then, max(1, most_mb * MB // len(then))))))
        heard = await told(raw)
        pushing.cancel()
        report.sent_mb = push.sent / MB
        report.heard = heard.partition(b"\r\n")[0].decode()[9:23] or "closed"
        raw.close()

    return attack


async def test_one_connection_takes_no_memory_whatever_it_sends(ports: list[Attacked]) -> None:
    for attacked in ports:
        await attack_by_one_connection(attacked)


async def attack_by_one_connection(attacked: Attacked) -> None:
    port = attacked.port
    get = b"GET /live HTTP/1.1\r\nHost: a\r\n"
    fields = b"".join(b"h%d: v\r\n" % n for n in range(5_000))
    attacks = {
        "200 MB of header value": one_connection(port, get + b"X: "),
        "200 MB of header name": one_connection(port, get),
        "100,000 headers": one_connection(port, get, then=fields, most_mb=1),
        "endless URL": one_connection(port, b"GET /"),
        "endless method": one_connection(port),
        "blank lines": one_connection(port, then=b"\r\n" * 32_768),
        "pipelined flood": one_connection(port, then=(get + b"\r\n") * 2_000),
        "endless chunked body": one_connection(port, CHUNKED, then=b"10000\r\n" + PIECE + b"\r\n"),
        "chunks of one byte": one_connection(port, CHUNKED, then=b"1\r\nx\r\n" * 8_192),
        "endless chunk extension": one_connection(port, CHUNKED + b"1;"),
        "endless trailer": one_connection(port, CHUNKED + b"1\r\nx\r\n0\r\nT: "),
        "body of 2 GB by its length": one_connection(port, POST + b"Content-Length: 2000000000\r\n\r\n"),
        "body with Expect": one_connection(port, POST + b"Expect: 100-continue\r\nContent-Length: 900000\r\n\r\n", most_mb=3),
        "upgrade, then bytes": one_connection(port, get + b"Connection: Upgrade\r\nUpgrade: websocket\r\n\r\n"),
    }
    for name, attack in attacks.items():
        report = await attacked.suffer(name, attack)
        assert report.peak - report.before < GROWTH_MB, report
        assert report.sent_mb < 20, report  # of up to 200: the rest was not taken
        assert report.heard != "200 OK" or name in {"pipelined flood", "upgrade, then bytes"}, report
    attacked.print()
    first, last = attacked.reports[0], attacked.reports[-1]
    assert last.after - first.before < GROWTH_MB


async def test_many_connections_take_no_memory_and_no_place(ports: list[Attacked]) -> None:
    for attacked in ports:
        await attack_by_many_connections(attacked)


async def attack_by_many_connections(attacked: Attacked) -> None:
    port = attacked.port

    def many(count: int, start: bytes, drip: bytes = b"", every: float = 0.2) -> Callable[[Report], Awaitable[None]]:
        """So many connections that begin so, and go on in drips; all are to be closed soon after REQUEST_SECONDS."""

        async def one(report: Report) -> None:
            raw = await connect(port)
            push = Push(raw)
            pushing = asyncio.create_task(push(itertools.chain([start], itertools.repeat(drip) if drip else ()), every=every))
            stays = not await closed(raw, PATIENCE_SECONDS)
            pushing.cancel()
            report.open += stays
            report.sent_mb += push.sent / MB
            raw.close()

        async def attack(report: Report) -> None:
            await asyncio.gather(*(one(report) for _ in range(count)))
            report.heard = f"{report.open} open"

        return attack

    get = b"GET /live HTTP/1.1\r\nHost: a\r\n"
    large = many(300, POST + b"Content-Length: 900000\r\n\r\n" + b"x" * 899_999)
    attacks = {
        "300 silent connections": many(300, b""),
        "300 heads in drips": many(300, get, b"x"),
        "300 bodies in drips": many(300, POST + b"Content-Length: 900000\r\n\r\n", b"x"),
        "900 heads of 60 kB": many(900, get + b"X: " + b"x" * 60_000),
        "300 bodies of 900 kB but a byte": large,
        "the same again": large,
    }
    for name, attack in attacks.items():
        if attacked.is_ops and "drips" in name:
            continue  # waits of the same protocol for the ops port's 5 s
        report = await attacked.suffer(name, attack)
        assert report.open == 0, report
    attacked.print()
    # They hold what they sent until they are cut, together no more than the budget and what is on its way. What a process
    # was given once it keeps for the next such attack, which adds nothing.
    for report in attacked.reports:
        assert report.peak - report.before < 60, report
    again = attacked.reports[-1]
    assert again.after - again.before < 16
