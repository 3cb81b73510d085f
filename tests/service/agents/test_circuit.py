"""A model that fails call after call is left alone for a while, and asked by the service itself whether it is back."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from dataclasses import dataclass, field, replace
from typing import Any

import pytest
from aiohttp import web
from langchain.agents import create_agent
from langchain_openai import ChatOpenAI

from agent_service.agents.circuit import MAX_CIRCUITS, OPEN_SECONDS, UNWANTED_SECONDS, CircuitBreaker
from agent_service.agents.model_probe import QUESTION
from agent_service.errors import ModelRejected, ModelUnavailable
from agent_service.metrics import OTHER, Metrics
from agent_service.principal import CALLER
from tests.durability.fleet import until
from tests.support.clock import WallClock, settle
from tests.support.fake_model import FakeModel
from tests.support.fake_script import Fault, FaultKind, Script, last_user_text
from tests.support.http_server import http_server
from tests.support.model_client import Client, open_client
from tests.support.service import JWT_SECRET, running_service
from tests.support.tokens import bearer


@pytest.fixture
async def fake() -> AsyncIterator[FakeModel]:
    async with FakeModel() as running:
        yield running


async def fail(client: Client, question: str = "hello") -> ModelUnavailable:
    with pytest.raises(ModelUnavailable) as failed:
        await client.answer(question)
    return failed.value


def down(kind: FaultKind = "server_error", **more: object) -> Script:
    return Script(faults=[Fault(kind=kind, times=99, **more)])


def poisoned() -> Script:
    """An endpoint that is up, and breaks down over some questions."""
    return Script(tokens=["well"], faults=[Fault(kind="server_error", times=999, asked="poison")])


def questions(fake: FakeModel) -> list[str]:
    """Of callers and of the service, in order."""
    return [last_user_text(request.payload["messages"]) for request in fake.requests if "messages" in request.payload]


def calls(fake: FakeModel) -> int:
    """Of callers."""
    return len([question for question in questions(fake) if question != QUESTION])


@contextmanager
def calling(caller: str) -> Iterator[None]:
    token = CALLER.set(caller)
    yield
    CALLER.reset(token)


OPENED, CLOSED = ("fake-1", True), ("fake-1", False)


async def test_after_so_many_failures_in_a_row_no_call_is_made_until_the_model_answers_the_service(fake: FakeModel) -> None:
    fake.script = down()
    async with open_client(fake, circuit=3, model_max_retries=1) as client:
        for _ in range(3):
            await fail(client)
        await until(lambda: client.circuits)
        refused = await fail(client)
        assert (calls(fake), refused.retry_after) == (6, 10)
        assert "3 calls in a row" in refused.detail

        client.now[0] += OPEN_SECONDS
        await until(lambda: questions(fake)[6:] == [QUESTION] * 2)  # each once, without retries
        fake.script = Script(tokens=["well"])
        client.now[0] += OPEN_SECONDS
        await until(lambda: client.circuits == [OPENED, CLOSED])  # nobody has called meanwhile
        assert calls(fake) == 6
        assert await client.answer() == "well"


async def test_a_silent_model_is_waited_for_as_long_as_a_call_bears_and_keeps_all_out_meanwhile(fake: FakeModel) -> None:
    async with open_client(fake, circuit=1, model_max_retries=0, model_timeout=0.3) as client:
        fake.script = down("slow_headers")
        await fail(client)
        await until(lambda: client.circuits)
        client.now[0] += OPEN_SECONDS
        await until(lambda: len(questions(fake)) == 3)
        assert {(await fail(client)).retry_after for _ in range(20)} == {OPEN_SECONDS}
        assert calls(fake) == 1


async def test_a_service_that_is_told_to_come_back_later_than_it_waits_takes_the_model_for_up(fake: FakeModel) -> None:
    """A rate limit behind a row of other failures: to wait for it would look like silence."""
    async with open_client(fake, circuit=1, model_max_retries=1, model_timeout=0.3) as client:
        limits = Fault(kind="rate_limited", times=99, retry_after="30")
        fake.script = Script(faults=[Fault(kind="server_error", times=2), limits])
        await fail(client)
        await until(lambda: QUESTION in questions(fake))
        await settle()
        assert client.circuits == []
        assert questions(fake).count(QUESTION) == 1


async def test_a_model_that_answers_others_between_failures_is_not_asked_again_and_again(fake: FakeModel) -> None:
    fake.script = poisoned()
    async with open_client(fake, circuit=2, model_max_retries=0) as client:
        for _ in range(10):
            await fail(client, "poison")
            await fail(client, "poison")
            assert await client.answer() == "well"
        assert questions(fake).count(QUESTION) <= 1


async def test_a_model_that_nobody_calls_any_more_is_no_longer_asked(fake: FakeModel) -> None:
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        fake.script = down()
        await fail(client)
        await until(lambda: client.circuits)
        client.now[0] += UNWANTED_SECONDS + 1
        await until(lambda: client.circuits == [OPENED, CLOSED])
        asked = len(questions(fake))
        client.now[0] += OPEN_SECONDS
        await settle()
        assert len(questions(fake)) == asked


async def test_a_rate_limit_opens_nothing_and_is_waited_for_as_the_endpoint_asks(fake: FakeModel) -> None:
    fake.script = down("rate_limited", retry_after="7")
    async with open_client(fake, circuit=2, model_max_retries=1, share=0) as client:
        refusals = [await fail(client) for _ in range(5)]
        assert len(fake.requests) == 10
        assert client.pauses == [7.0] * 5
        assert {refusal.retry_after for refusal in refusals} == {7}


async def test_an_endpoint_that_answers_the_service_with_a_refusal_is_up(fake: FakeModel) -> None:
    async with open_client(fake, circuit=1, model_max_retries=0) as client:
        for answer in (Fault(kind="rate_limited"), Fault(kind="bad_request"), Fault(kind="unauthorized")):
            fake.script = Script(tokens=["well"], faults=[Fault(kind="server_error"), answer])
            await fail(client)
            await until(lambda: not fake.script.take_fault("fake-1"))
            await settle()
            client.now[0] += OPEN_SECONDS
        assert client.circuits == []


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


@pytest.mark.parametrize("accounts", [1, 3, 50])
@pytest.mark.parametrize("limit", [1, 5])
async def test_no_number_of_accounts_keeps_anybody_out_of_a_model_that_answers(
    fake: FakeModel, accounts: int, limit: int
) -> None:
    fake.script = poisoned()
    async with open_client(fake, circuit=limit, model_max_retries=0) as client:
        for _ in range(3):
            for number in range(accounts):
                with calling(f"eve-{number}"):
                    for _ in range(limit):
                        assert "HTTP 500" in (await fail(client, "poison")).detail
            for caller in ("ann", "eve-0"):  # whom other people share, where it is a program
                with calling(caller):
                    assert await client.answer() == "well"
            client.now[0] += OPEN_SECONDS
        assert client.circuits == []
        assert 1 <= questions(fake).count(QUESTION) <= 3, "one in OPEN_SECONDS"


@dataclass
class Plant:
    """A breaker, the time, and a model that is up or down."""

    limit: int = 3
    up: bool = False
    probes: int = 0
    changes: list[bool] = field(default_factory=list)
    time: WallClock = field(default_factory=WallClock)
    on_change: Any = None

    def __post_init__(self) -> None:
        self.breaker = CircuitBreaker(
            self.limit,
            self.on_change or (lambda _model, opened: self.changes.append(opened)),
            self.probe,
            clock=lambda: self.time.now().timestamp(),
            sleep=self.time.sleep,
        )

    async def probe(self, _model: str) -> bool:
        self.probes += 1
        return self.up

    def lose(self, calls: int, model: str = "m") -> None:
        """They fail, as far as they are made."""
        with contextlib.suppress(ModelUnavailable):
            for _ in range(calls):
                self.breaker.check(model)
                self.breaker.failed(model)

    def refuses(self) -> int | None:
        """For how many seconds; None: a call may go out."""
        try:
            self.breaker.check("m")
        except ModelUnavailable as error:
            return error.retry_after
        return None


@asynccontextmanager
async def kept_out() -> AsyncIterator[Plant]:
    """Of a model that is down."""
    plant = Plant()
    async with plant.breaker.closing():
        plant.lose(3)
        await settle()
        assert plant.refuses() == OPEN_SECONDS
        yield plant


async def test_a_model_that_is_down_is_asked_every_ten_seconds_whether_anybody_calls_or_not() -> None:
    async with kept_out() as plant:
        await plant.time.advance(3 * OPEN_SECONDS)
        assert plant.probes == 4
        plant.up = True
        await plant.time.advance(OPEN_SECONDS)
        assert plant.refuses() is None
        await plant.time.advance(10 * OPEN_SECONDS)
        assert plant.probes == 5
        assert plant.changes == [True, False]


async def test_an_answer_between_begins_the_count_anew() -> None:
    plant = Plant()
    async with plant.breaker.closing():
        for _ in range(3):
            plant.lose(2)
            plant.breaker.answered("m")
        await settle()
        assert plant.probes == 0


async def test_a_call_that_began_before_and_is_answered_opens_the_way_for_all() -> None:
    async with kept_out() as plant:
        plant.breaker.answered("m")
        assert plant.refuses() is None
        await plant.time.advance(10 * OPEN_SECONDS)
        assert plant.probes == 1
        assert plant.changes == [True, False]


async def test_calls_that_began_before_and_fail_change_nothing() -> None:
    async with kept_out() as plant:
        for _ in range(10):
            plant.breaker.failed("m")
        await settle()
        assert (plant.probes, plant.changes) == (1, [True])


async def test_a_fault_in_asking_keeps_nobody_out() -> None:
    class Broken(Plant):
        async def probe(self, _model: str) -> bool:
            raise RuntimeError("a fault of ours")

    plant = Broken()
    async with plant.breaker.closing():
        plant.lose(3)
        await settle()
        assert plant.refuses() is None


async def test_nobody_is_asked_once_it_is_closed() -> None:
    async with kept_out() as plant:
        pass
    await plant.time.advance(10 * OPEN_SECONDS)
    assert plant.probes == 1


async def test_names_without_end_take_no_memory_and_leave_no_circuit_open() -> None:
    metrics = Metrics(models=["gpt-4o"], version="1", graph="g", guardrail_rules=())
    plant = Plant(1, on_change=metrics.count_circuit)

    def sample(name: str) -> float:
        return metrics.registry.get_sample_value(name, {"model": OTHER}) or 0.0

    async with plant.breaker.closing():
        for number in range(3 * MAX_CIRCUITS):
            plant.lose(1, f"model-{number}")
            await settle()
        assert len(plant.breaker._circuits) == MAX_CIRCUITS
        assert sample("agent_model_circuits_open") == MAX_CIRCUITS
        assert sample("agent_model_circuits_opened_total") == 3 * MAX_CIRCUITS
        plant.up = True
        await plant.time.advance(OPEN_SECONDS)
        assert sample("agent_model_circuits_open") == 0


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


def service_env(fake: FakeModel, graph: str) -> dict[str, str]:
    return {
        "AUTH": "required",
        "JWT_SECRET": JWT_SECRET,
        "MODEL": "fake-1",
        "OPENAI_BASE_URL": fake.url,
        "OPENAI_API_KEY": "sk-1",
        "AGENT_GRAPH": graph,
        "MODEL_MAX_RETRIES": "0",
        "MODEL_CIRCUIT_FAILURES": "3",
    }


GRAPHS = ["tests.support.graphs:plain", "tests.service.agents.test_circuit:own"]
"""With the service's model, and with one that the graph makes itself."""


@pytest.mark.parametrize("graph", GRAPHS)
async def test_a_service_fails_fast_while_its_endpoint_is_down(database_url: str, graph: str) -> None:
    async with (
        FakeModel(down()) as fake,
        running_service(database_url, **service_env(fake, graph)) as service,
        service.client() as client,
    ):

        async def ask(caller: str) -> str:
            run = (await client.post("/chat", json={"question": "hi"}, headers=bearer(caller))).json()
            return str(run["error"]["code"])

        assert [await ask("ann") for _ in range(3)] == ["model_unavailable"] * 3
        async with asyncio.timeout(20):
            while not await service.metric("agent_model_circuits_open", model="fake-1"):
                await asyncio.sleep(0.02)
        assert [await ask("dora") for _ in range(3)] == ["model_unavailable"] * 3
        assert await service.metric("agent_model_circuits_opened_total", model="fake-1") == 1
        assert calls(fake) == 3


@pytest.mark.parametrize("graph", GRAPHS)
async def test_accounts_that_work_together_do_not_keep_a_model_from_another(database_url: str, graph: str) -> None:
    async with (
        FakeModel(poisoned()) as fake,
        running_service(database_url, **service_env(fake, graph)) as service,
        service.client() as client,
    ):

        async def ask(caller: str, question: str) -> str:
            answer = await client.post("/chat", json={"question": question}, headers=bearer(caller))
            return str(answer.json()["outcome"])

        for _ in range(4):
            assert {await ask(caller, "poison") for caller in ("eve", "mallory", "trudy")} == {"failed"}
        await until(lambda: QUESTION in questions(fake))
        assert await ask("ann", "hi") == "completed"
        assert await service.metric("agent_model_circuits_opened_total", model="fake-1") == 0
