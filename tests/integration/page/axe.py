"""axe-core (vendored, for tests) over the page as it stands: the rules of WCAG 2.2 A and AA, in each scheme and width."""

import json
from functools import cache
from pathlib import Path
from typing import Literal

from playwright.async_api import Page, ViewportSize

SCRIPT = Path(__file__).parents[2] / "support" / "vendor" / "axe-core" / "axe.min.js"

SCHEMES: tuple[Literal["light", "dark"], ...] = ("light", "dark")

WIDTHS = (ViewportSize(width=1280, height=800), ViewportSize(width=390, height=844))
"""A laptop, and a phone: below 720 pixels the list of sessions is a drawer."""

# `target-size` (2.5.8) is off unless it is asked for. Only what the tags name is run: a rule that WCAG does not have is taste.
OPTIONS = {
    "runOnly": ["wcag2a", "wcag2aa", "wcag21a", "wcag21aa", "wcag22aa"],
    "rules": {"target-size": {"enabled": True}},
    "resultTypes": ["violations"],
}

FOUND = f"""
axe.run(document, {json.dumps(OPTIONS)}).then(({{ violations, passes }}) => JSON.stringify({{
    passed: passes.length,
    found: violations.flatMap(({{ id, nodes }}) => nodes.map(({{ target, any, all, none }}) =>
        `${{id}} at ${{target.join(" ")}}: ${{[...any, ...all, ...none].map((each) => each.message).join("; ")}}`)),
}}))
"""

MIN_PASSED = 8
"""Rules that have something to look at on the emptiest page: fewer would mean that axe saw no page."""


@cache
def _script() -> str:
    return SCRIPT.read_text()


async def violations(page: Page, *, widths: tuple[ViewportSize, ...] = WIDTHS) -> list[str]:
    """What breaks a rule, as `scheme width: rule at selector: why`. The page is left in the last scheme and width.

    Run by the debugger's protocol: the page's own policy lets no such script in, and stays as it is.
    """
    session = await page.context.new_cdp_session(page)
    found: list[str] = []
    for size in widths:
        await page.set_viewport_size(size)
        for scheme in SCHEMES:
            await page.emulate_media(color_scheme=scheme, reduced_motion="reduce")
            await session.send("Runtime.evaluate", {"expression": _script()})
            answer = await session.send("Runtime.evaluate", {"expression": FOUND, "awaitPromise": True, "returnByValue": True})
            assert "exceptionDetails" not in answer, answer["exceptionDetails"]
            result = json.loads(answer["result"]["value"])
            assert result["passed"] >= MIN_PASSED
            found += [f"{scheme} {size['width']}: {each}" for each in result["found"]]
    await session.detach()
    return found
