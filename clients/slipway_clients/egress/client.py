"""The HTTP client for everything outside of the Kubernetes API: it connects to checked addresses, and to nothing by detours.

No redirects, no cookies, no proxies and no `.netrc` of the environment. The address is checked that is then connected to, so a
name that resolves to another address the second time (DNS rebinding) gains nothing.
"""

import asyncio
import socket
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from http.cookiejar import CookieJar, DefaultCookiePolicy
from typing import Any

import httpcore
import httpx

from slipway_clients.egress.addresses import is_loopback, refusal

CONNECT_SECONDS = 5.0
"""Of one connection; the whole call has a limit of its own."""

CONNECTIONS = 100
"""At a time, of all calls together."""

Endpoint = tuple[str, int]
"""Host and port."""


class AddressRefused(httpx.ConnectError):
    """Nothing was connected to: the host has an address that the operator keeps away from."""


@asynccontextmanager
async def guarded_client(loopback: Iterable[Endpoint] = (), *, ca_file: str = "") -> AsyncIterator[httpx.AsyncClient]:
    """`loopback` names hosts and ports of this machine that the operator's own settings ask for, such as a sidecar's.

    `ca_file` is an authority, PEM, that is trusted beside the usual ones. Raises OSError for one that cannot be read.
    """
    transport = _Transport(frozenset(each for each in loopback if is_loopback(each[0])), ca_file)
    async with httpx.AsyncClient(
        transport=transport, trust_env=False, follow_redirects=False, timeout=CONNECT_SECONDS, cookies=_no_cookies()
    ) as http:
        yield http


@asynccontextmanager
async def terminals_client() -> AsyncIterator[httpx.AsyncClient]:
    """For a person who typed the address at a terminal: any address, by the proxy of their environment. What answers there is a
    stranger all the same: no redirects, no cookies, and `read` bounds it.
    """
    async with httpx.AsyncClient(follow_redirects=False, timeout=CONNECT_SECONDS, cookies=_no_cookies()) as http:
        yield http


def _no_cookies() -> CookieJar:
    return CookieJar(policy=DefaultCookiePolicy(allowed_domains=[]))


class _Transport(httpx.AsyncHTTPTransport):
    def __init__(self, loopback: frozenset[Endpoint], ca_file: str) -> None:
        tls = httpx.create_ssl_context(trust_env=True)  # SSL_CERT_FILE, for an authority of the company's own
        if ca_file:
            tls.load_verify_locations(cafile=ca_file)
        super().__init__(verify=tls)
        # httpx has no way to hand httpcore a network backend, which httpcore itself takes.
        self._pool: httpcore.AsyncConnectionPool = httpcore.AsyncConnectionPool(
            ssl_context=tls, max_connections=CONNECTIONS, network_backend=_Network(loopback)
        )

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        try:
            return await super().handle_async_request(request)
        except _Refused as error:
            raise AddressRefused(str(error), request=request) from None


class _Refused(Exception):
    pass


class _Network(httpcore.AsyncNetworkBackend):
    """Resolves by itself, and gives what it checked, an IP address, to the backend that connects."""

    def __init__(self, loopback: frozenset[Endpoint]) -> None:
        self._loopback = loopback
        self._plain: httpcore.AsyncNetworkBackend = httpcore.AnyIOBackend()

    async def connect_tcp(
        self,
        host: str,
        port: int,
        timeout: float | None = None,  # noqa: ASYNC109  # the interface's
        local_address: str | None = None,
        socket_options: Iterable[Any] | None = None,
    ) -> httpcore.AsyncNetworkStream:
        addresses = await _resolve(host, port)
        if (host, port) not in self._loopback:
            _check(host, addresses)
        error: Exception = httpcore.ConnectError(f"no address of {host}")
        for address in addresses:
            try:
                return await self._plain.connect_tcp(address, port, timeout, local_address, socket_options)
            except (httpcore.ConnectError, httpcore.ConnectTimeout) as failed:
                error = failed
        raise error


def _check(host: str, addresses: list[str]) -> None:
    """One bad address is enough: whoever mixes them counts on the second try."""
    for address in addresses:
        if why := refusal(address):
            raise _Refused(f"{host} is {address}, a {why} address")


async def _resolve(host: str, port: int) -> list[str]:
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise httpcore.ConnectError(f"{host}: {error}") from None
    return list(dict.fromkeys(str(each[4][0]) for each in found))
