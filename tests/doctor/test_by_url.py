"""doctor against a real service, straight and through a proxy that spoils it."""

from collections.abc import AsyncIterator, Mapping, Sequence
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import httpx
import pytest
from aiohttp import web

from slipway_doctor.by_ops import examine_ops
from slipway_doctor.by_url import Target, examine, judge_clock
from slipway_doctor.checks.finding import Finding, Status
from slipway_doctor.errors import CouldNotRun
from slipway_doctor.stream import Event, Recording, judge_stream
from tests.support.http_server import http_server
from tests.support.ports import free_port
from tests.support.service import JWT_SECRET, RunningService, running_service
from tests.support.tokens import bearer

# A proxy as found in front of services: it may buffer whole answers, drop headers, or compress.

HOP_HEADERS = {"connection", "transfer-encoding", "content-length", "keep-alive"}


@asynccontextmanager
async def running_proxy(
    upstream: str, *, drop: str = "", add: Mapping[str, str] | None = None, compress: bool = False
) -> AsyncIterator[str]:
    """Base URL of a proxy that waits for the whole answer before it passes it on. `drop` names a request header."""
    async with httpx.AsyncClient(base_url=upstream, timeout=30) as client:

        async def carry(request: web.Request) -> web.Response:
            headers = {name: value for name, value in request.headers.items() if name.lower() not in {drop.lower(), "host"}}
            answer = await client.request(request.method, request.raw_path, headers=headers, content=await request.read())
            kept = {name: value for name, value in answer.headers.items() if name.lower() not in HOP_HEADERS}
            made = web.Response(status=answer.status_code, body=answer.content, headers={**kept, **(add or {})})
            if compress:
                made.enable_compression()  # for who takes it
            return made

        async with http_server(carry) as url:
            yield url


SLOW = {"AGENT_GRAPH": "tests.doctor.graphs:speaking"}


def token(user: str, role: str = "user") -> str:
    return bearer(user, role=role)["Authorization"].removeprefix("Bearer ")


async def examined(url: str, credential: str = "", other: str = "") -> list[Finding]:
    async with httpx.AsyncClient() as client:
        return await examine(Target(url, credential, other, question="Hello, who are you?"), client)


def reasons(findings: Sequence[Finding]) -> dict[str, str]:
    return {finding.id: finding.reason for finding in findings}


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    async with running_service(database_url, AUTH="required", JWT_SECRET=JWT_SECRET, **SLOW) as running:
        yield running


async def test_a_good_service_passes_and_nothing_of_the_visit_is_left(service: RunningService) -> None:
    findings = await examined(service.url, token("alice"), token("bob"))
    async with service.client(headers=bearer("alice")) as client:
        sessions = (await client.get("/sessions")).json()["sessions"]

    assert reasons(findings) == {
        "Ready": "Ready",
        "Encrypted": "Loopback",
        "OpsPortPrivate": "OpsPrivate",
        "ClocksAgree": "InStep",
        "TokenRequired": "Refused",
        "CredentialAccepted": "Accepted",
        "ForeignIdsHidden": "Hidden",
        "StreamUnbuffered": "Unbuffered",
        "StreamResumes": "NothingLost",
        "OtherUsersApart": "Hidden",
    }
    assert {finding.status for finding in findings} == {Status.OK}
    assert sessions == []


async def test_a_proxy_that_buffers_and_drops_a_header_is_found(service: RunningService) -> None:
    async with running_proxy(service.url, drop="Last-Event-ID") as url:
        findings = await examined(url, token("alice"))

    found = reasons(findings)
    assert (found["StreamUnbuffered"], found["StreamResumes"]) == ("Buffered", "EventsLost")
    (buffered,) = [finding for finding in findings if finding.id == "StreamUnbuffered"]
    assert "proxy_buffering off" in buffered.fix


async def test_a_proxy_that_compresses_is_found_and_nothing_of_the_visit_is_left(service: RunningService) -> None:
    async with running_proxy(service.url, compress=True) as url:
        assert reasons(await examined(url, token("alice")))["StreamUnbuffered"] == "Compressed"

    async with service.client(headers=bearer("alice")) as client:
        assert (await client.get("/sessions")).json()["sessions"] == []


async def test_a_bad_token_and_no_token_are_told_apart(service: RunningService) -> None:
    bad, none = await examined(service.url, "nonsense"), await examined(service.url)

    assert reasons(bad)["CredentialAccepted"] == "CredentialRefused"
    assert reasons(none)["StreamUnbuffered"] == "NoCredential"
    assert "StreamResumes" not in reasons(bad) | reasons(none)


async def test_an_admin_as_the_other_user_is_pointed_out(service: RunningService) -> None:
    found = reasons(await examined(service.url, token("alice"), token("alice")))

    assert found["OtherUsersApart"] == "NotHidden"


async def test_a_service_without_authentication_is_found_and_tried_all_the_same(database_url: str) -> None:
    async with running_service(database_url, **SLOW) as service:
        found = reasons(await examined(service.url))

    assert (found["TokenRequired"], found["StreamUnbuffered"]) == ("Open", "Unbuffered")


async def test_an_ops_port_that_is_public_is_found(service: RunningService) -> None:
    found = reasons(await examined(service.ops_url))

    assert found["OpsPortPrivate"] == "OpsPublic"


async def test_a_service_that_takes_no_traffic_says_why(service: RunningService) -> None:
    service.resources.health.draining = True

    (ready,) = [finding for finding in await examined(service.url) if finding.id == "Ready"]

    assert (ready.reason, ready.message) == ("NotReady", "it takes no traffic: draining")


@pytest.mark.parametrize("path", ["", "/nothing/here"])
async def test_where_nothing_answers_there_is_no_report(path: str) -> None:
    with pytest.raises(CouldNotRun, match="ConnectError"):
        await examined(f"http://127.0.0.1:{free_port()}{path}")


async def test_something_else_than_slipway_is_no_service() -> None:
    async with httpx.AsyncClient(transport=httpx.MockTransport(lambda _: httpx.Response(200, text="<html>"))) as client:
        with pytest.raises(CouldNotRun, match="not an answer of Slipway"):
            await examine(Target("http://elsewhere"), client)


async def test_the_ops_port_answers_for_the_database(service: RunningService) -> None:
    async with httpx.AsyncClient() as client:
        few = reasons(await examine_ops(service.ops_url, 1, client))
        many = reasons(await examine_ops(service.ops_url, 500, client))

    assert few == {
        "DatabaseReachable": "Answers",
        "ModelEndpointReachable": "BuiltIn",
        "DrainsEnd": "NotDraining",
        "DatabaseConnectionsFit": "Fits",
        "PricesKnown": "Priced",
        "DatabaseEncrypted": "Local",
    }
    assert many["DatabaseConnectionsFit"] == "TooManyConnections"


async def test_the_api_port_is_not_taken_for_the_ops_port(service: RunningService) -> None:
    async with httpx.AsyncClient() as client:
        with pytest.raises(CouldNotRun, match="ops port"):
            await examine_ops(service.url, 1, client)


NOW = datetime(2026, 3, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "reason", "status"),
    [
        (format_datetime(NOW, usegmt=True), "InStep", Status.OK),
        (format_datetime(NOW - timedelta(seconds=20), usegmt=True), "ClockSkew", Status.WARN),
        (format_datetime(NOW + timedelta(seconds=31), usegmt=True), "ClockSkew", Status.FAIL),
        ("", "NoDate", Status.UNKNOWN),
        ("yesterday", "NoDate", Status.UNKNOWN),
    ],
)
def test_clocks_are_compared(header: str, reason: str, status: Status) -> None:
    verdict = judge_clock(header, NOW)

    assert (verdict.reason, verdict.status) == (reason, status)


def recorded(*times: float, end: str = "[DONE]") -> Recording:
    events = [Event(at, f"r-1-{n}", "message", "word") for n, at in enumerate(times)]
    events[-1] = Event(times[-1], events[-1].id, "message", end)
    return Recording(200, {"content-type": "text/event-stream"}, events=events)


@pytest.mark.parametrize(
    ("recording", "run_seconds", "reason"),
    [
        (recorded(0.1, 1.0, 2.0), 2.0, "Unbuffered"),
        (recorded(2.0, 2.01, 2.02), 2.0, "Buffered"),
        (recorded(1.2, 1.5, 2.0), 2.0, "Buffered"),  # flushed when the buffer was full, and at the end
        (recorded(0.05, 0.05, 0.051), 0.04, "TooQuick"),
        (recorded(0.001, 0.02, 0.04), 0.04, "Unbuffered"),
        (recorded(0.1, 1.0, end="word"), 2.0, "StreamCut"),
        (Recording(503, body='{"code":"overloaded"}'), None, "StreamRefused"),
        (Recording(200, body="<html>"), None, "StreamCut"),
        (Recording(broken="ReadTimeout"), None, "StreamCut"),
    ],
)
def test_arrivals_tell_a_buffering_proxy(recording: Recording, run_seconds: float | None, reason: str) -> None:
    assert judge_stream(recording, run_seconds).reason == reason
