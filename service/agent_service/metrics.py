"""Every metric of the service, declared once. Label values come from closed sets; children exist at 0 from the start."""

from collections.abc import Iterable

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, Info, ProcessCollector
from prometheus_client.utils import INF

from agent_service.outcomes import OUTCOMES

TURN_BUCKETS = (0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, 600, INF)
"""Seconds. The p99 alert stands at 30 s; histogram_quantile can never exceed the top finite bucket."""

FIRST_TOKEN_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 60, INF)
CALL_BUCKETS = (0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 20, 30, 45, 60, 120, 300, INF)
HTTP_BUCKETS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120, 300, INF)

MODEL_STATUSES = ("ok", "rate_limited", "client_error", "server_error", "connection_error", "timeout", "auth")
TOOL_STATUSES = ("ok", "error")
TOKEN_TYPES = ("input", "cached", "output")
PRUNED = ("runs", "threads", "sessions")
TABLES = ("checkpoint_blobs", "checkpoint_writes", "checkpoints", "ledger", "passages", "run_events", "runs", "sessions", "store")
"""Tables that grow with use."""

HTTP_CODES = (200, 202, 204, 401, 404, 409, 422, 500, 503)
"""Statuses whose series exist from the start, on the routes that declare them; a rarer one begins with its first answer."""

OTHER = "other"
"""Label value of what is not in a closed set: a model, tool, node or route nobody declared."""


class Metrics:
    """One registry per process. `closed` sets bound each label; names outside of them count as `other`."""

    def __init__(self, *, models: Iterable[str], version: str, graph: str, guardrail_rules: Iterable[str]) -> None:
        self.registry = registry = CollectorRegistry()
        ProcessCollector(registry=registry)
        self._models = {*models}
        self._nodes: set[str] = set()
        self._tools: set[str] = set()
        self._routes: set[str] = set()

        def counter(name: str, text: str, labels: Iterable[str] = ()) -> Counter:
            return Counter(f"agent_{name}", text, labels, registry=registry)

        def gauge(name: str, text: str, labels: Iterable[str] = ()) -> Gauge:
            return Gauge(f"agent_{name}", text, labels, registry=registry)

        def histogram(name: str, text: str, buckets: tuple[float, ...], labels: Iterable[str] = ()) -> Histogram:
            return Histogram(f"agent_{name}", text, labels, buckets=buckets, registry=registry)

        # How long do users wait for an answer, and for its first word?
        self.turn_seconds = histogram("turn_duration_seconds", "Run, from its start to its outcome", TURN_BUCKETS)
        self.first_token_seconds = histogram("time_to_first_token_seconds", "Run, start to first text", FIRST_TOKEN_BUCKETS)
        # Which part of the graph takes the time?
        self.node_seconds = histogram("node_duration_seconds", "Node of the graph", CALL_BUCKETS, ["node"])
        self.model_seconds = histogram("llm_request_duration_seconds", "Model call, to its last token", CALL_BUCKETS, ["model"])
        self.tool_seconds = histogram("tool_duration_seconds", "Tool call", CALL_BUCKETS, ["tool"])
        # How do runs end? (outcomes: see agent_service.outcomes)
        self.runs = counter("runs_total", "Runs that ended, by outcome", ["outcome"])
        # Is the model endpoint failing or limiting us? One count per HTTP attempt, retries included.
        self.model_requests = counter("llm_requests_total", "Requests to the model endpoint", ["model", "status"])
        self.tool_calls = counter("tool_calls_total", "Tool calls", ["tool", "status"])
        # What does it cost?
        self.tokens = counter("tokens_total", "Tokens; cached ones are a part of input", ["model", "type"])
        self.cost_usd = counter("cost_usd_total", "Cost by the price table, USD", ["model"])
        self.unpriced = counter("unpriced_model_calls_total", "Model calls whose model has no price", ["model"])
        self.routes = counter("routes_total", "Runs by the route that the graph took", ["route"])
        self.feedback = counter("feedback_total", "Thumbs", ["score"])
        self.guardrail_blocks = counter("guardrail_blocks_total", "Questions refused by an input rule", ["rule"])
        # Are processes dying with runs? Hand-overs are rollouts, crashes are not.
        self.runs_recovered = counter("runs_recovered_total", "Runs taken over from another process", ["reason"])
        self.stream_resumes = counter("stream_resumes_total", "Streams re-opened with a last event id", ["result"])
        self.http_requests = counter("http_requests_total", "HTTP requests by route template", ["method", "route", "code"])
        self.http_seconds = histogram("http_request_duration_seconds", "HTTP request, streams left out", HTTP_BUCKETS)
        # How full is this process?
        self.runs_in_flight = gauge("runs_in_flight", "Runs executing in this process")
        self.runs_queued = gauge("runs_queued", "Runs waiting for a place in this process")
        self.streams_open = gauge("streams_open", "Open event streams")
        self.draining = gauge("draining", "1 while the process finishes its runs before it exits")
        self.pool_connections = gauge("db_pool_connections", "Database connections", ["state"])
        self.loop_lag_seconds = gauge("event_loop_lag_seconds", "How late the event loop runs its timers")
        # Is the database growing, and does the clean-up keep up?
        self.table_bytes = gauge("table_bytes", "Size on disk with indexes, at the last clean-up", ["table"])
        self.pruned = counter("pruned_total", "Runs (events), threads (old checkpoints), sessions pruned here", ["what"])
        self.key_revision = Gauge(
            "agent_key_revision", "1 for the revision of a key in use", ["key", "revision"], registry=registry
        )
        Info("agent_build", "Version and graph", registry=registry).info({"version": version, "graph": graph})
        self._create_children(guardrail_rules)

    def _create_children(self, guardrail_rules: Iterable[str]) -> None:
        # A counter that appears with its first error has no rate for that error.
        closed: dict[Counter | Gauge, Iterable[str]] = {
            self.runs: OUTCOMES,
            self.feedback: ("0", "1"),
            self.guardrail_blocks: guardrail_rules,
            self.runs_recovered: ("handover", "crash"),
            self.stream_resumes: ("memory", "log", "finished", "gap"),
            self.pool_connections: ("in_use", "idle", "waiting"),
            self.table_bytes: TABLES,
            self.pruned: PRUNED,
        }
        for metric, values in closed.items():
            for value in values:
                metric.labels(value)
        for model in (*self._models, OTHER):
            self.cost_usd.labels(model)
            self.unpriced.labels(model)
            self.model_seconds.labels(model)
            for status in MODEL_STATUSES:
                self.model_requests.labels(model, status)
            for kind in TOKEN_TYPES:
                self.tokens.labels(model, kind)
        self.declare(nodes=(), tools=(), routes=())

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
        return max((m for m in self._models if model.startswith(f"{m}-")), key=len, default=OTHER)

    def node_label(self, node: str) -> str:
        return node if node in self._nodes else OTHER

    def tool_label(self, tool: str) -> str:
        return tool if tool in self._tools else OTHER

    def route_label(self, route: str) -> str:
        return route if route in self._routes else OTHER
