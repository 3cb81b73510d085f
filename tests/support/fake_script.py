"""What the fake model does and says: plain data, so that it travels as JSON too."""

import hashlib
import json
import math
from typing import Any, Literal

from pydantic import BaseModel

FaultKind = Literal[
    "rate_limited",  # 429, with Retry-After when `retry_after` is set
    "server_error",  # 500
    "unauthorized",  # 401
    "bad_request",  # 400
    "slow_headers",  # nothing for `seconds`, then an ordinary answer
    "cut",  # the connection is closed after `after_tokens`
    "hang",  # silence after `after_tokens`, until the client leaves
    "malformed",  # a chunk that is no JSON after `after_tokens`
    "stream_error",  # an error object inside the stream after `after_tokens`
]

VECTOR_SIZE = 64
"""Dimensions of the fake embeddings."""


MODELS = "/models"
"""Stands for the list of models as a fault's `model`. The service asks for it when it wants to, not when a test does: faults
for any model are not for it."""


class Fault(BaseModel):
    """One misbehaviour; the queue gives it to the next `times` requests for `model` (any, when None; MODELS: the list)."""

    kind: FaultKind
    after_tokens: int = 0
    retry_after: str | None = None
    seconds: float = 3600.0
    model: str | None = None
    times: int = 1
    message: str | None = None
    asked: str | None = None
    """Only requests whose last question has this."""


class ToolCall(BaseModel):
    name: str
    arguments: dict[str, Any] = {}

    @property
    def arguments_text(self) -> str:
        return json.dumps(self.arguments, ensure_ascii=False, separators=(",", ":"))


class Script(BaseModel):
    """Behaviour for all requests until it is replaced.

    tokens: of the answer; None: `token_count` tokens derived from the last user message.
    first_token_seconds, tokens_per_second: pace of the answer; by default as fast as it can.
    tokens_until: so many tokens of an answer go out until this is raised; None: all.
    tool_calls: emitted when the request offers tools, until a tool result stands in the messages.
    preface: text tokens before the tool calls.
    finish_reason: instead of the usual one. refusal, reasoning: sent as `refusal` and `reasoning_content` beside the text.
    strict_history: a tool call without its answer right behind it is refused with 400, as OpenAI does.
    accepted_keys: None takes any. answers_as: model name in the answer. has_models: whether /models exists.
    """

    tokens: list[str] | None = None
    token_count: int = 50
    first_token_seconds: float = 0.0
    tokens_per_second: float | None = None
    tokens_until: int | None = None
    tool_calls: list[ToolCall] = []
    preface: list[str] = []
    accepted_keys: set[str] | None = None
    cached_tokens: int = 0
    answers_as: str | None = None
    finish_reason: str | None = None
    refusal: str | None = None
    reasoning: str | None = None
    has_models: bool = True
    strict_history: bool = False
    faults: list[Fault] = []

    def take_fault(self, model: str, question: str = "") -> Fault | None:
        """The next fault for a request of this model and question, used up."""
        for fault in self.faults:
            meant = fault.model == model or (fault.model is None and model != MODELS)
            if fault.times > 0 and meant and (fault.asked or "") in question:
                fault.times -= 1
                return fault
        return None

    def answer(self, messages: list[dict[str, Any]]) -> list[str]:
        """Tokens of the answer to these messages."""
        return self.tokens if self.tokens is not None else echo_tokens(last_user_text(messages), self.token_count)

    def beside(self) -> dict[str, str]:
        """What stands beside the text of a message or delta."""
        said = {"refusal": self.refusal, "reasoning_content": self.reasoning}
        return {key: value for key, value in said.items() if value is not None}

    def calls(self, payload: dict[str, Any]) -> list[ToolCall]:
        answered = any(message["role"] == "tool" for message in payload["messages"])
        return [] if answered or not payload.get("tools") else self.tool_calls


def dangling_call(messages: list[dict[str, Any]]) -> str | None:
    """The id of a tool call that no tool message answers before another message comes."""
    waiting: set[str] = set()
    for message in [*messages, {"role": "end"}]:
        if message["role"] == "tool":
            waiting.discard(message["tool_call_id"])
        elif waiting:
            return min(waiting)
        else:
            waiting = {call["id"] for call in message.get("tool_calls") or ()}
    return None


def echo_tokens(question: str, count: int = 50) -> list[str]:
    """The answer to a question, unlike that to any other: `echo-<hash>-0 `, `echo-<hash>-1 `, …"""
    digest = hashlib.sha256(question.encode()).hexdigest()[:8]
    return [f"echo-{digest}-{number} " for number in range(count)]


def last_user_text(messages: list[dict[str, Any]]) -> str:
    content = next((m["content"] for m in reversed(messages) if m["role"] == "user"), "")
    return content if isinstance(content, str) else "".join(part.get("text", "") for part in content)


def word_count(messages: list[dict[str, Any]]) -> int:
    """Prompt tokens as the fake counts them: words."""
    return sum(len(str(message.get("content") or "").split()) for message in messages)


def bag_of_words(text: str) -> list[float]:
    """A unit vector in which texts that share words are near each other."""
    vector = [0.0] * VECTOR_SIZE
    for word in text.lower().split():
        vector[int.from_bytes(hashlib.sha256(word.encode()).digest()[:4]) % VECTOR_SIZE] += 1.0
    norm = math.sqrt(math.fsum(x * x for x in vector)) or 1.0
    return [x / norm for x in vector]


def usage(payload: dict[str, Any], completion_tokens: int, cached_tokens: int) -> dict[str, Any]:
    prompt_tokens = word_count(payload["messages"])
    return {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens,
        "prompt_tokens_details": {"cached_tokens": min(cached_tokens, prompt_tokens)},
    }


def tool_deltas(calls: list[ToolCall]) -> list[dict[str, Any]]:
    """Deltas of tool calls as OpenAI streams them: a head with id and name, then the arguments in pieces of 7 characters."""
    deltas: list[dict[str, Any]] = []
    for index, call in enumerate(calls):
        text = call.arguments_text
        deltas.append(
            {"index": index, "id": f"call_{index}", "type": "function", "function": {"name": call.name, "arguments": ""}}
        )
        deltas.extend({"index": index, "function": {"arguments": text[at : at + 7]}} for at in range(0, len(text), 7))
    return [{"tool_calls": [delta]} for delta in deltas]


def completion(payload: dict[str, Any], script: Script) -> dict[str, Any]:
    """The answer of a request that does not stream."""
    calls = script.calls(payload)
    tokens = [] if calls else script.answer(payload["messages"])
    tool_calls = [
        {"id": f"call_{i}", "type": "function", "function": {"name": c.name, "arguments": c.arguments_text}}
        for i, c in enumerate(calls)
    ]
    message = {
        "role": "assistant",
        "content": "".join(tokens) or None,
        **({"tool_calls": tool_calls} if calls else {}),
        **script.beside(),
    }
    finish = script.finish_reason or ("tool_calls" if calls else "stop")
    return {
        "id": "chatcmpl-fake",
        "object": "chat.completion",
        "model": script.answers_as or payload["model"],
        "choices": [{"index": i, "message": message, "finish_reason": finish} for i in range(payload.get("n") or 1)],
        "usage": usage(payload, len(tokens), script.cached_tokens),
    }
