"""The OpenAPI document is kept: schemathesis makes requests of it, and holds the answers against it."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import httpx
import hypothesis
import pytest
import schemathesis
from hypothesis import HealthCheck, Phase
from schemathesis.core.failures import FailureGroup
from schemathesis.core.result import Ok
from schemathesis.specs.openapi.checks import ignored_auth, positive_data_acceptance

from tests.support.service import RunningService, running_service

pytestmark = pytest.mark.slow

EXAMPLES = 10
"""For each operation: all of them in about 5 s."""

BEYOND_JSON_SCHEMA = {
    "POST /runs/{run_id}/resume", "POST /v1/chat/completions",
    "POST /mcp", "GET /mcp", "POST /a2a", "POST /a2a/{graph}", "GET /a2a/{graph}/.well-known/agent-card.json",
    "POST /assistants", "PATCH /assistants/{assistant_id}", "POST /assistants/{assistant_id}/versions",
    "POST /assistants/{assistant_id}/latest", "POST /assistants/search", "POST /assistants/count",
    "POST /threads", "POST /threads/search", "POST /threads/count", "POST /threads/prune",
    "PATCH /threads/{thread_id}", "POST /threads/{thread_id}/state", "POST /threads/{thread_id}/state/checkpoint",
    "PATCH /threads/{thread_id}/state",
    "POST /threads/{thread_id}/history", "POST /threads/{thread_id}/runs", "POST /threads/{thread_id}/runs/stream",
    "POST /threads/{thread_id}/runs/wait", "POST /runs", "POST /runs/stream", "POST /runs/wait", "POST /runs/batch",
    "POST /runs/crons", "POST /runs/crons/search", "POST /runs/crons/count", "PATCH /runs/crons/{cron_id}",
    "POST /threads/{thread_id}/runs/crons",
    "POST /runs/cancel", "POST /threads/{thread_id}/commands", "POST /threads/{thread_id}/stream/events",
    "GET /threads/{thread_id}/stream/events",
    "GET /store/items", "PUT /store/items", "DELETE /store/items", "POST /store/items/search", "POST /store/namespaces",
}  # fmt: skip
"""No control character at any depth; the last message must be the user's; what a method of JSON-RPC takes; names that are there.
Such rules cannot be written down there."""


@pytest.fixture
async def service(database_url: str) -> AsyncIterator[RunningService]:
    """The default graph on the offline model: each stream comes to its end."""
    async with running_service(database_url) as running:
        yield running


async def test_streams_and_problems_are_documented_with_their_media_types(client: httpx.AsyncClient) -> None:
    paths = (await client.get("/openapi.json")).json()["paths"]

    streams = {
        (method, path)
        for path, operations in paths.items()
        for method, operation in operations.items()
        if "text/event-stream" in operation["responses"].get("200", {}).get("content", {})
    }
    assert streams == {
        ("get", "/chat/stream"), ("post", "/chat/stream"), ("get", "/runs/{run_id}/stream"),
        ("post", "/runs/{run_id}/resume"), ("post", "/v1/chat/completions"),
        ("get", "/mcp"), ("post", "/mcp"), ("post", "/a2a"), ("post", "/a2a/{graph}"),
        ("post", "/runs/stream"), ("post", "/threads/{thread_id}/runs/stream"),
        ("get", "/threads/{thread_id}/runs/{run_id}/stream"), ("post", "/threads/{thread_id}/stream/events"),
        ("get", "/threads/{thread_id}/stream"),
    }  # fmt: skip
    for path, operations in paths.items():
        for operation in operations.values():
            errors = {s: r for s, r in operation["responses"].items() if int(s) >= 400}
            plain = path in {"/live", "/ready", "/health", "/mcp", "/a2a", "/a2a/{graph}"}  # probes, and errors of JSON-RPC
            assert errors or path in {"/live", "/info"}
            for status, response in errors.items():
                before = not plain or status in {"405", "413", "415", "422", "431"}
                assert response["content"].keys() == {"application/problem+json" if before else "application/json"}, path
    assert {"202"} <= paths["/chat"]["post"]["responses"].keys()


@pytest.mark.timeout(120)
@pytest.mark.filterwarnings("ignore:Do not use the `random` module")  # schemathesis does
async def test_made_up_requests_get_documented_answers(service: RunningService) -> None:
    await asyncio.to_thread(_exercise, f"{service.url}/openapi.json")
    assert await service.metric("agent_runs_total", outcome="completed") > 5
    assert await service.metric("agent_runs_total", outcome="failed") == 0


def _exercise(url: str) -> None:
    schema = schemathesis.openapi.from_url(url)
    failures = []
    for result in schema.get_all_operations():
        assert isinstance(result, Ok)
        operation = result.ok()
        try:
            _exercise_operation(operation)
        except (FailureGroup, BaseExceptionGroup) as group:
            failures += [f"{operation.label}: {failure}" for failure in group.exceptions]
    assert not failures, "\n\n".join(failures)


def _exercise_operation(operation: Any) -> None:
    # The service under test has no authentication.
    excluded = [ignored_auth, *([positive_data_acceptance] if operation.label in BEYOND_JSON_SCHEMA else [])]

    @hypothesis.settings(
        max_examples=EXAMPLES,
        deadline=None,
        database=None,
        derandomize=True,
        phases=[Phase.explicit, Phase.generate],
        suppress_health_check=list(HealthCheck),
    )
    @hypothesis.given(case=operation.as_strategy())
    def exercise(case: Any) -> None:
        # A key that is made up twice rightly refuses the second question.
        for place, name in ((case.headers, "Idempotency-Key"), (case.query, "idempotency_key")):
            (place or {}).pop(name, None)
        # What a context may be is the graph's to say (tests/field/test_runtime_context.py); this one takes none.
        if isinstance(case.body, dict):
            case.body.pop("context", None)
        case.call_and_validate(timeout=20, excluded_checks=excluded)

    exercise()
