"""From the OTEL_* variables to a tracer that sends its spans from a thread of its own."""

import asyncio
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from opentelemetry.sdk.resources import OTELResourceDetector, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor, SpanExporter

from agent_service.langgraph_file import DEFAULT_NAME
from agent_service.logs import logger
from agent_service.settings import Settings
from agent_service.tracing.spans import Tracing

FLUSH_SECONDS = 3.0
"""What the end of a process waits for the collector; it comes out of the drain limit."""

TRACES_PATH = "/v1/traces"
"""What OTLP over HTTP adds to an address that is not for traces alone."""

log = logger(__name__)


@asynccontextmanager
async def open_tracing(settings: Settings, version: str) -> AsyncIterator[Tracing]:
    """Tracing for the life of a process; it exports while an endpoint is set.

    The library reads what no setting names from the environment: sampler, headers, certificates, time-outs, queue sizes.
    Its queue is bounded and drops spans rather than wait.
    """
    exporter = make_exporter(settings)
    if exporter is None:
        yield Tracing()
        return
    provider = TracerProvider(resource=_resource(version), shutdown_on_exit=False)
    provider.add_span_processor(BatchSpanProcessor(exporter))
    try:
        yield Tracing(provider, version, DEFAULT_NAME if settings.langgraph_config else settings.agent_graph)
    finally:
        await _shut_down(provider, exporter)


def make_exporter(settings: Settings) -> SpanExporter | None:
    """The exporter that the settings ask for; None when traces are off."""
    base, own = settings.otel_exporter_otlp_endpoint, settings.otel_exporter_otlp_traces_endpoint
    if settings.otel_sdk_disabled or settings.otel_traces_exporter == "none" or not (base or own):
        return None
    # Imported here: gRPC takes 15 MB and 0.1 s, which who does not trace need not pay.
    if (settings.otel_exporter_otlp_traces_protocol or settings.otel_exporter_otlp_protocol) == "grpc":
        from opentelemetry.exporter.otlp.proto.grpc.trace_exporter import OTLPSpanExporter as Grpc  # noqa: PLC0415  # see above

        return Grpc(endpoint=own or base)
    from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter as Http  # noqa: PLC0415  # see above

    return Http(endpoint=own or f"{(base or '').rstrip('/')}{TRACES_PATH}")


def _resource(version: str) -> Resource:
    ours = Resource({"service.name": "slipway", "service.version": version, "service.instance.id": socket.gethostname()})
    return ours.merge(OTELResourceDetector().detect())


async def _shut_down(provider: TracerProvider, exporter: SpanExporter) -> None:
    """Sends what waits, for at most FLUSH_SECONDS; the rest is dropped."""
    # A daemon thread, not the loop's pool: a collector that hangs must not hold up the end of the process.
    flushing = threading.Thread(target=provider.shutdown, name="traces-flush", daemon=True)
    flushing.start()
    await asyncio.to_thread(flushing.join, FLUSH_SECONDS)
    if flushing.is_alive():
        log.warning("traces_dropped", reason="the collector does not answer")
        await asyncio.to_thread(exporter.shutdown)
