"""The cost report agrees with the ledger to the last digit: random ledgers, every grouping, every reader, every form."""

import asyncio
import csv
import io
import json
import random
from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from itertools import combinations
from typing import Any
from uuid import UUID, uuid4

import psycopg
import pytest
from click.testing import CliRunner
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from agent_service.cli import main
from agent_service.db.pool import Pool, make_pool
from agent_service.principal import Principal
from agent_service.runs import usage as usage_module
from agent_service.runs.usage import GROUPS, Group, UsageReport, projected, run_calls, usage
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer

GROUPINGS = [groups for size in range(len(GROUPS) + 1) for groups in combinations(GROUPS, size)]
"""All 128."""

TENANTS, USERS, SESSIONS = ("acme", "a/b"), ("ann", "b%c"), ("one", "two")
MODELS, ROUTES, GRAPHS = ("gpt-4o", "claude", "free"), ("RAG", "billing", None), ("agent", "support")
RUNS = [UUID(int=number) for number in range(1, 9)]
START = datetime(2026, 10, 30, 20, tzinfo=UTC)
"""So that days and months end within the ledger."""


@dataclass(frozen=True)
class Call:
    run: UUID
    model: str
    hours: int
    tokens: int
    cost: Decimal | None
    estimated: bool

    @property
    def at(self) -> datetime:
        return START + timedelta(hours=self.hours)

    @property
    def tenant(self) -> str:
        return TENANTS[self.run.int % 2]

    @property
    def user(self) -> str:
        return USERS[self.run.int // 2 % 2]

    @property
    def session(self) -> str:
        return SESSIONS[self.run.int % 3 % 2]

    @property
    def route(self) -> str:
        return ROUTES[self.run.int % 3] or ""

    @property
    def graph(self) -> str:
        return GRAPHS[self.run.int // 4 % 2]

    def key(self, group: Group) -> str:
        escaped = [name.replace("%", "%25").replace("/", "%2F") for name in (self.tenant, self.user)]
        values = {"day": f"{self.at:%Y-%m-%d}", "month": f"{self.at:%Y-%m}", "user": "/".join(escaped)}
        return values.get(group) or str(getattr(self, group))


COSTS = st.decimals(0, 999_999, places=8, allow_nan=False) | st.sampled_from([Decimal("0.1"), Decimal("1E-8")])

CALLS = st.builds(
    Call,
    run=st.sampled_from(RUNS),
    model=st.sampled_from(MODELS),
    hours=st.integers(0, 72),
    tokens=st.integers(0, 2**31 - 1),
    cost=st.none() | COSTS,
    estimated=st.booleans(),
)


def fill(conn: psycopg.Connection[Any], calls: Sequence[Call]) -> None:
    """Half of the runs are erased before: their route and graph are the ledger's own."""
    conn.execute("TRUNCATE slipway.ledger, slipway.sessions CASCADE")
    for run in {call.run: call for call in calls}.values():
        conn.execute(
            "INSERT INTO slipway.sessions (id, tenant, user_id, title) VALUES (%s, %s, %s, 't')",
            (str(run.run), run.tenant, run.user),
        )
        conn.execute(
            "INSERT INTO slipway.runs (id, session_id, tenant, user_id, question, input, status, outcome, route, graph,"
            " finished_at)"
            " VALUES (%s, %s, %s, %s, 'q', '{}', 'finished', 'completed', %s, %s, now())",
            (run.run, str(run.run), run.tenant, run.user, run.route or None, run.graph),
        )
    rows = [
        (c.run, n, c.session, c.tenant, c.user, c.model, c.tokens, c.tokens, c.cost, c.estimated, c.at)
        for n, c in enumerate(calls)
    ]
    conn.cursor().executemany(
        "INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens,"
        " cached_tokens, output_tokens, cost_usd, estimated, created_at)"
        " VALUES (%s, 1, %s, %s, %s, %s, 'n', %s, %s, 0, %s, %s, %s, %s)",
        rows,
    )
    conn.execute("DELETE FROM slipway.sessions WHERE id = ANY(%s)", ([str(run) for run in RUNS[4:]],))


def summed(calls: Iterable[Call]) -> dict[str, Any]:
    calls = list(calls)
    return {
        "model_calls": len(calls),
        "runs": len({call.run for call in calls}),
        "input_tokens": sum(call.tokens for call in calls),
        "cached_tokens": 0,
        "output_tokens": sum(call.tokens for call in calls),
        "cost_usd": sum((call.cost for call in calls if call.cost is not None), Decimal(0)),
        "unpriced_calls": sum(call.cost is None for call in calls),
        "estimated_calls": sum(call.estimated for call in calls),
    }


def grouped(calls: Iterable[Call], groups: Sequence[Group]) -> list[dict[str, Any]]:
    found: dict[tuple[str, ...], list[Call]] = defaultdict(list)
    for call in calls:
        found[tuple(call.key(group) for group in groups)].append(call)
    return [{**dict(zip(groups, key, strict=True)), **summed(members)} for key, members in found.items()]


def in_order(rows: Iterable[dict[str, Any]]) -> list[dict[str, Any]]:
    return sorted(rows, key=lambda row: [str(row.get(group)) for group in GROUPS])


Groupings = Sequence[tuple[Group, ...]]


async def reports(url: str, principal: Principal | None, groupings: Groupings) -> dict[tuple[Group, ...], UsageReport]:
    async with make_pool(url, size=1, timeout=10) as pool:
        return {groups: await usage(pool, principal, groups) for groups in groupings}


@settings(
    max_examples=8,  # of 60 reports each
    deadline=None,
    phases=[Phase.generate],  # shrinking takes minutes
    suppress_health_check=[HealthCheck.function_scoped_fixture],
)
@given(
    calls=st.lists(CALLS, max_size=40),
    groupings=st.lists(st.sampled_from(GROUPINGS), min_size=20, max_size=20, unique=True),
)
def test_any_grouping_of_any_reader_sums_up_to_the_ledger_exactly(
    database_url: str, calls: list[Call], groupings: Groupings
) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn, calls)
    readers = {
        None: calls,
        Principal("acme", "root", "admin"): [call for call in calls if call.tenant == "acme"],
        Principal("a/b", "b%c", "user"): [call for call in calls if (call.tenant, call.user) == ("a/b", "b%c")],
    }
    for principal, seen in readers.items():
        several = principal is None or principal.role != "user"
        for groups, report in asyncio.run(reports(database_url, principal, groupings)).items():
            shown = tuple(g for g in GROUPS if g in groups or (several and g == "user" and "session" in groups))
            assert report.total == summed(seen)
            assert in_order(report.rows) == (in_order(grouped(seen, shown)) if shown else [])
            named = {row["model"]: row["model_calls"] for row in report.unpriced}
            assert sum(named.values()) == report.total["unpriced_calls"]


def random_calls(seed: int) -> list[Call]:
    draw = random.Random(seed)
    return [
        Call(draw.choice(RUNS), draw.choice(MODELS), draw.randrange(72), draw.randrange(9_999), _cost(draw), draw.random() < 0.2)
        for _ in range(200)
    ]


def _cost(draw: random.Random) -> Decimal | None:
    return Decimal(draw.randrange(10**12)).scaleb(-8) if draw.random() < 0.9 else None


async def test_http_tells_each_caller_what_the_ledger_has_to_the_last_digit(database_url: str) -> None:
    """Every grouping for one of them, and for the others each group alone: what they may see does not depend on it."""
    calls = random_calls(1)
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn, calls)
    callers = {
        "platform": (bearer("ops", "x", "platform"), calls),
        "admin": (bearer("root", "acme", "admin"), [c for c in calls if c.tenant == "acme"]),
        "user": (bearer("ann", "acme"), [c for c in calls if (c.tenant, c.user) == ("acme", "ann")]),
        "stranger": (bearer("eve", "acme"), []),
    }
    async with running_service(database_url, AUTH="required", JWT_SECRET=JWT_SECRET) as service, service.client() as client:
        for name, (headers, seen) in callers.items():
            for groups in GROUPINGS if name == "platform" else GROUPINGS[: 1 + len(GROUPS)]:
                asked = {"group_by": ",".join(groups)} if groups else {}
                report = (await client.get("/usage", headers=headers, params=asked)).json()
                wanted = summed(seen)["cost_usd"]
                assert Decimal(repr(report["total"]["cost_usd"])) == wanted
                assert sum((Decimal(repr(row["cost_usd"])) for row in report["rows"]), Decimal(0)) == wanted


def slipway(*args: str, url: str) -> str:
    result = CliRunner().invoke(main, ["costs", *args], env={"DATABASE_URL": url})
    assert result.exit_code == 0, result.output
    return result.stdout


def test_the_command_has_the_same_sums_as_table_json_and_csv(database_url: str) -> None:
    calls = random_calls(2)
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn, calls)
        conn.execute("UPDATE slipway.ledger SET user_id = '=cmd()' WHERE tenant = 'a/b'")
        conn.execute("UPDATE slipway.ledger SET tenant = '=x' WHERE tenant = 'a/b'")
    october, all_of_it = [c for c in calls if c.at.month == 10], summed(calls)["cost_usd"]

    report = json.loads(slipway("--by", "month,route", "--json", "--days", "3650", url=database_url))
    assert Decimal(repr(report["total"]["cost_usd"])) == all_of_it
    assert {row["route"] for row in report["rows"]} == {"RAG", "billing", ""}
    assert {row["month"] for row in report["rows"]} == {"2026-10", "2026-11"}

    for groups in ("day,model", "user", "session", "route", "graph"):
        rows = [*csv.DictReader(io.StringIO(slipway("--by", groups, "--csv", "--days", "3650", url=database_url)))]
        assert sum(Decimal(row["cost_usd"]) for row in rows) == all_of_it
    (odd,) = {row["user"] for row in csv.DictReader(io.StringIO(slipway("--by", "user", "--csv", url=database_url)))} - {
        "acme/ann",
        "acme/b%25c",
    }
    assert odd == "'=x/=cmd()"  # or a spreadsheet would run it

    table = slipway("--by", "model", "--month", "2026-10", url=database_url)
    (total,) = [line for line in table.splitlines() if "total" in line]
    assert f"{summed(october)['cost_usd']:f}" in total
    assert "without a price, and not in these sums: " in table
    assert all(f"{c.model} (" in table for c in october if c.cost is None)
    assert " USD in the end" in table
    for wrong in (("--month", "2026-13"), ("--month", "October"), ("--json", "--csv")):
        result = CliRunner().invoke(main, ["costs", *wrong], env={"DATABASE_URL": database_url})
        assert (result.exit_code, len(result.stderr.splitlines())) == (2, 1)
        assert wrong[0] in result.stderr


async def test_rows_beyond_the_limit_are_left_out_but_not_from_the_total(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = random_calls(3)
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn, calls)
    whole = await usage(pool, None, ["day", "model"])
    monkeypatch.setattr(usage_module, "ROW_LIMIT", 5)
    report = await usage(pool, None, ["day", "model"])
    assert (report.truncated, report.rows, report.total) == (True, whole.rows[:5], summed(calls))
    monkeypatch.setattr(usage_module, "ROW_LIMIT", len(whole.rows))
    assert (await usage(pool, None, ["day", "model"])).truncated is False


@pytest.mark.parametrize(
    ("recent", "recent_days", "left_days", "more"),
    [("7", 7, 14, "14.00"), ("3", 3, 10, "10.00"), ("1", 0.001, 2, "2.00"), ("0", 7, 14, "0.00"), ("7", 7, 0, "0.00")],
)
def test_the_rest_of_a_month_costs_as_the_last_days_did(recent: str, recent_days: float, left_days: float, more: str) -> None:
    assert projected(Decimal(recent), recent_days * 86_400, left_days * 86_400) == Decimal(more)


async def test_a_months_cost_is_projected_from_the_last_week_of_what_the_caller_may_see(database_url: str, pool: Pool) -> None:
    with psycopg.connect(database_url, autocommit=True) as conn:
        for tenant, days in (("acme", 6.5), ("acme", 3), ("acme", 0), ("globex", 1), ("acme", 60)):
            conn.execute(
                "INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens,"
                " cached_tokens, output_tokens, cost_usd, estimated, created_at)"
                " VALUES (%s, 1, 1, 's', %s, 'u', 'n', 'm', 1, 0, 1, 2.6, false, now() - %s * interval '1 day')",
                (uuid4(), tenant, days),
            )
        row = conn.execute(
            "SELECT to_char(now() AT TIME ZONE 'UTC', 'YYYY-MM'), sum(cost_usd) FILTER (WHERE created_at >= date_trunc('month',"
            " now() AT TIME ZONE 'UTC') AT TIME ZONE 'UTC'), extract(epoch FROM (date_trunc('month', now() AT TIME ZONE 'UTC')"
            " + interval '1 month') AT TIME ZONE 'UTC' - now())::float8 / 86400 FROM slipway.ledger WHERE tenant = 'acme'"
        ).fetchone()
    assert row
    name, spent, left = row
    month = (await usage(pool, Principal("acme", "root", "admin"), [])).month
    assert (month.month, month.spent_usd) == (name, spent)
    assert float(month.projected_usd - month.spent_usd) == pytest.approx(3 * 2.6 / 6.5 * left, abs=0.02)


async def test_the_calls_of_a_run_are_listed_in_their_order_with_their_node(
    database_url: str, pool: Pool, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = uuid4()
    made = [(2, 1, "answer", None), (1, 2, "plan", "0.00000001"), (1, 1, "plan", "1.5")]
    with psycopg.connect(database_url, autocommit=True) as conn:
        fill(conn, random_calls(3))
        for attempt, call, node, cost in made:
            conn.execute(
                "INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens,"
                " cached_tokens, output_tokens, cost_usd, estimated)"
                " VALUES (%s, %s, %s, 's', 't', 'u', %s, 'm', 7, 2, 3, %s, false)",
                (run, attempt, call, node, cost and Decimal(cost)),
            )
    calls, truncated = await run_calls(pool, run)
    assert [(each["attempt"], each["call"], each["node"], each["cost_usd"]) for each in calls] == [
        (1, 1, "plan", 1.5),
        (1, 2, "plan", 0.00000001),
        (2, 1, "answer", None),
    ]
    assert {(each["input_tokens"], each["cached_tokens"], each["output_tokens"]) for each in calls} == {(7, 2, 3)}
    assert not truncated
    monkeypatch.setattr(usage_module, "RUN_CALLS", 2)
    calls, truncated = await run_calls(pool, run)
    assert (len(calls), truncated) == (2, True)
