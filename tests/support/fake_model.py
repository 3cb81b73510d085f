"""An OpenAI-compatible model server for the tests, in this process or as one of its own:

    python -m tests.support.fake_model --port 0      prints its base URL, then serves until it is killed

`POST /_control` takes a Script as JSON, `GET /_requests` tells what was asked.
"""

import argparse
import asyncio
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any, Self

import orjson
from aiohttp import web

from tests.support.fake_script import (
    MODELS,
    Fault,
    Script,
    bag_of_words,
    completion,
    dangling_call,
    last_user_text,
    tool_deltas,
    usage,
)

SIMPLE_FAULTS = {"rate_limited": 429, "server_error": 500, "unauthorized": 401, "bad_request": 400}


@dataclass
class Recorded:
    """One request. `ended` is set once its handler is through; `disconnected` if the client left before that."""

    path: str
    key: str
    payload: dict[str, Any]
    disconnected: bool = False
    tokens_sent: int = 0
    started: asyncio.Event = field(default_factory=asyncio.Event)
    ended: asyncio.Event = field(default_factory=asyncio.Event)

    def as_json(self) -> dict[str, Any]:
        return {
            "path": self.path,
            "key": self.key,
            "payload": self.payload,
            "disconnected": self.disconnected,
            "tokens_sent": self.tokens_sent,
            "ended": self.ended.is_set(),
        }


class Answering:
    """Writes one streamed answer; a fault that is due ends it."""

    def __init__(
        self, request: web.Request, payload: dict[str, Any], script: Script, fault: Fault | None, record: Recorded
    ) -> None:
        self._request = request
        self._payload = payload
        self._script = script
        self._fault = fault
        self._record = record
        self._response = web.StreamResponse(headers={"Content-Type": "text/event-stream"})
        self._head = {"id": "chatcmpl-fake", "object": "chat.completion.chunk", "model": script.answers_as or payload["model"]}

    async def run(self) -> web.StreamResponse:
        await self._response.prepare(self._request)
        await self._send({"role": "assistant", "content": ""})
        self._record.started.set()
        calls = self._script.calls(self._payload)
        text = self._script.preface if calls else self._script.answer(self._payload["messages"])
        beside = [self._script.beside()] if self._script.beside() else []
        deltas = [*beside, *({"content": token} for token in text), *tool_deltas(calls)]
        await asyncio.sleep(self._script.first_token_seconds)
        for number, delta in enumerate(deltas):
            if await self._fault_is_due(number):
                return self._response
            await self._pace(number)
            await self._send(delta)
            self._record.tokens_sent += 1
        if await self._fault_is_due(len(deltas)):
            return self._response
        finish = self._script.finish_reason or ("tool_calls" if calls else "stop")
        await self._close(finish_reason=finish, completion_tokens=len(deltas))
        return self._response

    async def _fault_is_due(self, number: int) -> bool:
        if self._fault is None or self._fault.after_tokens != number:
            return False
        match self._fault.kind:
            case "cut":
                assert self._request.transport
                self._request.transport.close()
            case "hang":
                await asyncio.sleep(self._fault.seconds)
            case "malformed":
                await self._response.write(b'data: {"choices": [oops\n\n')
            case "stream_error":
                await self._write({"error": {"message": "the server is overloaded", "type": "server_error", "code": None}})
            case _:
                return False
        return True

    async def _pace(self, number: int) -> None:
        if number and self._script.tokens_per_second:
            await asyncio.sleep(1 / self._script.tokens_per_second)
        while self._script.tokens_until is not None and number >= self._script.tokens_until:
            await asyncio.sleep(0.01)

    async def _send(self, delta: dict[str, Any], finish_reason: str | None = None) -> None:
        await self._write({**self._head, "choices": [{"index": 0, "delta": delta, "finish_reason": finish_reason}]})

    async def _close(self, *, finish_reason: str, completion_tokens: int) -> None:
        await self._send({}, finish_reason)
        if (self._payload.get("stream_options") or {}).get("include_usage"):
            counted = usage(self._payload, completion_tokens, self._script.cached_tokens)
            await self._write({**self._head, "choices": [], "usage": counted})
        await self._response.write(b"data: [DONE]\n\n")

    async def _write(self, chunk: dict[str, Any]) -> None:
        await self._response.write(b"data: " + orjson.dumps(chunk) + b"\n\n")


class FakeModel:
    """The server. `async with FakeModel(script) as fake` listens on a free port; `fake.url` ends in /v1."""

    def __init__(self, script: Script | None = None, *, port: int = 0) -> None:
        self.script = script or Script()
        self.requests: list[Recorded] = []
        self.url = ""
        self._port = port
        self._arrived = asyncio.Condition()
        self._runner: web.AppRunner | None = None

    async def __aenter__(self) -> Self:
        app = web.Application(client_max_size=64 * 1024 * 1024)
        app.router.add_post("/v1/chat/completions", self._completions)
        app.router.add_post("/v1/responses", self._responses)
        app.router.add_post("/v1/embeddings", self._embeddings)
        app.router.add_get("/v1/models", self._models)
        app.router.add_post("/_control", self._control)
        app.router.add_get("/_requests", self._requests)
        self._runner = web.AppRunner(app, handler_cancellation=True, access_log=None, shutdown_timeout=0)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port)
        await site.start()
        host, port = self._runner.addresses[0][:2]
        self.url = f"http://{host}:{port}/v1"
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        assert self._runner
        await self._runner.cleanup()

    @property
    def keys(self) -> list[str]:
        """Keys of all requests, in order."""
        return [request.key for request in self.requests]

    @property
    def models(self) -> list[str]:
        """Models of all requests that name one, in order."""
        return [request.payload["model"] for request in self.requests if request.payload]

    async def request(self, number: int) -> Recorded:
        """The request of this number (from 0), as soon as it is there."""
        async with self._arrived:
            await self._arrived.wait_for(lambda: len(self.requests) > number)
        return self.requests[number]

    async def _completions(self, request: web.Request) -> web.StreamResponse:
        record = await self._record(request)
        try:
            return await self._complete(request, record)
        except asyncio.CancelledError:
            record.disconnected = True
            raise
        except ConnectionError:
            record.disconnected = True
            return web.Response()
        finally:
            record.ended.set()

    async def _complete(self, request: web.Request, record: Recorded) -> web.StreamResponse:
        payload, script = record.payload, self.script
        if not self._accepts(record.key):
            return error(401, f"Incorrect API key provided: {record.key}")
        if script.strict_history and (call := dangling_call(payload["messages"])):
            return error(400, f"tool_call_id {call} has no response message")
        fault = script.take_fault(payload["model"], last_user_text(payload["messages"]))
        if fault and fault.kind in SIMPLE_FAULTS:
            return error(SIMPLE_FAULTS[fault.kind], fault.message or f"fault: {fault.kind}", fault.retry_after)
        if fault and fault.kind == "slow_headers":
            await asyncio.sleep(fault.seconds)
        if payload.get("stream"):
            return await Answering(request, payload, script, fault, record).run()
        return web.json_response(completion(payload, script))

    async def _responses(self, request: web.Request) -> web.StreamResponse:
        record = await self._record(request)
        record.ended.set()
        return error(404, "no such route")

    async def _embeddings(self, request: web.Request) -> web.StreamResponse:
        record = await self._record(request)
        record.ended.set()
        if not self._accepts(record.key):
            return error(401, "Incorrect API key")
        if (fault := self.script.take_fault(record.payload["model"])) and fault.kind in SIMPLE_FAULTS:
            return error(SIMPLE_FAULTS[fault.kind], f"fault: {fault.kind}", fault.retry_after)
        data = [{"object": "embedding", "index": i, "embedding": bag_of_words(t)} for i, t in enumerate(record.payload["input"])]
        answer = {"object": "list", "model": record.payload["model"], "data": data[::-1]}
        words = sum(len(text.split()) for text in record.payload["input"])
        return web.json_response({**answer, "usage": {"prompt_tokens": words, "total_tokens": words}})

    async def _models(self, request: web.Request) -> web.StreamResponse:
        record = await self._record(request)
        record.ended.set()
        if not self.script.has_models:
            return error(404, "no such route")
        if not self._accepts(record.key):
            return error(401, "Incorrect API key")
        if (fault := self.script.take_fault(MODELS)) and fault.kind in SIMPLE_FAULTS:
            return error(SIMPLE_FAULTS[fault.kind], f"fault: {fault.kind}")
        return web.json_response({"object": "list", "data": [{"id": "fake", "object": "model"}]})

    async def _control(self, request: web.Request) -> web.Response:
        self.script = Script.model_validate_json(await request.read())
        return web.json_response({})

    async def _requests(self, _: web.Request) -> web.Response:
        return web.json_response([record.as_json() for record in self.requests])

    async def _record(self, request: web.Request) -> Recorded:
        key = request.headers.get("Authorization", "").removeprefix("Bearer ")
        payload = orjson.loads(await request.read()) if request.can_read_body else {}
        record = Recorded(request.path, key, payload)
        if not request.path.endswith(MODELS):  # the service looks at the list when it wants to: no test counts on that
            async with self._arrived:
                self.requests.append(record)
                self._arrived.notify_all()
        return record

    def _accepts(self, key: str) -> bool:
        return self.script.accepted_keys is None or key in self.script.accepted_keys


def error(status: int, message: str, retry_after: str | None = None) -> web.Response:
    headers = {"Retry-After": retry_after} if retry_after is not None else {}
    return web.json_response({"error": {"message": message, "type": "fake"}}, status=status, headers=headers)


async def serve(port: int) -> None:
    async with FakeModel(port=port) as fake:
        print(fake.url, flush=True)  # noqa: T201  # how a parent process learns the port
        await asyncio.Event().wait()


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="A fake OpenAI-compatible model server.")
    parser.add_argument("--port", type=int, default=0)
    asyncio.run(serve(parser.parse_args().port))
