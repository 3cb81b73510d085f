"""The fake model: an OpenAI-compatible server that says what the question asks for (script.py), a write for each token.

python -m bench.model      prints its base URL, then serves until it is killed

Made of bare protocols, because it shares a core with PostgreSQL and the load: 400 streams of 50 tokens a second must not be
its limit. The one of the tests (tests/support/fake_model.py) can do far more, and takes four times the CPU for a token.
`POST /v1/traces` takes spans and forgets them: with it a service can be measured that sends traces.
"""

import asyncio
from collections.abc import Iterator
from typing import Any, cast

import httptools
import orjson
import uvloop

from bench.script import Ask

STREAM_HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"


class Connection(asyncio.Protocol):
    """One connection, one request at a time."""

    def __init__(self) -> None:
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = bytearray()
        self._timer: asyncio.Handle | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by its class

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002  # asyncio names it
        if self._timer:
            self._timer.cancel()

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        self._url += url

    def on_body(self, body: bytes) -> None:
        self._body += body

    def on_message_complete(self) -> None:
        path, body = self._url, bytes(self._body)
        self._url = b""
        self._body.clear()
        if path == b"/v1/chat/completions":
            self._complete(orjson.loads(body))
        elif path in {b"/v1/models", b"/v1/traces"}:
            self._send({"object": "list", "data": []})
        else:
            self._send({"error": {"message": "no such route", "type": "fake"}}, b"404 Not Found")

    def _complete(self, payload: dict[str, Any]) -> None:
        ask = asked(payload["messages"])
        calls = ask.tool and bool(payload.get("tools")) and payload["messages"][-1]["role"] != "tool"
        if not payload.get("stream"):
            self._send(completion(payload, ask))
            return
        self._transport.write(STREAM_HEAD)
        deltas = tool_deltas(ask) if calls else iter([encoded(word) for word in ask.answer])
        chunks = stream(payload, deltas, "tool_calls" if calls else "stop")
        loop = asyncio.get_running_loop()
        self._next(loop, chunks, loop.time() + ask.after, 0 if calls else ask.rate)

    def _next(self, loop: asyncio.AbstractEventLoop, chunks: Iterator[bytes], due: float, rate: int) -> None:
        """A chunk a turn of the loop: each is a write of its own, as a model's tokens are."""
        chunk = next(chunks, None)
        if chunk is None:
            self._transport.write(b"0\r\n\r\n")
            return
        self._transport.write(b"%x\r\n%b\r\n" % (len(chunk), chunk))
        if rate or due > loop.time():
            self._timer = loop.call_at(due, self._next, loop, chunks, due + 1 / rate if rate else 0.0, rate)
        else:
            self._timer = loop.call_soon(self._next, loop, chunks, 0.0, 0)

    def _send(self, answer: dict[str, Any], status: bytes = b"200 OK") -> None:
        body = orjson.dumps(answer)
        head = b"HTTP/1.1 %b\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n" % (status, len(body))
        self._transport.write(head + body)


def asked(messages: list[dict[str, Any]]) -> Ask:
    """What the last question asks for; of other text a word."""
    content = next((message["content"] for message in reversed(messages) if message["role"] == "user"), "")
    text = content if isinstance(content, str) else "".join(part.get("text", "") for part in content)
    return Ask.parse(text) or Ask(tokens=1)


def encoded(word: str) -> bytes:
    """The delta of a word that needs no escape."""
    return b'{"content":"%b"}' % word.encode()


def tool_deltas(ask: Ask) -> Iterator[bytes]:
    """A call as OpenAI streams it: id and name, then the arguments in pieces."""
    head = {"index": 0, "id": f"call_{ask.number}", "type": "function", "function": {"name": "lookup", "arguments": ""}}
    yield orjson.dumps({"tool_calls": [head]})
    for piece in ('{"que', 'ry": ', '"leas', 'e"}'):
        yield orjson.dumps({"tool_calls": [{"index": 0, "function": {"arguments": piece}}]})


def stream(payload: dict[str, Any], deltas: Iterator[bytes], finish: str) -> Iterator[bytes]:
    """The events of a streamed answer: the role, the deltas, the reason for the end, the usage if it is asked for."""
    head = {"id": "chatcmpl-bench", "object": "chat.completion.chunk", "created": 1, "model": payload["model"]}
    start = b"data: " + orjson.dumps(head)[:-1] + b","
    middle = start + b'"choices":[{"index":0,"delta":'
    yield middle + b'{"role":"assistant","content":""},"finish_reason":null}]}\n\n'
    count = 0
    for delta in deltas:
        count += 1
        yield middle + delta + b',"finish_reason":null}]}\n\n'
    yield middle + b'{},"finish_reason":"%b"}]}\n\n' % finish.encode()
    if (payload.get("stream_options") or {}).get("include_usage"):
        yield start + b'"choices":[],"usage":' + orjson.dumps(usage(payload, count)) + b"}\n\n"
    yield b"data: [DONE]\n\n"


def usage(payload: dict[str, Any], completion_tokens: int) -> dict[str, int]:
    prompt_tokens = sum(len(str(message.get("content") or "")) // 4 for message in payload["messages"])
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
    }


def completion(payload: dict[str, Any], ask: Ask) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    message = {"role": "assistant", "content": ask.text}
    return {
        "id": "chatcmpl-bench",
        "object": "chat.completion",
        "created": 1,
        "model": payload["model"],
        "choices": [{"index": 0, "message": message, "finish_reason": "stop"}],
        "usage": usage(payload, ask.tokens),
    }


async def serve() -> None:
    """Prints the address, then serves."""
    server = await asyncio.get_running_loop().create_server(Connection, "127.0.0.1", 0, backlog=4096)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve())
