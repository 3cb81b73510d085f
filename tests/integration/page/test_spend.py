"""The page of budgets and spend: to each what is theirs to see, in either width."""

from decimal import Decimal

import psycopg
import pytest
from playwright.async_api import Locator, expect

from tests.integration.page.conftest import OpenChat, Site
from tests.support.tokens import bearer

pytestmark = pytest.mark.asyncio(loop_scope="session")


def key(user: str, role: str = "user") -> str:
    return bearer(user, "harbour", role)["Authorization"].split()[1]


SPENT = (("harbour", "ann", 900, "0.5"), ("harbour", "bob", 50, "2"), ("elsewhere", "eve", 7, "9"))

ANN = "harbour/ann | day | 900 of 1,000 | $0.50 of no limit | 90 % | set for it"


def spend(site: Site) -> None:
    """Ann has used 90 % of her own budget, Bob more than his; another tenant has spent, too."""
    with psycopg.connect(site.database_url, autocommit=True) as conn:
        for tenant, user, tokens, usd in (
            ("harbour", "ann", 900, "0.5"),
            ("harbour", "bob", 50, "2"),
            ("elsewhere", "eve", 7, "9"),
        ):
            conn.execute(
                "INSERT INTO slipway.ledger (run_id, attempt, call, session_id, tenant, user_id, node, model, input_tokens,"
                " cached_tokens, output_tokens, cost_usd, estimated)"
                " VALUES (gen_random_uuid(), 1, 1, 's', %s, %s, 'n', '<b>m</b>', %s, 0, 0, %s, false)",
                (tenant, user, tokens, Decimal(usd)),
            )
        conn.execute(
            "INSERT INTO slipway.budgets VALUES ('harbour', 'ann', 1000, NULL), ('harbour', 'bob', NULL, 1),"
            " ('harbour', '', NULL, 10)"
        )


async def texts(rows: Locator) -> list[str]:
    return [" | ".join([text.strip() for text in await row.locator("td").all_inner_texts()]) for row in await rows.all()]


async def test_each_sees_the_budgets_and_the_spend_that_are_theirs(offline: Site, open_chat: OpenChat) -> None:
    spend(offline)
    mine = (await open_chat(f"{offline.service.url}/spend", key=key("ann"))).page
    await expect(mine.locator("#status")).to_contain_text("$0.50 until now")
    assert await texts(mine.locator("#budgets tbody tr")) == [ANN]
    assert await texts(mine.locator("#models tbody tr")) == ["<b>m</b> | 1 | 900 | 0 | $0.50"]
    await expect(mine.locator("#users")).to_be_hidden()

    admin = (await open_chat(f"{offline.service.url}/spend", key=key("root", "admin"))).page
    await expect(admin.locator("#status")).to_contain_text("$2.50 until now")
    assert await texts(admin.locator("#budgets tbody tr")) == [
        "harbour (tenant) | month | 950 of no limit | $2.50 of $10.00 | 25 % | set for it",
        ANN,
        "harbour/bob | day | 50 of no limit | $2.00 of $1.00 | 200 % | set for it",
        "harbour/root | day | 0 of no limit | $0.00 of no limit | no limit | settings",
    ]
    assert [await row.get_attribute("class") for row in await admin.locator("#budgets tbody tr").all()] == [
        "",
        "near",
        "spent",
        "",
    ]
    assert await texts(admin.locator("#users tbody tr")) == [
        "harbour/bob | 1 | 50 | 0 | $2.00",
        "harbour/ann | 1 | 900 | 0 | $0.50",
    ]

    await admin.set_viewport_size({"width": 360, "height": 640})
    assert await admin.evaluate("document.documentElement.scrollWidth") == 360, "tables scroll by themselves"
    await admin.get_by_role("link", name="Chat").click()
    await expect(admin.locator("#sidebar #spend")).to_have_attribute("href", "spend")


async def test_who_has_no_key_is_asked_for_one(offline: Site, open_chat: OpenChat) -> None:
    page = (await open_chat(f"{offline.service.url}/spend", key="")).page
    await page.locator("#key").fill(key("carl"))
    await page.get_by_role("button", name="Continue").click()
    await expect(page.locator("#budgets")).to_contain_text("harbour/carl")


async def test_who_signs_out_there_is_forgotten_by_the_tab(offline: Site, open_chat: OpenChat) -> None:
    chat = await open_chat(f"{offline.service.url}/spend", key="")
    await expect(chat.button("Sign out")).to_be_hidden()
    await chat.page.locator("#key").fill(key("dora"))
    await chat.page.get_by_role("button", name="Continue").click()
    await expect(chat.page.locator("#budgets")).to_contain_text("harbour/dora")
    await chat.button("Sign out").click()
    await expect(chat.page.get_by_role("dialog")).to_be_visible()
    await expect(chat.page.locator("#budgets")).to_be_hidden()
    assert await chat.page.evaluate("sessionStorage.getItem('slipway.key')") is None
    await chat.button("Cancel").click()
    await expect(chat.page.locator("#status")).to_have_text("You are not signed in.")
