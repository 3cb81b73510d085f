"""What the limits of callers cost: statements of a turn, counted."""

from collections import Counter

import pytest

from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.figures import Report
from tests.support.postgres import fresh_database
from tests.support.service import running_service
from tests.support.statements import count_statements

TURNS, ROUNDS = 5, 4

LIMITED = {"RATE_LIMIT_PER_MINUTE": "9999", "MAX_RUNS_PER_PRINCIPAL": "99", "MAX_RUN_TOKENS": "99999"}

SETTINGS = {
    "no limits": dict.fromkeys(LIMITED, "0"),
    "rate, runs at a time, tokens of a run": LIMITED,
    "these and budgets of a day and a month": {**LIMITED, "DAILY_TOKEN_LIMIT": "99999999", "MONTHLY_TENANT_USD_LIMIT": "9999"},
}


async def test_limits_cost_no_statement_of_a_turn_and_budgets_of_a_period_two_at_most_for_each_model_call(
    admin_url: str, monkeypatch: pytest.MonkeyPatch, report: Report
) -> None:
    cost = dict[str, float]()
    for name, env in SETTINGS.items():
        with fresh_database(admin_url) as url:
            cost[name] = await statements_of_a_turn(url, env, monkeypatch)
    for name, statements in cost.items():
        report(f"statements of a turn with one model call: {statements:.1f} with {name}")
    without, limited, budgeted = cost.values()
    # On a busy machine commits of one turn fall together or apart: less than half a statement, or one.
    assert limited - without < 0.8
    assert budgeted - without < 2.5


async def statements_of_a_turn(database_url: str, env: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> float:
    """The least of some rounds: health checks and renewals of leases come by the clock."""
    counts = Counter[str]()
    endpoint = {"MODEL": "gpt-4o", "OPENAI_API_KEY": "sk-1", "AGENT_GRAPH": "tests.support.graphs:plain"}
    async with (
        FakeModel(Script(token_count=5)) as model,
        running_service(database_url, OPENAI_BASE_URL=model.url, **endpoint, **env) as service,
        service.client() as client,
    ):
        rounds = []
        with monkeypatch.context() as patch:
            count_statements(patch, counts)
            for _ in range(ROUNDS):
                counts.clear()
                for number in range(TURNS):
                    assert (await client.post("/chat", json={"question": f"q{number}"})).json()["outcome"] == "completed"
                rounds.append(counts["statements"] / TURNS)
    return min(rounds)
