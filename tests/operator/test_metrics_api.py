"""custom.metrics.k8s.io as the API server's aggregation layer asks for it: by TLS, with its front proxy's certificate."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from agent_operator import metrics_api as served
from agent_operator.leases import Fences
from agent_operator.metrics import Metrics
from agent_operator.metrics_api import QUESTIONS, REFRESH_SECONDS, Concurrency, NotKnown, metrics_api
from agent_operator.reconcile.tools import Tools
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import Invalid, Manifest, Unavailable
from slipway_clients.cluster.kinds import CONFIG_MAP, POD
from tests.doctor.checks import release
from tests.support.clock import WallClock
from tests.support.fake_cluster import FakeCluster
from tests.support.ports import free_port

BASE = "/apis/custom.metrics.k8s.io"
PODS = f"{BASE}/v1beta2/namespaces/prod/pods"
EVERY = f"{PODS}/*/agent_concurrency?labelSelector=app.kubernetes.io%2Finstance%3Dmy-agent"


@dataclass(frozen=True)
class Authority:
    """A CA of a test, and what it signs."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate

    @classmethod
    def make(cls, name: str) -> "Authority":
        key = ec.generate_private_key(ec.SECP256R1())
        return cls(key, _certificate(name, key, name, key, authority=True))

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(serialization.Encoding.PEM).decode()

    def write(self, folder: Path, name: str) -> None:
        """tls.crt and tls.key of somebody called so."""
        folder.mkdir(exist_ok=True)
        key = ec.generate_private_key(ec.SECP256R1())
        issuer = self.certificate.subject.rfc4514_string().removeprefix("CN=")
        signed = _certificate(name, key, issuer, self.key, authority=False)
        (folder / "tls.crt").write_bytes(signed.public_bytes(serialization.Encoding.PEM))
        plain = serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        (folder / "tls.key").write_bytes(key.private_bytes(serialization.Encoding.PEM, *plain))


def _certificate(
    name: str, key: ec.EllipticCurvePrivateKey, issuer: str, signer: ec.EllipticCurvePrivateKey, *, authority: bool
) -> x509.Certificate:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)]))
        .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, issuer)]))
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.BasicConstraints(ca=authority, path_length=None), critical=True)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .sign(signer, hashes.SHA256())
    )


@dataclass
class World:
    folder: Path
    port: int = field(default_factory=free_port)
    clock: WallClock = field(default_factory=WallClock)
    says: dict[str, dict[str, Any] | None] = field(default_factory=dict)
    """What the pod of an address answers at /status; None for silence."""

    def __post_init__(self) -> None:
        self.ours, self.theirs = Authority.make("operator"), Authority.make("front-proxy-ca")
        self.ours.write(self.folder / "server", "localhost")
        self.theirs.write(self.folder / "front-proxy", "front-proxy-client")
        self.theirs.write(self.folder / "kubelet", "kubelet")
        self.ours.write(self.folder / "stranger", "front-proxy-client")
        self.cluster = FakeCluster([self.front_proxy()])
        self.add_pod("a", {"runs_in_flight": 3, "runs_queued": 2})
        self.add_pod("b", {"runs_in_flight": 1})

    def front_proxy(self, *names: str) -> Manifest:
        data = {
            "requestheader-client-ca-file": self.theirs.pem,
            "requestheader-allowed-names": json.dumps(names or ["front-proxy-client"]),
        }
        metadata = {"namespace": "kube-system", "name": "extension-apiserver-authentication"}
        return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": data}

    def add_pod(self, name: str, says: dict[str, Any] | None, *, phase: str = "Running", **labels: str) -> None:
        pod, address = release.pod_manifest(name, "node1"), f"10.0.0.{len(self.says) + 1}"
        pod["status"] |= {"podIP": address, "phase": phase}
        pod["spec"]["containers"] = [{"name": "agent", "ports": [{"name": "ops", "containerPort": 9090}]}]
        pod["metadata"]["labels"] |= {f"app.kubernetes.io/{key}": value for key, value in labels.items()}
        self.says[address] = says and {"version": "1", **says}
        self.cluster.put(pod)

    async def answer(self, request: httpx.Request) -> httpx.Response:
        assert (request.url.port, request.url.path) == (9090, "/status")
        said = self.says[request.url.host]
        if said is None:
            raise httpx.ConnectError("refused")
        return httpx.Response(200, json=said)

    def tools(self, http: httpx.AsyncClient, **settings: Any) -> Tools:
        own = OperatorSettings(metrics_api_port=self.port, metrics_api_certificates=str(self.folder / "server"), **settings)
        return Tools(self.cluster, self.clock, Fences(self.cluster, self.clock, holder="me"), Metrics("0"), http, own)

    def client(self, certificate: str | None = "front-proxy") -> httpx.AsyncClient:
        """As the API server asks: it knows our authority, and shows a certificate."""
        context = ssl.create_default_context(cadata=self.ours.pem)
        if certificate:
            context.load_cert_chain(self.folder / certificate / "tls.crt", self.folder / certificate / "tls.key")
        return httpx.AsyncClient(base_url=f"https://localhost:{self.port}", verify=context, trust_env=False)


@pytest.fixture
def world(tmp_path: Path) -> World:
    return World(tmp_path)


@pytest.fixture
async def http(world: World) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(transport=httpx.MockTransport(world.answer)) as found:
        yield found


async def reachable(client: httpx.AsyncClient, path: str) -> httpx.Response:
    """The listener comes up beside the operator's start."""
    async with asyncio.timeout(10):
        while True:
            try:
                return await client.get(path)
            except httpx.ConnectError:
                await asyncio.sleep(0.02)


async def test_an_hpa_discovers_the_metric_and_gets_the_concurrency_of_each_pod(world: World, http: httpx.AsyncClient) -> None:
    world.add_pod("leaving", {"runs_in_flight": 9, "draining": True})
    world.add_pod("silent", None)
    world.add_pod("strange", {"runs_in_flight": -1})
    world.add_pod("ended", {"runs_in_flight": 9}, phase="Succeeded")
    world.add_pod("database", {"runs_in_flight": 9}, component="postgres")
    world.add_pod("anothers", {"runs_in_flight": 9}, instance="another")
    async with metrics_api(world.tools(http), "127.0.0.1"), world.client() as client:
        resources = (await reachable(client, f"{BASE}/v1beta2")).json()
        group = (await client.get(BASE)).json()
        values = await client.get(EVERY, headers={"Accept": "application/vnd.kubernetes.protobuf, */*"})
        single = (await client.get(f"{PODS}/b/agent_concurrency")).json()

    assert (group["kind"], group["preferredVersion"]["groupVersion"]) == ("APIGroup", "custom.metrics.k8s.io/v1beta2")
    assert resources["groupVersion"] == "custom.metrics.k8s.io/v1beta2"
    assert [(each["name"], each["namespaced"], each["kind"], each["verbs"]) for each in resources["resources"]] == [
        ("pods/agent_concurrency", True, "MetricValueList", ["get"])
    ]
    assert values.headers["content-type"].startswith("application/json")
    found = values.json()
    assert (found["kind"], found["apiVersion"], found["metadata"]) == ("MetricValueList", "custom.metrics.k8s.io/v1beta2", {})
    assert found["items"][0] == {
        "describedObject": {"kind": "Pod", "namespace": "prod", "name": "a", "apiVersion": "/v1"},
        "metric": {"name": "agent_concurrency", "selector": None},
        "timestamp": world.clock.now().strftime("%Y-%m-%dT%H:%M:%SZ"),
        "value": "5",
    }
    # A pod that does not answer is left out, which an HPA takes for unknown; it is not 0.
    assert {item["describedObject"]["name"]: item["value"] for item in found["items"]} == {"a": "5", "b": "1", "leaving": "0"}
    assert [item["value"] for item in single["items"]] == ["1"]


@pytest.mark.parametrize(
    ("path", "code", "reason", "words"),
    [
        (f"{PODS}/*/agent_joy", 404, "NotFound", "the only metric is agent_concurrency"),
        (f"{EVERY}&metricLabelSelector=a%3Db", 404, "NotFound", "without labels of its own"),
        (f"{PODS}/*/agent_concurrency?labelSelector=app.kubernetes.io%2Finstance%3Dnone", 404, "NotFound", "no running pod"),
        (f"{PODS}/c/agent_concurrency", 404, "NotFound", "no running pod"),
        (f"{BASE}/v1beta2/namespaces/elsewhere/pods/*/agent_concurrency", 404, "NotFound", "watch.namespaces"),
        (f"{BASE}/v1beta2/namespaces/prod/services/x/agent_concurrency", 404, "NotFound", "GET"),
        ("/metrics", 404, "NotFound", "GET"),
    ],
)
async def test_what_there_is_no_figure_for_is_an_error_with_a_status_of_kubernetes(
    world: World, http: httpx.AsyncClient, path: str, code: int, reason: str, words: str
) -> None:
    async with metrics_api(world.tools(http, namespaces=("prod",)), "127.0.0.1"), world.client() as client:
        answer = await reachable(client, path)

    status = answer.json()
    assert (answer.status_code, status["kind"], status["status"], status["code"]) == (code, "Status", "Failure", code)
    assert status["reason"] == reason
    assert words in status["message"]


async def test_pods_that_do_not_answer_and_a_cluster_that_does_not_are_errors_and_no_zero(
    world: World, http: httpx.AsyncClient
) -> None:
    async with metrics_api(world.tools(http), "127.0.0.1"), world.client() as client:
        world.says = dict.fromkeys(world.says)
        silent = await reachable(client, EVERY)
        world.cluster.fail(Unavailable("503"), verb="list", kind=POD)
        away = await client.get(EVERY)
        world.cluster.fail(Invalid("a selector that is none"), verb="list", kind=POD)
        wrong = await client.get(EVERY)

    assert (wrong.status_code, wrong.json()["reason"]) == (400, "BadRequest")
    assert [(each.status_code, each.json()["reason"]) for each in (silent, away)] == [(503, "ServiceUnavailable")] * 2
    assert "none of 2 pods answers" in silent.json()["message"]


async def test_only_the_front_proxy_may_ask(world: World, http: httpx.AsyncClient) -> None:
    async with metrics_api(world.tools(http), "127.0.0.1"):
        async with world.client() as client:
            assert (await reachable(client, EVERY)).status_code == 200
        async with world.client("kubelet") as client:
            assert (await client.get(EVERY)).json()["reason"] == "Forbidden"
        for certificate in (None, "stranger"):
            async with world.client(certificate) as client:
                with pytest.raises(httpx.TransportError):
                    await client.get(EVERY)


async def test_without_certificates_nothing_listens_until_they_are_there_and_renewed_ones_are_taken_up(
    world: World, http: httpx.AsyncClient
) -> None:
    world.cluster.drop(CONFIG_MAP, "kube-system", "extension-apiserver-authentication")
    async with metrics_api(world.tools(http), "127.0.0.1"), world.client() as client:
        await world.clock.advance(0)
        with pytest.raises(httpx.ConnectError):
            await client.get(EVERY)
        world.cluster.put(world.front_proxy())
        await world.clock.advance(REFRESH_SECONDS)
        assert (await reachable(client, EVERY)).status_code == 200

        world.ours = Authority.make("renewed")
        world.ours.write(world.folder / "server", "localhost")
        await world.clock.advance(REFRESH_SECONDS)
        async with world.client() as again:
            assert (await again.get(EVERY)).status_code == 200


async def test_a_front_proxy_of_an_authority_that_was_replaced_is_let_in_no_more(world: World, http: httpx.AsyncClient) -> None:
    async with metrics_api(world.tools(http), "127.0.0.1"):
        async with world.client() as client:
            assert (await reachable(client, EVERY)).status_code == 200
        world.theirs = Authority.make("front-proxy-ca-2")
        world.theirs.write(world.folder / "front-proxy-2", "front-proxy-client")
        world.cluster.put(world.front_proxy())
        await world.clock.advance(REFRESH_SECONDS)
        async with world.client("front-proxy-2") as client:
            assert (await client.get(EVERY)).status_code == 200
        async with world.client() as client:
            with pytest.raises(httpx.TransportError):
                await client.get(EVERY)


async def test_a_port_that_is_taken_is_tried_again(world: World, http: httpx.AsyncClient) -> None:
    with socket.create_server(("127.0.0.1", world.port)):
        serving = metrics_api(world.tools(http), "127.0.0.1")
        await serving.__aenter__()
        await world.clock.advance(0)
    try:
        async with world.client() as client:
            with pytest.raises(httpx.ConnectError):
                await client.get(EVERY)
            await world.clock.advance(REFRESH_SECONDS)
            assert (await reachable(client, EVERY)).status_code == 200
    finally:
        await serving.__aexit__(None, None, None)


async def test_silent_connections_take_so_many_places_and_no_longer_than_a_handshake(
    world: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(served, "CONNECTIONS", 3)
    monkeypatch.setattr(served, "HANDSHAKE_SECONDS", 1.0)
    async with metrics_api(world.tools(http), "127.0.0.1"):
        async with world.client() as client:
            await reachable(client, EVERY)
        silent = [await asyncio.open_connection("127.0.0.1", world.port) for _ in range(6)]
        async with asyncio.timeout(10):
            ended = await asyncio.gather(*(reader.read() for reader, _ in silent), return_exceptions=True)
        for _, writer in silent:
            writer.close()
        async with world.client() as client:
            assert (await reachable(client, EVERY)).status_code == 200

    assert [each for each in ended if each and not isinstance(each, ConnectionError)] == []


async def test_a_question_for_too_many_pods_or_without_an_end_is_an_error(
    world: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def never(*_: object) -> dict[str, int]:
        await asyncio.Event().wait()
        return {}

    monkeypatch.setattr(served, "MOST_PODS", 1)
    async with metrics_api(world.tools(http), "127.0.0.1"), world.client() as client:
        many = await reachable(client, EVERY)
        monkeypatch.setattr(served, "ANSWER_SECONDS", 0.05)
        monkeypatch.setattr(served.Concurrency, "of", never)
        late = await client.get(EVERY)

    assert [(each.status_code, each.json()["reason"]) for each in (many, late)] == [(503, "ServiceUnavailable")] * 2
    assert ("more than 1 pods" in many.json()["message"], "no whole answer" in late.json()["message"]) == (True, True)


async def test_more_questions_at_once_than_hpas_have_are_refused(
    world: World, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
) -> None:
    release_all, waiting = asyncio.Event(), 0

    async def of(*_: object) -> dict[str, int]:
        nonlocal waiting
        waiting += 1
        await release_all.wait()
        return {"a": 1}

    monkeypatch.setattr(served.Concurrency, "of", of)
    async with metrics_api(world.tools(http), "127.0.0.1"), world.client() as client:
        await reachable(client, BASE)
        each = QUESTIONS // served.OF_A_NAMESPACE
        namespaces = [EVERY.replace("/namespaces/prod/", f"/namespaces/{number}/") for number in range(served.OF_A_NAMESPACE)]
        held = [asyncio.create_task(client.get(namespaces[0])) for _ in range(each)]
        async with asyncio.timeout(10):
            while waiting < each:
                await asyncio.sleep(0.01)
        too_many_of_one = await client.get(namespaces[0])
        held += [asyncio.create_task(client.get(path)) for path in namespaces[1:] for _ in range(each)]
        async with asyncio.timeout(10):
            while waiting < QUESTIONS:
                await asyncio.sleep(0.01)
        refused = await client.get(EVERY)
        release_all.set()
        answers = await asyncio.gather(*held)

    assert [(e.status_code, e.json()["reason"]) for e in (too_many_of_one, refused)] == [(429, "TooManyRequests")] * 2
    assert ("namespace 0" in too_many_of_one.json()["message"], "namespace" in refused.json()["message"]) == (True, False)
    assert {each.status_code for each in answers} == {200}


async def test_a_namespace_whose_pods_hang_leaves_places_for_the_others() -> None:
    places, hanging = served.Places(8, 2), asyncio.Event()

    async def hang() -> None:
        async with places.of("a"):
            await hanging.wait()

    hung = [asyncio.create_task(hang()) for _ in range(20)]
    async with asyncio.timeout(5):
        await asyncio.sleep(0)
        async with places.of("b"), places.of("b"):
            pass
    hanging.set()
    await asyncio.gather(*hung)


async def test_by_default_nothing_is_served_and_nothing_is_read(world: World, http: httpx.AsyncClient) -> None:
    world.port = 0
    async with metrics_api(world.tools(http)):
        await world.clock.advance(REFRESH_SECONDS)

    assert world.cluster.calls == []


async def test_a_pod_that_declares_no_ops_port_is_not_asked(world: World) -> None:
    class Nobody:
        async def status(self, address: str, port: int) -> dict[str, Any] | None:
            raise AssertionError(f"{address}:{port}")

    for name in ("a", "b"):
        pod = world.cluster.find(POD, "prod", name)
        assert pod
        pod["spec"]["containers"] = [{"name": "agent", "ports": [{"name": "web", "containerPort": 10250}]}]
        world.cluster.put(pod)

    with pytest.raises(NotKnown, match="none of 2 pods answers"):
        await Concurrency(world.cluster, Nobody(), ()).of("prod", "*", None)
