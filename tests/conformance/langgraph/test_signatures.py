"""Every parameter of every method of the SDK: honoured, or refused by its name. A new one fails here until it is decided on."""

import inspect
import uuid
from typing import Any

import httpx
import pytest
from langgraph_sdk import get_sync_client
from langgraph_sdk.client import LangGraphClient

from tests.conformance.langgraph.sites import Site

pytestmark = pytest.mark.asyncio(loop_scope="session")

OF_THE_CLIENT = {"headers", "params", "response_format", "raise_error", "on_run_created", "version", "run_start_timeout"}
"""What the SDK does by itself, or with what every call takes."""

RUN = """assistant_id input command stream_mode stream_subgraphs stream_resumable metadata config context checkpoint checkpoint_id
    checkpoint_during interrupt_before interrupt_after webhook multitask_strategy if_not_exists on_completion after_seconds
    durability strict_resume"""

WAIT = "stream_mode stream_subgraphs stream_resumable"
"""What a run has that is waited for has none of."""

CRON = """assistant_id schedule input metadata config context checkpoint_during interrupt_before interrupt_after webhook
    multitask_strategy end_time enabled timezone stream_mode stream_subgraphs stream_resumable durability"""

HONOURED: dict[str, str] = {
    "assistants.count": "metadata graph_id name",
    "assistants.create": "graph_id config context metadata assistant_id if_exists name description",
    "assistants.delete": "assistant_id delete_threads",
    "assistants.get": "assistant_id",
    "assistants.get_graph": "assistant_id xray",
    "assistants.get_schemas": "assistant_id",
    "assistants.get_subgraphs": "assistant_id namespace recurse",
    "assistants.get_versions": "assistant_id metadata limit offset",
    "assistants.search": "metadata graph_id name limit offset sort_by sort_order select",
    "assistants.set_latest": "assistant_id version",
    "assistants.update": "assistant_id graph_id config context metadata name description",
    "crons.count": "assistant_id thread_id metadata",
    "crons.create": f"{CRON} on_run_completed",
    "crons.create_for_thread": f"thread_id {CRON}",
    "crons.delete": "cron_id",
    "crons.search": "assistant_id thread_id enabled metadata limit offset sort_by sort_order select",
    "crons.update": """cron_id schedule end_time input metadata config context webhook interrupt_before interrupt_after
        on_run_completed enabled timezone stream_mode stream_subgraphs stream_resumable durability""",
    "runs.cancel": "thread_id run_id wait action",
    "runs.cancel_many": "thread_id run_ids status action",
    "runs.create": f"thread_id {RUN}",
    "runs.create_batch": "payloads",
    "runs.delete": "thread_id run_id",
    "runs.get": "thread_id run_id",
    "runs.join": "thread_id run_id",
    "runs.join_stream": "thread_id run_id cancel_on_disconnect stream_mode last_event_id",
    "runs.list": "thread_id limit offset status select",
    "runs.stream": f"thread_id {RUN} feedback_keys on_disconnect",
    "runs.wait": f"thread_id {RUN} on_disconnect",
    "store.delete_item": "namespace key",
    "store.get_item": "namespace key refresh_ttl",
    "store.list_namespaces": "prefix suffix max_depth limit offset",
    "store.put_item": "namespace key value",
    "store.search_items": "namespace_prefix filter limit offset refresh_ttl",
    "threads.copy": "thread_id",
    "threads.count": "metadata status",
    "threads.create": "metadata thread_id if_exists graph_id supersteps",
    "threads.delete": "thread_id",
    "threads.get": "thread_id",
    "threads.get_history": "thread_id limit before metadata checkpoint select",
    "threads.get_state": "thread_id checkpoint checkpoint_id subgraphs select",
    "threads.join_stream": "thread_id last_event_id stream_mode",
    "threads.prune": "thread_ids",
    "threads.search": "metadata ids status limit offset sort_by sort_order select",
    "threads.stream": "thread_id assistant_id",
    "threads.update": "thread_id metadata return_minimal",
    "threads.update_state": "thread_id values as_node checkpoint checkpoint_id",
}

THREAD = "{thread}"

CHECKPOINT = {"checkpoint_id": "1", "checkpoint_ns": ""}

OF_ANOTHER = {**CHECKPOINT, "thread_id": "00000000-0000-4000-8000-000000000000"}

RUN_OF_AGENT: dict[str, Any] = {"thread_id": THREAD, "assistant_id": "agent"}

TRACED = {**RUN_OF_AGENT, "langsmith_tracing": {"project_name": "other"}}

REFUSED: list[tuple[str, str, dict[str, Any]]] = [
    ("runs.create", "langsmith_tracer", TRACED),
    ("runs.wait", "langsmith_tracer", TRACED),
    ("threads.count", "values", {"values": {"a": 1}}),
    ("threads.create", "ttl", {"ttl": 5}),
    ("threads.get", "include", {"thread_id": THREAD, "include": ["ttl"]}),
    ("threads.prune", "strategy", {"thread_ids": [THREAD], "strategy": "keep_latest"}),
    ("threads.search", "values", {"values": {"a": 1}}),
    ("threads.search", "extract", {"extract": {"first": "values.messages[0]"}}),
    ("threads.update", "ttl", {"thread_id": THREAD, "metadata": {}, "ttl": 5}),
    # What contradicts itself, or the request that it is in.
    ("runs.create", "input", {**RUN_OF_AGENT, "input": {"messages": []}, "command": {"resume": "yes"}}),
    ("runs.create", "on_completion", {**RUN_OF_AGENT, "on_completion": "delete"}),
    ("runs.create", "checkpoint", {"thread_id": None, "assistant_id": "agent", "checkpoint_id": "1"}),
    ("runs.create", "checkpoint.thread_id", {**RUN_OF_AGENT, "checkpoint": OF_ANOTHER}),
    ("threads.get_history", "checkpoint.thread_id", {"thread_id": THREAD, "checkpoint": OF_ANOTHER}),
    ("threads.get_history", "checkpoint.thread_id", {"thread_id": THREAD, "before": OF_ANOTHER}),
    ("threads.get_state", "checkpoint.thread_id", {"thread_id": THREAD, "checkpoint": OF_ANOTHER}),
    ("threads.update_state", "checkpoint.thread_id", {"thread_id": THREAD, "values": {}, "checkpoint": OF_ANOTHER}),
    ("store.put_item", "index", {"namespace": ["a"], "key": "k", "value": {}, "index": ["text"]}),
    ("store.put_item", "ttl", {"namespace": ["a"], "key": "k", "value": {}, "ttl": 5}),
    ("store.search_items", "query", {"namespace_prefix": ["a"], "query": "meaning"}),
]
"""With what is sent, and the field that the answer names."""

SENT_AS = {"langsmith_tracer": "langsmith_tracing"}
"""Parameters by the field that they go into."""

BY_ANOTHER_WIRE = {("threads.stream", "transport")}
"""A WebSocket, below."""


def methods(client: object) -> dict[str, set[str]]:
    """Parameters of each call, by `part.method`."""
    found = {}
    for part in ("assistants", "threads", "runs", "crons", "store"):
        for name, method in inspect.getmembers(getattr(client, part), inspect.ismethod):
            if not name.startswith("_"):
                found[f"{part}.{name}"] = set(inspect.signature(method).parameters) - OF_THE_CLIENT
    return found


def decided() -> dict[str, set[str]]:
    found = {method: set(names.split()) - OF_THE_CLIENT for method, names in HONOURED.items()}
    found["runs.wait"] -= set(WAIT.split())
    for method, name in [*((method, name) for method, name, _ in REFUSED), *BY_ANOTHER_WIRE]:
        found[method].add(SENT_AS.get(name, name.partition(".")[0]))
    found["runs.stream"].add("langsmith_tracing")  # of the same body as that of runs.create
    return found


async def test_each_parameter_of_each_method_is_decided_on(site: Site, sdk: LangGraphClient) -> None:
    with get_sync_client(url=site.url, api_key=None) as sync:
        found = methods(sdk)
        assert found == decided()
        of_sync = methods(sync)
    assert {method: names - found[method] for method, names in of_sync.items() if names - found[method]} == {}


@pytest.mark.parametrize(("method", "field", "given"), REFUSED, ids=[f"{method}-{field}" for method, field, _ in REFUSED])
async def test_what_is_not_supported_is_refused_by_its_name(
    sdk: LangGraphClient, thread: str, site: Site, method: str, field: str, given: dict[str, Any]
) -> None:
    if site.is_reference:
        return  # it has them
    part, name = method.split(".")
    call = getattr(getattr(sdk, part), name)
    filled = {key: _filled(value, thread) for key, value in given.items()}
    bound = inspect.signature(call).bind_partial()
    bound.arguments.update(filled)
    with pytest.raises(httpx.HTTPStatusError) as refused:
        await call(*bound.args, **bound.kwargs)
    answer = refused.value.response
    assert (answer.status_code, answer.json()["field"]) == (422, field)
    assert answer.json()["detail"].startswith(f"{field}: ")
    assert "should be None" not in answer.json()["detail"]


def _filled(value: Any, thread: str) -> Any:
    return (
        [thread if each == THREAD else each for each in value]
        if isinstance(value, list)
        else thread
        if value == THREAD
        else value
    )


async def test_a_websocket_of_protocol_2_is_refused_by_its_name(http: httpx.AsyncClient, site: Site) -> None:
    if site.is_reference:
        return  # it has them
    headers = {
        "Connection": "Upgrade", "Upgrade": "websocket", "Sec-WebSocket-Version": "13",
        "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
    }  # fmt: skip
    answer = await http.get(f"/threads/{uuid.uuid4()}/stream/events", headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (422, "Upgrade")
    assert "WebSocket" in answer.json()["detail"]


async def test_threads_are_pruned(sdk: LangGraphClient, thread: str) -> None:
    kept = (await sdk.threads.create())["thread_id"]
    pruned: Any = await sdk.threads.prune([thread, str(uuid.uuid4())])
    assert pruned == {"pruned_count": 1}
    with pytest.raises(httpx.HTTPStatusError):
        await sdk.threads.get(thread)
    assert (await sdk.threads.get(kept))["thread_id"] == kept
