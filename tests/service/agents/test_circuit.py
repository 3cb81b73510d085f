"""A model that fails call after call is left alone for a while, and then tried by one call."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from agent_service.agents.circuit import MAX_CIRCUITS, MIN_CALLERS, OPEN_SECONDS, TRIAL_PATIENCE_SECONDS, Call, CircuitBreaker
from agent_service.errors import ModelRejected, ModelUnavailable
from agent_service.metrics import OTHER, Metrics
from agent_service.principal import CALLER
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, FaultKind, Script
from tests.support.http_server import http_server
from tests.support.model_client import Client, open_client
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer


@pytest.fixture
async def fake() -> AsyncIterator[FakeModel]:
    async with FakeModel() as running:
        yield running


async def fail(client: Client) -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as failed:
        await client.answer()
    return failed.value


def down(kind: FaultKind = "server_error", **more: object) -> Script:
    return Script(faults=[Fault(kind=kind, times=99, **more)])


async def test_after_so_many_failures_in_a_row_no_call_is_made_until_one_tries_again(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=3, model_max_retries=1) as client:
        for _ in range(3):
            await fail(client)
        assert len(fake.requests) == 6
        refused = await fail(client)
        assert (len(fake.requests), refused.retry_after) == (6, 10)
        assert "3 calls in a row" in refused.detail

        client.now[0] += OPEN_SECONDS
        await fail(client)
        assert len(fake.requests) == 8  # the trial, with its retry
        await fail(client)
        assert len(fake.requests) == 8

        client.now[0] += OPEN_SECONDS
        fake.script = Script(tokens=["well"])
        assert [await client.answer() for _ in range(2)] == ["well", "well"]
        fake.script = down()
        await fail(client)
        await fail(client)
        assert len(fake.requests) == 14  # it counts anew
        assert client.circuits == [("fake-1", True), ("fake-1", False)]


async def test_while_one_call_tries_all_others_are_told_to_come_back(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        await fail(client)
        client.now[0] += OPEN_SECONDS
        fake.script = Script(tokens=["well"], first_token_seconds=0.3)
        trial = asyncio.create_task(client.answer())
        await fake.request(1)
        others = [await fail(client) for _ in range(20)]
        assert {other.retry_after for other in others} == {1}
        assert (await trial, len(fake.requests)) == ("well", 2)


async def test_a_trial_that_is_cancelled_leaves_its_place_to_another(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        await fail(client)
        client.now[0] += OPEN_SECONDS
        fake.script = Script(tokens=["well"], faults=[Fault(kind="slow_headers")])
        trial = asyncio.create_task(client.answer())
        await fake.request(1)
        trial.cancel()
        with pytest.raises(asyncio.CancelledError):
            await trial
        assert await client.answer() == "well"


async def test_a_rate_limit_opens_nothing_and_is_waited_for_as_the_endpoint_asks(fake: FakeModel) -> None:
    fake.script = down("rate_limited", retry_after="7")
    async with open_client(fake, circuit=2, model_max_retries=1, share=0) as client:
        refusals = [await fail(client) for _ in range(5)]
        assert len(fake.requests) == 10
        assert client.pauses == [7.0] * 5
        assert {refusal.retry_after for refusal in refusals} == {7}


async def test_a_rate_limit_tells_that_an_endpoint_which_was_down_is_back(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        await fail(client)
        client.now[0] += OPEN_SECONDS
        fake.script = Script(tokens=["well"], faults=[Fault(kind="rate_limited")])
        assert "429" in (await fail(client)).detail
        assert await client.answer() == "well"
        assert client.circuits == [("fake-1", True), ("fake-1", False)]


@pytest.mark.parametrize("code", [400, 402, 403, 404, 409, 413, 415, 422])
async def test_one_whose_requests_are_always_refused_keeps_nobody_else_out(fake: FakeModel, code: int) -> None:
    async def refuse(_: web.Request) -> web.Response:
        return web.json_response({"error": {"message": "no"}}, status=code)

    async with open_client(fake, circuit=2, model_max_retries=0) as client, http_server(refuse) as gateway:
        refused = replace(client.reader, endpoint=replace(client.endpoint, base_url=gateway))
        for _ in range(5):
            with pytest.raises(ModelRejected):
                await refused.create(model="fake-1", messages=[], stream=True)
        assert await client.answer()


async def test_what_an_endpoint_refuses_and_a_key_that_it_does_not_take_open_nothing(fake: FakeModel) -> None:
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        fake.script = down("bad_request")
        for _ in range(3):
            with pytest.raises(ModelRejected):
                await client.answer()
        fake.script = Script(accepted_keys=set())
        for _ in range(3):
            assert "refused the key" in (await fail(client)).detail
        fake.script = Script(tokens=["well"])
        assert await client.answer() == "well"


async def test_each_model_has_a_circuit_so_the_fallback_still_answers(fake: FakeModel) -> None:
    fake.script = down(model="fake-1")
    async with open_client(fake, fallback="spare", circuit=1, model_max_retries=0) as client:
        for _ in range(4):
            assert await client.answer()
            client.now[0] += 60.0
    assert fake.models.count("spare") == 4


def test_names_without_end_take_no_memory() -> None:
    metrics = Metrics(models=["gpt-4o"], version="1", graph="g", guardrail_rules=())
    now = [0.0]
    breaker = CircuitBreaker(1, metrics.count_circuit, clock=lambda: now[0])
    for number in range(10 * MAX_CIRCUITS):
        breaker.failed(breaker.enter(f"model-{number}"))
    assert len(breaker._shared) + len(breaker._own) <= 2 * MAX_CIRCUITS

    def sample(name: str) -> float:
        return metrics.registry.get_sample_value(name, {"model": OTHER}) or 0.0

    assert sample("agent_model_circuits_opened_total") == 10 * MAX_CIRCUITS
    assert sample("agent_model_circuits_open") == MAX_CIRCUITS
    now[0] += OPEN_SECONDS
    for model, _ in list(breaker._own):
        breaker.succeeded(breaker.enter(model))
    assert sample("agent_model_circuits_open") == 0


@contextmanager
def calling(caller: str) -> Iterator[None]:
    token = CALLER.set(caller)
    yield
    CALLER.reset(token)


async def test_one_whose_calls_all_fail_is_kept_out_alone(fake: FakeModel) -> None:
    async with open_client(fake, circuit=5, model_max_retries=0) as client:
        fake.script = down()
        with calling("acme/eve"):
            for _ in range(5):
                await fail(client)
            refused = await fail(client)
        assert (len(fake.requests), refused.retry_after) == (5, 10)
        with calling("acme/ann"):
            await fail(client)  # by chance: no more than the end of a row of eve's
            fake.script = Script(tokens=["well"])
            assert await client.answer() == "well"
        with calling("acme/eve"):
            await fail(client)
            client.now[0] += OPEN_SECONDS
            assert await client.answer() == "well"
        assert client.circuits == [("fake-1", True), ("fake-1", False)]


async def test_a_model_that_fails_the_calls_of_several_is_left_alone_by_all(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=5, model_max_retries=0) as client:
        for caller in ("ann", "bob", "carl", "bob", "ann"):
            with calling(caller):
                await fail(client)
        with calling("dora"):
            assert (await fail(client)).retry_after == 10
        assert len(fake.requests) == 5
        client.now[0] += OPEN_SECONDS
        fake.script = Script(tokens=["well"])
        for caller in ("dora", "ann", "bob"):
            with calling(caller):
                assert await client.answer() == "well"
        assert client.circuits == [("fake-1", True), ("fake-1", False)]


@pytest.mark.parametrize("limit", [1, 2, 3, 5, 50])
def test_two_callers_together_keep_nobody_else_out_however_often_they_fail(limit: int) -> None:
    breaker, now = made(limit)
    for _ in range(3 * limit):
        for caller in ("eve", "mallory"):
            lose(breaker, caller)
            now[0] += OPEN_SECONDS
    assert is_let_in(breaker, "ann")


@pytest.mark.parametrize("limit", [1, 2, 3, 4, 5, 50])
def test_three_callers_find_a_model_down_by_as_many_failures_as_the_limit(limit: int) -> None:
    breaker, _ = made(limit)
    failures = 0
    while is_let_in(breaker, "dora"):
        lose(breaker, f"caller-{failures % MIN_CALLERS}")
        failures += 1
    assert failures == max(limit, MIN_CALLERS)


def test_one_whose_trial_fails_keeps_out_themselves_and_three_all_once_more() -> None:
    breaker, now = opened()
    now[0] += OPEN_SECONDS
    lose(breaker, "eve")
    assert not is_let_in(breaker, "eve")
    now[0] += OPEN_SECONDS / 2
    lose(breaker, "mallory")
    assert is_let_in(breaker, "dora")
    lose(breaker, "dora")
    assert not is_let_in(breaker, "emil")
    now[0] += OPEN_SECONDS
    assert is_let_in(breaker, "emil")


def test_one_who_is_first_to_try_each_time_and_fails_does_not_keep_a_model_from_others() -> None:
    breaker, now = opened()
    for _ in range(5):
        now[0] += OPEN_SECONDS
        lose(breaker, "eve")
    breaker.succeeded(entered(breaker, "dora"))
    assert is_let_in(breaker, "emil")


def test_a_trial_that_hangs_is_not_waited_for_by_others() -> None:
    breaker, now = opened()
    now[0] += OPEN_SECONDS
    entered(breaker, "eve")
    assert not is_let_in(breaker, "dora")
    now[0] += TRIAL_PATIENCE_SECONDS
    breaker.succeeded(entered(breaker, "dora"))
    assert is_let_in(breaker, "emil")


async def test_prompts_that_are_too_long_and_other_bad_requests_of_many_keep_nobody_out(fake: FakeModel) -> None:
    async def too_long(_: web.Request) -> web.Response:
        error = {"message": "This model's maximum context length is 8192 tokens", "code": "context_length_exceeded"}
        return web.json_response({"error": error}, status=400)

    async with open_client(fake, circuit=1, model_max_retries=0) as client, http_server(too_long) as gateway:
        refused = replace(client.reader, endpoint=replace(client.endpoint, base_url=gateway))
        for number in range(20):
            with calling(f"caller-{number}"), pytest.raises(ModelRejected):
                await refused.create(model="fake-1", messages=[], stream=True)
        fake.script = Script(accepted_keys=set())
        for number in range(20):
            with calling(f"caller-{number}"):
                await fail(client)
        fake.script = Script(tokens=["well"])
        assert await client.answer() == "well"
        assert client.circuits == []


def made(limit: int) -> tuple[CircuitBreaker, list[float]]:
    """A breaker, and its clock."""
    now = [0.0]
    return CircuitBreaker(limit, clock=lambda: now[0]), now


def opened() -> tuple[CircuitBreaker, list[float]]:
    """For all callers."""
    breaker, now = made(3)
    for caller in ("ann", "bob", "carl"):
        lose(breaker, caller)
    assert not is_let_in(breaker, "dora")
    return breaker, now


def entered(breaker: CircuitBreaker, caller: str) -> Call:
    with calling(caller):
        return breaker.enter("m")


def lose(breaker: CircuitBreaker, caller: str) -> None:
    """A call of theirs fails, if it is made."""
    with contextlib.suppress(ModelUnavailable):
        breaker.failed(entered(breaker, caller))


def is_let_in(breaker: CircuitBreaker, caller: str) -> bool:
    """Leaves again at once."""
    try:
        breaker.left(entered(breaker, caller))
    except ModelUnavailable:
        return False
    return True


async def test_the_fallback_of_one_whose_calls_fail_is_not_everyones(fake: FakeModel) -> None:
    async with open_client(fake, fallback="spare", model_max_retries=0) as client:
        fake.script = down(model="fake-1")
        with calling("eve"):
            assert await client.answer()
        fake.script = Script(tokens=["well"])
        for caller in ("ann", "eve"):
            with calling(caller):
                assert await client.answer() == "well"
    assert fake.models == ["fake-1", "spare", "fake-1", "spare"]


def own(context: Any) -> Any:
    """A graph with a model of its own, which the service adopts."""
    model = ChatOpenAI(model="fake-1", base_url=context.settings.openai_base_url, api_key="sk-1")
    return create_agent(model, tools=[]).builder


@pytest.mark.parametrize("graph", ["tests.support.graphs:plain", "tests.service.agents.test_circuit:own"])
async def test_a_service_fails_fast_while_its_endpoint_is_down_with_both_kinds_of_graph(database_url: str, graph: str) -> None:
    async with FakeModel(down()) as fake:
        env = {
            "MODEL": "fake-1",
            "OPENAI_BASE_URL": fake.url,
            "OPENAI_API_KEY": "sk-1",
            "AGENT_GRAPH": graph,
            "MODEL_MAX_RETRIES": "0",
            "MODEL_CIRCUIT_FAILURES": "3",
        }
        async with running_service(database_url, **env) as service, service.client() as client:
            runs = [(await client.post("/chat", json={"question": "hi"})).json() for _ in range(6)]
            assert await service.metric("agent_model_circuits_open", model="fake-1") == 1
            assert await service.metric("agent_model_circuits_opened_total", model="fake-1") == 1
    assert [run["error"]["code"] for run in runs] == ["model_unavailable"] * 6
    assert len([request for request in fake.requests if request.path.endswith("completions")]) == 3


async def test_in_a_service_one_callers_failing_calls_do_not_keep_a_model_from_another(database_url: str) -> None:
    async with FakeModel(Script(tokens=["well"], faults=[Fault(kind="server_error", times=3)])) as fake:
        env = {
            "AUTH": "required",
            "JWT_SECRET": JWT_SECRET,
            "MODEL": "fake-1",
            "OPENAI_BASE_URL": fake.url,
            "OPENAI_API_KEY": "sk-1",
            "AGENT_GRAPH": "tests.support.graphs:plain",
            "MODEL_MAX_RETRIES": "0",
            "MODEL_CIRCUIT_FAILURES": "3",
        }
        async with running_service(database_url, **env) as service, service.client() as client:
            runs = [
                (await client.post("/chat", json={"question": "hi"}, headers=bearer(caller))).json()
                for caller in ("eve", "eve", "eve", "eve", "ann")
            ]
    assert [run["outcome"] for run in runs] == ["failed"] * 4 + ["completed"]
    assert len([request for request in fake.requests if request.path.endswith("completions")]) == 4


def test_calls_that_end_after_another_of_their_caller_went_well_open_no_circuit_that_nobody_closes() -> None:
    changes: list[bool] = []
    breaker = CircuitBreaker(3, on_change=lambda _model, opened: changes.append(opened), clock=lambda: 0.0)
    breaker.failed(breaker.enter("m"))
    under_way = [breaker.enter("m") for _ in range(4)]
    breaker.succeeded(under_way[0])

    for call in under_way[1:]:
        breaker.failed(call)

    assert changes == [True]
    with pytest.raises(ModelUnavailable):
        breaker.enter("m")


def test_a_circuit_that_is_no_longer_followed_is_not_opened() -> None:
    changes: list[tuple[str, bool]] = []
    breaker = CircuitBreaker(1, on_change=lambda model, opened: changes.append((model, opened)), clock=lambda: 0.0)
    late = breaker.enter("m")
    for n in range(MAX_CIRCUITS):
        breaker.enter(f"m{n}")

    breaker.failed(late)
    for n in range(MAX_CIRCUITS):
        breaker.failed(breaker.enter(f"n{n}"))

    assert changes.count(("m", True)) == changes.count(("m", False))
