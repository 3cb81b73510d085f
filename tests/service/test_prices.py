import asyncio
import os
import re
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from langchain_core.messages import AIMessage
from structlog.testing import capture_logs

from agent_service.errors import SettingsError
from agent_service.prices import MAX_FILE_BYTES, MOST_USD, PriceFile, PriceTable, TokensUsed, known_as
from agent_service.runs.billing import reported
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Script
from tests.support.service import running_service

COUNTS = st.integers(0, 2**31 - 1)


def cost(table: PriceTable, model: str, *, fresh: int = 0, cached: int = 0, output: int = 0) -> Decimal | None:
    return table.cost_usd(model, TokensUsed(input=fresh + cached, cached=cached, output=output))


def table(tmp_path: Path, text: str) -> PriceTable:
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    return PriceTable.load(path)


def test_the_shipped_table_prices_a_call_exactly() -> None:
    assert cost(PriceTable.load(), "gpt-4o-mini", fresh=1000, cached=200, output=10) == Decimal("0.000171")


def test_a_call_costs_what_the_worked_example_of_the_docs_says() -> None:
    page = (Path(__file__).parents[2] / "docs/operations/cost-control.md").read_text(encoding="utf-8")
    usd = cost(PriceTable.load(), "gpt-4.1-mini", fresh=1_000, cached=2_000, output=400)
    assert usd is not None
    assert f"= {usd.normalize()} USD" in page
    assert f"begins at {2 * usd.normalize()} USD" in page


def test_the_offline_model_is_free_and_not_unpriced() -> None:
    assert cost(PriceTable.load(), "offline", fresh=1000, output=1000) == 0


def test_an_unknown_model_is_unpriced() -> None:
    assert cost(PriceTable.load(), "llama-3.1-8b", fresh=1) is None


@pytest.mark.parametrize(
    ("dated", "family"),
    [
        ("gpt-4o-2024-08-06", "gpt-4o"),
        ("gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("gpt-4.1-nano-2025-04-14", "gpt-4.1-nano"),
        ("gpt-5-2025-08-07", "gpt-5"),
        ("GPT-4o", "gpt-4o"),
        ("openai/gpt-4o", "gpt-4o"),
        ("openai:gpt-4o-mini-2024-07-18", "gpt-4o-mini"),
        ("azure/gpt-4.1", "gpt-4.1"),
        ("openrouter/openai/gpt-5-mini", "gpt-5-mini"),
        ("claude-sonnet-4-5-20250929", "claude-sonnet-4-5"),
        ("anthropic:claude-haiku-4-5-latest", "claude-haiku-4-5"),
        ("anthropic.claude-opus-4-1-20250805-v1:0", "claude-opus-4-1"),
        ("bedrock/us.anthropic.claude-sonnet-4-5-20250929-v1:0", "claude-sonnet-4-5"),
        ("vertex_ai/claude-opus-4-5@20251101", "claude-opus-4-5"),
        ("models/gemini-2.5-flash", "gemini-2.5-flash"),
        ("google_genai:gemini-2.5-pro-001", "gemini-2.5-pro"),
        ("mistral/codestral-2508", "codestral-2508"),
        ("groq/llama-3.3-70b-versatile", "llama-3.3-70b-versatile"),
        ("groq/openai/gpt-oss-120b", "openai/gpt-oss-120b"),
    ],
)
def test_a_name_with_a_provider_or_a_version_costs_what_its_family_costs(dated: str, family: str) -> None:
    shipped = PriceTable.load()
    assert shipped.price(dated) == shipped.price(family) is not None


@pytest.mark.parametrize(
    "other",
    [
        "gpt-4o-realtime-preview-2024-10-01",
        "gpt-5-codex-max",
        "gpt-4",
        "gpt-4oh",
        "gpt-4o-32k",
        "gpt-5-9",
        "claude-opus-5-7",
        "ft:gpt-4o-mini-2024-07-18:org::id",
        "mistral-large-latest",
        "gpt-oss-120b",
        "",
        "/",
        "openai/",
        "openai:",
    ],
)
def test_another_model_is_not_priced_as_its_prefix(other: str) -> None:
    assert PriceTable.load().price(other) is None


def test_a_dated_name_with_a_price_of_its_own_keeps_it() -> None:
    assert cost(PriceTable.load(), "gpt-4o-2024-05-13", fresh=1_000_000) == 5


def test_cached_tokens_cost_as_input_unless_priced(tmp_path: Path) -> None:
    assert cost(table(tmp_path, "m: {input: 2, output: 4}"), "m", cached=500_000, output=250_000) == 2


def test_more_cached_tokens_than_input_never_lower_the_cost() -> None:
    shipped = PriceTable.load()
    assert shipped.cost_usd("gpt-5", TokensUsed(input=0, cached=8)) == Decimal("0.000001")


@pytest.mark.parametrize(
    ("text", "named"),
    [
        ("m: {input: -1}", r"m\.input"),
        ("m: {input: 1, otput: 2}", r"m\.otput"),
        ("m: {output: 2}", r"m\.input"),
        ("m: {input: .nan}", r"m\.input"),
        ("m: cheap", "m: "),
        ("- m", "top level"),
        ("m: {input: 1", "line"),
    ],
)
def test_a_wrong_table_names_the_file_and_the_key(tmp_path: Path, text: str, named: str) -> None:
    with pytest.raises(SettingsError, match=rf"prices\.yaml.*{named}"):
        table(tmp_path, text)


def test_a_missing_table_is_a_settings_error(tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match=r"absent\.yaml"):
        PriceTable.load(tmp_path / "absent.yaml")


def test_the_most_exact_name_wins(tmp_path: Path) -> None:
    prices = table(tmp_path, "m: 1\nhost/m: 2\nm-2025-01-01: 3\nHost/M-2025-01-01: 4")
    found = [prices.price(name) for name in ("m", "host/m", "other/m", "m-2025-01-01", "other/m-2025-01-01", "host/m-2025-01-01")]
    assert [price.input for price in found if price] == [1, 2, 1, 3, 3, 4]


@given(st.text(alphabet="a/:.@-v01", max_size=400))
def test_a_name_has_few_names_and_none_is_longer_than_what_is_looked_up(model: str) -> None:
    names = [*known_as(model)]
    assert len(names) <= 60
    assert max(map(len, names)) <= 256


def test_tokens_that_were_thought_or_cached_anew_have_prices_of_their_own(tmp_path: Path) -> None:
    prices = table(tmp_path, "m: {input: 10, cached_input: 1, cache_write: 20, output: 100, reasoning: 1000}")
    used = TokensUsed(input=6, cached=1, cache_write=2, output=5, reasoning=3)
    assert prices.cost_usd("m", used) == Decimal(3 * 10 + 1 + 2 * 20 + 2 * 100 + 3 * 1000) / 1_000_000


def test_without_prices_of_their_own_they_cost_as_input_and_output(tmp_path: Path) -> None:
    prices = table(tmp_path, "m: {input: 10, output: 100}")
    assert prices.cost_usd("m", TokensUsed(6, 1, 5, 3, 2)) == prices.cost_usd("m", TokensUsed(input=6, output=5))


@given(COUNTS, COUNTS, COUNTS, COUNTS, COUNTS)
def test_a_cost_is_no_less_than_0_and_what_the_ledger_can_hold(i: int, c: int, o: int, r: int, w: int) -> None:
    prices = PriceTable.parse(b"m: {input: 3, cached_input: 0.3, cache_write: 3.75, output: 150000, reasoning: 15}", "m")
    usd = prices.cost_usd("m", TokensUsed(i, c, o, r, w))
    assert usd is not None
    assert 0 <= usd <= MOST_USD
    assert usd == round(usd, 8)


def test_the_shipped_table_says_its_date_and_has_each_maker() -> None:
    text = (files("agent_service") / "prices.yaml").read_text(encoding="utf-8")
    assert re.search(r"put together on \d{4}-\d{2}-\d{2}", text)
    assert "check each model" in " ".join(text.replace("#", "").split())
    named = {*PriceTable.load().prices}
    for maker in ("gpt-", "claude-", "gemini-", "mistral-", "llama-", "deepseek-"):
        assert [name for name in named if name.startswith(maker)], maker


def usage(**given: Any) -> AIMessage:
    return AIMessage("text", usage_metadata={"input_tokens": 10, "output_tokens": 20, "total_tokens": 30, **given})


def test_reported_usage_is_read_with_its_details() -> None:
    details = {"input_token_details": {"cache_read": 3, "cache_creation": 4}, "output_token_details": {"reasoning": 5}}
    assert reported(usage(**details)) == TokensUsed(input=10, cached=3, output=20, reasoning=5, cache_write=4)
    tiers = {"input_token_details": {"flex_cache_read": 3, "flex": 7}, "output_token_details": {"priority_reasoning": 5}}
    assert reported(usage(**tiers)) == TokensUsed(input=10, cached=3, output=20, reasoning=5)
    anthropic = {"cache_creation": 0, "ephemeral_5m_input_tokens": 1, "ephemeral_1h_input_tokens": 2}
    assert reported(usage(input_token_details=anthropic)) == TokensUsed(input=10, output=20, cache_write=3)


def test_no_usage_and_only_zeros_are_none() -> None:
    assert reported(AIMessage("text")) is None
    assert reported(usage(input_tokens=0, output_tokens=0, total_tokens=0)) is None


class Mounted:
    """A ConfigMap as the kubelet mounts it: the file is a link through `..data`, which is swapped."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.path = folder / "prices.yaml"
        self.version = 0

    def put(self, text: str) -> None:
        self.version += 1
        made = self.folder / f"..{self.version}"
        made.mkdir()
        (made / "prices.yaml").write_text(text, encoding="utf-8")
        os.utime(made / "prices.yaml", (1, 1))  # times say nothing: each version has the same
        fresh = self.folder / "..new"
        fresh.symlink_to(made.name)
        fresh.replace(self.folder / "..data")
        if not self.path.is_symlink():
            self.path.symlink_to("..data/prices.yaml")


def test_a_swapped_file_is_taken_up(tmp_path: Path) -> None:
    mounted = Mounted(tmp_path)
    mounted.put("m: 1")
    file = PriceFile.open(mounted.path)
    before = file.current()
    assert file.look() is None
    mounted.put("m: 2")
    assert file.look() == "loaded"
    assert file.look() is None
    assert (cost(before, "m", fresh=1_000_000), cost(file.current(), "m", fresh=1_000_000)) == (Decimal(1), Decimal(2))


@pytest.mark.parametrize("broken", ["m: {inpt: 1}", "m: [", "\xff", "", "x" * (MAX_FILE_BYTES + 1), None])
def test_a_broken_file_keeps_the_prices_is_logged_once_and_counted_while_it_stands(tmp_path: Path, broken: str | None) -> None:
    mounted = Mounted(tmp_path)
    mounted.put("m: 1")
    file = PriceFile.open(mounted.path)
    mounted.put("m: 1" if broken is None else broken)
    if broken is None:
        mounted.path.unlink()
    with capture_logs() as lines:
        assert [file.look() for _ in range(3)] == ["refused"] * 3
    (line,) = lines
    assert line["log_level"] == "error"
    assert "prices.yaml" in line["reason"]
    assert cost(file.current(), "m", fresh=1_000_000) == 1
    mounted.put("m: 1")
    assert file.look() == "loaded"
    assert file.look() is None


async def test_a_process_prices_its_next_run_by_the_new_file(database_url: str, tmp_path: Path) -> None:
    """And tells by a metric that it has read it."""
    mounted = Mounted(tmp_path)
    mounted.put("fake-1: {input: 0, output: 1000000}")
    async with FakeModel(Script(tokens=["a", "b"])) as fake:
        env = {
            "MODEL": "fake-1",
            "OPENAI_BASE_URL": fake.url,
            "OPENAI_API_KEY": "sk-1",
            "AGENT_GRAPH": "tests.support.graphs:plain",
            "PRICE_FILE": str(mounted.path),
        }
        async with running_service(database_url, **env) as service, service.client() as client:
            costs = [(await client.post("/chat", json={"question": "hi"})).json()["cost_usd"]]
            mounted.put("fake-1: {input: 0, output: 2000000}")
            async with asyncio.timeout(30):
                while not await service.metric("agent_price_reloads_total", result="loaded"):
                    await asyncio.sleep(0.05)
            costs.append((await client.post("/chat", json={"question": "hi"})).json()["cost_usd"])
    assert costs == [2, 4]


@pytest.mark.parametrize(("fresh", "cached"), [(200_000, 0), (0, 200_000), (120_000, 80_000)])
def test_a_prompt_that_is_longer_than_the_threshold_costs_more_for_all_its_tokens(fresh: int, cached: int) -> None:
    prices = PriceTable.load()
    below = cost(prices, "gemini-2.5-pro", fresh=fresh, cached=cached, output=1_000)
    above = cost(prices, "gemini-2.5-pro", fresh=fresh + 1, cached=cached, output=1_000)
    million = Decimal(1_000_000)
    assert below == (fresh * Decimal("1.25") + cached * Decimal("0.125") + 10_000) / million
    assert above == ((fresh + 1) * Decimal("2.50") + cached * Decimal("0.25") + 15_000) / million


@pytest.mark.parametrize(
    ("above", "where"),
    [
        ("{input: 2}", "m.above.input_tokens"),
        ("{input_tokens: 0, input: 2}", "m.above.input_tokens"),
        ("{input_tokens: 10}", "m.above.input"),
        ("{input_tokens: 10, input: 2, above: {input_tokens: 20, input: 3}}", "m.above.above"),
        ("3", "m.above"),
    ],
)
def test_a_wrong_price_of_long_prompts_is_named(above: str, where: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(f": {where}: ")):
        PriceTable.parse(f"m: {{input: 1, above: {above}}}".encode(), "prices")


def test_what_is_left_out_of_the_price_of_long_prompts_costs_as_its_input_and_output() -> None:
    prices = PriceTable.parse(b"m: {input: 1, cached_input: 0.1, output: 2, above: {input_tokens: 10, input: 4, output: 8}}", "p")
    assert prices.cost_usd("m", TokensUsed(input=20, cached=10, output=5, reasoning=5)) == Decimal("0.00012")
