"""The chat page as a person uses it."""

import re
from dataclasses import dataclass

from playwright.async_api import Locator, Page, expect


@dataclass(frozen=True, slots=True)
class Chat:
    page: Page

    @property
    def answer(self) -> Locator:
        return self.page.locator(".answer").last

    @property
    def status(self) -> Locator:
        return self.page.locator("#status")

    @property
    def decision(self) -> Locator:
        return self.page.get_by_role("group", name="Decision needed")

    def button(self, name: str) -> Locator:
        return self.page.get_by_role("button", name=name, exact=True)

    @property
    def questions(self) -> Locator:
        return self.page.locator(".question:visible")

    async def copied(self, name: str) -> str:
        """What the last button of this name puts into the clipboard."""
        await self.page.context.grant_permissions(["clipboard-read", "clipboard-write"])
        await self.button(name).last.click()
        await expect(self.button(name).last).to_contain_text("Copied")
        text: str = await self.page.evaluate("navigator.clipboard.readText()")
        return text

    async def type(self, question: str) -> None:
        await self.page.get_by_label("Question").fill(question)
        await self.page.keyboard.press("Enter")

    async def ask(self, question: str) -> None:
        """Asks, and waits for the end of the turn."""
        before = await self.page.locator(".usage").count()
        await self.type(question)
        await expect(self.page.locator(".usage")).to_have_count(before + 1)
        await expect(self.answer).to_have_attribute("aria-busy", "false")

    async def ask_anew(self, question: str) -> None:
        """The same in a new session."""
        await self.button("New session").click()
        await self.ask(question)

    async def says(self, text: str) -> None:
        """Waits until the answer is exactly this, its white space aside."""
        await expect(self.answer).to_have_text(re.compile(rf"^\s*{re.escape(text.strip())}\s*$"))
