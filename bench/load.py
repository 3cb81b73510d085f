"""The load: turns of clients that wait for their answer, or of streams that all are open at once; each answer is checked."""

import asyncio
import itertools
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from uuid import uuid4

from bench.client import Connection, Turn, WrongAnswer, agent_event, model_event, thread_event
from bench.script import MODEL, Ask

NUMBERS = itertools.count(1)
"""Every question of a run of the bench is asked once."""


@dataclass(frozen=True, slots=True)
class Target:
    """Where questions go to: a server, or the model itself."""

    url: str
    direct: bool = False
    has_threads: bool = False
    """It speaks the wire of LangGraph's SDKs, too."""
    by_threads: bool = False
    """It is asked by that."""
    says_end: bool = True
    """Its streams have a last event; the reference's just end."""

    def on_threads(self) -> "Target":
        """Asked by threads, if it can be: the tutorial is asked as ever, for comparison."""
        return replace(self, by_threads=self.has_threads)

    async def ask(self, connection: Connection, ask: Ask, session: str | None = None) -> Turn:
        """Asks, reads the whole answer and compares it.

        Raises:
            WrongAnswer: a character differs.
            Refused, ConnectionError: there is no answer.
        """
        if self.direct:
            payload = {
                "model": MODEL,
                "stream": True,
                "stream_options": {"include_usage": True},
                "messages": [{"role": "user", "content": ask.question}],
            }
            turn = await connection.stream("/v1/chat/completions", payload, read=model_event)
        elif self.by_threads:
            thread = {
                "assistant_id": "agent",
                "input": {"messages": [{"role": "user", "content": ask.question}]},
                "stream_mode": ["messages-tuple"],
                "if_not_exists": "create",
            }
            turn = await connection.stream(f"/threads/{session or uuid4()}/runs/stream", thread, read=thread_event)
        else:
            body = {"question": ask.question, **({"session_id": session} if session else {})}
            turn = await connection.stream("/chat/stream", body, read=agent_event)
        turn.complete = turn.complete or not self.says_end
        return check(turn, ask)


def check(turn: Turn, ask: Ask) -> Turn:
    """Raises WrongAnswer unless every character came, once, in order, and the end was said."""
    if turn.text != ask.text:
        same = next((at for at, (one, two) in enumerate(zip(turn.text, ask.text, strict=False)) if one != two), None)
        at = min(len(turn.text), len(ask.text)) if same is None else same
        raise WrongAnswer(
            f"{ask.question!r}: {len(turn.text)} characters of {len(ask.text)};"
            f" from {at} on {turn.text[at : at + 40]!r} in place of {ask.text[at : at + 40]!r}"
        )
    if not turn.complete:
        raise WrongAnswer(f"{ask.question!r}: the stream ended without [DONE]")
    return turn


async def closed_loop(
    target: Target, clients: int, seconds: float, ask: Callable[[int], Ask], sessions: Iterable[str] = ()
) -> list[Turn]:
    """Turns of so many clients, each with a connection of its own, that begin within so many seconds; at least one each.

    `sessions`: one a client; without them each turn is a session of its own.
    """
    turns: list[Turn] = []
    until = time.perf_counter() + seconds

    async def client(session: str | None) -> None:
        async with await Connection.open(target.url) as connection:
            while True:
                turns.append(await target.ask(connection, ask(next(NUMBERS)), session))
                if time.perf_counter() >= until:
                    return

    names = [*sessions, *[None] * clients][:clients]
    async with asyncio.TaskGroup() as group:
        for name in names:
            group.create_task(client(name))
    return turns


async def together(target: Target, asks: Iterable[Ask], spread_seconds: float) -> list[Turn]:
    """A stream for each question, the first begun now and the last so many seconds later; each has a connection of its own."""
    asks = list(asks)

    async def client(place: int, ask: Ask) -> Turn:
        await asyncio.sleep(spread_seconds * place / len(asks))
        async with await Connection.open(target.url) as connection:
            return await target.ask(connection, ask)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(client(place, ask)) for place, ask in enumerate(asks)]
    return [task.result() for task in tasks]
