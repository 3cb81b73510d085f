"""What Anthropic's Messages API streams to its own client, by its public documentation: a tool call; an answer with thoughts."""

from decimal import Decimal
from typing import Any

from tests.support.provider_shapes import THOUGHT, cost

Json = dict[str, Any]

MODEL = "claude-shape-1"


def _begun(usage: Json) -> Json:
    message = {"id": "msg_1", "type": "message", "role": "assistant", "model": MODEL, "content": [], "usage": usage}
    return {"type": "message_start", "message": {**message, "stop_reason": None, "stop_sequence": None}}


def _block(index: int, block: Json, *deltas: Json) -> list[Json]:
    return [
        {"type": "content_block_start", "index": index, "content_block": block},
        *({"type": "content_block_delta", "index": index, "delta": delta} for delta in deltas),
        {"type": "content_block_stop", "index": index},
    ]


def _ended(reason: str, usage: Json) -> list[Json]:
    return [
        {"type": "message_delta", "delta": {"stop_reason": reason, "stop_sequence": None}, "usage": usage},
        {"type": "message_stop"},
    ]


CALL = [
    _begun({"input_tokens": 400, "output_tokens": 1}),
    {"type": "ping"},
    *_block(
        0,
        {"type": "tool_use", "id": "toolu_1", "name": "weather", "input": {}},
        {"type": "input_json_delta", "partial_json": '{"city": '},
        {"type": "input_json_delta", "partial_json": '"Paris"}'},
    ),
    *_ended("tool_use", {"input_tokens": 400, "output_tokens": 20}),
]
CALL_USD = cost(400, 0, 0, 20)

_CACHED = {
    "input_tokens": 200,
    "cache_read_input_tokens": 1_500,
    "cache_creation_input_tokens": 400,
    "output_tokens": 1,
}
ANSWER = [
    _begun(_CACHED),
    *_block(
        0,
        {"type": "thinking", "thinking": "", "signature": ""},
        {"type": "thinking_delta", "thinking": THOUGHT[:6]},
        {"type": "thinking_delta", "thinking": THOUGHT[6:]},
        {"type": "signature_delta", "signature": "c2lnbmF0dXJl"},
    ),
    *_block(
        1,
        {"type": "text", "text": ""},
        {"type": "text_delta", "text": "It rains"},
        {"type": "text_delta", "text": " in Paris."},
    ),
    *_ended("end_turn", {**_CACHED, "output_tokens": 60}),
]
ANSWER_USD: Decimal = cost(200, 1_500, 400, 60)

ERROR = (529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}, "request_id": "req_1"})
