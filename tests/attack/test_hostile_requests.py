"""The attacker is a caller with a good credential: no body, query or header of any route holds the event loop.

Each request is as large as the service takes. Counted: milliseconds for which the loop was held, bytes of the answers.
"""

import asyncio
import base64
import time
from collections.abc import Iterator
from typing import Any
from uuid import uuid4

import orjson
import pytest
from pydantic import BaseModel, SecretStr, ValidationError

from agent_service.api.decisions import ResumeRequest
from agent_service.api.field_types import Body
from agent_service.api.json_body import MAX_VALUES
from agent_service.api.openai_schemas import CompletionRequest
from agent_service.api.schemas import ChatRequest, FeedbackRequest
from agent_service.auth.authenticator import build_authenticator
from agent_service.errors import InvalidRequest, Unauthenticated
from agent_service.runs.events import EventId
from agent_service.settings import Settings
from tests.support.service import running_service

BYTES = 1_000_000
"""Of a body: MAX_BODY_BYTES is 48,576 more."""

ONES = "[" + "1," * (BYTES // 2 - 60_000) + "1]"
DEEP = "[" * 900 + "]" * 900
NAMES = "{" + ",".join(f'"{n}":1' for n in range(BYTES // 12)) + "}"
TEXTS = ["x" * BYTES, "\u202e" * (BYTES // 3), "\\u0000" * (BYTES // 6), "\\ud800" * (BYTES // 6), " " * BYTES]


def fields(of: dict[str, str]) -> Iterator[str]:
    """Bodies in which one field after another is as large as can be, in every form; and many fields that nobody knows."""
    for name in of:
        for value in (ONES, DEEP, NAMES, *(f'"{text}"' for text in TEXTS), "9" * BYTES, "[" + "{}," * (BYTES // 4) + "{}]"):
            yield "{" + ",".join(f'"{key}":{value if key == name else given}' for key, given in of.items()) + "}"
    for size in (1_000, 40_000):
        yield "{" + ",".join([*(f'"{k}":{v}' for k, v in of.items()), *(f'"u{n}":1' for n in range(size))]) + "}"
    yield "{" + f'"{"k" * BYTES}":1' + "}"


def completions() -> Iterator[str]:
    """With an `n` that is refused, or each would start a run."""

    def of(message: str) -> str:
        return f'{{"n":2,"messages":[{message}]}}'

    yield from fields(
        {"messages": '[{"role":"user","content":"a"}]', "n": "2", "metadata": "{}", "tools": "[]", "user": '"a"', "stop": "1"}
    )
    yield from map(of, fields({"role": '"user"', "content": '"a"', "tool_calls": "[]", "tool_call_id": '"a"', "refusal": '"a"'}))
    many = 40_000
    for part in ('{"type":"text","text":""}', '{"type":"x"}', '{"type":"image_url","image_url":{}}', "null", '""', "[]"):
        yield of(f'{{"role":"user","content":[{",".join([part] * (many // 4))}]}}')
    for call in ('{"id":"a","function":{"name":"f"}}', '{"id":1}', "1"):
        yield of(f'{{"role":"assistant","tool_calls":[{",".join([call] * (many // 4))}]}}')
    for message in ('{"role":"user","content":""}', '{"role":"x"}', "7", '{"role":"user","content":[1,1,1]}'):
        yield of(",".join([message] * (many // 4)))
    call, result = '{"role":"assistant","tool_calls":[{"id":"a","function":{"name":"f"}}]}', '{"role":"tool","tool_call_id":"a"}'
    yield f'{{"messages":[{",".join([call, result] * 249)},{{"role":"user","content":"a"}}]}}'


EDIT = '{"type":"edit","edited_action":{"name":"f","args":%s}}'


def resumes() -> Iterator[str]:
    yield from fields({"decisions": '[{"type":"approve"}]'})
    yield from fields({"value": "1"})
    yield from fields({"values": "{}"})
    yield from ('{"decisions":[' + EDIT % value + "]}" for value in (ONES, DEEP, NAMES, f'{{"a":{ONES}}}', f'{{"a":{DEEP}}}'))
    yield '{"decisions":[' + ",".join(['{"type":"x"}'] * 10_000) + "]}"


BODIES: dict[str, tuple[type[Any], Iterator[str]]] = {
    "/v1/chat/completions": (CompletionRequest, completions()),
    "/chat": (ChatRequest, fields({"question": '" "', "session_id": '"a"', "context": "{}"})),
    f"/runs/{uuid4()}/resume": (ResumeRequest, resumes()),
    "/feedback": (FeedbackRequest, fields({"run_id": f'"{uuid4()}"', "score": "1", "comment": '"a"'})),
}


NAMES_OF_HEADERS = (
    *("X-Session-Id", "X-Openwebui-Chat-Id", "Idempotency-Key", "Last-Event-ID", "Prefer", "Accept", "X-Request-Id"),
    *("traceparent", "tracestate", "baggage", "Content-Type", "Origin", "Authorization"),
)
JSON = {"Content-Type": "application/json"}
HEADERS: list[dict[str, str]] = [
    {name: value}
    for name in NAMES_OF_HEADERS
    for value in ("a" * 30_000, "a," * 15_000, "a" + " " * 29_000 + "b", "1" * 30_000, "a=b," * 7_500, "-" * 30_000)
]


async def test_no_request_holds_the_loop(database_url: str) -> None:
    """Others are answered meanwhile: the longest time that a task which only yields waited for its turn."""
    longest, sent, answered, statuses = 0.0, 0, 0, dict[int, int]()
    worst = ""

    async with running_service(database_url) as service, service.client() as client:

        async def probe(what: str, *args: Any, **request: Any) -> None:
            nonlocal longest, sent, answered, worst
            held, done = 0.0, False

            async def tick() -> None:
                nonlocal held
                while not done:
                    began = time.monotonic()
                    await asyncio.sleep(0)
                    held = max(held, time.monotonic() - began)

            ticking = asyncio.create_task(tick())
            response = await client.request(*args, **request)
            done = True
            await ticking
            sent, answered = sent + 1, max(answered, len(response.content))
            statuses[response.status_code] = statuses.get(response.status_code, 0) + 1
            assert response.status_code < 500, (what, response.text[:300])
            if held > longest:
                longest, worst = held, what

        for path, (_, bodies) in BODIES.items():
            for number, body in enumerate(bodies):
                content = body.encode()
                await probe(f"{path} {number} {body[:60]!r}", "POST", path, content=content, headers=JSON)
        for header in HEADERS:
            await probe(f"header {str(header)[:60]}", "GET", f"/runs/{uuid4()}/stream", headers=header)
        for query in ("a&" * 15_000, "limit=" + "9" * 30_000, "since=" + "2" * 30_000, "group_by=" + "day," * 7_000):
            await probe(f"query {query[:20]}", "GET", f"/usage?{query}")
        await probe("token", "POST", "/auth/stream-token?run_id=" + "a" * 30_000)
        await probe("id", "GET", "/sessions/" + "a" * 30_000 + "/messages")
    print(f"{sent} requests of up to {BYTES} bytes: {statuses}; longest answer {answered} bytes")
    print(f"longest hold {longest * 1000:.0f} ms by {worst}")
    assert longest < 1.5
    assert answered < 20_000


def test_errors_are_few_whatever_the_body() -> None:
    """Counts: pydantic makes one object for each error, and of a million it takes seconds."""
    most = 0
    cases: list[tuple[type[BaseModel], dict[str, Any]]] = [
        (CompletionRequest, {"messages": [1] * MAX_VALUES}),
        (CompletionRequest, {"messages": [{"role": "user", "content": [1] * MAX_VALUES}]}),
        (CompletionRequest, {"messages": [{"role": "user", "tool_calls": [1] * MAX_VALUES}]}),
        (CompletionRequest, {"messages": [{"role": n, "content": n, "refusal": n, "tool_calls": n} for n in range(9_000)]}),
        (ChatRequest, {str(n): n for n in range(MAX_VALUES)}),
        (ResumeRequest, {"decisions": [1] * MAX_VALUES}),
        (ResumeRequest, {"decisions": [{"type": "approve", **{str(n): n for n in range(MAX_VALUES)}}]}),
        (ResumeRequest, {"decisions": [{"type": "edit", "edited_action": {str(n): n for n in range(MAX_VALUES)}}]}),
        (FeedbackRequest, {str(n): n for n in range(MAX_VALUES)}),
    ]
    for model, body in cases:
        with pytest.raises(ValidationError) as refused:
            model.model_validate(body)
        most = max(most, refused.value.error_count())
    print(f"at most {most} errors of one body")
    assert most <= 6


def test_every_body_refuses_unknown_fields_one_at_a_time() -> None:
    bodies: list[type[BaseModel]] = [Body]
    for body in bodies:  # those of those, too
        bodies += body.__subclasses__()
    assert {"ChatRequest", "FeedbackRequest", "ResumeRequest", "Edit", "EditedAction"} <= {body.__name__ for body in bodies}


@pytest.mark.parametrize(
    "text", ["a" * 30_000, "0-" * 15_000, "\0" * 9, "\ud800", "0" * 36 + "-1-1", f"{uuid4()}-1-{'9' * 30_000}"]
)
def test_ids_of_events_of_any_form_are_refused_at_once(text: str) -> None:
    with pytest.raises(InvalidRequest):
        EventId.parse(text, field="Last-Event-ID")


def segment(value: Any) -> str:
    raw = value if isinstance(value, bytes) else orjson.dumps(value)
    return base64.urlsafe_b64encode(raw).rstrip(b"=").decode()


HEADS = [
    b'{"alg":"HS256","a":' + b"[" * 5_000,
    b'{"alg":"HS256","a":' + b'{"a":' * 1_200,
    b'{"alg":"HS256","kid":' + b"9" * 5_000 + b"}",
    {"alg": "HS256", "kid": "k" * 5_000},
    {"alg": "HS256", "crit": ["a"] * 900},
    {"alg": "HS256", **{str(n): n for n in range(600)}},
    {"alg": ["HS256"] * 500},
    b"[" * 5_000,
    b'"' + b"\\u0000" * 900 + b'"',
    b"\xff" * 5_000,
]


async def test_tokens_of_any_form_are_refused_at_once() -> None:
    claims = [{"sub": "a", "aud": ["a"] * 900}, b"[" * 5_000, {"sub": "s" * 5_000}, b'{"exp":' + b"9" * 5_000 + b"}"]
    tokens = [f"{segment(head)}.{segment({'sub': 'a'})}.c2ln" for head in HEADS]
    tokens += [f"{segment({'alg': 'HS256'})}.{segment(claim)}.c2ln" for claim in claims]
    tokens += [".".join(["a"] * 4_000), "." * 8_000, "a" * 8_192, "a" * 30_000, "=" * 8_000, "slw_" + "a" * 8_000, "slw_" * 2_000]
    authenticator = build_authenticator(Settings(auth="required", jwt_secret=SecretStr("x" * 32)), b"y" * 32)
    began = time.monotonic()
    for token in tokens:
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(f"Bearer {token}", None)
        with pytest.raises(Unauthenticated):
            await authenticator.authenticate(None, token)
    took = time.monotonic() - began
    print(f"{len(tokens)} tokens refused in {took:.2f} s")
    assert took < 5
