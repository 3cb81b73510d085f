from typing import Annotated

import httpx
import pytest
from fastapi import APIRouter, Depends, FastAPI
from fastapi.exceptions import FastAPIError
from pydantic import BaseModel

from agent_service.api.late_route import LateRoute


class Order(BaseModel):
    count: int


async def double(times: int = 2) -> int:
    return times


@pytest.fixture
def router() -> APIRouter:
    made = APIRouter(route_class=LateRoute, prefix="/orders")

    @made.post("/{name}", status_code=201)
    async def order(name: str, body: Order, times: Annotated[int, Depends(double)]) -> dict[str, int]:
        return {name: body.count * times}

    @made.get("")
    async def orders() -> list[str]:
        return []

    return made


@pytest.fixture
def app(router: APIRouter) -> FastAPI:
    made = FastAPI()
    made.router.routes.extend(router.routes)
    return made


def read(router: APIRouter) -> list[bool]:
    return ["dependant" in vars(route) for route in router.routes]


def client(app: FastAPI) -> httpx.AsyncClient:
    return httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url="http://test")


async def test_a_route_is_read_at_its_first_request_and_then_once(router: APIRouter, app: FastAPI) -> None:
    assert read(router) == [False, False]
    async with client(app) as http:
        first = await http.post("/orders/nuts", json={"count": 3})
        dependant = router.routes[0].dependant  # type: ignore[attr-defined]  # BaseRoute has none
        second = await http.post("/orders/nuts?times=3", json={"count": 3})
    assert (first.status_code, first.json(), second.json()) == (201, {"nuts": 6}, {"nuts": 9})
    assert router.routes[0].dependant is dependant  # type: ignore[attr-defined]  # likewise
    assert read(router) == [True, False]


async def test_what_is_matched_and_refused_by_path_and_method_needs_no_route(router: APIRouter, app: FastAPI) -> None:
    async with client(app) as http:
        wrong = await http.delete("/orders/nuts")
        unknown = await http.get("/elsewhere")
    assert (wrong.status_code, wrong.headers["allow"], unknown.status_code) == (405, "POST", 404)
    assert read(router) == [False, False]


def test_the_document_describes_what_is_read_for_it(router: APIRouter, app: FastAPI) -> None:
    described = app.openapi()["paths"]["/orders/{name}"]["post"]
    assert [each["name"] for each in described["parameters"]] == ["name", "times"]
    assert set(described["responses"]) == {"201", "422"}
    assert read(router) == [True, True]


def test_what_no_route_has_is_missed(router: APIRouter) -> None:
    assert not hasattr(router.routes[0], "nothing_of_the_kind")


def test_a_wrong_declaration_is_told_by_its_own_error() -> None:
    class NoModel:
        pass

    async def endpoint() -> NoModel:
        return NoModel()

    route = LateRoute("/x", endpoint, response_model=NoModel)
    for _ in range(2):  # each request is told the same
        with pytest.raises(FastAPIError, match="Invalid args for response field"):
            _ = route.app
