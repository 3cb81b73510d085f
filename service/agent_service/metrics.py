"""Every metric of the service, declared once. Label values come from closed sets; children exist at 0 from the start."""

import re
from collections.abc import Iterable
from typing import Literal, get_args

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.utils import INF

from agent_service.langgraph_file import DEFAULT_NAME
from agent_service.logs import logger
from agent_service.outcomes import OUTCOMES
from agent_service.server.refusals import CUT_REASONS

TURN_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 600, INF)
"""Seconds. The p99 alert stands at 30 s; histogram_quantile can never exceed the top finite bucket."""

FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, INF)
CALL_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, INF)
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, INF)

MODEL_STATUSES = ("ok", "rate_limited", "client_error", "server_error", "connection_error", "timeout", "auth")
TOOL_STATUSES = ("ok", "error")
TOKEN_TYPES = ("input", "cached", "output", "reasoning")
RELOADS = ("loaded", "refused")
RESUMES = ("memory", "log", "finished", "gap")
LIMITS = ("queue", "streams", "rate", "runs", "budget")
"""What a run can be refused by, with 429 or 503 and a Retry-After."""

BUDGET_SCOPES = ("user", "tenant")
REDIS_USES = ("rates", "answers")
CACHE_RESULTS = ("hit", "waited", "miss")
"""`waited`: for another run that made the answer at the time."""

PRUNED = ("runs", "threads", "sessions")
TABLES = ("checkpoint_blobs", "checkpoint_writes", "checkpoints", "ledger", "passages", "run_events", "runs", "sessions", "store")
"""Tables that grow with use."""

HTTP_CODES = (200, 202, 204, 401, 404, 409, 422, 500, 502, 503)
"""Statuses whose series exist from the start, on the routes that declare them; a rarer one begins with its first answer."""

OTHER = "other"
"""Label value of what is not in a closed set: a model, tool, node or route nobody declared."""

CronTick = Literal["begun", "refused", "failed", "elsewhere"]
"""What becomes of a time of a cron: `elsewhere`, it was begun by another process, or the cron was changed, just then."""

MAX_ROUTES = 20
"""Routes that count by name: the graph's first ones. A graph that makes up a route for each question makes no more series."""

NAME = re.compile(r"[A-Za-z0-9_.:/@+-]{1,100}")
"""What a name looks like that is a route's label, or logged: not like a sentence, which may be a user's."""

ANSWERS = ("sourced", "unsourced", "refused", "iteration_limit")
"""How a turn was answered: with a tool's citations or without, not at all by a rule or a model's refusal, or not to the end."""

MAX_VERSIONS = 5
"""Of graphs, beside the one that runs: feedback comes for answers of versions before."""

MAX_TOLD = 50
"""Undeclared names of one kind that are logged, each once: a graph may make names up without end."""

log = logger(__name__)


class Metrics:
    """One registry per process. `closed` sets bound each label; names outside of them count as `other`."""

    def __init__(  # noqa: PLR0915  # a list of declarations
        self,
        *,
        models: Iterable[str],
        version: str,
        graph: str,
        guardrail_rules: Iterable[str],
        graph_version: str = "",
        graphs: Iterable[str] = (DEFAULT_NAME,),
    ) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._models = {*models}
        self._graphs = {*graphs}
        self._nodes: set[str] = set()
        self._tools: set[str] = set()
        self._routes: set[str] = set()
        self.graph_version = graph_version or version
        self._versions = {self.graph_version}
        self._told: dict[str, set[str]] = {}

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"agent_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"agent_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: Iterable[str] = ()) -> Histogram:
            return Histogram(f"agent_{name}", text, labels, buckets=buckets, registry=registry)

        # How long do users wait for an answer?
        self.turn_seconds = histogram("turn_duration_seconds", "Run, from its start to its outcome", TURN_BUCKETS, ["graph"])
        # And for its first word?
        self.first_token_seconds = histogram(
            "time_to_first_token_seconds", "Run, start to first text", FIRST_TOKEN_BUCKETS, ["graph", "version"]
        )
        # Which part of the graph takes the time?
        self.node_seconds = histogram("node_duration_seconds", "Node of the graph", CALL_BUCKETS, ["node"])
        # Is it the model?
        self.model_seconds = histogram("llm_request_duration_seconds", "Model call, to its last token", CALL_BUCKETS, ["model"])
        # Is it a tool?
        self.tool_seconds = histogram("tool_duration_seconds", "Tool call", CALL_BUCKETS, ["tool"])
        # How do runs end? (outcomes: see agent_service.outcomes)
        self.runs = counter("runs_total", "Runs that ended, by outcome", ["outcome", "graph", "version"])
        # Is the model endpoint failing or limiting us? One count per HTTP attempt, retries included.
        self.model_requests = counter("llm_requests_total", "Requests to the model endpoint", ["model", "status"])
        # Is a model left alone for its failures (MODEL_CIRCUIT_FAILURES), and how often was one?
        self.model_circuits_open = gauge("model_circuits_open", "Circuits open now: the process sends no calls", ["model"])
        self.model_circuits_opened = counter("model_circuits_opened_total", "Times that a model was left alone", ["model"])
        # Which tool fails?
        self.tool_calls = counter("tool_calls_total", "Tool calls", ["tool", "status"])
        # How much does the model read and write?
        self.tokens = counter("tokens_total", "Tokens; cached is a part of input, reasoning of output", ["model", "type"])
        # What does it cost?
        self.cost_usd = counter("cost_usd_total", "Cost by the price table, USD", ["model", "version"])
        # Is that cost all of it?
        self.unpriced = counter("unpriced_model_calls_total", "Model calls whose model has no price", ["model"])
        # Are the prices those that we think? Refused: counted at each look, every 2 s, while a broken file stands.
        self.price_reloads = counter("price_reloads_total", "Looks at PRICE_FILE that found a new or a broken one", ["result"])
        # What do users ask for?
        self.routes = counter("routes_total", "Runs by the route that the graph took", ["route"])
        # Are they content?
        self.feedback = counter("feedback_total", "Thumbs, by the version of the graph that answered", ["score", "version"])
        # Did a new version of the graph make the answers worse?
        self.answers = counter("answers_total", "Turns that were answered, by version of the graph", ["version", "result"])
        # Is somebody attacking, or a rule too strict?
        self.guardrail_blocks = counter("guardrail_blocks_total", "Questions refused by an input rule", ["rule"])
        # Does Redis do what it is there for? If not, PostgreSQL does, and no turn fails for it.
        self.redis_fallbacks = counter("redis_fallbacks_total", "What Redis was asked for while it was away", ["use"])
        # Whom do we turn away, and for want of what?
        self.cache_requests = counter("cache_requests_total", "First questions that the response cache was asked for", ["result"])
        self.budget_warnings = counter("budget_warnings_total", "Budgets of which 80 % are spent, once a period", ["scope"])
        self.rate_limited = counter("rate_limited_total", "Runs refused by a limit", ["limit"])
        # Do runs at a schedule begin? Refused: the cron's `last_error` says why, and its owner is mostly not there to see it.
        self.cron_ticks = counter("cron_ticks_total", "Times of crons that came, by what became of them", ["result"])
        # Are processes dying with runs? Hand-overs are rollouts, crashes are not.
        self.runs_recovered = counter("runs_recovered_total", "Runs taken over from another process", ["reason"])
        # Do reconnecting clients get all of their answer? A gap: its events were pruned.
        self.stream_resumes = counter("stream_resumes_total", "Streams re-opened with a last event id", ["result"])
        # How many requests fail?
        self.http_requests = counter("http_requests_total", "HTTP requests by route template", ["method", "route", "code"])
        # Is the API itself slow?
        self.http_seconds = histogram("http_request_duration_seconds", "HTTP request, streams left out", HTTP_BUCKETS)
        # How full is this process?
        self.runs_in_flight = gauge("runs_in_flight", "Runs executing in this process")
        self.runs_queued = gauge("runs_queued", "Runs that this process accepted and that wait for a place")
        # How far is it from full?
        self.runs_in_flight_limit = gauge("runs_in_flight_limit", "MAX_CONCURRENT_RUNS of this process")
        self.runs_queued_limit = gauge("runs_queued_limit", "MAX_QUEUED_RUNS, of all processes together")
        # How many people are watching?
        self.streams_open = gauge("streams_open", "Open event streams")
        # Who holds connections, and why were some cut?
        self.connections_open = gauge("connections_open", "Open connections of the API port")
        self.connections_cut = counter("connections_cut_total", "Connections of the API port that a limit closed", ["reason"])
        # Is it on its way out, since when, and how long may that take?
        self.draining = gauge("draining", "1 while the process finishes its runs before it exits")
        self.drain_started = gauge("drain_started_timestamp_seconds", "Unix time of the SIGTERM; 0 before it")
        self.drain_limit_seconds = gauge("drain_limit_seconds", "DRAIN_SECONDS: how long runs may take to finish here")
        # Do requests wait for a database connection?
        self.pool_connections = gauge("db_pool_connections", "Connections; waiting: requests without one", ["state"])
        self.pool_connections_limit = gauge("db_pool_connections_limit", "DATABASE_POOL_SIZE of this process")
        # How many pods does it take? (the autoscaler reads this one)
        self.concurrency = gauge("concurrency", "Runs in flight and queued; 0 while draining, which no new pod would help")
        self.concurrency.set_function(self._concurrency)
        # Is something blocking the event loop, and so every stream?
        self.loop_lag_seconds = gauge("event_loop_lag_seconds", "How late the event loop ran a timer, worst of 30 s")
        # Does what we depend on answer?
        self.dependency_up = gauge("dependency_up", "1 while the last check of a dependency was good", ["dependency"])
        # Is the database growing?
        self.table_bytes = gauge("table_bytes", "Size on disk with indexes, at the last clean-up", ["table"])
        # Does the clean-up keep up?
        self.pruned = counter("pruned_total", "Runs (events), threads (old checkpoints), sessions pruned here", ["what"])
        # Has every process taken up the new key?
        self.key_revision = gauge("key_revision", "1 for the revision of a key in use", ["key", "revision"])
        # How old is the key?
        self.key_loaded = gauge("key_loaded_timestamp_seconds", "Unix time from which the revision in use stands", ["key"])
        Info("agent_build", "Version and graph", registry=registry).info({"version": version, "graph": graph})
        self._create_children(guardrail_rules)

    def _concurrency(self) -> float:
        return 0.0 if _value(self.draining) else _value(self.runs_in_flight) + _value(self.runs_queued)

    def _create_children(self, guardrail_rules: Iterable[str]) -> None:
        # A counter that appears with its first error has no rate for that error.
        closed: dict[Counter | Gauge, Iterable[str]] = {
            self.guardrail_blocks: guardrail_rules,
            self.runs_recovered: ("handover", "crash"),
            self.rate_limited: LIMITS,
            self.cron_ticks: get_args(CronTick),
            self.price_reloads: RELOADS,
            self.budget_warnings: BUDGET_SCOPES,
            self.cache_requests: CACHE_RESULTS,
            self.redis_fallbacks: REDIS_USES,
            self.stream_resumes: RESUMES,
            self.connections_cut: CUT_REASONS,
            self.pool_connections: ("in_use", "idle", "waiting"),
            self.table_bytes: TABLES,
            self.pruned: PRUNED,
        }
        for metric, values in closed.items():
            for value in values:
                metric.labels(value)
        for graph in self._graphs:
            self.turn_seconds.labels(graph)
            self.first_token_seconds.labels(graph, self.graph_version)
            for outcome in OUTCOMES:
                self.runs.labels(outcome, graph, self.graph_version)
        for score in ("0", "1"):
            self.feedback.labels(score, self.graph_version)
        for result in ANSWERS:
            self.answers.labels(self.graph_version, result)
        for model in (*self._models, OTHER):
            self._create_of_model(model)
        self.declare(nodes=(), tools=(), routes=())

    def _create_of_model(self, model: str) -> None:
        self.cost_usd.labels(model, self.graph_version)
        self.unpriced.labels(model)
        self.model_seconds.labels(model)
        self.model_circuits_open.labels(model)
        self.model_circuits_opened.labels(model)
        for status in MODEL_STATUSES:
            self.model_requests.labels(model, status)
        for kind in TOKEN_TYPES:
            self.tokens.labels(model, kind)

    def declare(self, *, nodes: Iterable[str], tools: Iterable[str], routes: Iterable[str]) -> None:
        """Names that the loaded graph uses; called once when it is compiled."""
        self._nodes |= set(nodes)
        self._tools |= set(tools)
        self._routes |= set(routes)
        for node in (*self._nodes, OTHER):
            self.node_seconds.labels(node)
        for tool in (*self._tools, OTHER):
            self.tool_seconds.labels(tool)
            for status in TOOL_STATUSES:
                self.tool_calls.labels(tool, status)
        for route in (*self._routes, OTHER):
            self.routes.labels(route)

    def declare_http(self, routes: Iterable[tuple[str, str, Iterable[int]]]) -> None:
        """Method, template and declared statuses of each route of the API."""
        for method, route, codes in routes:
            for code in {*codes}.intersection(HTTP_CODES):
                self.http_requests.labels(method, route, str(code))

    def model_label(self, model: str) -> str:
        """The configured model that `model` names; endpoints answer with a dated name (gpt-4o-2024-08-06)."""
        if model in self._models:
            return model
        dated = max((m for m in self._models if model.startswith(f"{m}-")), key=len, default=None)
        return dated or self._other("model", model)

    def graph_label(self, graph: str) -> str:
        """The graph's name, or `other` for one that is not served here."""
        return graph if graph in self._graphs else self._other("graph", graph)

    def node_label(self, node: str) -> str:
        """The node's name, or `other` for one that the graph has not declared: labels are a closed set."""
        return node if node in self._nodes else self._other("node", node)

    def tool_label(self, tool: str) -> str:
        """Likewise for a tool."""
        return tool if tool in self._tools else self._other("tool", tool)

    def route_label(self, route: str) -> str:
        """A route by its name: of those that the graph takes, the first MAX_ROUTES that look like one."""
        if route not in self._routes and len(self._routes) < MAX_ROUTES and NAME.fullmatch(route):
            self._routes.add(route)
        return route if route in self._routes else self._other("route", route)

    def count_answer(self, result: str) -> None:
        """A turn that the graph of this process answered; one of ANSWERS."""
        self.answers.labels(self.graph_version, result).inc()

    def count_thumb(self, score: int, version: str) -> None:
        """A thumb for an answer of this version of the graph."""
        if version not in self._versions and len(self._versions) <= MAX_VERSIONS:
            self._versions.add(version)
        self.feedback.labels(str(score), version if version in self._versions else OTHER).inc()

    def count_circuit(self, model: str, opened: bool) -> None:
        """A model whose circuit has opened or closed; undeclared ones are counted together."""
        label = self.model_label(model)
        self.model_circuits_open.labels(label).inc(1 if opened else -1)
        if opened:
            self.model_circuits_opened.labels(label).inc()

    def count_unpriced(self, model: str) -> None:
        """A call without a price. Its name is logged once: in the metric it may be `other`."""
        self.unpriced.labels(self.model_label(model)).inc()
        if self._first("unpriced", model):
            log.warning("model_without_price", model=_shown(model))

    def _other(self, label: str, value: str) -> str:
        """Logs an undeclared name once: its series is the shared one, and somebody will look for it."""
        if self._first(label, value):
            log.info("counted_as_other", label=label, value=_shown(value))
        return OTHER

    def _first(self, kind: str, value: str) -> bool:
        """Whether a name is seen for the first time, of the first MAX_TOLD of its kind."""
        told = self._told.setdefault(kind, set())
        if value in told or len(told) >= MAX_TOLD:
            return False
        told.add(value)
        return True


def _shown(name: str) -> str:
    return name if NAME.fullmatch(name) else "(no name)"


def _value(gauge: Gauge) -> float:
    return float(next(iter(gauge.collect())).samples[0].value)
