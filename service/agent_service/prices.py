"""What a model call costs, by the price table in prices.yaml or PRICE_FILE, which may change while the service runs."""

import asyncio
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from decimal import Decimal
from functools import cache
from importlib.resources import files
from pathlib import Path
from typing import Annotated, Any, Literal

import structlog
import yaml
from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, TypeAdapter, ValidationError, model_validator

from agent_service.errors import SettingsError

log = structlog.stdlib.get_logger(__name__)

Usd = Annotated[Decimal, Field(ge=0, allow_inf_nan=False)]

MILLION = 1_000_000
"""Tokens that a price is for, as providers publish it."""

LEDGER_UNIT = Decimal("0.00000001")
"""USD: the ledger's last digit. A cost is rounded to it once, so that memory, ledger and reports sum the same numbers."""

MOST_USD = Decimal("999999.99999999")
"""Of one call: the ledger holds no more. 2^31 tokens at 180 USD a million cost less."""

MAX_MODEL_CHARS = 256
"""Of a name that is looked up: the longer one, the more versions of it there might be."""

MAX_PREFIXES = 4
"""Parts before a `/` that are dropped: `openrouter/accounts/fireworks/models/…` has that many."""

MAX_SUFFIXES = 3
"""Marks of a version that are dropped: Bedrock's `…-20241022-v2:0` has two."""

PROVIDERS = "openai|azure|azure_openai|azure_ai|anthropic|google|google_genai|google_vertexai|vertex_ai|gemini|mistral|mistralai"
"""Prefixes as in `openai:gpt-4o`. Others stay: in Ollama's `llama3.1:8b` the colon stands before a size."""

PREFIXED = re.compile(rf"(?:{PROVIDERS}|bedrock|bedrock_converse|groq|together|fireworks|deepseek|xai|cohere):(?=.)")

BEDROCK = re.compile(r"(?:[a-z]{2,6}\.)?(?:ai21|amazon|anthropic|cohere|deepseek|meta|mistral|openai|qwen)\.(?=[a-z])")
"""`us.anthropic.` of Bedrock's names: a region, or none, and the maker."""

VERSIONED = re.compile(
    r"(?:[-@](?:\d{4}-\d{2}-\d{2}|\d{2}-\d{4}|\d{8}|\d{4}|\d{3})|-latest|-v\d+:\d+)$",
    re.ASCII,
)
"""A date or number of a version at the end: gpt-4o-2024-08-06, claude-…-20241022, …@20240620, gpt-4-0613, gemini-…-001. Not
`-1` or `-32k`: claude-opus-4-5 and gpt-4-32k are models of their own."""

LOOK_SECONDS = 2.0
"""Between two looks, as with the files of keys. The kubelet takes a minute or two to bring a changed ConfigMap."""

MAX_FILE_BYTES = 2**20
"""Of a price file: 10,000 models."""

Reload = Literal["loaded", "refused"]
"""Label values of `agent_price_reloads_total`."""


class Rates(BaseModel):
    """USD per million tokens.

    `cached_input` is for the input tokens that the provider had cached, `cache_write` for those that it cached now,
    `reasoning` for the output tokens that the model thought with.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    input: Usd
    cached_input: Usd
    cache_write: Usd
    output: Usd
    reasoning: Usd

    @model_validator(mode="before")
    @classmethod
    def _defaults(cls, value: Any) -> Any:
        if not (isinstance(value, dict) and "input" in value):
            return value
        output = value.get("output", 0)
        return {"cached_input": value["input"], "cache_write": value["input"], "output": output, "reasoning": output, **value}

    def cost(self, used: "TokensUsed") -> Decimal:
        """USD, not rounded."""
        fresh = max(used.input - used.cached - used.cache_write, 0)
        said = max(used.output - used.reasoning, 0)
        read = fresh * self.input + used.cached * self.cached_input + used.cache_write * self.cache_write
        return (read + said * self.output + used.reasoning * self.reasoning) / MILLION


class LongPrompt(Rates):
    """Of calls whose prompt has more than `input_tokens`: for all of their tokens, as providers bill them."""

    input_tokens: int = Field(gt=0)


class Price(Rates):
    """Of one model."""

    above: LongPrompt | None = None

    def cost(self, used: "TokensUsed") -> Decimal:
        """USD, not rounded."""
        if self.above and used.input > self.above.input_tokens:
            return self.above.cost(used)
        return super().cost(used)


@dataclass(frozen=True, slots=True)
class TokensUsed:
    """Of one call; `cached` and `cache_write` are parts of `input`, `reasoning` is one of `output`."""

    input: int = 0
    cached: int = 0
    output: int = 0
    reasoning: int = 0
    cache_write: int = 0


def _one_for_all(value: object) -> object:
    return {"input": value, "output": value} if isinstance(value, int | float) else value


_TABLE = TypeAdapter(dict[str, Annotated[Price, BeforeValidator(_one_for_all)]])


@dataclass(frozen=True, slots=True)
class PriceTable:
    """Prices by model name, in lower case."""

    prices: dict[str, Price]

    @classmethod
    def load(cls, path: Path | None = None) -> "PriceTable":
        """Reads `path`, or the table that ships with the service.

        Raises:
            SettingsError: names the file and the key.
        """
        if path is None:
            return _shipped()
        try:
            return cls.parse(path.read_bytes(), str(path))
        except OSError as error:
            raise SettingsError(f"PRICE_FILE {path}: {error.strerror or error}") from None

    @classmethod
    def parse(cls, text: bytes, name: str) -> "PriceTable":
        """Raises SettingsError as `load` does; `name` is the file's."""
        try:
            table = _TABLE.validate_python(yaml.load(text.decode(), Loader=yaml.CSafeLoader))
        except ValidationError as error:
            first = error.errors(include_url=False)[0]
            raise SettingsError(f"PRICE_FILE {name}: {_key(first['loc'])}: {first['msg']}") from None
        except (UnicodeDecodeError, yaml.YAMLError) as error:
            raise SettingsError(f"PRICE_FILE {name}: {' '.join(str(error).split())}") from None
        return cls({model.casefold(): price for model, price in table.items()})

    def price(self, model: str) -> Price | None:
        """The price of this name, or of the nearest one without the provider before it and the version behind it."""
        return next((self.prices[name] for name in known_as(model) if name in self.prices), None)

    def cost_usd(self, model: str, used: TokensUsed) -> Decimal | None:
        """USD of one call to the ledger's last digit, or None when the model has no price."""
        price = self.price(model)
        return None if price is None else min(price.cost(used).quantize(LEDGER_UNIT), MOST_USD)


@cache
def _shipped() -> PriceTable:
    file = files("agent_service") / "prices.yaml"
    return PriceTable.parse(file.read_bytes(), str(file))


def known_as(model: str) -> Iterator[str]:
    """Names under which the price of a model may stand, the most exact one first.

    `bedrock/us.anthropic.claude-x-20250101-v1:0` may stand as such, without `bedrock/`, as `claude-x-20250101` or `claude-x`.
    """
    name = model[:MAX_MODEL_CHARS].casefold()
    for _ in range(MAX_PREFIXES + 1):
        yield from _versions(name)
        for prefix in (PREFIXED, BEDROCK):
            if found := prefix.match(name):
                yield from _versions(name[found.end() :])
        _, slash, name = name.partition("/")
        if not (slash and name):
            return


def _versions(name: str) -> Iterator[str]:
    yield name
    for _ in range(MAX_SUFFIXES):
        found = VERSIONED.search(name)
        if not found:
            return
        name = name[: found.start()]
        yield name


def _key(location: tuple[str | int, ...]) -> str:
    return ".".join(str(part) for part in location) or "top level"


@dataclass(slots=True)
class PriceFile:
    """The table in force. `path` None: the one that ships with the service, which never changes."""

    path: Path | None
    table: PriceTable
    _text: bytes = b""
    """What was read last, refused or not. Not the time of change: a mounted ConfigMap swaps a symlink above the file."""
    _refused: bool = False

    @classmethod
    def open(cls, path: Path | None) -> "PriceFile":
        """Raises SettingsError: at start a wrong file is told to whoever starts the process."""
        if path is None:
            return cls(None, PriceTable.load())
        try:
            text = _read(path)
        except OSError as error:
            raise SettingsError(f"PRICE_FILE {path}: {error.strerror or error}") from None
        return cls(path, PriceTable.parse(text, str(path)), text)

    def current(self) -> PriceTable:
        """The table for a run that begins now."""
        return self.table

    def look(self) -> Reload | None:
        """Takes up what has changed; None if nothing has. `refused` again and again while a broken file stands."""
        if self.path is None:
            return None
        try:
            text = _read(self.path)
            if text == self._text and not self._refused:
                return None
            table = PriceTable.parse(text, str(self.path))
        except (OSError, SettingsError) as error:
            return self._refuse(error)
        self.table, self._text, self._refused = table, text, False
        log.info("prices_loaded", file=str(self.path), models=len(table.prices))
        return "loaded"

    def _refuse(self, error: Exception) -> Reload:
        if not self._refused:
            reason = error.detail if isinstance(error, SettingsError) else str(error)
            log.error("price_file_refused", effect="the prices before stay in force", reason=reason)
        self._refused = True
        return "refused"

    async def watch(self, on_reload: Callable[[Reload], None], seconds: float = LOOK_SECONDS) -> None:
        """Looks again and again, and tells each file that was loaded or refused."""
        while True:
            await asyncio.sleep(seconds)
            if result := await asyncio.to_thread(self.look):
                on_reload(result)


def _read(path: Path) -> bytes:
    with path.open("rb") as file:
        text = file.read(MAX_FILE_BYTES + 1)
    if len(text) > MAX_FILE_BYTES:
        raise SettingsError(f"PRICE_FILE {path}: has more than {MAX_FILE_BYTES} bytes")
    return text
