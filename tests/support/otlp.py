"""A collector on loopback: takes spans by OTLP over HTTP or gRPC, shows them as trees, can fail or hang.

In threads of its own, so that it also answers services in other processes and while a test waits.
"""

import gzip
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal

import grpc  # type: ignore[import-untyped]  # it has no types
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest, ExportTraceServiceResponse
from opentelemetry.proto.collector.trace.v1.trace_service_pb2_grpc import (
    TraceServiceServicer,
    add_TraceServiceServicer_to_server,
)
from opentelemetry.proto.common.v1.common_pb2 import AnyValue, KeyValue
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

Protocol = Literal["grpc", "http/protobuf"]
Fault = Literal["error", "hang"]


@dataclass(frozen=True)
class Received:
    """A span as the collector got it; `resource` tells which process sent it."""

    name: str
    trace_id: str
    span_id: str
    parent_id: str
    kind: str
    failed: bool
    started: int
    ended: int
    attributes: dict[str, Any]
    resource: dict[str, Any]


@dataclass
class Collector:
    """`fault` "error" refuses everything for good, "hang" answers nothing until the end."""

    protocol: Protocol
    fault: Fault | None = None
    url: str = ""
    spans: list[Received] = field(default_factory=list)
    bodies: list[bytes] = field(default_factory=list)
    requests: int = 0
    closing: threading.Event = field(default_factory=threading.Event)
    _changed: threading.Condition = field(default_factory=threading.Condition)

    @property
    def env(self) -> dict[str, str]:
        return {"OTEL_EXPORTER_OTLP_ENDPOINT": self.url, "OTEL_EXPORTER_OTLP_PROTOCOL": self.protocol}

    def receive(self, request: ExportTraceServiceRequest) -> bool:
        """Whether the client is told that all is well."""
        with self._changed:
            self.requests += 1
            if not self.fault:
                self.bodies.append(request.SerializeToString())
                self.spans.extend(_spans(request))
            self._changed.notify_all()
        if self.fault == "hang":
            self.closing.wait()
        return self.fault is None

    def wait_for(self, condition: Callable[[], Any], timeout: float = 20.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"got {sorted(span.name for span in self.spans)}"

    def named(self, name: str) -> list[Received]:
        return [span for span in self.spans if span.name == name]

    def tree(self) -> str:
        """All spans, each below its parent and in the order of their starts; a failed one with `!`."""
        known = {span.span_id for span in self.spans}
        roots = [span for span in self.spans if span.parent_id not in known]
        return "\n".join(line for root in _by_start(roots) for line in self._lines(root, 0))

    def _lines(self, span: Received, depth: int) -> Iterator[str]:
        yield "  " * depth + span.name + (" !" if span.failed else "")
        for child in _by_start(child for child in self.spans if child.parent_id == span.span_id):
            yield from self._lines(child, depth + 1)


def _by_start(spans: Any) -> list[Received]:
    return sorted(spans, key=lambda span: span.started)


def _spans(request: ExportTraceServiceRequest) -> Iterator[Received]:
    for group in request.resource_spans:
        resource = _attributes(group.resource.attributes)
        for scope in group.scope_spans:
            for span in scope.spans:
                yield Received(
                    name=span.name,
                    trace_id=span.trace_id.hex(),
                    span_id=span.span_id.hex(),
                    parent_id=span.parent_span_id.hex(),
                    kind=Span.SpanKind.Name(span.kind).removeprefix("SPAN_KIND_"),
                    failed=span.status.code == Status.STATUS_CODE_ERROR,
                    started=span.start_time_unix_nano,
                    ended=span.end_time_unix_nano,
                    attributes=_attributes(span.attributes),
                    resource=resource,
                )


def _attributes(pairs: Any) -> dict[str, Any]:
    return {pair.key: _value(pair.value) for pair in pairs if isinstance(pair, KeyValue)}


def _value(value: AnyValue) -> Any:
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [_value(item) for item in value.array_value.values]
    return getattr(value, kind) if kind else None


@contextmanager
def collector(protocol: Protocol = "http/protobuf", fault: Fault | None = None) -> Iterator[Collector]:
    made = Collector(protocol, fault)
    with _grpc(made) if protocol == "grpc" else _http(made):
        try:
            yield made
        finally:
            made.closing.set()


class _Servicer(TraceServiceServicer):
    def __init__(self, made: Collector) -> None:
        self._collector = made

    def Export(self, request: ExportTraceServiceRequest, context: Any) -> ExportTraceServiceResponse:  # noqa: N802  # gRPC names it
        if not self._collector.receive(request):
            context.set_code(grpc.StatusCode.INVALID_ARGUMENT)
        return ExportTraceServiceResponse()


@contextmanager
def _grpc(made: Collector) -> Iterator[None]:
    with ThreadPoolExecutor(4) as threads:
        server = grpc.server(threads)
        add_TraceServiceServicer_to_server(_Servicer(made), server)  # type: ignore[no-untyped-call]  # generated code
        made.url = f"http://127.0.0.1:{server.add_insecure_port('127.0.0.1:0')}"
        server.start()
        try:
            yield
        finally:
            server.stop(grace=None).wait()


def _handler(made: Collector) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_POST(self) -> None:
            body = self.rfile.read(int(self.headers["Content-Length"]))
            if self.headers.get("Content-Encoding") == "gzip":
                body = gzip.decompress(body)
            good = self.path == "/v1/traces" and made.receive(ExportTraceServiceRequest.FromString(body))
            self.send_response(200 if good else 400)
            self.send_header("Content-Length", "0")
            self.end_headers()

        def log_message(self, *_: object) -> None:
            """Nothing; the base class prints a line per request."""

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:
        """A client that gave up is no news; the base class prints its traceback."""


@contextmanager
def _http(made: Collector) -> Iterator[None]:
    server = _Server(("127.0.0.1", 0), _handler(made))
    made.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield
    finally:
        server.shutdown()
        server.server_close()
        thread.join()
