"""slipway_clients.egress with the real client and real sockets: what is connected to, how much is read, and for how long."""

import asyncio
import gzip
import time
import tracemalloc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from functools import cache
from typing import Any

import httpx
import pytest

from agent_operator.providers import ProviderError
from agent_operator.providers.endpoint import check_key
from agent_operator.providers.openai_admin import OpenAIAdmin
from agent_operator.reconcile.rotation.consumers import HttpPodClient
from slipway_clients.egress import client as client_module
from slipway_clients.egress.addresses import refusal
from slipway_clients.egress.client import guarded_client
from slipway_clients.egress.origins import Origin, OriginRefused, allow, origins, parse_url
from slipway_clients.egress.read import Answer, ReadError, read
from slipway_clients.egress.text import plain
from slipway_clients.prometheus import Prometheus, PrometheusError

Write = Callable[[asyncio.StreamWriter], Awaitable[None]]
HEAD = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"


class Stranger:
    """A server that answers by bytes, and counts connections and requests."""

    def __init__(self) -> None:
        self.connections = 0
        self.requests: list[bytes] = []
        self.answer: Write = said(b'{"status": "success", "data": []}')
        self.port = 0

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            self.requests.append(await reader.readuntil(b"\r\n\r\n"))
            await self.answer(writer)
        except (ConnectionError, asyncio.IncompleteReadError):
            pass
        finally:
            writer.close()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"


def said(body: bytes, *headers: bytes) -> Write:
    async def write(writer: asyncio.StreamWriter) -> None:
        lines = b"".join(each + b"\r\n" for each in (*headers, b"Content-Length: %d" % len(body)))
        writer.write(HEAD + lines + b"\r\n" + body)
        await writer.drain()

    return write


async def endless(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"Transfer-Encoding: chunked\r\n\r\n")
    while True:
        writer.write(b"10000\r\n" + b"x" * 0x10000 + b"\r\n")
        await writer.drain()


async def endless_header(writer: asyncio.StreamWriter) -> None:
    writer.write(HEAD + b"X-A: ")
    while True:
        writer.write(b"x" * 0x10000)
        await writer.drain()


async def endless_interim(writer: asyncio.StreamWriter) -> None:
    while True:
        writer.write(b"HTTP/1.1 103 Early Hints\r\nX: y\r\n\r\n" * 100)
        await writer.drain()
        await asyncio.sleep(0.001)


async def dripping(writer: asyncio.StreamWriter) -> None:
    """Never silent for long: a limit for each read would never be reached."""
    writer.write(HEAD + b"Content-Length: 100000\r\n\r\n")
    while True:
        writer.write(b" ")
        await writer.drain()
        await asyncio.sleep(0.05)


async def silent(writer: asyncio.StreamWriter) -> None:
    await writer.drain()
    await asyncio.sleep(3600)


@asynccontextmanager
async def serving(stranger: Stranger) -> AsyncIterator[Stranger]:
    server = await asyncio.start_server(stranger.serve, "127.0.0.1", 0)
    stranger.port = server.sockets[0].getsockname()[1]
    try:
        yield stranger
    finally:
        server.close()


@pytest.fixture
async def stranger() -> AsyncIterator[Stranger]:
    async with serving(Stranger()) as found:
        yield found


@pytest.fixture
async def http(stranger: Stranger) -> AsyncIterator[httpx.AsyncClient]:
    async with guarded_client({("127.0.0.1", stranger.port)}) as found:
        yield found


# Addresses.

REFUSED = [
    *("127.0.0.1", "127.1.2.3", "0.0.0.0", "0.1.2.3", "169.254.169.254", "169.254.0.1", "224.0.0.1", "255.255.255.255"),
    *("100.100.100.200", "168.63.129.16", "192.0.0.192", "::", "::1", "fe80::1", "fe80::1%eth0", "febf::1", "ff02::1"),
    *("fd00:ec2::254", "fd20:ce::254", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:a9fe:a9fe", "::127.0.0.1"),
    *("64:ff9b::169.254.169.254", "64:ff9b::7f00:1", "64:ff9b:1::a9fe:a9fe", "2002:a9fe:a9fe::1", "2002:7f00:1::"),
    *("2001:0:a9fe:a9fe::1", "2001:0:1:1:0:0:5601:5601", "::ffff:0:169.254.169.254", "", "localhost", "1.2.3", "0x7f.1"),
]


@pytest.mark.parametrize("address", REFUSED)
def test_addresses_that_are_refused_in_every_form(address: str) -> None:
    assert refusal(address)


@pytest.mark.parametrize(
    "address", ["10.0.0.1", "192.168.1.1", "1.1.1.1", "172.16.0.1", "fd00::1", "2606:4700::1111", "100.64.0.1"]
)
def test_addresses_of_clusters_and_of_the_world_are_taken(address: str) -> None:
    assert refusal(address) is None


SPELLINGS = [
    "127.0.0.1",
    "localhost",
    "127.1",
    "2130706433",
    "0x7f000001",
    "0177.0.0.1",
    "0",
    "[::1]",
    "[::ffff:127.0.0.1]",
    "[::]",
]


@pytest.mark.parametrize("host", SPELLINGS)
async def test_this_machine_is_not_reached_by_any_spelling_of_its_address(stranger: Stranger, host: str) -> None:
    async with guarded_client() as http:
        with pytest.raises(ReadError):
            await read(http, "GET", f"http://{host}:{stranger.port}/", seconds=5)
    assert stranger.connections == 0


@pytest.mark.parametrize("host", ["127.1", "2130706433", "[::ffff:127.0.0.1]"])
async def test_an_exception_for_an_address_is_none_for_its_other_spellings(stranger: Stranger, host: str) -> None:
    async with guarded_client({("127.0.0.1", stranger.port), (host.strip("[]"), 1)}) as http:
        with pytest.raises(ReadError):
            await read(http, "GET", f"http://{host}:{stranger.port}/", seconds=5)
    assert stranger.connections == 0


async def test_a_name_that_resolves_to_this_machine_is_refused_even_when_the_settings_name_it(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    resolve_to(monkeypatch, ["127.0.0.1"])
    async with guarded_client({("keys.example", stranger.port)}) as http:
        with pytest.raises(ReadError, match="loopback"):
            await read(http, "GET", f"http://keys.example:{stranger.port}/", seconds=5)
    assert stranger.connections == 0


async def test_one_bad_address_among_good_ones_is_enough(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    resolve_to(monkeypatch, ["192.0.2.1", "127.0.0.1"])
    async with guarded_client() as http:
        with pytest.raises(ReadError, match="AddressRefused"):
            await read(http, "GET", f"http://keys.example:{stranger.port}/", seconds=5)
    assert stranger.connections == 0


async def test_a_name_is_resolved_once_and_what_was_checked_is_connected_to(
    stranger: Stranger, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A name server that answers well at first and badly afterwards is asked once, and its first answer is what counts."""
    answers = iter([["192.0.2.1"], ["127.0.0.1"], ["127.0.0.1"]])
    asked = resolve_to(monkeypatch, answers)
    async with guarded_client() as http:
        with pytest.raises(ReadError):
            await read(http, "GET", f"http://keys.example:{stranger.port}/", seconds=0.5)
    assert (asked, stranger.connections) == (["keys.example"], 0)


def resolve_to(monkeypatch: pytest.MonkeyPatch, addresses: Any) -> list[str]:
    """What `getaddrinfo` says of names; addresses are still read as they are."""
    asked: list[str] = []
    given = addresses if not isinstance(addresses, list) else None

    async def resolve(host: str, port: int) -> list[str]:  # noqa: ARG001  # the one that it replaces takes it
        asked.append(host)
        return list(next(given)) if given is not None else list(addresses)

    monkeypatch.setattr(client_module, "_resolve", resolve)
    return asked


# Bounds.


async def test_what_is_within_bounds_is_read(stranger: Stranger, http: httpx.AsyncClient) -> None:
    assert (await read(http, "GET", stranger.url, seconds=5)).json() == {"status": "success", "data": []}
    assert b"accept-encoding: identity" in stranger.requests[0].lower()


@pytest.mark.parametrize("answer", [endless, endless_header, endless_interim, dripping, silent])
async def test_no_answer_takes_more_than_its_bytes_and_its_seconds(
    stranger: Stranger, http: httpx.AsyncClient, answer: Write
) -> None:
    stranger.answer = answer
    tracemalloc.start()
    began = time.monotonic()
    with pytest.raises(ReadError):
        await read(http, "GET", stranger.url, seconds=1, limit=100_000)
    took, (_, peak) = time.monotonic() - began, tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert took < 5
    assert peak < 8 << 20


@cache
def bomb() -> bytes:
    """64 MiB in 64 kB; made once, as that takes 0.3 s of CPU."""
    return gzip.compress(b"\0" * (64 << 20))


@pytest.mark.parametrize("encoding", [b"gzip", b"GZIP", b"deflate", b"br", b"zstd", b"identity, gzip", b"gzip, gzip"])
async def test_a_compressed_answer_is_not_unpacked(stranger: Stranger, http: httpx.AsyncClient, encoding: bytes) -> None:
    stranger.answer = said(bomb(), b"Content-Encoding: " + encoding)
    tracemalloc.start()
    with pytest.raises(ReadError, match="compressed"):
        await read(http, "GET", stranger.url, seconds=5)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 4 << 20


async def test_a_redirect_is_an_answer_and_not_followed(stranger: Stranger, http: httpx.AsyncClient) -> None:
    async def redirect(writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 302 Found\r\nLocation: %s/next\r\nContent-Length: 0\r\n\r\n" % stranger.url.encode())

    stranger.answer = redirect
    assert (await read(http, "GET", stranger.url, seconds=5)).status == 302
    assert len(stranger.requests) == 1


async def test_no_cookie_is_kept(stranger: Stranger, http: httpx.AsyncClient) -> None:
    stranger.answer = said(b"{}", b"Set-Cookie: a=b", b"Connection: close")
    await read(http, "GET", stranger.url, seconds=5)
    await read(http, "GET", stranger.url, seconds=5)
    assert b"cookie" not in stranger.requests[1].lower()


async def test_no_proxy_of_the_environment_is_used(stranger: Stranger, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("HTTP_PROXY", "http_proxy", "ALL_PROXY"):
        monkeypatch.setenv(name, stranger.url)
    async with guarded_client({("127.0.0.1", stranger.port)}) as http:
        with pytest.raises(ReadError):
            await read(http, "GET", "http://127.0.0.1:1/", seconds=2)
    assert stranger.connections == 0


@pytest.mark.parametrize("body", [b"[" * 200_000, b"[" + b"[]," * 300_000 + b"[]]", b"9" * 5000, b"{", b"\xff"])
def test_json_that_would_cost_too_much_is_refused(body: bytes) -> None:
    with pytest.raises(ReadError):
        Answer(200, body).json()


def test_words_of_others_become_one_short_line() -> None:
    assert plain("a\x00\x1b[31m\r\nb\u202ec\ud800\u2028d\x85e") == "a [31m b c d e"
    assert len(plain("x" * 10**6)) == 300


# The callers.


ODD = [said(b"\xff\x00<html>"), said(b'{"status": "success", "data": {"result": 7}}'), said(b'{"data": [[[]]]}')]


@pytest.mark.parametrize("answer", [endless, dripping, *ODD])
async def test_every_caller_ends_with_a_short_error_of_its_own(
    stranger: Stranger, http: httpx.AsyncClient, answer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("slipway_clients.prometheus.TIMEOUT", 0.5)
    for module in ("providers.endpoint", "providers.openai_admin", "reconcile.rotation.consumers"):
        monkeypatch.setattr(f"agent_operator.{module}.TIMEOUT", 0.5)
    stranger.answer = answer
    prometheus = Prometheus(http, stranger.url)
    for asked in (prometheus.query("up"), prometheus.rules(), prometheus.alerts(), prometheus.seen({"a"}, "", now=1e9)):
        assert len(await error_of(asked, PrometheusError)) < 400
    issued = await error_of(OpenAIAdmin(http, stranger.url, "admin-key", "p").issued("slipway-"), ProviderError)
    assert len(issued) < 400
    assert "admin-key" not in issued
    assert (await HttpPodClient(http).status("127.0.0.1", stranger.port) or {}).get("keys") is None


async def error_of(call: Awaitable[Any], error: type[Exception]) -> str:
    with pytest.raises(error) as caught:
        await call
    return str(caught.value)


@pytest.mark.parametrize("answer", [endless, dripping])
async def test_an_endpoint_that_does_not_end_is_no_proof_of_a_key(
    stranger: Stranger, http: httpx.AsyncClient, answer: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("agent_operator.providers.endpoint.TIMEOUT", 0.5)
    stranger.answer = answer
    assert "sk-secret" not in await error_of(check_key(http, stranger.url, "sk-secret"), ProviderError)


async def test_an_error_text_of_prometheus_is_shortened(stranger: Stranger, http: httpx.AsyncClient) -> None:
    stranger.answer = said(b'{"status": "error", "error": "' + b"a\\u001b" * 100_000 + b'"}')
    with pytest.raises(PrometheusError) as caught:
        await Prometheus(http, stranger.url).query("up")
    assert len(str(caught.value)) < 400
    assert str(caught.value).isprintable()


@pytest.mark.parametrize("project", ["../../x", "..", "a/b", "a?b", "a#b", "", "a b", "a\n", "%2e%2e", "a" * 129, None])
def test_a_project_is_one_segment_of_the_path(project: Any) -> None:
    with pytest.raises(ProviderError, match="expected an id"):
        OpenAIAdmin(httpx.AsyncClient(), "https://api.example/v1", "key", project)


async def test_a_list_without_an_end_ends(stranger: Stranger, http: httpx.AsyncClient) -> None:
    stranger.answer = said(b'{"data": [], "has_more": true, "last_id": "a"}', b"Connection: close")
    with pytest.raises(ProviderError, match="more than 200 pages"):
        await OpenAIAdmin(http, stranger.url, "key", "p").issued("slipway-")


# Origins.


@pytest.mark.parametrize(
    "url",
    [
        "",
        "api.example",
        "ftp://api.example",
        "https://",
        "https:///x",
        "https://a:b@api.example",
        "https://evil@api.example",
        "https://api.example#@evil",
        "https://api.example\\@evil/",
        "https://api.exa\tmple",
        "https://api.example/\r\nX: y",
        "https://api.example:99999",
        "https://api.example:0",
        "https://\u0430pi.example",
        "file:///etc/passwd",
        "gopher://x",
        "https://" + "a" * 3000,
        None,
        7,
    ],
)
def test_a_url_that_could_be_read_in_two_ways_is_refused(url: Any) -> None:
    with pytest.raises(OriginRefused):
        parse_url(url)


NAMED = origins("api.example, models.internal:8443")
SETTINGS = origins("http://fake.e2e:8080")


@pytest.mark.parametrize(
    "url",
    ["https://api.example/v1/models", "https://API.EXAMPLE:443/x", "https://models.internal:8443", "http://fake.e2e:8080/v1"],
)
def test_a_key_goes_to_the_hosts_that_are_named(url: str) -> None:
    allow(url, NAMED, SETTINGS)


@pytest.mark.parametrize(
    "url",
    [
        "http://api.example/v1",
        "https://api.example:8443",
        "https://api.example.evil.test",
        "https://evil.test/api.example",
        "https://evil.test?api.example",
        "https://api.example.",
        "https://models.internal",
        "https://fake.e2e:8080",
        "http://fake.e2e",
        "https://127.0.0.1",
    ],
)
def test_and_to_no_others(url: str) -> None:
    with pytest.raises(OriginRefused):
        allow(url, NAMED, SETTINGS)


def test_a_secret_cannot_name_plain_http() -> None:
    with pytest.raises(OriginRefused):
        allow("http://api.example", origins("http://api.example"), frozenset())


def test_an_entry_is_a_host_and_nothing_more() -> None:
    assert origins("https://a.example:443") == {Origin("https", "a.example", 443)}
    for entry in ("a.example/path", "https://a@b", "a.example?x", "a.example:0", "//a", "https://"):
        with pytest.raises(OriginRefused):
            origins(entry)
