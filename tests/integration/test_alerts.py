"""The whole way of an alert: a service that misbehaves, Prometheus, Alertmanager, a receiver."""

import asyncio
import json
import re
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from aiohttp import web

from slipway_monitoring.rules import Selector, Thresholds, Windows, render
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script, ToolCall
from tests.support.ports import free_port
from tests.support.programs import program, serving
from tests.support.prometheus import Prometheus, running_prometheus
from tests.support.service import RunningService, running_service

# A real Alertmanager that sends everything to one webhook, and the webhook.


@dataclass
class Webhook:
    """The last that was told of each alert, by its name: `status`, `labels`, `annotations`."""

    url: str = ""
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, status: str, names: Collection[str], seconds: float) -> None:
        """Returns when all of these are `firing` or `resolved`.

        Raises:
            TimeoutError: they were not, after so many seconds; names those that are missing.
        """
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: not self._lacking(status, names))
        except TimeoutError:
            raise TimeoutError(f"not {status}: {self._lacking(status, names)}") from None

    def _lacking(self, status: str, names: Collection[str]) -> list[str]:
        return [name for name in names if self.alerts.get(name, {}).get("status") != status]

    async def receive(self, request: web.Request) -> web.Response:
        told = await request.json()
        async with self._news:
            self.alerts |= {alert["labels"]["alertname"]: alert for alert in told["alerts"]}
            self._news.notify_all()
        return web.Response()


@asynccontextmanager
async def running_webhook() -> AsyncIterator[Webhook]:
    hook = Webhook()
    app = web.Application()
    app.router.add_post("/", hook.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        hook.url = f"http://{host}:{port}/"
        yield hook
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_alertmanager(folder: Path, webhook: Webhook) -> AsyncIterator[str]:
    """Its base URL. It groups by alert and release, and waits for nothing."""
    binary = program("prometheus-alertmanager", "prometheus-alertmanager")
    route = {
        "receiver": "hook",
        "group_by": ["alertname", "namespace", "job"],
        "group_wait": "100ms",
        "group_interval": "500ms",
        "repeat_interval": "1h",
    }
    receiver = {"name": "hook", "webhook_configs": [{"url": webhook.url, "send_resolved": True}]}
    config = folder / "alertmanager.yaml"
    config.write_text(yaml.dump({"route": route, "receivers": [receiver]}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    async with serving(command, url, folder / "alertmanager.log"):
        yield url


pytestmark = pytest.mark.slow

ROOT = Path(__file__).parents[2]
DASHBOARDS = ROOT / "charts/slipway/files/dashboards"

LABELS = {"namespace": "shop", "job": "bot", "pod": "bot-1"}
EVERY = "500ms"
WINDOWS = Windows(scale=1 / 75)
"""5 minutes become 4 s, in which Prometheus scrapes eight times; the longest window of a seed alert becomes 24 s."""

THRESHOLDS = Thresholds(turn_seconds=0.5, daily_budget_usd=100)
"""Turns of 30 s would take the test as long."""

SEEDS = {
    "AgentTurnLatencyHigh": "critical",
    "AgentHttpErrorsHigh": "critical",
    "AgentCostHigh": "critical",
    "AgentToolFailuresHigh": "warning",
    "AgentIterationLimitHigh": "warning",
}
"""The alerts that the product began with, and their severity."""

BROKEN_SQL = ToolCall(name="query_data", arguments={"sql": "DROP TABLE runs"})
WELL = Script(tokens=["DATA"])
MISBEHAVING = Script(tokens=["DATA"], tool_calls=[BROKEN_SQL], first_token_seconds=0.6)

DOWN = Script(tokens=["DATA"], faults=[Fault(kind="server_error", model="fake-1", times=1_000_000)])
BY_HTTP = "AgentHttpErrorsHigh"

FIRING_SECONDS = 45.0
RESOLVED_SECONDS = 60.0
ROWS_SECONDS = 15.0


@dataclass(frozen=True)
class Plant:
    """Everything from the model endpoint to the receiver."""

    fake: FakeModel
    service: RunningService
    prometheus: Prometheus
    webhook: Webhook


@asynccontextmanager
async def running_plant(database_url: str, folder: Path) -> AsyncIterator[Plant]:
    rules = render(THRESHOLDS, selector=Selector(LABELS["namespace"], LABELS["job"]), windows=WINDOWS)
    async with (
        running_webhook() as webhook,
        running_alertmanager(folder, webhook) as alertmanager,
        FakeModel(WELL) as fake,
        running_service(database_url, **settings(fake, folder)) as service,
        running_prometheus(
            folder, target=service.ops_url, labels=LABELS, rules=rules, alertmanager=alertmanager, every=EVERY
        ) as prometheus,
    ):
        yield Plant(fake, service, prometheus, webhook)


def settings(fake: FakeModel, folder: Path) -> dict[str, str]:
    """A dear model, no retries, and one model call a run: a run that calls a tool reaches the limit."""
    prices, keys = folder / "prices.yaml", folder / "keys"
    prices.write_text("fake-1: 100000\n", encoding="utf-8")
    keys.mkdir()
    (keys / "current").write_text("sk-test", encoding="utf-8")
    (keys / "revision").write_text("1", encoding="utf-8")
    return {
        "MODEL": "fake-1",
        "CHEAP_MODEL": "fake-2",
        "OPENAI_BASE_URL": fake.url,
        "OPENAI_KEY_DIR": str(keys),
        "PRICE_FILE": str(prices),
        "MODEL_MAX_RETRIES": "0",
        "MAX_MODEL_CALLS": "1",
    }


QUESTION = "How many runs were there?"

Ask = Callable[[httpx.AsyncClient], Awaitable[httpx.Response]]


async def chat(client: httpx.AsyncClient) -> httpx.Response:
    return await client.post("/chat", json={"question": QUESTION})


async def complete(client: httpx.AsyncClient) -> httpx.Response:
    """Answered with 502 when the run fails: /chat answers 200 and says so in the body, which OpenAI's protocol cannot."""
    body = {"model": "slipway", "messages": [{"role": "user", "content": QUESTION}]}
    return await client.post("/v1/chat/completions", json=body)


@asynccontextmanager
async def users(service: RunningService, ask: Ask) -> AsyncIterator[None]:
    """Three, who ask again as soon as they are answered."""

    async def one() -> None:
        while True:
            await ask(client)

    async with service.client() as client, asyncio.TaskGroup() as group:
        tasks = [group.create_task(one()) for _ in range(3)]
        try:
            yield
        finally:
            for task in tasks:
                task.cancel()


async def fire(plant: Plant) -> dict[str, dict[str, Any]]:
    """What the receiver was told of the seed alerts: first of slow, dear turns whose tool fails, then of a model that is down."""
    told: dict[str, dict[str, Any]] = {}
    for script, ask, alerts in ((MISBEHAVING, chat, SEEDS.keys() - {BY_HTTP}), (DOWN, complete, {BY_HTTP})):
        plant.fake.script = script.model_copy(deep=True)
        async with users(plant.service, ask):
            await plant.webhook.until("firing", alerts, FIRING_SECONDS)
            told |= {name: plant.webhook.alerts[name] for name in alerts}
    plant.fake.script = WELL
    return told


def selectors(expression: str) -> set[str]:
    """Vector selectors of an expression."""
    return set(re.findall(r"\b(?:agent_\w+|up)\{[^}]*\}", expression))


def panel_queries() -> Iterator[tuple[str, str]]:
    """Panel and query of every dashboard, with Grafana's variables put in."""
    for path in sorted(DASHBOARDS.glob("*.json")):
        for panel in panels(json.loads(path.read_text(encoding="utf-8"))):
            for target in panel.get("targets", []):
                yield f"{path.stem} › {panel['title']}", with_variables(target["expr"])


def panels(holder: dict[str, Any]) -> Iterator[dict[str, Any]]:
    for panel in holder.get("panels", []):
        yield panel
        yield from panels(panel)


def with_variables(expression: str) -> str:
    variables = {"__rate_interval": "4s", "__range": "1m", **LABELS}
    return re.sub(r"\$\{?(\w+)\}?", lambda match: variables[match[1]], expression)


async def without_rows(prometheus: Prometheus, queries: dict[str, str]) -> list[str]:
    """Those that stay without: after one scrape that was too late for its 500 ms every series is gone until the next."""
    silent = queries
    with suppress(TimeoutError):
        async with asyncio.timeout(ROWS_SECONDS):
            while silent:
                answers = await asyncio.gather(*(prometheus.query(query) for query in silent.values()))
                silent = {name: silent[name] for name, rows in zip(silent, answers, strict=True) if not rows}
                await asyncio.sleep(0.2)
    return [*silent]


@pytest.mark.timeout(180)
async def test_the_seed_alerts_reach_a_receiver_and_end_and_no_query_is_empty(database_url: str, tmp_path: Path) -> None:
    async with running_plant(database_url, tmp_path) as plant:
        fired = await fire(plant)
        rules = await plant.prometheus.rules()
        read = {selector: selector for rule in rules for selector in selectors(rule["query"])}
        silent_rules = await without_rows(plant.prometheus, read)
        queries = [*panel_queries()]
        silent_panels = await without_rows(plant.prometheus, dict(queries))
        await plant.webhook.until("resolved", SEEDS, RESOLVED_SECONDS)

    assert [rule["lastError"] for rule in rules if rule["health"] != "ok"] == []
    assert silent_rules == []
    assert {name.partition(" › ")[0] for name, _ in queries} == {path.stem for path in DASHBOARDS.glob("*.json")} != set()
    assert silent_panels == []
    assert {name: alert["labels"]["severity"] for name, alert in fired.items()} == SEEDS
    assert {(alert["labels"]["namespace"], alert["labels"]["job"]) for alert in fired.values()} == {("shop", "bot")}
    assert fired["AgentToolFailuresHigh"]["labels"]["tool"] == "query_data"
    assert fired["AgentToolFailuresHigh"]["annotations"]["summary"].endswith("of the calls of tool query_data fail")
    assert fired["AgentHttpErrorsHigh"]["annotations"]["runbook"] == "docs/runbooks/agent-http-errors-high.md"
