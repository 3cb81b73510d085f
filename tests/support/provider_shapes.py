"""What OpenAI-compatible endpoints of known providers send, by their public documentation: a tool call, then an answer.

Each `Shape` has the stream of both turns as the bodies of its events, the answer of a request that does not stream, and an error.
Ids and texts are made up; names, nesting and what is left out are the provider's.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

Json = dict[str, Any]

TOOL_CALL = {"city": "Paris"}
THOUGHT = "Check the weather."
ANSWER = "It rains in Paris."


@dataclass(frozen=True, slots=True)
class Used:
    """Of the turn that answers, as the ledger must have it; USD by PRICES."""

    input: int
    output: int
    cached: int = 0
    cost_usd: Decimal = Decimal(0)


@dataclass(frozen=True, slots=True)
class Shape:
    call: Sequence[Json]
    answer: Sequence[Json]
    whole: Json
    """An answer in one piece, to the same question."""
    used: Used
    answers_as: str = ""
    """Name of the model in the answer; empty: as asked."""
    thinks: bool = True
    error: tuple[int, object] = (400, {})
    says: str = ""
    """What the graph is told of the error."""


PRICES = {"input": 10, "cached_input": 1, "cache_write": 20, "output": 100}
"""Of each of the models, USD per million tokens."""


def cost(fresh: int, cached: int, written: int, output: int) -> Decimal:
    return Decimal(fresh * 10 + cached + written * 20 + output * 100) / 1_000_000


def chunk(delta: Json | None = None, finish: str | None = None, *, choice: Json | None = None, **fields: Any) -> Json:
    """An event with one choice; without a delta, with none."""
    choices = [] if delta is None else [{"index": 0, "delta": delta, "finish_reason": finish, **(choice or {})}]
    return {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1_700_000_000, "choices": choices, **fields}


def call(arguments: str | None = None, **fields: Any) -> Json:
    """A delta with a piece of a tool call; `name`, `id`, `index` and `type` only where they are given."""
    name = {"name": fields.pop("name")} if "name" in fields else {}
    given = {"arguments": arguments} if arguments is not None else {}
    return {"tool_calls": [{**fields, "function": {**name, **given}}]}


def completion(message: Json, usage: Json, **fields: Any) -> Json:
    choice = {"index": 0, "message": {"role": "assistant", **message}, "finish_reason": "stop"}
    return {
        "id": "chatcmpl-2",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "choices": [choice],
        "usage": usage,
        **fields,
    }


SAID = ({"content": "It rains"}, {"content": " in Paris."})
WHOLE_CALL = '{"city":"Paris"}'

# OpenAI: thoughts are only counted; each event says `usage: null`, has a fingerprint, and may be padded.
_OPENAI: Json = {"service_tier": "default", "system_fingerprint": "fp_1", "usage": None, "obfuscation": "abc"}
_OPENAI_USAGE: Json = {
    "prompt_tokens": 1200,
    "completion_tokens": 80,
    "total_tokens": 1280,
    "prompt_tokens_details": {"cached_tokens": 1024, "audio_tokens": 0},
    "completion_tokens_details": {
        "reasoning_tokens": 64,
        "audio_tokens": 0,
        "accepted_prediction_tokens": 0,
        "rejected_prediction_tokens": 0,
    },
}
OPENAI = Shape(
    call=[
        chunk(
            {"role": "assistant", "content": None, **call("", index=0, id="call_1", type="function", name="weather")}, **_OPENAI
        ),
        chunk(call('{"ci', index=0), **_OPENAI),
        chunk(call('ty":"Paris"}', index=0), **_OPENAI),
        chunk({}, "tool_calls", **_OPENAI),
        chunk(**{**_OPENAI, "usage": _OPENAI_USAGE}),
    ],
    answer=[
        chunk({"role": "assistant", "content": "", "refusal": None}, choice={"logprobs": None}, **_OPENAI),
        *(chunk(delta, choice={"logprobs": None}, **_OPENAI) for delta in SAID),
        chunk({}, "stop", **_OPENAI),
        chunk(**{**_OPENAI, "usage": _OPENAI_USAGE}),
    ],
    whole=completion({"content": ANSWER, "refusal": None, "annotations": []}, _OPENAI_USAGE, service_tier="default"),
    used=Used(1200, 80, 1024, cost(176, 1024, 0, 80)),
    answers_as="openai-2026-08-07",
    thinks=False,
    error=(
        429,
        {
            "error": {
                "message": "You exceeded your current quota.",
                "type": "insufficient_quota",
                "param": None,
                "code": "insufficient_quota",
            }
        },
    ),
    says="HTTP 429",
)

# Azure: what its filters found of the prompt comes first, in an event without choices; then with each piece.
_FILTERS = {"hate": {"filtered": False, "severity": "safe"}, "violence": {"filtered": False, "severity": "safe"}}
_AZURE_USAGE = {"prompt_tokens": 90, "completion_tokens": 12, "total_tokens": 102}
_AZURE_FIRST = {
    "id": "",
    "object": "",
    "created": 0,
    "model": "",
    "choices": [],
    "prompt_filter_results": [{"prompt_index": 0, "content_filter_results": _FILTERS}],
}
AZURE = Shape(
    call=[
        _AZURE_FIRST,
        chunk({"role": "assistant", "content": None, **call("", index=0, id="call_1", type="function", name="weather")}),
        chunk(call(WHOLE_CALL, index=0), choice={"content_filter_results": {}}),
        chunk({}, "tool_calls", choice={"content_filter_results": {}}),
        chunk(usage=_AZURE_USAGE),
    ],
    answer=[
        _AZURE_FIRST,
        chunk({"role": "assistant", "content": ""}, choice={"content_filter_results": {}}),
        *(chunk(delta, choice={"content_filter_results": _FILTERS}) for delta in SAID),
        chunk({}, "stop", choice={"content_filter_results": {}}),
        chunk(usage=_AZURE_USAGE),
    ],
    whole=completion({"content": ANSWER}, _AZURE_USAGE, prompt_filter_results=_AZURE_FIRST["prompt_filter_results"]),
    used=Used(90, 12, 0, cost(90, 0, 0, 12)),
    answers_as="azure-2025-04-14",
    thinks=False,
    error=(
        400,
        {
            "error": {
                "message": "The response was filtered due to the prompt triggering Azure OpenAI's content management policy.",
                "type": None,
                "param": "prompt",
                "code": "content_filter",
                "status": 400,
                "innererror": {"code": "ResponsibleAIPolicyViolation", "content_filter_result": _FILTERS},
            }
        },
    ),
    says="content_filter",
)

# Anthropic's own compatible endpoint: no thoughts, no details of the usage.
_CLAUDE_USAGE = {"prompt_tokens": 410, "completion_tokens": 30, "total_tokens": 440}
ANTHROPIC = Shape(
    call=[
        chunk({"role": "assistant", "content": ""}),
        chunk(call("", index=0, id="toolu_1", type="function", name="weather")),
        chunk(call('{"city": ', index=0)),
        chunk(call('"Paris"}', index=0)),
        chunk({}, "tool_calls", usage=_CLAUDE_USAGE),
    ],
    answer=[chunk({"role": "assistant", "content": ""}), *map(chunk, SAID), chunk({}, "stop", usage=_CLAUDE_USAGE)],
    whole=completion({"content": ANSWER}, _CLAUDE_USAGE, system_fingerprint=""),
    used=Used(410, 30, 0, cost(410, 0, 0, 30)),
    thinks=False,
    error=(529, {"type": "error", "error": {"type": "overloaded_error", "message": "Overloaded"}}),
    says="HTTP 529",
)

# Gemini: a call in one piece, thoughts in tags, and counted in the total alone; errors in a list.
_GEMINI_USAGE = {"completion_tokens": 20, "prompt_tokens": 50, "total_tokens": 370}
_GEMINI_BEGUN = {"completion_tokens": 0, "prompt_tokens": 50, "total_tokens": 90}
_GOOGLE = {"extra_content": {"google": {"thought": True}}}
GOOGLE = Shape(
    call=[
        chunk(
            {
                "role": "assistant",
                "tool_calls": [
                    {
                        "extra_content": {"google": {"thought_signature": "c2lnbmF0dXJl"}},
                        "function": {"arguments": WHOLE_CALL, "name": "weather"},
                        "id": "function-call-1",
                        "type": "function",
                    }
                ],
            },
            "tool_calls",
            usage=_GEMINI_USAGE,
        ),
    ],
    answer=[
        chunk(
            {"role": "assistant", "content": "<thought>Check the ", **_GOOGLE}, usage={**_GEMINI_USAGE, "completion_tokens": 0}
        ),
        chunk({"role": "assistant", "content": "weather.", **_GOOGLE}, usage=_GEMINI_USAGE),
        chunk({"role": "assistant", "content": "</thought>It rains"}, usage=_GEMINI_USAGE),
        chunk({"role": "assistant", "content": " in Paris."}, "stop", usage=_GEMINI_USAGE),
    ],
    whole=completion({"content": f"<thought>{THOUGHT}</thought>{ANSWER}", **_GOOGLE}, _GEMINI_USAGE),
    used=Used(50, 320, 0, cost(50, 0, 0, 320)),
    error=(400, [{"error": {"code": 400, "message": "Invalid value at 'model'", "status": "INVALID_ARGUMENT"}}]),
    says="Invalid value at 'model'",
)

# Ollama: a whole call with its index, thoughts in `reasoning`, beside an empty text.
_OLLAMA: Json = {"system_fingerprint": "fp_ollama"}
_OLLAMA_USAGE = {"prompt_tokens": 170, "completion_tokens": 60, "total_tokens": 230}
OLLAMA = Shape(
    call=[
        chunk({"role": "assistant", "content": "", "reasoning": "A tool"}, **_OLLAMA),
        chunk({"role": "assistant", "content": "", **call(WHOLE_CALL, id="call_1", index=0, type="function", name="weather")}),
        chunk({"role": "assistant", "content": ""}, "tool_calls", **_OLLAMA),
        chunk(usage=_OLLAMA_USAGE, **_OLLAMA),
    ],
    answer=[
        chunk({"role": "assistant", "content": "", "reasoning": "Check the "}, **_OLLAMA),
        chunk({"role": "assistant", "content": "", "reasoning": "weather."}, **_OLLAMA),
        *(chunk({"role": "assistant", **delta}, **_OLLAMA) for delta in SAID),
        chunk({"role": "assistant", "content": ""}, "stop", **_OLLAMA),
        chunk(usage=_OLLAMA_USAGE, **_OLLAMA),
    ],
    whole=completion({"content": ANSWER, "reasoning": THOUGHT}, _OLLAMA_USAGE, **_OLLAMA),
    used=Used(170, 60, 0, cost(170, 0, 0, 60)),
    error=(404, {"error": {"message": "model 'x' not found", "type": "not_found_error", "param": None, "code": None}}),
    says="not_found_error",
)

# vLLM: `reasoning`, before 0.12 with the same in `reasoning_content`; `stop_reason`, `token_ids`, details that are null.
_VLLM_USAGE: Json = {"prompt_tokens": 75, "total_tokens": 115, "completion_tokens": 40, "prompt_tokens_details": None}
VLLM = Shape(
    call=[
        chunk({"role": "assistant", "content": ""}, choice={"logprobs": None}, prompt_token_ids=None),
        chunk(call("", id="chatcmpl-tool-1", type="function", index=0, name="weather"), choice={"token_ids": None}),
        chunk(call('{"city": "', index=0), choice={"logprobs": None}),
        chunk(call('Paris"}', index=0), choice={"logprobs": None}),
        chunk({"content": ""}, "tool_calls", choice={"stop_reason": None}),
        chunk(usage=_VLLM_USAGE),
    ],
    answer=[
        chunk({"role": "assistant", "content": ""}, choice={"logprobs": None}, prompt_token_ids=None),
        chunk({"reasoning": "Check the ", "reasoning_content": "Check the "}, choice={"token_ids": None}),
        chunk({"reasoning": "weather.", "reasoning_content": "weather."}, choice={"token_ids": None}),
        *(chunk(delta, choice={"logprobs": None, "token_ids": None}) for delta in SAID),
        chunk({"content": ""}, "stop", choice={"stop_reason": None}),
        chunk(usage=_VLLM_USAGE),
    ],
    whole=completion({"content": ANSWER, "reasoning": THOUGHT, "tool_calls": [], "function_call": None}, _VLLM_USAGE),
    used=Used(75, 40, 0, cost(75, 0, 0, 40)),
    error=(
        400,
        {
            "object": "error",
            "message": "This model's maximum context length is 4096 tokens.",
            "type": "BadRequestError",
            "param": None,
            "code": 400,
        },
    ),
    says="maximum context length",
)

# LiteLLM before Anthropic: the thoughts twice, the cache in fields of Anthropic's, codes of errors as text.
_LITELLM_USAGE = {
    "completion_tokens": 70,
    "prompt_tokens": 2000,
    "total_tokens": 2070,
    "completion_tokens_details": {"reasoning_tokens": 40, "text_tokens": 30, "audio_tokens": None},
    "prompt_tokens_details": {"cached_tokens": 1500, "audio_tokens": None, "cache_creation_tokens": 300},
    "cache_creation_input_tokens": 300,
    "cache_read_input_tokens": 1500,
}
LITELLM = Shape(
    call=[
        chunk({"role": "assistant", "content": None, **call("", index=0, id="toolu_1", type="function", name="weather")}),
        chunk(call('{"city": ', id=None, index=0, type="function", name=None)),
        chunk(call('"Paris"}', id=None, index=0, type="function", name=None)),
        chunk({}, "tool_calls"),
        chunk(usage=_LITELLM_USAGE),
    ],
    answer=[
        chunk(
            {
                "role": "assistant",
                "content": "",
                "reasoning_content": THOUGHT,
                "thinking_blocks": [{"type": "thinking", "thinking": THOUGHT, "signature": None}],
                "provider_specific_fields": {"thinking_blocks": [{"type": "thinking", "thinking": THOUGHT}]},
            }
        ),
        chunk({"content": "", "reasoning_content": "", "thinking_blocks": [{"type": "thinking", "signature": "c2ln"}]}),
        *map(chunk, SAID),
        chunk({}, "stop"),
        chunk(usage=_LITELLM_USAGE),
    ],
    whole=completion(
        {"content": ANSWER, "reasoning_content": THOUGHT, "tool_calls": None, "function_call": None}, _LITELLM_USAGE
    ),
    used=Used(2000, 70, 1500, cost(200, 1500, 300, 70)),
    error=(
        401,
        {"error": {"message": "Authentication Error, Invalid proxy server token", "type": "auth_error", "code": "401"}},
    ),
    says="refused the key",
)

# DeepSeek: thoughts and text are null by turns; its own fields for the cache.
_DEEPSEEK_USAGE = {
    "prompt_tokens": 300,
    "completion_tokens": 55,
    "total_tokens": 355,
    "completion_tokens_details": {"reasoning_tokens": 33},
    "prompt_cache_hit_tokens": 256,
    "prompt_cache_miss_tokens": 44,
}
DEEPSEEK = Shape(
    call=[
        chunk({"role": "assistant", "content": None, "reasoning_content": "A tool."}),
        chunk(call("", index=0, id="call_0", type="function", name="weather")),
        chunk(call(WHOLE_CALL, index=0)),
        chunk({"content": "", "reasoning_content": None}, "tool_calls", usage=_DEEPSEEK_USAGE),
    ],
    answer=[
        chunk({"role": "assistant", "content": None, "reasoning_content": ""}, usage=None),
        chunk({"content": None, "reasoning_content": "Check the "}, usage=None),
        chunk({"content": None, "reasoning_content": "weather."}, usage=None),
        *(chunk({**delta, "reasoning_content": None}, usage=None) for delta in SAID),
        chunk({"content": "", "reasoning_content": None}, "stop", usage=_DEEPSEEK_USAGE),
    ],
    whole=completion({"content": ANSWER, "reasoning_content": THOUGHT}, _DEEPSEEK_USAGE),
    used=Used(300, 55, 256, cost(44, 256, 0, 55)),
    error=(
        402,
        {"error": {"message": "Insufficient Balance", "type": "unknown_error", "param": None, "code": "invalid_request_error"}},
    ),
    says="invalid_request_error",
)

# Mistral: content becomes a list, with thoughts that are lists again; a whole call, without a type and an index.
_MISTRAL_USAGE = {"prompt_tokens": 21, "total_tokens": 60, "completion_tokens": 39}
MISTRAL = Shape(
    call=[chunk({"content": "", **call(WHOLE_CALL, id="D681PevKs", name="weather")}, "tool_calls", usage=_MISTRAL_USAGE)],
    answer=[
        chunk({"role": "assistant", "content": ""}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "Check the "}]}]}),
        chunk({"content": [{"type": "thinking", "thinking": [{"type": "text", "text": "weather."}], "closed": True}]}),
        *map(chunk, SAID),
        chunk({"content": ""}, "stop", usage=_MISTRAL_USAGE),
    ],
    whole=completion(
        {
            "content": [
                {"type": "thinking", "thinking": [{"type": "text", "text": THOUGHT}]},
                {"type": "text", "text": ANSWER},
            ]
        },
        _MISTRAL_USAGE,
    ),
    used=Used(21, 39, 0, cost(21, 0, 0, 39)),
    error=(422, {"object": "error", "message": {"detail": [{"msg": "Field required"}]}, "type": "invalid_request_error"}),
    says="Field required",
)

# llama.cpp and vLLM without a parser: the model's own tags, cut anywhere, and calls without an index or an id.
_RAW_USAGE = {"prompt_tokens": 31, "completion_tokens": 25, "total_tokens": 56}
UNPARSED = Shape(
    call=[
        chunk({"role": "assistant", "content": None}),
        chunk(call(name="weather", arguments=TOOL_CALL)),  # type: ignore[arg-type]  # the object itself
        chunk({}, "tool_calls"),
        chunk(usage=_RAW_USAGE),
    ],
    answer=[
        chunk({"role": "assistant", "content": None}),
        *(chunk({"content": piece}) for piece in ("<th", "ink>", "Check the ", "weather.", "</", "think>", "\n\n")),
        *map(chunk, SAID),
        chunk({}, "stop"),
        chunk(usage=_RAW_USAGE),
    ],
    whole=completion({"content": f"<think>{THOUGHT}</think>\n\n{ANSWER}"}, _RAW_USAGE),
    used=Used(31, 25, 0, cost(31, 0, 0, 25)),
    error=(503, {"error": {"code": 503, "message": "Loading model", "type": "unavailable_error"}}),
    says="HTTP 503",
)

SHAPES = {
    "openai": OPENAI,
    "azure": AZURE,
    "anthropic": ANTHROPIC,
    "google": GOOGLE,
    "ollama": OLLAMA,
    "vllm": VLLM,
    "litellm": LITELLM,
    "deepseek": DEEPSEEK,
    "mistral": MISTRAL,
    "unparsed": UNPARSED,
}
