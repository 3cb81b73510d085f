from decimal import Decimal
from pathlib import Path

import pytest

from agent_service.errors import SettingsError
from agent_service.prices import PriceTable


def cost(table: PriceTable, model: str, *, fresh: int = 0, cached: int = 0, output: int = 0) -> Decimal | None:
    return table.cost_usd(model, input_tokens=fresh + cached, cached_tokens=cached, output_tokens=output)


def table(tmp_path: Path, text: str) -> PriceTable:
    path = tmp_path / "prices.yaml"
    path.write_text(text, encoding="utf-8")
    return PriceTable.load(path)


def test_the_shipped_table_prices_a_call_exactly() -> None:
    assert cost(PriceTable.load(), "gpt-4o-mini", fresh=1000, cached=200, output=10) == Decimal("0.000171")


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
    ],
)
def test_a_dated_name_costs_what_its_family_costs(dated: str, family: str) -> None:
    shipped = PriceTable.load()
    assert shipped.price(dated) == shipped.price(family) is not None


@pytest.mark.parametrize("other", ["gpt-4o-realtime-preview-2024-10-01", "gpt-5-codex-max", "gpt-4", "gpt-4oh"])
def test_another_model_is_not_priced_as_its_prefix(other: str) -> None:
    assert PriceTable.load().price(other) is None


def test_a_dated_name_with_a_price_of_its_own_keeps_it() -> None:
    assert cost(PriceTable.load(), "gpt-4o-2024-05-13", fresh=1_000_000) == 5


def test_cached_tokens_cost_as_input_unless_priced(tmp_path: Path) -> None:
    assert cost(table(tmp_path, "m: {input: 2, output: 4}"), "m", cached=500_000, output=250_000) == 2


def test_more_cached_tokens_than_input_never_lower_the_cost() -> None:
    shipped = PriceTable.load()
    assert shipped.cost_usd("gpt-5", input_tokens=0, cached_tokens=8, output_tokens=0) == Decimal("0.000001")


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
