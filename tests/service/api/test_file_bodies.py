"""Bodies with files are larger than others, by their files alone, and few at once."""

import asyncio
import base64
import json
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest

from agent_service.api import file_bodies
from agent_service.api.file_bodies import PLACES, PLACES_OF_CALLER, FilePlaces, largest_bodies
from agent_service.errors import Overloaded, TooManyFileBodies
from agent_service.principal import Principal
from agent_service.settings import Settings
from tests.service.api.conftest import plain_service
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, Script
from tests.support.problems import check_problem
from tests.support.service import JWT_SECRET, RunningService
from tests.support.tokens import bearer

MB = 1_000_000
LATER = {"Prefer": "respond-async"}


def photo(size: int) -> dict[str, str]:
    return {"name": "photo.jpg", "data": base64.b64encode(b"\xff\xd8\xff".ljust(size, b"\0")).decode()}


def asked(*sizes: int, **more: object) -> dict[str, Any]:
    return {"question": "What is this?", "files": [photo(size) for size in sizes], **more}


@pytest.fixture
async def service(database_url: str, model: FakeModel) -> AsyncIterator[RunningService]:
    model.script = Script(tokens=["A harbour."])
    env = {"FILE_GRAPHS": "agent", "AUTH": "required", "JWT_SECRET": JWT_SECRET, "MAX_RUNNING_FILE_BYTES": "8000000"}
    async with plain_service(database_url, model, **env) as service:
        yield service


@pytest.fixture
async def client(service: RunningService) -> AsyncIterator[httpx.AsyncClient]:
    async with service.client() as client:
        client.headers.update(bearer("ann", "acme"))
        yield client


async def test_photos_of_a_phone_fit_by_default(client: httpx.AsyncClient, model: FakeModel) -> None:
    run = (await client.post("/chat", json=asked(5 * MB, 4 * MB))).json()

    assert run["answer"] == "A harbour."
    _, *pictures = model.requests[-1].payload["messages"][0]["content"]
    assert [len(picture["image_url"]["url"]) > 5 * MB for picture in pictures] == [True, True]


async def test_no_other_body_is_larger_for_it(client: httpx.AsyncClient, database_url: str, model: FakeModel) -> None:
    large = asked(2 * MB)
    for path in ("/v1/chat/completions", "/feedback", "/threads", "/chat/", "/rpc"):
        refused = await client.post(path, json=large)
        assert refused.status_code in {404, 413}, (path, refused.text)
    check_problem(await client.post("/threads", json=large), 413, "too_large", field="body")
    async with plain_service(database_url, model) as without, without.client() as other:
        check_problem(await other.post("/chat", json=large), 413, "too_large", field="body")


@pytest.mark.parametrize(
    "more",
    [
        {"context": {"a": "x" * 2 * MB}},
        {"unknown": "x" * 2 * MB},
        {"question": "é" * MB},
    ],
    ids=["text", "unknown", "question"],
)
async def test_what_stands_beside_the_files_is_not_larger_for_them(client: httpx.AsyncClient, more: dict[str, object]) -> None:
    refused = await client.post("/chat", json={**asked(1000), **more})

    problem = check_problem(refused, 413, "too_large", field="body")
    assert problem["detail"] == "body: expected at most 1048576 bytes beside what is in files"


@pytest.mark.parametrize(
    "context", [[1] * MB, {f"k{n}": 1 for n in range(200_000)}, [[]] * MB, ["a"] * MB], ids=["list", "keys", "lists", "texts"]
)
async def test_values_are_as_many_as_in_any_body(client: httpx.AsyncClient, context: list[object] | dict[str, int]) -> None:
    refused = await client.post("/chat", json=asked(1000, context={"a": context}))

    assert refused.status_code in {413, 422}
    assert refused.json()["field"] == "body"


@pytest.mark.parametrize("body", [b"[" * 3 * MB, b"x" * 3 * MB, b'"' + b"x" * 3 * MB, b"\xff" * 3 * MB, b" " * 3 * MB])
async def test_large_bodies_that_are_none_are_refused_as_small_ones(client: httpx.AsyncClient, body: bytes) -> None:
    refused = await client.post("/chat", content=body, headers={"Content-Type": "application/json"})

    assert refused.status_code in {413, 422}, refused.text


async def test_a_session_has_an_end_of_files(client: httpx.AsyncClient) -> None:
    runs = [(await client.post("/chat", json=asked(5 * MB, 5 * MB, session_id="s"))).json() for _ in range(3)]

    refused = await client.post("/chat", json=asked(5 * MB, session_id="s"))

    problem = check_problem(refused, 413, "too_large", field="files")
    assert "30000000 of earlier questions" in str(problem["detail"])
    assert (await client.post("/chat", json=asked(5 * MB, session_id="other"))).status_code == 200
    assert (await client.post("/chat", json=asked(5 * MB, session_id="s", replaces=runs[2]["run_id"]))).status_code == 200
    assert (await client.post("/chat", json={"question": "And now?", "session_id": "s"})).status_code == 200


async def test_files_of_runs_that_go_on_have_an_end_and_no_place_is_held_meanwhile(
    client: httpx.AsyncClient, model: FakeModel
) -> None:
    """Eight million characters of base64 are six million bytes."""
    model.script.faults = [Fault(kind="hang", times=9)]
    runs = [(await client.post("/chat", json=asked(MB), headers=LATER)).json()["run_id"] for _ in range(PLACES + 1)]

    refused = await client.post("/chat", json=asked(3 * MB), headers=LATER)

    assert check_problem(refused, 503, "overloaded")["retryable"]
    assert (await client.post("/chat", json={"question": "no file"}, headers=LATER)).status_code == 202
    model.script.faults = []
    for run in runs:
        await client.post(f"/runs/{run}/cancel")
    async with asyncio.timeout(20):
        while (await client.post("/chat", json=asked(2 * MB))).status_code != 200:
            await asyncio.sleep(0.05)


async def test_who_is_slow_loses_the_place(client: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bodies, "BODY_SECONDS", 0.3)
    whole = json.dumps(asked(2 * MB)).encode()
    head = (
        f"POST /chat HTTP/1.1\r\nHost: a\r\n{credential()}\r\nContent-Type: application/json\r\nContent-Length: {len(whole)}\r\n"
    )
    for _ in range(PLACES_OF_CALLER + 1):
        reader, writer = await asyncio.open_connection(client.base_url.host, client.base_url.port)
        writer.write(head.encode() + b"\r\n" + whole[: 3 * MB // 2])
        async with asyncio.timeout(10):
            answer = await reader.readuntil(b"expected all of it within 0.3 s")
        assert answer.startswith(b"HTTP/1.1 408 ")
        writer.close()
    assert (await client.post("/chat", content=whole, headers={"Content-Type": "application/json"})).status_code == 200


def credential() -> str:
    return f"Authorization: {bearer('ann', 'acme')['Authorization']}"


def principal(user: str) -> Principal:
    return Principal(tenant="acme", user=user)


async def test_places_are_few_and_nobody_has_them_all(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(file_bodies, "WAIT_SECONDS", 0.05)
    places = FilePlaces()
    taken = [await places.take(principal("ann")) for _ in range(PLACES_OF_CALLER)]
    with pytest.raises(TooManyFileBodies):
        await places.take(principal("ann"))
    taken += [await places.take(principal(f"u{n}")) for n in range(PLACES - PLACES_OF_CALLER)]
    with pytest.raises(Overloaded):
        await places.take(principal("bob"))

    taken[0].leave()
    taken[0].leave()  # once more does nothing
    again = await places.take(principal("bob"))
    with pytest.raises(Overloaded):
        await places.take(principal("ann"))
    for place in (again, *taken):
        place.leave()
    for _ in range(PLACES_OF_CALLER):
        await places.take(principal("ann"))


async def test_who_waits_for_a_place_gets_the_next_one() -> None:
    places = FilePlaces()
    taken = [await places.take(principal(f"u{n}")) for n in range(PLACES)]
    waiting = [asyncio.ensure_future(places.take(principal(user))) for user in ("bob", "eve")]
    await asyncio.sleep(0)
    taken[0].leave()
    await asyncio.wait_for(waiting[0], 5)
    assert not waiting[1].done()

    waiting[1].cancel()
    with pytest.raises(asyncio.CancelledError):
        await waiting[1]
    taken[1].leave()
    await places.take(principal("eve"))


def test_no_body_is_larger_unless_a_graph_takes_files() -> None:
    given: dict[str, Any] = {"database_url": "postgresql://h/d", "auth": "disabled"}
    assert largest_bodies(Settings(**given)) == {}
    assert set(largest_bodies(Settings(**given, file_graphs="agent")).values()) == {16_777_216}
    assert largest_bodies(Settings(**given, file_graphs="agent", max_body_bytes=20_000_000)) == {}
