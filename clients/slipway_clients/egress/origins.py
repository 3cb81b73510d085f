"""Where a key may be sent: hosts, as its Secret and the operator's settings name them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Self

import httpx

from slipway_clients.egress.text import plain

PORTS = {"https": 443, "http": 80}

LONGEST = 2048
"""Characters of a URL."""


class OriginRefused(ValueError):
    """A URL that is none, or one that leads to somebody who is not meant; the message says which and what was expected."""


@dataclass(frozen=True, slots=True)
class Origin:
    """Scheme, host and port, as the HTTP client understands a URL: what it asks is what was judged."""

    scheme: str
    host: str
    port: int

    @classmethod
    def of(cls, url: str) -> Self:
        """Raises OriginRefused for anything but http or https with a host, and for a user, a password or a fragment in it."""
        found = parse_url(url)
        return cls(found.scheme, found.host, found.port or PORTS[found.scheme])

    @classmethod
    def named(cls, entry: str) -> Self:
        """`host`, `host:port`, or with a scheme in front; https without one. Raises OriginRefused."""
        url = entry if "://" in entry else f"https://{entry}"
        found = parse_url(url)
        if found.raw_path not in {b"/", b""}:
            raise OriginRefused(f"{plain(entry, 100)}: expected host, host:port or https://host:port")
        return cls.of(url)

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        port = "" if self.port == PORTS[self.scheme] else f":{self.port}"
        return f"{self.scheme}://{host}{port}"


def parse_url(url: object) -> httpx.URL:
    """Raises OriginRefused, naming what is wrong and not the URL's own password."""
    if not isinstance(url, str) or not 0 < len(url) <= LONGEST or not url.isascii() or not url.isprintable() or "\\" in url:
        raise OriginRefused("expected a URL of at most 2048 printable ASCII characters")
    try:
        found = httpx.URL(url)
        usable = found.scheme in PORTS and bool(found.host) and (found.port is None or 0 < found.port <= 65535)  # noqa: PLR2004  # the protocol's
    except (httpx.InvalidURL, ValueError, TypeError):
        usable = False
    if not usable:
        raise OriginRefused("expected a URL that begins with https:// or http:// and names a host")
    if found.userinfo or found.fragment or "#" in url:
        raise OriginRefused("a URL must not hold a user, a password or a fragment")
    return found


def origins(text: str) -> frozenset[Origin]:
    """A list, separated by commas or white space. Raises OriginRefused."""
    return frozenset(Origin.named(each) for each in text.replace(",", " ").split())


def allow(url: str, named: Iterable[Origin], settings: Iterable[Origin]) -> None:
    """Whether a key may be sent to `url`: by https to a host that its Secret names, or to one of the operator's settings.

    Plain http needs the settings: they name the scheme with the host, and a Secret cannot weaken that.

    Raises:
        OriginRefused: it may not.
    """
    wanted = Origin.of(url)
    if wanted in frozenset(settings) or (wanted.scheme == "https" and wanted in frozenset(named)):
        return
    raise OriginRefused(f"{wanted} is not among the hosts that this key may be sent to")
