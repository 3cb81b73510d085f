"""U+2028 and its like in a stream of JSON: https://github.com/langgenius/dify/pull/39008,
https://github.com/mpetazzoni/sseclient/issues/9, https://github.com/fastapi/fastapi/pull/15515,
https://github.com/Soju06/codex-lb/issues/1010.

A client that reads lines as Python does (httpx's `iter_lines`) cut events of JSON in the middle; what the standard says was sent.
Siblings: U+2029, U+0085, form feed and ASCII's separators, both wires, what an endpoint sends to us, a line feed in the text.
"""

import json
from typing import Any

import pytest
from langchain_core.messages import AIMessage
from langgraph.config import get_stream_writer
from langgraph.graph import START, MessagesState, StateGraph

from agent_service.agents.completion_stream import Answer
from tests.field.serving import served, stream

ODD = "a\u2028b\u2029c\u0085d\x0be\x0cf\x1cg\x1dh\x1ei\nj"


def build(_: Any) -> StateGraph[MessagesState]:
    async def say(state: MessagesState) -> dict[str, Any]:
        get_stream_writer()({"said": ODD})
        return {"messages": [AIMessage(ODD)]}

    return StateGraph(MessagesState).add_node("say", say).add_edge(START, "say")


async def lines(client: Any, url: str, body: dict[str, Any]) -> list[str]:
    async with client.stream("POST", url, json=body) as response:
        return [line async for line in response.aiter_lines()]


async def test_events_of_json_are_lines_however_a_client_cuts_them(database_url: str) -> None:
    async with served(database_url, __name__) as client:
        ours = await lines(client, "/chat/stream", {"question": ODD.replace("\x0b", "").translate(CONTROLS)})
        openais = await lines(client, "/v1/chat/completions", {"messages": [{"role": "user", "content": "go"}], "stream": True})
        whole = await stream(client)
    data = [json.loads(line.removeprefix("data: ")) for line in openais if line.startswith("data: {")]
    assert "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in data) == ODD
    assert [line for line in openais if line and not line.startswith(("data: ", ":"))] == []
    custom = ours[ours.index("event: custom") + 1]
    assert json.loads(custom.removeprefix("data: ")) == {"said": ODD}
    assert json.loads(ours[ours.index("event: run") + 1].removeprefix("data: "))["question"] == "a\u2028b\u2029cdefghi\nj"
    assert whole.text == ODD  # as the standard has it: httpx-sse cuts at line ends only


CONTROLS = {ord(char): None for char in "\u0085\x0c\x1c\x1d\x1e"}
"""Which a question may not hold."""


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
def test_what_an_endpoint_sends_is_cut_at_line_ends_only(end: str) -> None:
    text = ODD.replace("\x0b", "").translate(CONTROLS).replace("\n", "")
    chunk = json.dumps({"choices": [{"index": 0, "delta": {"content": text}}]}, ensure_ascii=False)
    sent = (
        f"\ufeff: ping{end}{end}event: x{end}data:{end}{end}retry: 5{end}data: {chunk}{end}{end}data: [DONE]{end}{end}".encode()
    )
    for cut in (1, 7, len(sent)):
        answer = Answer()
        chunks = [c for start in range(0, len(sent), cut) for c in answer.feed(sent[start : start + cut])]
        assert "".join(c["choices"][0]["delta"]["content"] for c in chunks) == text
        assert (answer.done, answer.failure) == (True, None) or answer.failure is None
