"""Types of settings: what a variable's text must be, with a sentence about what was expected."""

from decimal import Decimal
from pathlib import Path
from typing import Annotated
from urllib.parse import urlsplit

from psycopg import ProgrammingError
from psycopg.conninfo import conninfo_to_dict
from pydantic import AfterValidator, Field, SecretStr

from agent_service.langgraph_file import NAME, check_target

Seconds = Annotated[float, Field(gt=0)]
Count = Annotated[int, Field(ge=1)]
PICTURE_TYPES = {".svg": "image/svg+xml", ".png": "image/png", ".webp": "image/webp"}
"""By a file's ending."""

PICTURE_BYTES = 200_000
"""Of a picture that every reader of the page loads: a second on a slow mobile network."""

Usd = Annotated[Decimal, Field(ge=0, max_digits=14, decimal_places=8)]


def _comma_separated(value: str) -> str:
    for part in value.split(","):
        if not part.strip().isidentifier():
            raise ValueError(f"expected schema names separated by commas, got {value!r}")
    return value


def check_conninfo(value: SecretStr) -> SecretStr:
    """Raises ValueError, without the text."""
    scheme, colon, rest = value.get_secret_value().partition("://")
    if scheme.lower() in {"postgresql", "postgres"}:  # libpq knows them in small letters only
        value = SecretStr(f"{scheme.lower()}{colon}{rest}")
    try:
        conninfo_to_dict(value.get_secret_value())
    except ProgrammingError:  # its message may quote the password
        raise ValueError("expected a libpq URI (postgresql://user@host/name) or keywords (host=… dbname=…)") from None
    return value


def _redis_url(value: SecretStr) -> SecretStr:
    if urlsplit(value.get_secret_value()).scheme not in {"redis", "rediss", "unix"}:
        raise ValueError("expected a URL that begins with redis://, rediss:// or unix://")
    return value


def _http_url(value: str) -> str:
    parts = urlsplit(value)
    if parts.scheme not in {"http", "https"} or not parts.hostname:
        raise ValueError("expected a URL that begins with http:// or https://")
    return value


def _picture(path: Path) -> Path:
    if path.suffix.lower() not in PICTURE_TYPES:
        raise ValueError(f"expected a file that ends in {', '.join(PICTURE_TYPES)}, got {str(path)!r}")
    if not path.is_file():
        raise ValueError(f"expected a file, and there is none at {str(path)!r}")
    if (size := path.stat().st_size) > PICTURE_BYTES:
        raise ValueError(f"expected at most {PICTURE_BYTES} bytes, {str(path)!r} has {size}")
    return path


def _host_names(value: str) -> str:
    for name in split_names(value):
        if not name or "/" in name or ":" in name or "*" in name:
            raise ValueError(f"expected host names without a port, separated by commas, got {name!r}")
    return value.lower()


def _origins(value: str) -> str:
    value = value.lower()  # as browsers send them
    for origin in split_names(value):
        parts = urlsplit(origin)
        if origin != "*" and (parts.scheme not in {"http", "https"} or origin != f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"expected origins such as https://chat.example.com, separated by commas, or *, got {origin!r}")
    return value


def _graph(value: str) -> str:
    if NAME.fullmatch(value) and not value.endswith(".py"):
        return value
    try:
        return check_target(value)
    except ValueError as error:
        raise ValueError(f"{error}; or the name of a graph in LANGGRAPH_CONFIG") from None


def split_names(value: str) -> tuple[str, ...]:
    """The parts of a list with commas, without white space around them; none for an empty text."""
    return tuple(name.strip() for name in value.split(",")) if value else ()


HttpUrl = Annotated[str, AfterValidator(_http_url)]


def _without_query(url: str) -> str:
    if "?" in url:
        raise ValueError("expected a URL without a query: Azure's ends in /openai/v1, and needs no api-version")
    return url


BaseUrl = Annotated[HttpUrl, AfterValidator(_without_query)]
"""That paths are added to."""

ConnInfo = Annotated[SecretStr, AfterValidator(check_conninfo)]
RedisUrl = Annotated[SecretStr, AfterValidator(_redis_url)]
GraphTarget = Annotated[str, AfterValidator(_graph)]
SchemaNames = Annotated[str, AfterValidator(_comma_separated)]
HostNames = Annotated[str, AfterValidator(_host_names)]
Origins = Annotated[str, AfterValidator(_origins)]


def is_loopback(host: str) -> bool:
    return host.lower() in {"localhost", "::1"} or host.startswith("127.")


def is_local_url(url: str | None) -> bool:
    return url is not None and is_loopback(urlsplit(url).hostname or "")


PictureFile = Annotated[Path, AfterValidator(_picture)]
