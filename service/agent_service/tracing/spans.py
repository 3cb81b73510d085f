"""The spans of a request and of a run, one trace across the queue and a hand-over. They hold no text of anyone.

With tracing off no span is made, and a trace id still goes from the request to the log lines of whoever executes its run.
"""

import secrets
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langchain_core.callbacks import BaseCallbackHandler
from opentelemetry.context import attach
from opentelemetry.trace import (
    INVALID_SPAN,
    NonRecordingSpan,
    NoOpTracer,
    Span,
    SpanContext,
    SpanKind,
    StatusCode,
    TraceFlags,
    Tracer,
    TracerProvider,
    format_trace_id,
    set_span_in_context,
    set_tracer_provider,
)
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from agent_service.langgraph_file import DEFAULT_NAME
from agent_service.tracing import conventions as names
from agent_service.tracing.handler import SpanHandler

SERVER_ERROR = 500

USAGE = {
    names.INPUT_TOKENS: "input_tokens",
    names.CACHED_TOKENS: "cached_tokens",
    names.OUTPUT_TOKENS: "output_tokens",
    names.COST_USD: "cost_usd",
}
"""Attributes of a run by their field in its `usage` event."""

SLOW_WRITE_SECONDS = 0.1
"""From here on a batch gets a span in each run that waited for it; faster ones only where they end a run."""


class RunTrace:
    """One attempt at a run as a span. `exemplar` ties metrics to the trace; None when the trace is not recorded."""

    def __init__(self, tracer: Tracer, span: Span) -> None:
        self._tracer = tracer
        self.span = span
        self._handler = SpanHandler(tracer, span) if span.is_recording() else None
        self.trace_id = trace_id(span)
        self.exemplar = {"trace_id": self.trace_id} if self._handler else None

    def handlers(self) -> list[BaseCallbackHandler]:
        """For the config of the graph's run."""
        return [self._handler] if self._handler else []

    def outcome(self, outcome: str, usage: Mapping[str, Any]) -> None:
        """How the run ended and what it used, as its `usage` event has it."""
        used = {name: usage[field] for name, field in USAGE.items() if usage[field] is not None}
        self.span.set_attributes({names.OUTCOME: outcome, **used})
        if outcome in {"failed", "timeout"}:
            self.span.set_attribute(names.ERROR_TYPE, outcome)
            self.span.set_status(StatusCode.ERROR)

    def stopped(self, reason: str) -> None:
        """The run goes on elsewhere, in a span beside this one."""
        self.span.set_attribute(names.STOPPED, reason)

    def wrote(self, started: int, ended: int, *, events: int, runs: int, ends_run: bool) -> None:
        """A batch of the event log; times in Unix nanoseconds, `runs` share its transaction."""
        if not self._handler or not (ends_run or ended - started > SLOW_WRITE_SECONDS * 1e9):
            return
        span = self._tracer.start_span(
            names.WRITE_SPAN,
            set_span_in_context(self.span),
            SpanKind.CLIENT,
            {names.DB_SYSTEM: "postgresql", names.DB_BATCH_SIZE: events, names.BATCH_RUNS: runs},
            start_time=started,
        )
        span.end(ended)

    def close(self) -> None:
        """Ends the run's span, and before it whatever spans of the graph are still open."""
        if self._handler:
            self._handler.close()
        self.span.end()


class Tracing:
    """Starts the spans of one process; without a provider it only carries trace ids."""

    def __init__(self, provider: TracerProvider | None = None, version: str = "", agent: str = DEFAULT_NAME) -> None:
        """`agent`: what the graph of AGENT_GRAPH is called in spans; others are by their names."""
        self._provider = provider
        self._tracer = provider.get_tracer("slipway", version) if provider else NoOpTracer()
        self._agent = agent
        self._propagator = TraceContextTextMapPropagator()

    def adopt_process(self) -> None:
        """Spans that a graph or a library makes by OpenTelemetry's API go the same way from now on: once in a process."""
        if self._provider:
            set_tracer_provider(self._provider)

    def request(self, method: str, headers: Mapping[str, str]) -> Span:
        """The span of an HTTP request, current from now on in its task; it continues the trace of a `traceparent` header.

        Who calls ends it.
        """
        parent = self._propagator.extract(headers)
        span = _with_ids(self._tracer.start_span(method, parent, SpanKind.SERVER, {names.HTTP_METHOD: method}))
        attach(set_span_in_context(span))
        return span

    def run(self, traceparent: str | None, *, run_id: UUID, session_id: str, graph: str, attempt: int) -> RunTrace:
        """The span of one attempt at a run, current from now on in its task. Who calls closes it.

        It stands below the request that started the run, wherever that was.
        """
        agent = self._agent if graph == DEFAULT_NAME else graph
        span = self._tracer.start_span(
            f"{names.INVOKE_AGENT} {agent}",
            self._propagator.extract({"traceparent": traceparent or ""}),
            attributes={
                names.OPERATION: names.INVOKE_AGENT,
                names.AGENT_NAME: agent,
                names.CONVERSATION_ID: session_id,
                names.RUN_ID: str(run_id),
                names.ATTEMPT: attempt,
            },
        )
        trace = RunTrace(self._tracer, _with_ids(span))
        attach(set_span_in_context(trace.span))
        return trace

    def traceparent(self) -> str | None:
        """The current span, as W3C writes it; kept with a run."""
        carrier: dict[str, str] = {}
        self._propagator.inject(carrier)
        return carrier.get("traceparent")


def _with_ids(span: Span) -> Span:
    """The span, or one that is not recorded and has ids of its own."""
    if span.get_span_context().is_valid:
        return span
    return NonRecordingSpan(SpanContext(secrets.randbits(128), secrets.randbits(64), is_remote=False, trace_flags=TraceFlags()))


def answered(span: Span, method: str, route: str, status: int) -> None:
    """Names a request's span by its route template; a path would be a name of its own for each run."""
    span.update_name(f"{method} {route}")
    attributes: dict[str, Any] = {names.HTTP_ROUTE: route, names.HTTP_STATUS: status}
    span.set_attributes(attributes)
    if status >= SERVER_ERROR:
        span.set_attribute(names.ERROR_TYPE, str(status))
        span.set_status(StatusCode.ERROR)


def trace_id(span: Span) -> str:
    """32 hexadecimal digits."""
    return format_trace_id(span.get_span_context().trace_id)


UNTRACED = RunTrace(NoOpTracer(), INVALID_SPAN)
"""Of a run that nobody traces; it keeps nothing."""
