"""agent_operator.reconcile.tools: a Prometheus behind a token and a private authority, by real HTTPS."""

import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from aiohttp import web

from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.reconcile.tools import Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.egress.client import guarded_client
from slipway_clients.prometheus import PrometheusError
from tests.operator.test_metrics_api import Authority
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster


@dataclass
class Guarded:
    """Answers who shows its token, as kube-rbac-proxy does; notes what others show."""

    folder: Path
    token: str = "first"  # of a test
    url: str = ""
    shown: list[str | None] = field(default_factory=list)

    async def answer(self, request: web.Request) -> web.Response:
        self.shown.append(request.headers.get("Authorization"))
        if self.shown[-1] != f"Bearer {self.token}":
            return web.Response(status=401, text="Unauthorized\n")
        return web.json_response({"status": "success", "data": {"result": []}})

    @property
    def token_file(self) -> Path:
        return self.folder / "token"

    @property
    def ca_file(self) -> Path:
        return self.folder / "ca.crt"


@pytest.fixture
async def guarded(tmp_path: Path) -> AsyncIterator[Guarded]:
    found, authority = Guarded(tmp_path), Authority.make("company")
    authority.write(tmp_path / "server", "localhost")
    found.ca_file.write_text(authority.pem, encoding="utf-8")
    found.token_file.write_text("first\n", encoding="utf-8")
    app = web.Application()
    app.router.add_get("/api/v1/query", found.answer)
    runner = web.AppRunner(app, access_log=None)
    await runner.setup()
    tls = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    tls.load_cert_chain(tmp_path / "server/tls.crt", tmp_path / "server/tls.key")
    await web.TCPSite(runner, "127.0.0.1", 0, ssl_context=tls).start()
    found.url = f"https://localhost:{runner.addresses[0][1]}"
    yield found
    await runner.cleanup()


@asynccontextmanager
async def tools(guarded: Guarded, **environ: str) -> AsyncIterator[Tools]:
    """As `startup` makes them from the environment."""
    own = OperatorSettings.load({"PROMETHEUS_URL": guarded.url, **environ})
    cluster, clock = FakeCluster(), WallClock()
    asking = guarded_client(own.loopback, ca_file=own.prometheus_ca_file)
    async with guarded_client(own.loopback) as http, asking as prometheus_http:
        yield Tools(cluster, clock, Fences(cluster, clock, holder="pod"), Metrics("1"), http, own, prometheus_http)


async def test_it_is_asked_with_the_token_of_the_moment_and_checked_against_the_authority(guarded: Guarded) -> None:
    given = {"PROMETHEUS_TOKEN_FILE": str(guarded.token_file), "PROMETHEUS_CA_FILE": str(guarded.ca_file)}
    async with tools(guarded, **given) as found:
        prometheus = found.prometheus(guarded.url)
        assert await prometheus.query("up") == []
        guarded.token = "second"  # of a test
        with pytest.raises(PrometheusError, match="HTTP status 401, the token is not taken"):
            await prometheus.query("up")
        guarded.token_file.write_text("second", encoding="utf-8")
        assert await prometheus.query("up") == []


async def test_without_the_authority_nothing_is_sent(guarded: Guarded) -> None:
    async with tools(guarded, PROMETHEUS_TOKEN_FILE=str(guarded.token_file)) as found:
        with pytest.raises(PrometheusError, match="certificate verify failed"):
            await found.prometheus(guarded.url).query("up")

    assert guarded.shown == []


async def test_the_authority_of_prometheus_is_not_that_of_providers_of_keys(guarded: Guarded) -> None:
    async with tools(guarded, PROMETHEUS_CA_FILE=str(guarded.ca_file)) as found:
        with pytest.raises(PrometheusError, match="HTTP status 401, a token is wanted"):
            await found.prometheus(guarded.url).query("up")
        with pytest.raises(Exception, match="certificate verify failed"):
            await found.http.get(f"{guarded.url}/api/v1/query")


async def test_another_address_of_the_settings_does_not_get_the_token(guarded: Guarded) -> None:
    given = {
        "PROMETHEUS_URL": "https://other.example",
        "PROMETHEUS_ALLOWED_URLS": guarded.url,
        "PROMETHEUS_TOKEN_FILE": str(guarded.token_file),
        "PROMETHEUS_CA_FILE": str(guarded.ca_file),
    }
    async with tools(guarded, **given) as found:
        with pytest.raises(PrometheusError, match="a token is wanted"):
            await found.prometheus(guarded.url).query("up")

    assert guarded.shown == [None]


@pytest.mark.parametrize("text", ["", "two words", "two\nlines", "sécret"])
async def test_a_file_without_a_token_is_an_error_that_does_not_tell_what_it_holds(guarded: Guarded, text: str) -> None:
    guarded.token_file.write_text(text, encoding="utf-8")
    given = {"PROMETHEUS_TOKEN_FILE": str(guarded.token_file), "PROMETHEUS_CA_FILE": str(guarded.ca_file)}
    async with tools(guarded, **given) as found:
        with pytest.raises(PrometheusError) as error:
            await found.prometheus(guarded.url).query("up")

    assert not text or text not in str(error.value)
    assert guarded.shown == []


def test_a_token_by_plain_http_and_an_authority_that_is_none_end_the_start(tmp_path: Path) -> None:
    (tmp_path / "ca.crt").write_text("none", encoding="utf-8")

    with pytest.raises(ValueError, match="PROMETHEUS_TOKEN_FILE: a token goes by https only"):
        OperatorSettings.load({"PROMETHEUS_URL": "http://prometheus", "PROMETHEUS_TOKEN_FILE": "/prometheus/token"})
    for path in (tmp_path / "ca.crt", tmp_path / "missing"):
        with pytest.raises(ValueError, match=r"PROMETHEUS_CA_FILE: .* is no certificate in PEM"):
            OperatorSettings.load({"PROMETHEUS_CA_FILE": str(path)})
