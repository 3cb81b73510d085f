"""Files of a question on the page: chosen by keyboard, dropped, seen before and after, and refused in plain words."""

import base64
import json
import struct
import zlib
from collections.abc import AsyncIterator
from typing import Any

import pytest
import pytest_asyncio
from playwright.async_api import FilePayload, Page, expect

from tests.integration.page.axe import violations
from tests.integration.page.conftest import OpenChat, Site, fake_model_env, running_site
from tests.support.fake_model import FakeModel

pytestmark = pytest.mark.asyncio(loop_scope="session")

PDF = b"%PDF-1.7\n1 0 obj<<>>endobj\ntrailer<<>>\n%%EOF"


def png(width: int, height: int, *, declared: tuple[int, int] | None = None) -> bytes:
    """A picture of one colour; `declared` is the size that its head says."""

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    head = struct.pack(">IIBBBBB", *(declared or (width, height)), 8, 2, 0, 0, 0)
    rows = (b"\x00" + b"\xc0\x30\x30" * width) * height
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def payload(name: str, kind: str, data: bytes) -> FilePayload:
    return {"name": name, "mimeType": kind, "buffer": data}


SVG = b"<svg xmlns='http://www.w3.org/2000/svg' onload='window.owned=1'/>"
PICTURE = payload("harbour.png", "image/png", png(300, 200))
PAPER = payload("manual.pdf", "application/pdf", PDF)


@pytest_asyncio.fixture(scope="module", loop_scope="session")
async def seeing(admin_url: str, _model: FakeModel) -> AsyncIterator[Site]:
    async with running_site(admin_url, **fake_model_env(_model), FILE_GRAPHS="agent", MAX_FILES="3") as site:
        yield site


def asked(model: FakeModel) -> list[dict[str, Any]]:
    """Messages of the last call."""
    calls = [request for request in model.requests if request.path == "/v1/chat/completions"]
    messages: list[dict[str, Any]] = calls[-1].payload["messages"]
    return messages


async def choose(page: Page, *files: FilePayload) -> None:
    await page.locator("#files").set_input_files(list(files))


async def drawn(page: Page, within: str) -> bool:
    """Whether a preview has the picture's colour in its middle."""
    colour = await page.locator(f"{within} canvas").first.evaluate(
        "(canvas) => [...canvas.getContext('2d').getImageData(canvas.width / 2, canvas.height / 2, 1, 1).data]"
    )
    return bool(colour == [0xC0, 0x30, 0x30, 255])


async def test_files_are_chosen_by_keyboard_seen_sent_and_kept_after_a_reload(
    seeing: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script.tokens = ["A harbour."]
    chat = await open_chat(seeing.service.url)
    page = chat.page
    await page.get_by_label("Question").focus()
    await page.keyboard.press("Shift+Tab")
    async with page.expect_file_chooser() as chooser:
        await expect(chat.button("Attach files")).to_be_focused()  # by then choosers are watched for, which begins unawaited
        await page.keyboard.press("Enter")
    await (await chooser.value).set_files([PICTURE, PAPER, payload("other.pdf", "application/pdf", PDF)])
    await expect(page.locator("#attached li")).to_have_count(3)
    assert await drawn(page, "#attached")
    assert await violations(page) == []
    await chat.button("Remove other.pdf").focus()
    await page.keyboard.press("Enter")
    await expect(page.locator("#attached li")).to_have_count(2)
    await expect(chat.button("Attach files")).to_be_focused()

    await chat.ask("What is this?")
    await expect(page.locator("#attached")).to_be_hidden()
    text, picture, paper = asked(model)[-1]["content"]
    assert text["text"] == "What is this?"
    sent = base64.b64decode(picture["image_url"]["url"].partition(",")[2])
    assert sent == PICTURE["buffer"]
    assert paper["file"]["filename"] == "manual.pdf"

    await page.reload()
    await expect(page.locator(".asked .files li")).to_have_count(2)
    await expect(page.locator(".asked .files canvas")).to_have_count(1)
    assert await drawn(page, ".asked")
    assert await violations(page) == []
    await page.locator(".asked .chip").first.focus()
    await page.keyboard.press("Enter")
    await expect(page.get_by_role("dialog").get_by_role("img", name="harbour.png")).to_be_visible()
    await page.keyboard.press("Escape")
    async with page.expect_download() as download:
        await page.locator(".asked .chip").last.click()
    found = await download.value
    assert found.suggested_filename == "manual.pdf"
    assert (await found.path()).read_bytes() == PDF

    model.script.tokens = ["Still a harbour."]
    await chat.button("Regenerate").click()
    await chat.says("Still a harbour.")
    assert [block["type"] for block in asked(model)[-1]["content"]] == ["text", "image_url", "file"]
    assert await page.evaluate("document.documentElement.scrollWidth") == page.viewport_size["width"] if page.viewport_size else 0


async def test_a_large_picture_is_made_smaller_and_a_dropped_one_is_taken(
    seeing: Site, model: FakeModel, open_chat: OpenChat
) -> None:
    model.script.tokens = ["Large."]
    page = (chat := await open_chat(seeing.service.url)).page
    drop = """([data, name]) => {
        const transfer = new DataTransfer();
        transfer.items.add(new File([Uint8Array.from(atob(data), (each) => each.charCodeAt(0))], name, { type: "image/png" }));
        const event = { bubbles: true, cancelable: true, dataTransfer: transfer };
        document.querySelector("#log").dispatchEvent(new DragEvent("drop", event));
    }"""
    await page.evaluate(drop, [base64.b64encode(png(4000, 1000)).decode(), "wide.png"])
    await expect(page.locator("#attached li")).to_have_count(1)
    await chat.ask("How wide?")
    kind, _, data = asked(model)[-1]["content"][1]["image_url"]["url"].partition(",")
    assert kind == "data:image/jpeg;base64"
    size = await page.evaluate(
        """async (data) => {
            const bytes = Uint8Array.from(atob(data), (each) => each.charCodeAt(0));
            const { width, height } = await createImageBitmap(new Blob([bytes]));
            return [width, height];
        }""",
        data,
    )
    assert size == [2048, 512]


@pytest.mark.parametrize(
    ("file", "words"),
    [
        (
            payload("cat.svg", "image/svg+xml", SVG),
            "cat.svg is no PNG",
        ),
        (payload("cat.html", "text/html", b"<script>window.owned=1</script>"), "cat.html is no PNG"),
        (
            payload("cat.png", "image/png", SVG),
            "no picture that",
        ),
        (payload("bomb.png", "image/png", png(1, 1, declared=(60_000, 60_000))), "no picture that"),
        (payload("none.pdf", "application/pdf", b""), "none.pdf is empty"),
        (payload("thick.pdf", "application/pdf", PDF + b" " * 800_000), "thick.pdf has 800 kB; a file may have 737 kB"),
    ],
    ids=lambda value: value["name"] if isinstance(value, dict) else "",
)
async def test_a_hostile_or_wrong_file_is_refused_in_plain_words(
    seeing: Site, open_chat: OpenChat, file: FilePayload, words: str
) -> None:
    page = (await open_chat(seeing.service.url)).page
    await choose(page, file)
    await expect(page.locator("#notices")).to_contain_text(words)
    await expect(page.locator("#attached li")).to_have_count(0)
    assert await page.evaluate("window.owned") is None


async def test_one_that_only_says_it_is_a_pdf_is_refused_by_the_service_and_stays_to_be_taken_away(
    seeing: Site, open_chat: OpenChat
) -> None:
    chat = await open_chat(seeing.service.url)
    await choose(chat.page, payload("a\u202e fdp.pdf", "application/pdf", b"<script>window.owned=1</script>"))
    await chat.type("What does it say?")
    await expect(chat.page.locator(".turn .error")).to_contain_text("is not a PNG, JPEG, GIF or WebP picture, or a PDF")
    await expect(chat.page.get_by_label("Question")).to_have_value("What does it say?")
    await expect(chat.page.locator("#attached li")).to_have_count(1)
    assert "\u202e" not in await chat.page.locator("#attached").inner_text()


async def test_more_than_are_taken_are_left_out(seeing: Site, open_chat: OpenChat) -> None:
    page = (await open_chat(seeing.service.url)).page
    await choose(page, *[PAPER] * 4)
    await expect(page.locator("#notices")).to_contain_text("at most 3 files")
    await expect(page.locator("#attached li")).to_have_count(3)


async def test_the_page_of_a_graph_that_takes_none_has_no_button(scripted: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(scripted.service.url)
    await expect(chat.button("Attach files")).to_be_hidden()
    told = json.loads(await chat.page.locator("meta[name=slipway]").get_attribute("content") or "{}")
    assert [each["files"] for each in told["graphs"]] == [False]
