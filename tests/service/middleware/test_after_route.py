"""What a route leaves for after it: the rest of its answer, and what its request holds."""

from typing import Any

import pytest
from starlette.types import Message, Receive, Scope, Send

from agent_service.middleware.after_route import AFTER_ROUTE, AfterRoute, AfterRouteMiddleware


async def nothing() -> Message:
    return {"type": "http.disconnect"}


async def into_nothing(_: Message) -> None:
    return


def after(scope: Scope) -> AfterRoute:
    found: AfterRoute = scope[AFTER_ROUTE]
    return found


async def test_the_rest_is_sent_after_the_route_and_before_what_is_held_is_given_back() -> None:
    order = []

    async def rest(_: Receive, __: Send) -> None:
        order.append("rest")

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        after(scope).releases.append(lambda: order.append("given back"))
        after(scope).send_answer = rest
        order.append("route")

    await AfterRouteMiddleware(app)({"type": "http"}, nothing, into_nothing)
    assert order == ["route", "rest", "given back"]


@pytest.mark.parametrize("within", ["route", "rest"])
async def test_what_is_held_is_given_back_when_something_is_raised(within: str) -> None:
    given_back = []

    async def rest(_: Receive, __: Send) -> None:
        raise RuntimeError("rest")

    async def app(scope: Scope, _: Receive, __: Send) -> None:
        after(scope).releases.append(lambda: given_back.append(True))
        after(scope).send_answer = rest
        if within == "route":
            raise RuntimeError("route")

    with pytest.raises(RuntimeError, match=within):
        await AfterRouteMiddleware(app)({"type": "http"}, nothing, into_nothing)
    assert given_back == [True]


async def test_of_what_the_application_notes_only_the_route_stays() -> None:
    scope: dict[str, Any] = {"type": "http"}

    async def app(own: Scope, _: Receive, __: Send) -> None:
        own["route"], own["dependencies"] = "the route", object()

    await AfterRouteMiddleware(app)(scope, nothing, into_nothing)
    assert scope == {"type": "http", "route": "the route"}
