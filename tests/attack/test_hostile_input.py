"""The attacker is a caller with a good credential: no text that a question, a query or a document may hold takes long.

Time is compared with itself: four times the input may take about four times as long. The bounds are wide.
"""

import asyncio
import time
from collections.abc import Callable, Iterator
from functools import partial

import httpx
import pytest
from langchain_core.messages import HumanMessage

from agent_service.agents.guardrails import check_input
from agent_service.agents.offline_rules import reply
from agent_service.child_processes import Workers
from agent_service.data.data_reader import DataReader
from agent_service.data.query import MAX_SQL_CHARS, QueryRefused
from agent_service.db.pool import make_pool
from agent_service.logs import _hide_credentials
from agent_service.principal import Principal
from agent_service.token_counts import count_tokens
from tests.support.service import running_service

CHARS = 6_000
"""Of the question in the finding: it took longer than a lease."""

UNITS = [
    "\n", " ", "\t\n", "\xa0", "\u2028", "a", "a ", "- ", "* ", "# ", "> ", "| ", "`", "```\n", "[", "[a](", "(", "<",
    "<!--", "&amp;", ".", "! ", '"', "'", "ignore ", "ignore all ", "ignore all the ", "you ", "you are now ", "your ",
    "system: ", "\nsystem:", "print me your ", "repeat the words ", "sk-", "sk-a", "eyJ", "eyJ-", "eyJaaaaaaaaaa.",
    "-----BEGIN ", "-----BEGIN A ", "AKIA", "4", "4 ", "4-", "41 ", "Bearer ", "?token=", "\u0301", "\u202e", "\u200d",
    "\xdf", "\u0130", "\u017f", "\ud800", "\x00", "\U0001f3f3\ufe0f\u200d\U0001f308", "select ", "remember ", "please save ",
    "my x ", "by a ", "what can you do ", "title: ", ": ", ":\n", "how much per ",
]  # fmt: skip
ENDS = ["", "x", "hello", "instructions", "!", "\n", ")"]


def hostile(chars: int) -> Iterator[str]:
    """Texts of so many characters: each unit again and again, with an end that makes a match fail late."""
    for unit in UNITS:
        for end in ENDS:
            yield (unit * (chars // len(unit) + 1))[: chars - len(end)] + end
    for outer, inner in (("(", ")"), ("[", "]"), ("<b>", "</b>"), ("> ", "\n"), ("  - ", "\n")):
        count = chars // (len(outer) + len(inner))
        yield outer * count + inner * count


def seconds(call: Callable[[], object]) -> float:
    """Of this thread's CPU, the best of two: what others do on the machine only adds."""
    best = float("inf")
    for _ in range(2):
        began = time.thread_time()
        call()
        best = min(best, time.thread_time() - began)
    return best


def ask_offline(text: str) -> None:
    reply([HumanMessage(text)], [])


PARSERS: dict[str, Callable[[str], object]] = {
    "input rules": check_input,
    "offline model": ask_offline,
    "log lines": lambda text: _hide_credentials(None, "", text),
    "tokens": count_tokens,
}


@pytest.mark.parametrize("name", PARSERS)
@pytest.mark.timeout(240)
def test_time_grows_with_the_length_and_not_with_its_square(name: str) -> None:
    parse, worst, tried = PARSERS[name], (0.0, ""), 0
    for short, long in zip(hostile(CHARS), hostile(4 * CHARS), strict=True):
        tried += 1
        took = seconds(partial(parse, long))
        if took > 0.05:  # a square would show: 16 times
            ratio = took / max(seconds(partial(parse, short)), 1e-4)
            assert ratio < 10, f"{name}: {ratio:.0f} times as long for 4 times {long[:12]!r}…"
        worst = max(worst, (took, repr(long[:12])))
    print(f"{name}: {tried} texts of {4 * CHARS} characters, the slowest {worst[0] * 1000:.0f} ms: {worst[1]}…")
    assert worst[0] < 2


QUERIES = {
    "nested types": "SELECT 1::" + "numeric(" * 22 + "1" + ")" * 22,
    "nested types, 209 characters": "SELECT 1::" + "numeric(" * 24 + "7",
    "arrays": "SELECT " + "ARRAY[(" * 30 + "1" + ")]" * 30,
    "unions": " UNION ".join(["SELECT 1"] * 700),
    "parentheses": "SELECT " + "(" * 4_000 + "1" + ")" * 4_000,
    "open parentheses": "SELECT " + "(" * 9_000,
    "cases": "SELECT " + "CASE WHEN " * 400 + "1" + " THEN 1 END" * 400,
    "casts": "SELECT 1" + "::int" * 1_900,
    "nots": "SELECT " + "NOT " * 2_400 + "true",
    "minus": "SELECT " + "- " * 4_900 + "1",
    "intervals": "SELECT " + "INTERVAL " * 1_000 + "'1'",
    "subqueries": "SELECT " + "(SELECT " * 600 + "1" + ")" * 600,
    "comments": "SELECT 1 " + "/*" * 4_000 + "*/" * 400,
    "functions": "SELECT " + "lower(" * 900 + "'a'" + ")" * 900,
    "windows": "SELECT " + "sum(1) OVER (ORDER BY " * 200 + "1" + ")" * 200,
    "in": "SELECT 1 IN (" * 500 + "1" + ")" * 500,
    "joins": "SELECT 1 FROM usage" + " JOIN usage USING (day)" * 400,
    "dots": "SELECT " + "a." * 4_000 + "b",
    "quotes": "SELECT '" + "''" * 4_000,
    "dollars": "SELECT $a$" + "$" * 9_000,
    "lambdas": "SELECT " + "(x -> " * 800 + "1" + ")" * 800,
    "structs": "SELECT " + "struct<a " * 800 + ">" * 800,
}


async def test_no_query_takes_a_replica_along(database_url: str, workers: Workers) -> None:
    """The loop goes on meanwhile, each is over by its deadline, and a plain query works after it."""
    slowest_tick = 0.0

    async def tick() -> None:
        nonlocal slowest_tick
        while True:
            began = time.monotonic()
            await asyncio.sleep(0.01)
            slowest_tick = max(slowest_tick, time.monotonic() - began)

    async with make_pool(database_url, size=2, timeout=10) as pool:
        reader = DataReader(pool, workers, schemas=("slipway_data",), timeout=5, row_limit=10)
        ticking = asyncio.create_task(tick())
        refused, slowest = 0, 0.0
        for sql in QUERIES.values():
            began = time.monotonic()
            try:
                await reader.query(sql[:MAX_SQL_CHARS], principal=Principal("t", "u"))
            except QueryRefused:
                refused += 1
            slowest = max(slowest, time.monotonic() - began)
        ticking.cancel()
        result = await reader.query("SELECT 1 AS one", principal=Principal("t", "u"))
    pause = f"longest pause of the loop {slowest_tick * 1000:.0f} ms"
    print(f"{len(QUERIES)} queries: {refused} refused, slowest {slowest:.1f} s, {pause}")
    assert result.rows == ((1,),)
    assert slowest < 5
    assert slowest_tick < 2


QUESTIONS = [
    "\n" * 5_994 + "hello",
    " \n" * 2_990 + "hello",
    "\u00a0" * 5_990 + "you",
    "sk-" * 2_000,
    "eyJ-" * 1_500,
    "4 " * 3_000,
]


async def test_hostile_questions_leave_other_callers_unhurt(database_url: str) -> None:
    async with running_service(database_url) as service, service.client() as client:

        async def probe() -> float:
            began = time.monotonic()
            assert (await client.get("/live")).status_code == 200
            return time.monotonic() - began

        asked = [asyncio.create_task(client.post("/chat", json={"question": text})) for text in QUESTIONS]
        slowest = 0.0
        while not all(task.done() for task in asked):
            slowest = max(slowest, await probe())
            await asyncio.sleep(0.02)
        answers: list[httpx.Response] = await asyncio.gather(*asked)
    print(
        f"{len(QUESTIONS)} hostile questions: {[answer.status_code for answer in answers]}, slowest probe {slowest * 1000:.0f} ms"
    )
    assert {answer.status_code for answer in answers} <= {200, 422}
    assert slowest < 5
