"""The attacker writes what is parsed: documents, passages, questions, histories, durations. Each takes linear time.

Time is compared with itself, four times the input against once, in CPU seconds of this process; what is over in 50 ms passes.
"""

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, SystemMessage, ToolMessage

from agent_operator.manifests.alert_objects import metrics_of
from agent_operator.manifests.specs import duration
from agent_service.agents.completion_format import arguments_of_delta, arguments_of_message
from agent_service.agents.completion_stream import Answer, EventDecoder
from agent_service.agents.default.window import context_window
from agent_service.agents.endpoint_errors import error_message, parse_retry_after
from agent_service.agents.offline_rules import reply
from agent_service.documents.document import UnreadableDocument
from agent_service.documents.excerpt import excerpt, stems
from agent_service.documents.parse import parse
from agent_service.prices import PriceTable
from agent_service.runs.history import mend
from tests.service.documents.pdf import make_pdf

CHARS = 1_000
"""Of the shorter text; a square that takes 50 ms at four times this length takes an hour at a megabyte."""

FLOOR_SECONDS = 0.05
RATIO = 9

UNITS = [
    "\n",
    " ",
    "a",
    "a ",
    "A.\n",
    ". ",
    "! A",
    "\n\n",
    "\n \n",
    "# ",
    "> ",
    "  - ",
    "| ",
    "|a|\n",
    "|-|\n",
    "`",
    "```\n",
    "---\n",
    "[",
    "](",
    "[a](",
    "<",
    "<a ",
    "<!--",
    "<table><tr><td>",
    "<div>",
    "&#",
    "&amp;",
    "\\",
    "_a*",
    "http://",
    "[1] a (b)\n",
    "\n\n[1] ",
    "[1] a (",
    " (b)",
    ")\n",
    "[11111",
    "(",
    ")",
    "{",
    "}",
    '{"a":',
    "[[",
    '"',
    "\\u",
    "1",
    "1.",
    "-1",
    "-1m",
    "1h",
    "Bearer\t\n",
    "\u0301",
    "\u202e",
    "\xa0",
    "\u2028",
    "\x00",
    "\U0001f3f3\ufe0f\u200d",
    "data: ",
    "data:\r",
    "\r\n",
    ":\n",
    "\n\ndata: {}",
    "a:",
    "a_b{",
    "-2024",
    "select ",
    ": select ",
    "Mon, 01 Jan ",
]
ENDS = ["", "x"]


def hostile(chars: int) -> Iterator[str]:
    """One unit again and again, every other with an end that makes a match fail late; nested pairs; runs that grow."""
    for number, unit in enumerate(UNITS):
        end = ENDS[number % len(ENDS)]
        yield (unit * (chars // len(unit) + 1))[: chars - len(end)] + end
    for outer, inner in (("(", ")"), ("[", "]"), ("<div>", "</div>"), ("> ", "\n"), ("{", "}"), ("*", "*"), ('{"a":[', "]}")):
        count = chars // (len(outer) + len(inner))
        yield outer * count + inner * count
    for first, second in (("a ", "*"), ("`", "a"), ("[", "("), ("<", "a"), ("|", "\n"), (" ", "\n")):  # growing runs
        size = int((2 * chars / (len(first) + len(second))) ** 0.5)
        yield "".join(first * n + second for n in range(size))


def document(name: str, text: str) -> None:
    try:
        parse(name, text.encode(errors="replace"))
    except UnreadableDocument:
        return


def ask(text: str) -> None:
    messages = [SystemMessage(text), HumanMessage("how"), ToolMessage(text, tool_call_id="a", name="rag_search")]
    reply(messages, [])
    reply(
        [HumanMessage(text)], [{"name": "look_up", "parameters": {"required": ["n"], "properties": {"n": {"type": "integer"}}}}]
    )


def read_stream(text: str) -> None:
    """In one read, and a byte at a time."""
    data = text.encode(errors="replace")
    EventDecoder().feed(data)
    decoder = EventDecoder()
    for at in range(len(data)):
        decoder.feed(data[at : at + 1])
    Answer().feed(b"data: " + data + b"\n\n")


def history(exchanges: int) -> None:
    """What a window and a mended history are made of: calls, a third of them without an answer."""
    messages: list[AnyMessage] = [HumanMessage("a")]
    for n in range(exchanges):
        call = AIMessage("", tool_calls=[{"name": "f", "args": {}, "id": str(n)}])
        messages += [call, *([ToolMessage("b", tool_call_id=str(n))] if n % 3 else [])]
    context_window(messages, turns=5, tokens=exchanges)
    mend(messages)


def test_a_history_takes_linear_time() -> None:
    short, long = seconds(partial(history, 250)), seconds(partial(history, 1_000))
    print(f"a history: 250 exchanges {short * 1000:.0f} ms, 1,000 {long * 1000:.0f} ms")
    assert long < max(RATIO * short, 0.5)


def a_duration(text: str) -> None:
    try:
        duration(text)
    except ValueError:
        return


def chunk_model(text: str) -> None:
    PriceTable({}).price(text)


PARSERS: dict[str, Callable[[str], Any]] = {
    "Markdown": partial(document, "a.md"),
    "HTML": partial(document, "a.html"),
    "plain text": partial(document, "a.txt"),
    "an excerpt of a text": lambda text: excerpt(text, "how do keys rotate", 700),
    "an excerpt for a question": lambda text: excerpt("Keys rotate. " * 300, text, 700),
    "a query's words": stems,
    "the offline model": ask,
    "the model's stream": read_stream,
    "arguments of a call": lambda text: (arguments_of_delta(text), arguments_of_message(text)),
    "the endpoint's errors": lambda text: (error_message({"error": {"message": text}}), parse_retry_after(text, NOW)),
    "a name of a model": chunk_model,
    "durations": a_duration,
    "metrics of rules": lambda text: metrics_of([{"rules": [{"expr": text}]}]),
}
NOW: Any = None


def seconds(call: Callable[[], object]) -> float:
    began = time.thread_time()
    call()
    return time.thread_time() - began


def check(name: str, short: str, long: str) -> float:
    """CPU seconds of the longer one; asserts that they grow with the length."""
    parse_it = PARSERS[name]
    took = seconds(partial(parse_it, long))
    if took > FLOOR_SECONDS:
        again = min(took, seconds(partial(parse_it, long)))
        ratio = again / max(seconds(partial(parse_it, short)), 1e-3)
        assert again <= FLOOR_SECONDS or ratio < RATIO, (
            f"{name}: {ratio:.0f} times as long for 4 times {long[:12]!r}…{long[-4:]!r}"
        )
    return took


@pytest.mark.parametrize("name", PARSERS)
def test_time_grows_with_the_length(name: str) -> None:
    worst = max(
        (check(name, short, long), repr(long[:16])) for short, long in zip(hostile(CHARS), hostile(4 * CHARS), strict=True)
    )
    print(f"{name}: texts of {4 * CHARS} characters, the slowest {worst[0] * 1000:.0f} ms: {worst[1]}…")


ALPHABET = st.sampled_from([*UNITS, *ENDS])


def pdf(count: int) -> bytes:
    """A page with so many texts, and as many objects that nothing names."""
    page = make_pdf("(((\\" * 20 + "\n" * 3)
    return page.replace(b"endobj", b"endobj\n" + b"9 0 obj\n<</a [[<<" * count + b"endobj", 1)


def test_a_pdf_takes_linear_time() -> None:
    def read(count: int) -> None:
        try:
            parse("a.pdf", pdf(count))
        except UnreadableDocument:
            return

    short, long = seconds(partial(read, 1_000)), seconds(partial(read, 4_000))
    print(f"PDF: {short * 1000:.0f} ms and {long * 1000:.0f} ms")
    assert long < max(RATIO * short, 1.0)


@settings(max_examples=12, deadline=None, suppress_health_check=list(HealthCheck))
@given(name=st.sampled_from(sorted(PARSERS)), units=st.lists(ALPHABET, min_size=1, max_size=4), start=ALPHABET, end=ALPHABET)
def test_time_grows_with_the_length_of_any_mixture(name: str, units: list[str], start: str, end: str) -> None:
    unit = "".join(units) or " "
    short, long = (start + unit * (chars // len(unit)) + end for chars in (CHARS, 4 * CHARS))
    check(name, short, long)
