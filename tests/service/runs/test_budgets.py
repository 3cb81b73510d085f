"""Model calls at the gate of a budget: those of one run among each other, and what a caller is told."""

import asyncio
from datetime import UTC, datetime

import psycopg
import pytest

from agent_service.runs.budgets import seconds_left
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.service import running_service

CALL = 50
"""Tokens of an answer; the question has two more, and a call reserves 4,096 and a few."""


async def serve_and_ask(database_url: str, graph: str, runs: int, answer: int = CALL, **env: str) -> list[str]:
    """Outcomes of so many runs that are asked for at once."""
    async with (
        FakeModel(Script(token_count=answer, tokens_per_second=500)) as model,
        running_service(
            database_url,
            AGENT_GRAPH=f"tests.support.graphs:{graph}",
            MODEL="gpt-4o",
            OPENAI_BASE_URL=model.url,
            OPENAI_API_KEY="sk-test",
            MAX_TURN_SECONDS="20",
            **env,
        ) as service,
        service.client() as client,
    ):
        answers = await asyncio.gather(*(client.post("/chat", json={"question": "go on"}) for _ in range(runs)))
        return [answer.json().get("outcome") or answer.json()["code"] for answer in answers]


def used(database_url: str) -> int:
    with psycopg.connect(database_url) as conn:
        row = conn.execute("SELECT coalesce(sum(input_tokens + output_tokens), 0) FROM slipway.ledger").fetchone()
    assert row
    return int(row[0])


async def test_calls_of_one_step_that_go_at_once_pass_the_limit_by_one_of_them(database_url: str) -> None:
    assert await serve_and_ask(database_url, "fan_out", 1, DAILY_TOKEN_LIMIT="120") == ["budget"]
    assert 120 <= used(database_url) <= 120 + CALL + 10


async def test_a_call_that_limits_its_answer_reserves_that_and_not_what_calls_usually_do(database_url: str) -> None:
    limits = {"BUDGET_ANSWER_TOKENS": "10", "DAILY_TOKEN_LIMIT": "1000"}
    outcomes = await serve_and_ask(database_url, "capped", 20, answer=300, **limits)
    assert set(outcomes) == {"completed", "budget"}
    assert 1000 <= used(database_url) <= 1000 + 300 + 10


async def test_runs_with_parallel_branches_do_not_wait_for_each_other_for_ever(database_url: str) -> None:
    assert await serve_and_ask(database_url, "staggered", 4, DAILY_TOKEN_LIMIT="10000") == ["completed"] * 4


async def test_the_run_s_limit_counts_all_its_calls(database_url: str) -> None:
    assert await serve_and_ask(database_url, "two_steps", 1, MAX_RUN_TOKENS="60") == ["completed"]
    assert await serve_and_ask(database_url, "two_steps", 1, MAX_RUN_TOKENS="50") == ["budget"]


async def test_a_call_that_is_cancelled_before_its_first_word_costs_its_prompt_and_one_that_waited_for_a_budget_nothing(
    database_url: str,
) -> None:
    async with FakeModel(Script(first_token_seconds=3600)) as model:
        env = {"MODEL": "gpt-4o", "OPENAI_BASE_URL": model.url, "OPENAI_API_KEY": "sk-1", "DAILY_TOKEN_LIMIT": "5000"}
        async with (
            running_service(database_url, AGENT_GRAPH="tests.support.graphs:plain", **env) as service,
            service.client(headers={"Prefer": "respond-async"}) as client,
        ):
            async with asyncio.timeout(20):
                runs = [(await client.post("/chat", json={"question": "one two"})).json()["run_id"]]
                await (await model.request(0)).started.wait()
                runs.append((await client.post("/chat", json={"question": "three"})).json()["run_id"])
                while len(list(service.resources.worker._jobs.values())[-1].said.events) < 2:
                    await asyncio.sleep(0.01)
                for run_id in reversed(runs):
                    await client.post(f"/runs/{run_id}/cancel")
                    while not (await client.get(f"/runs/{run_id}")).json()["outcome"]:
                        await asyncio.sleep(0.01)
        assert len(model.requests) == 1

    with psycopg.connect(database_url) as conn:
        rows = conn.execute("SELECT run_id::text, input_tokens, output_tokens, estimated FROM slipway.ledger").fetchall()
    assert rows == [(runs[0], 2, 0, True)]


@pytest.mark.parametrize(
    ("scope", "now", "left"),
    [
        ("user", datetime(2026, 11, 28, 23, 59, 30, tzinfo=UTC), 30),
        ("user", datetime(2026, 12, 31, 0, 0, 0, tzinfo=UTC), 86_400),
        ("tenant", datetime(2026, 12, 31, 23, 0, 0, tzinfo=UTC), 3_600),
        ("tenant", datetime(2026, 2, 1, 0, 0, 0, tzinfo=UTC), 28 * 86_400),
    ],
)
def test_the_wait_is_until_the_day_or_the_month_is_over(scope: str, now: datetime, left: int) -> None:
    assert seconds_left(scope, now) == left
