"""JSON-RPC 2.0 over HTTP, as MCP and A2A speak it: one call a request, and our errors as its error objects."""

from abc import abstractmethod
from collections.abc import Callable, Coroutine
from functools import partial
from typing import Annotated, Any, Literal

from fastapi import Depends, Request
from fastapi.exceptions import RequestValidationError
from pydantic import BaseModel, ConfigDict, Field, StringConstraints
from starlette.responses import Response

from agent_service.api.deps import Caller, take_place
from agent_service.api.error_handlers import first_of, headers_of
from agent_service.api.field_types import Lenient
from agent_service.api.json_body import JsonResponse, JsonRoute, json_line
from agent_service.api.openapi import PROBLEMS
from agent_service.errors import InvalidRequest, SlipwayError
from agent_service.middleware.problem_details import MAX_DETAIL_CHARS, shortened
from agent_service.resources import Resources

PARSE_ERROR, INVALID_MESSAGE, NO_SUCH_METHOD, INVALID_PARAMS = -32700, -32600, -32601, -32602

REFUSED = -32000
"""Of our own errors that the protocol has no code for; the error's data names them."""

MAX_ID_CHARS = 256
"""Of a call's id or a progress token, which stands in each message of an answer. Clients send a number or a UUID."""

CallId = Annotated[str, StringConstraints(max_length=MAX_ID_CHARS)] | Annotated[int, Field(ge=-(2**63), lt=2**63)]

CALL_ID = "slipway.call"
"""Where a request keeps the id of its call, once that is known."""


class Message(Lenient):
    """A call, or a notification: it has no id, and gets no answer. A list of several is refused, as both protocols do."""

    model_config = ConfigDict(strict=True)

    jsonrpc: Literal["2.0"]
    id: CallId | None = None
    method: Annotated[str, StringConstraints(min_length=1, max_length=100)]
    params: dict[str, Any] = Field(default_factory=dict, description="By the method's own rules.")


class ErrorObject(BaseModel):
    code: int
    message: str = Field(description="One sentence for people; names the field and what was expected.")
    data: Any = Field(None, description="The stable name of the error, for programs, and whether to try again.")


class Answer(BaseModel):
    """`result` or `error`."""

    jsonrpc: Literal["2.0"]
    id: CallId | None
    result: Any = None
    error: ErrorObject | None = None


PROBLEM_STATUSES = (413, 415, 422, 431)
"""What is wrong before there is a call is a problem, as everywhere."""

RPC_ANSWERS: dict[int | str, dict[str, Any]] = {
    status: problem if status in PROBLEM_STATUSES else {"model": Answer, "description": problem["description"]}
    for status, problem in PROBLEMS.items()
} | {400: {"model": Answer, "description": "No JSON, or no call."}}


class RpcError(InvalidRequest):
    """An error that has a code in JSON-RPC, or in the protocol over it."""

    status = 400

    def __init__(self, rpc_code: int, detail: str, *, field: str | None = None, **extra: Any) -> None:
        super().__init__(detail, field=field, **extra)
        self.rpc_code = rpc_code


class RpcRoute(JsonRoute):
    """Answers a call that fails with an error object."""

    @abstractmethod
    def code_of(self, error: SlipwayError) -> int:
        """JSON-RPC's code of an error of ours."""

    @abstractmethod
    def status_of(self, request: Request, error: SlipwayError) -> int:
        """Of the HTTP answer that carries it."""

    @abstractmethod
    def data_of(self, error: SlipwayError) -> object:
        """What programs are told of it."""

    def challenge(self, res: Resources) -> str:  # noqa: ARG002  # what a wire says of where to get a token
        """`WWW-Authenticate` of a 401."""
        return "Bearer"

    def get_route_handler(self) -> Callable[[Request], Coroutine[Any, Any, Response]]:
        """FastAPI's hook."""
        handler = super().get_route_handler()

        async def with_error_objects(request: Request) -> Response:
            try:
                return await handler(request)
            except RequestValidationError as error:
                return self._refusal(request, malformed(error))
            except SlipwayError as error:
                return self._refusal(request, error)

        return with_error_objects

    def _refusal(self, request: Request, error: SlipwayError) -> Response:
        code = error.rpc_code if isinstance(error, RpcError) else self.code_of(error)
        said = {"code": code, "message": shortened(error.detail, MAX_DETAIL_CHARS), "data": self.data_of(error)}
        headers = headers_of(error)
        if "WWW-Authenticate" in headers:
            headers["WWW-Authenticate"] = self.challenge(request.app.state.resources)
        return JsonResponse(
            {"jsonrpc": "2.0", "id": request.scope.get(CALL_ID), "error": said}, self.status_of(request, error), headers
        )


def malformed(error: RequestValidationError) -> RpcError:
    """The body is no JSON, or no call."""
    errors = error.errors()
    field, detail = first_of(errors)
    return RpcError(PARSE_ERROR if errors[0]["type"] == "json_invalid" else INVALID_MESSAGE, detail, field=field)


def known(request: Request, message: Message) -> None:
    """Errors from here on carry the call's id."""
    request.scope[CALL_ID] = message.id


def result_of(call_id: CallId | None, result: object) -> dict[str, object]:
    """The message that answers a call."""
    return {"jsonrpc": "2.0", "id": call_id, "result": result}


def sse_message(message: object, event_id: str = "") -> bytes:
    """A message as a server-sent event."""
    return (f"id: {event_id}\n" if event_id else "").encode() + b"data: " + json_line(message) + b"\n\n"


Admit = Callable[[], None]


async def admission(request: Request, principal: Caller) -> Admit:
    """`take_place`, for a call that waits. Others must get through when all places are taken, such as the one that cancels."""
    return partial(take_place, request, principal)


AdmitDep = Annotated[Admit, Depends(admission)]
