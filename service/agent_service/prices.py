"""What a model call costs, by the price table in prices.yaml or PRICE_FILE."""

import re
from dataclasses import dataclass
from decimal import Decimal
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Self

import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from agent_service.errors import SettingsError

Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]

MILLION = 1_000_000
"""Tokens that a price is for, as providers publish it."""

MAX_MODEL_CHARS = 256
"""Of a name that is looked up: the longer one, the more versions of it there might be."""

DATED = re.compile(r"-(?=\d)")
"""Where the date of a name such as gpt-4o-2024-08-06 may begin."""


class Price(BaseModel):
    """USD per million tokens; `cached_input` is for the input tokens that the provider had cached."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Usd
    cached_input: Usd
    output: Usd = Decimal(0)

    @model_validator(mode="before")
    @classmethod
    def _cached_as_input(cls, value: Any) -> Any:
        if isinstance(value, dict) and "input" in value:
            return {"cached_input": value["input"], **value}
        return value

    def cost(self, input_tokens: int, cached_tokens: int, output_tokens: int) -> Decimal:
        """USD; `cached_tokens` are a part of `input_tokens`."""
        fresh = max(input_tokens - cached_tokens, 0)
        return (fresh * self.input + cached_tokens * self.cached_input + output_tokens * self.output) / MILLION


def _one_for_all(value: object) -> object:
    return {"input": value, "output": value} if isinstance(value, int | float) else value


_TABLE = TypeAdapter(dict[str, Annotated[Price, BeforeValidator(_one_for_all)]])


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model name."""

    prices: dict[str, Price]

    @classmethod
    def load(cls, path: Path | None = None) -> Self:
        """Reads `path`, or the table that ships with the service.

        Raises:
            SettingsError: names the file and the key.
        """
        file = files("agent_service") / "prices.yaml" if path is None else path
        try:
            return cls(_TABLE.validate_python(yaml.safe_load(file.read_text(encoding="utf-8"))))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise SettingsError(f"PRICE_FILE {file}: {_key(first['loc'])}: {first['msg']}") from None
        except (OSError, UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"PRICE_FILE {file}: {' '.join(str(error).split())}") from None

    def price(self, model: str) -> Price | None:
        """The price of this name, or else of the longest name that it is a dated version of."""
        model = model[:MAX_MODEL_CHARS]
        names = [model, *(model[: cut.start()] for cut in reversed(list(DATED.finditer(model))))]
        return next((self.prices[name] for name in names if name in self.prices), None)

    def cost_usd(self, model: str, *, input_tokens: int, cached_tokens: int, output_tokens: int) -> Decimal | None:
        """USD of one call, or None when the model has no price. `cached_tokens` are a part of `input_tokens`."""
        price = self.price(model)
        return None if price is None else price.cost(input_tokens, cached_tokens, output_tokens)


def _key(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location) or "top level"
