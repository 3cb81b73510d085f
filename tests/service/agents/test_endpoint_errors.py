from datetime import UTC, datetime

import aiohttp
import pytest

from agent_service.agents.endpoint_errors import (
    TRANSPORT,
    AttemptFailed,
    error_message,
    error_reason,
    failure,
    parse_retry_after,
    pause,
    status_of,
    stream_failure,
    transport_failure,
)
from agent_service.errors import ModelRejected

NOW = datetime(2026, 3, 1, 12, 0, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        (None, None),
        ("2", 2.0),
        ("0.5", 0.5),
        ("0", 0.0),
        ("-4", 0.0),
        ("3600", 30.0),
        ("Sun, 01 Mar 2026 12:00:07 GMT", 7.0),
        ("Sun, 01 Mar 2026 13:00:00 GMT", 30.0),
        ("Sun, 01 Mar 2026 11:00:00 GMT", 0.0),
        ("soon", None),
        ("nan", None),
        ("inf", None),
    ],
)
def test_retry_after_is_seconds_or_a_date_and_at_most_half_a_minute(header: str | None, seconds: float | None) -> None:
    assert parse_retry_after(header, NOW) == seconds


def test_waits_double_up_to_a_limit_and_are_drawn_from_the_whole_range() -> None:
    assert [pause(retry, None, 1.0) for retry in range(6)] == [0.5, 1.0, 2.0, 4.0, 8.0, 8.0]
    assert pause(3, None, 0.0) == 0.0


def test_what_the_endpoint_asks_for_goes_before_the_backoff_and_is_spread() -> None:
    assert [pause(retry, 12.0, share) for retry, share in ((0, 0.0), (5, 0.0), (0, 1.0))] == [12.0, 12.0, 15.0]


@pytest.mark.parametrize(
    ("code", "status"),
    [(408, "timeout"), (429, "rate_limited"), (500, "server_error"), (503, "server_error"), (529, "server_error")],
)
def test_statuses_that_may_pass_are_retried(code: int, status: str) -> None:
    failed = failure(code, "")
    assert isinstance(failed, AttemptFailed)
    assert failed.status == status


@pytest.mark.parametrize("code", [302, 400, 403, 404, 422])
def test_other_statuses_are_a_rejection_whose_message_is_for_the_graph_alone(code: int) -> None:
    failed = failure(code, "Incorrect API key provided: sk-1", reason="no_such_key")
    assert isinstance(failed, ModelRejected)
    assert failed.detail == f"the model endpoint refused the request (HTTP {code}, no_such_key)"
    assert vars(failed)["message"].endswith("sk-1")
    assert str(failed).endswith("sk-1")


@pytest.mark.parametrize(
    ("error", "reason"),
    [
        ({"code": "context_length_exceeded", "type": "invalid_request_error"}, "context_length_exceeded"),
        ({"code": None, "type": "invalid_request_error"}, "invalid_request_error"),
        ({"code": "the key sk-1 is wrong"}, ""),
        ({"code": 400, "type": ["x"]}, ""),
        ({"code": "x" * 65}, ""),
        ("no way", ""),
        (None, ""),
    ],
)
def test_a_reason_is_a_name_or_nothing(error: object, reason: str) -> None:
    assert error_reason({"error": error}) == reason


@pytest.mark.parametrize(
    "body",
    [
        {"error": {"message": "no\n way"}},
        {"error": "no way"},
        {"message": "no way"},
        "no way",
        [{"error": {"code": 400, "message": "no way", "status": "INVALID_ARGUMENT"}}],
        {"object": "error", "message": "no way", "type": "BadRequestError", "code": 400},
    ],
)
def test_the_message_is_found_in_each_shape_of_error(body: object) -> None:
    assert error_message(body) == "no way"


@pytest.mark.parametrize(
    ("error", "status"),
    [
        (aiohttp.SocketTimeoutError(), "timeout"),
        (aiohttp.ConnectionTimeoutError(), "connection_error"),
        (aiohttp.ServerDisconnectedError(), "connection_error"),
        (aiohttp.ClientPayloadError(), "connection_error"),
        (ConnectionResetError(), "connection_error"),
    ],
)
def test_errors_of_the_transport_are_failures_of_the_attempt(error: Exception, status: str) -> None:
    assert isinstance(error, TRANSPORT)
    assert transport_failure(error, 1.0).status == status


@pytest.mark.parametrize(
    ("error", "kind", "status"),
    [
        ({"code": "429", "message": "slow down"}, AttemptFailed, "rate_limited"),
        ({"code": 429}, AttemptFailed, "rate_limited"),
        ({"code": "400", "type": "None"}, ModelRejected, "client_error"),
        ({"code": "500"}, AttemptFailed, "server_error"),
        ({"code": "4000"}, AttemptFailed, "server_error"),
        ({"code": None, "type": "overloaded_error"}, AttemptFailed, "server_error"),
        ({"object": "error", "message": "too long", "code": 400}, ModelRejected, "client_error"),
        ("overloaded", AttemptFailed, "server_error"),
    ],
)
def test_an_error_inside_a_stream_goes_by_its_code_also_as_text(error: object, kind: type[Exception], status: str) -> None:
    failed = stream_failure(error)
    assert (isinstance(failed, kind), status_of(failed)) == (True, status)
