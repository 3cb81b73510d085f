"""Made-up traffic of two releases, recorded through the service's own metrics: names, labels and buckets are the real ones.

What happens in the 90 minutes: a rollout of `assistant` after 42, a failing tool and a limiting model from 64 to 88, a crash of
a `copilot` pod after 80.
"""

import math
import random
from collections.abc import Iterator
from dataclasses import dataclass, field

from prometheus_client import Metric

from agent_service.metrics import Metrics
from tools.dashboard_preview.operator_work import Operator

STEP = 30.0
"""Seconds between two scrapes, Prometheus' usual interval."""

LENGTH = 90 * 60.0
ROLLOUT, FAULT, FAULT_END, CRASH = 42 * 60.0, 64 * 60.0, 88 * 60.0, 80 * 60.0
DRAIN = 90.0
MODELS = {"gpt-4.1": (2e-6, 8e-6), "gpt-4.1-mini": (0.4e-6, 1.6e-6)}
"""USD per token in and out, of the order of real ones."""

TOOLS = {"rag_search": 0.08, "query_data": 0.3, "create_ticket": 0.9}
"""Seconds that a call takes, about."""

NODES = {"guard": 0.02, "route": 0.4, "agent": 2.2, "tools": 0.5}
ROUTES = ("RAG", "DATA", "GENERAL")
GRAPHS = ("support", "research")
PLACES = 40.0


@dataclass
class Pod:
    """One process. `end` is when it is gone; a pod that drains takes no new turns for the 90 s before that."""

    namespace: str
    job: str
    name: str
    version: str
    start: float
    end: float = math.inf
    drains: bool = True
    rate: float = 0.3
    metrics: Metrics = field(init=False)

    def __post_init__(self) -> None:
        self.metrics = Metrics(
            models=MODELS,
            version=self.version,
            graph="agent_service.agents.default:build",
            guardrail_rules=("injection", "length"),
            graphs=GRAPHS,
        )
        self.metrics.declare(nodes=NODES, tools=TOOLS, routes=ROUTES)
        self.metrics.declare_http([("POST", "/chat/stream", (200, 409, 503)), ("GET", "/runs/{run_id}", (200, 401, 404))])
        self.dice = random.Random(self.name)  # the same picture each time

    @property
    def labels(self) -> dict[str, str]:
        return {"namespace": self.namespace, "job": self.job, "pod": self.name}

    def draining(self, now: float) -> bool:
        return self.drains and now >= self.end - DRAIN

    def alive(self, now: float) -> bool:
        return self.start <= now < self.end

    def live_through(self, now: float, began: float) -> None:
        """The 30 seconds up to `now`; `began` is the Unix time of the first second."""
        wave = 1 + 0.35 * math.sin(now / 900) + self.dice.uniform(-0.15, 0.15)
        busy = 0.0
        for _ in range(0 if self.draining(now) else round(self.rate * STEP * wave)):
            busy += self._turn(FAULT <= now < FAULT_END and self.job == "assistant")
        self._levels(now, began, busy / STEP)

    def _turn(self, faulty: bool) -> float:
        m, dice = self.metrics, self.dice
        first = dice.lognormvariate(-0.2, 0.5)
        seconds = first + sum(self._call_model(model, faulty) for model in ("gpt-4.1-mini", "gpt-4.1", "gpt-4.1"))
        seconds += self._call_tool(faulty)
        for node, about in NODES.items():
            m.node_seconds.labels(node).observe(about * dice.lognormvariate(0, 0.4))
        outcome = dice.choices(("completed", "interrupted", "cancelled", "iteration_limit", "failed"), (960, 20, 15, 3, 4))[0]
        graph = dice.choices(GRAPHS, (3, 1))[0]
        m.runs.labels(outcome, graph, m.graph_version).inc()
        m.routes.labels(dice.choices(ROUTES, (6, 2, 3))[0]).inc()
        m.turn_seconds.labels(graph).observe(seconds)
        m.first_token_seconds.labels(graph, m.graph_version).observe(first)
        m.http_requests.labels("POST", "/chat/stream", dice.choices(("200", "409", "503"), (980, 12, 5))[0]).inc()
        m.http_requests.labels("GET", "/runs/{run_id}", dice.choices(("200", "401", "404"), (95, 3, 2))[0]).inc()
        m.http_seconds.observe(dice.lognormvariate(-4.5, 0.6))
        if dice.random() < 0.08:
            m.feedback.labels(dice.choices(("0", "1"), (1, 5))[0], m.graph_version).inc()
        if dice.random() < 0.05:
            m.stream_resumes.labels(dice.choices(("memory", "log", "finished", "gap"), (60, 30, 20, 1))[0]).inc()
        if dice.random() < 0.01:
            m.guardrail_blocks.labels("injection").inc()
        return seconds

    def _call_model(self, model: str, faulty: bool) -> float:
        m, dice = self.metrics, self.dice
        seconds = dice.lognormvariate(0.6 if model == "gpt-4.1" else -0.6, 0.45)
        if faulty and dice.random() < 0.12:
            m.model_requests.labels(model, "rate_limited").inc()
            seconds += dice.uniform(2, 9)
        m.model_requests.labels(model, dice.choices(("ok", "server_error", "timeout"), (990, 6, 2))[0]).inc()
        m.model_seconds.labels(model).observe(seconds)
        read, written = dice.randint(1200, 4200), dice.randint(60, 420)
        m.tokens.labels(model, "input").inc(read)
        m.tokens.labels(model, "cached").inc(round(read * dice.uniform(0.2, 0.6)))
        m.tokens.labels(model, "output").inc(written)
        price_in, price_out = MODELS[model]
        m.cost_usd.labels(model, m.graph_version).inc(read * price_in + written * price_out)
        return seconds

    def _call_tool(self, faulty: bool) -> float:
        tool = self.dice.choices([*TOOLS], (6, 3, 1))[0]
        failing = 0.3 if faulty and tool == "query_data" else 0.01
        seconds = TOOLS[tool] * self.dice.lognormvariate(0, 0.5)
        self.metrics.tool_calls.labels(tool, "error" if self.dice.random() < failing else "ok").inc()
        self.metrics.tool_seconds.labels(tool).observe(seconds)
        return seconds

    def _levels(self, now: float, began: float, busy: float) -> None:
        m, dice = self.metrics, self.dice
        left = max(0.0, 1 - (now - (self.end - DRAIN)) / DRAIN) * 6 if self.draining(now) else busy
        m.runs_in_flight.set(round(left))
        m.runs_in_flight_limit.set(PLACES)
        m.runs_queued_limit.set(200)
        m.runs_queued.set(dice.choice((0, 0, 0, 1, 2)))
        m.streams_open.set(round(left * 1.3))
        m.connections_open.set(round(left * 2))
        m.draining.set(self.draining(now))
        m.drain_started.set(began + self.end - DRAIN if self.draining(now) else 0)
        m.drain_limit_seconds.set(300)
        for state, share in (("in_use", min(0.9, busy / 12)), ("idle", 0.3), ("waiting", 0)):
            m.pool_connections.labels(state).set(round(share * 10))
        m.pool_connections_limit.set(10)
        m.loop_lag_seconds.set(dice.lognormvariate(-5, 0.6))
        for number, dependency in enumerate(("database", "model")):
            m.dependency_up.labels(dependency).set(0 if number and FAULT <= now < FAULT + 60 else 1)
        for number, table in enumerate(("run_events", "checkpoint_blobs", "checkpoint_writes", "ledger")):
            m.table_bytes.labels(table).set((now * 9e3 + 3e8) / (number + 1))
        m.pruned.labels("runs").inc(dice.randint(0, 9))
        revision = "8" if now > ROLLOUT + 1200 + dice.uniform(0, 60) else "7"
        m.key_revision.clear()
        m.key_revision.labels("openai", revision).set(1)
        m.key_revision.labels("api_keys", "3").set(1)
        m.key_loaded.labels("openai").set(began + (ROLLOUT + 1200 if revision == "8" else -86400 * 29))
        m.key_loaded.labels("api_keys").set(began - 86400 * 61)


def pods() -> list[Pod]:
    """Three that a rollout replaces one after the other, and two of another release of which one crashes."""
    found = []
    for number in range(3):
        change = ROLLOUT + number * 150
        found.append(Pod("support", "assistant", f"assistant-slipway-7d9f-{number}", "0.1.0", 0, change + DRAIN, rate=0.45))
        found.append(Pod("support", "assistant", f"assistant-slipway-5c4b-{number}", "0.2.0", change, rate=0.45))
    found.append(Pod("sales", "copilot", "copilot-slipway-66c8-a", "0.1.0", 0, rate=0.2))
    found.append(Pod("sales", "copilot", "copilot-slipway-66c8-b", "0.1.0", 0, CRASH, drains=False, rate=0.2))
    found.append(Pod("sales", "copilot", "copilot-slipway-66c8-c", "0.1.0", CRASH + STEP, rate=0.2))
    return found


def events(now: float, fleet: list[Pod]) -> None:
    """What one pod's end does to another."""
    for gone in fleet:
        if gone.end <= now < gone.end + STEP:
            heir = next(pod for pod in fleet if pod.job == gone.job and pod.alive(now))
            heir.metrics.runs_recovered.labels("handover" if gone.drains else "crash").inc(2 if gone.drains else 4)


def scrapes(began: float) -> Iterator[tuple[float, Pod | Operator, list[Metric]]]:
    """Unix time, pod, and what it exports then."""
    fleet, operator = pods(), Operator()
    for step in range(int(LENGTH / STEP) + 1):
        now = step * STEP
        events(now, fleet)
        processes: list[Pod | Operator] = [*(pod for pod in fleet if pod.alive(now)), operator]
        for pod in processes:
            pod.live_through(now, began)
            yield began + now, pod, list(pod.metrics.registry.collect())
