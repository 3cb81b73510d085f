"""A LangSmith on loopback: takes what the langsmith client posts, keeps runs and feedback, can fail or hang.

Runs in threads of its own, so that it also answers tests that block their event loop and services in other processes.
"""

import json
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from email import message_from_bytes
from email.message import Message
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Literal, NamedTuple
from urllib.parse import parse_qs, urlsplit

import zstandard

Json = dict[str, Any]

MAX_BODY = 64 * 1024 * 1024


class Operation(NamedTuple):
    kind: Literal["post", "patch", "feedback"]
    id: str
    fields: Json


class FakeLangSmith:
    """`fault` "error" answers everything with 500, "hang" not at all; `compression` is what it offers the client."""

    def __init__(self, *, compression: bool = True, fault: Literal["error", "hang"] | None = None) -> None:
        self.compression = compression
        self.fault = fault
        self.url = ""
        self.runs: dict[str, Json] = {}
        self.posts: list[str] = []
        self.feedback: dict[str, Json] = {}
        self.bodies: list[bytes] = []
        self.requests: list[str] = []
        self.closing = threading.Event()
        self._changed = threading.Condition()
        self._project_id = str(uuid.uuid4())

    def tree(self, root: uuid.UUID) -> list[Json]:
        """The root's run and all below it, parents first."""
        of_trace = [run for run in self.runs.values() if run.get("trace_id") == str(root)]
        return sorted(of_trace, key=lambda run: str(run["dotted_order"]))

    def sent(self) -> str:
        """Everything a client sent, to look for what it should not have."""
        return b"\n".join(self.bodies).decode(errors="replace")

    def wait_for(self, condition: Callable[[], Any], timeout: float = 10.0) -> None:
        with self._changed:
            assert self._changed.wait_for(condition, timeout), f"got only {self.requests}"

    def receive(self, line: str, body: bytes, operations: list[Operation]) -> None:
        with self._changed:
            self.requests.append(line)
            self.bodies.append(body)
            for operation in operations:
                self._apply(operation)
            self._changed.notify_all()

    def _apply(self, operation: Operation) -> None:
        kind, id_, fields = operation
        if kind == "feedback":
            self.feedback.setdefault(id_, {}).update(fields)
            return
        if kind == "post" and "id" in fields:
            self.posts.append(id_)
        # A patch repeats fields it does not know as null.
        self.runs.setdefault(id_, {}).update({name: value for name, value in fields.items() if value is not None})

    def get(self, path: str) -> Any:
        url = urlsplit(path)
        if url.path == "/info":
            return {
                "version": "0.10.0",
                "instance_flags": {"zstd_compression_enabled": self.compression},
                "batch_ingest_config": {
                    "use_multipart_endpoint": True,
                    "size_limit": 100,
                    "size_limit_bytes": 20_971_520,
                    "scale_up_nthreads_limit": 4,
                    "scale_up_qsize_trigger": 1000,
                    "scale_down_nempty_trigger": 4,
                },
            }
        if url.path == "/sessions":
            names = parse_qs(url.query).get("name", [])
            known = {run.get("session_name") for run in self.runs.values()}
            return [
                {"id": self._project_id, "tenant_id": self._project_id, "name": name, "reference_dataset_id": None}
                for name in names
                if name in known
            ]
        return None


def read_operations(method: str, path: str, content_type: str, body: bytes) -> list[Operation] | None:
    """What a write asks for; None if there is no such endpoint."""
    parts = urlsplit(path).path.strip("/").split("/")
    match method, parts:
        case "POST", ["runs", "multipart"]:
            return _multipart(content_type, body)
        case "POST", ["runs", "batch"]:
            batch: dict[str, list[Json]] = json.loads(body)
            posts = [Operation("post", run["id"], run) for run in batch.get("post", [])]
            return posts + [Operation("patch", run["id"], run) for run in batch.get("patch", [])]
        case "POST", ["runs"]:
            run: Json = json.loads(body)
            return [Operation("post", run["id"], run)]
        case "PATCH", ["runs", run_id]:
            return [Operation("patch", run_id, json.loads(body))]
        case "POST", ["feedback"]:
            feedback: Json = json.loads(body)
            return [Operation("feedback", feedback["id"], feedback)]
    return None


def _multipart(content_type: str, body: bytes) -> list[Operation]:
    message = message_from_bytes(f"Content-Type: {content_type}\r\n\r\n".encode() + body)
    return [_part(part) for part in message.get_payload() if isinstance(part, Message)]


def _part(part: Message) -> Operation:
    """Parts are named `post.ID`, `post.ID.inputs`, `patch.ID.outputs`, `feedback.ID` and so on."""
    name = str(part.get_param("name", header="content-disposition"))
    payload = part.get_payload(decode=True)
    assert isinstance(payload, bytes)
    value = json.loads(payload)
    kind, id_, *field = name.split(".")
    assert kind in {"post", "patch", "feedback"}, name
    return Operation(kind, id_, {field[0]: value} if field else value)  # type: ignore[arg-type]  # asserted above


def _handler(fake: FakeLangSmith) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def do_GET(self) -> None:
            self._serve()

        def do_POST(self) -> None:
            self._serve()

        def do_PATCH(self) -> None:
            self._serve()

        def _serve(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            if self.headers.get("Content-Encoding") == "zstd":
                body = zstandard.ZstdDecompressor().decompress(body, max_output_size=MAX_BODY)
            line = f"{self.command} {urlsplit(self.path).path}"
            if fake.fault is not None:
                fake.receive(line, body, [])
                if fake.fault == "hang":
                    fake.closing.wait()
                self._answer(500, {"detail": "as asked"})
                return
            operations = read_operations(self.command, self.path, self.headers.get("Content-Type", ""), body)
            found = fake.get(self.path) if self.command == "GET" else operations
            fake.receive(line, body, operations or [])
            self._answer(404 if found is None else 200, found if self.command == "GET" else {})

        def _answer(self, status: int, document: Any) -> None:
            text = json.dumps(document).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(text)))
            self.end_headers()
            self.wfile.write(text)

        def log_message(self, *_: object) -> None:  # its base prints a line per request
            pass

    return Handler


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    block_on_close = False

    def handle_error(self, *_: object) -> None:  # a client that gave up; its base prints the traceback
        pass


@contextmanager
def fake_langsmith(*, compression: bool = True, fault: Literal["error", "hang"] | None = None) -> Iterator[FakeLangSmith]:
    fake = FakeLangSmith(compression=compression, fault=fault)
    server = _Server(("127.0.0.1", 0), _handler(fake))
    fake.url = f"http://127.0.0.1:{server.server_port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05}, daemon=True)
    thread.start()
    try:
        yield fake
    finally:
        fake.closing.set()
        server.shutdown()
        server.server_close()
        thread.join()
