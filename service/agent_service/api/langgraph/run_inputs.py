"""From a client's request to what a run is given: pure, but for the graph's own check of its context."""

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from langgraph.types import Command, Send, StateUpdate
from pydantic import ValidationError

from agent_service.api.langgraph.wire_schemas import Checkpoint, RunConfig, RunCreate, SeedUpdate, StreamMode, Target
from agent_service.errors import BothContexts, InvalidRequest
from agent_service.runs.assistant import own_context
from agent_service.runs.graph_context import GraphContext
from agent_service.runs.run_types import CheckpointInput, ConfigInput, RunInput
from agent_service.runs.thread_types import NamedThread
from agent_service.runs.webhooks import allowed

ALL_MODES: tuple[StreamMode, ...] = ("values", "updates", "messages-tuple", "custom")
"""What a run in the background is recorded in, as its client has yet to say what it wants to read."""

OURS = frozenset({"thread_id", "principal", "checkpoint_id", "checkpoint_ns", "checkpoint_map", "run_id", "slipway_live"})
"""Under `configurable`: what a caller may not set. (Likewise whatever begins like LangGraph's own.)"""

INTERNAL = ("__", "langgraph_")


def asked_of(
    body: RunCreate,
    *,
    schema: GraphContext,
    record: tuple[StreamMode, ...] | None,
    thread: NamedThread | None,
    webhook_hosts: tuple[str, ...],
) -> RunInput:
    """What a client asks for; with what its assistant holds (runs/assistant.py) it is the run's input.

    Raises:
        InvalidRequest: names the field.
        BothContexts: `context` and `config.configurable` at once.
    """
    config_given, fork = _without_fork(body.config)
    at = _checkpoint(body, fork)
    _refuse_contradictions(body, thread, at)
    config = own_config(config_given, body.context, thread)
    modes = list(dict.fromkeys(body.stream_mode or record or (() if record == () else ("values",))))
    given: RunInput = {"context": own_context(schema, body.context, config), "record": [str(mode) for mode in modes]}
    if body.command:
        given["command"] = {key: value for key, value in body.command.model_dump().items() if value is not None}  # type: ignore[typeddict-item]  # its fields
        if not given["command"]:
            raise InvalidRequest("command: expected resume, update or goto", field="command")
    else:
        given["state"] = body.input
    if metadata := {**config.get("metadata", {}), **(body.metadata or {})}:
        config["metadata"] = metadata
    if config:
        given["config"] = config
    if at:
        given["checkpoint"] = at
    if body.stream_subgraphs:
        given["subgraphs"] = True
    if body.interrupt_before:
        given["interrupt_before"] = body.interrupt_before
    if body.interrupt_after:
        given["interrupt_after"] = body.interrupt_after
    given["wire"] = _wire(body, thread, webhook_hosts)
    return given


def _without_fork(config: RunConfig | None) -> tuple[RunConfig | None, str | None]:
    """The config without the checkpoint that a run is to begin at: `forkFrom` of `useStream` names it there.

    Raises:
        InvalidRequest: it is no id.
    """
    configurable = dict(config.configurable or {}) if config else {}
    if config is None or "checkpoint_id" not in configurable:
        return config, None
    try:
        named = Checkpoint.model_validate({"checkpoint_id": configurable.pop("checkpoint_id")})
    except ValidationError:
        field = "config.configurable.checkpoint_id"
        raise InvalidRequest(f"{field}: expected the id of a checkpoint", field=field) from None
    return config.model_copy(update={"configurable": configurable}), named.checkpoint_id


def _refuse_contradictions(body: RunCreate, thread: NamedThread | None, at: CheckpointInput) -> None:
    """What could only be passed over in silence. Raises InvalidRequest."""
    if body.command and body.input:  # clients send an empty input beside a command
        raise InvalidRequest("input: expected none beside a command; `command.update` changes the state", field="input")
    if thread and body.on_completion == "delete":
        raise InvalidRequest(
            "on_completion: only a run without a thread can delete its thread; delete this one", field="on_completion"
        )
    of_thread(body.checkpoint, thread.id if thread else None)
    if thread is None and at:
        raise InvalidRequest("checkpoint: a new thread has none", field="checkpoint")


def of_thread(checkpoint: Checkpoint | None, thread_id: UUID | None) -> None:
    """Raises InvalidRequest for a checkpoint that says that it is of another thread."""
    if checkpoint and checkpoint.thread_id and thread_id and checkpoint.thread_id not in {str(thread_id), thread_id.hex}:
        raise InvalidRequest("checkpoint.thread_id: expected the thread of this request", field="checkpoint.thread_id")


def seed(update: SeedUpdate) -> StateUpdate:
    """What a node is to have returned, for LangGraph. Raises InvalidRequest: both values and a command."""
    if update.command is None:
        return StateUpdate(update.values, update.as_node)
    if update.values:
        raise InvalidRequest("supersteps: expected values or a command in an update, got both", field="supersteps")
    command = update.command
    given: Any = Command(update=command.update, resume=command.resume, goto=_goto(command.goto))  # it takes these, too
    return StateUpdate(given, update.as_node)


def _goto(given: object) -> Any:
    """Nodes, and what some of them are sent."""
    places = given if isinstance(given, list) else [given] if given else []
    return [Send(each.node, each.input) if isinstance(each, Target) else each for each in places]


def _wire(body: RunCreate, thread: NamedThread | None, webhook_hosts: tuple[str, ...]) -> dict[str, Any]:
    found: dict[str, Any] = {
        "metadata": {**(thread.metadata if thread else {}), **(body.metadata or {})},
        "multitask_strategy": body.multitask_strategy or "enqueue",
        "on_disconnect": body.on_disconnect or "continue",
    }
    if body.feedback_keys:
        found["feedback_keys"] = body.feedback_keys
    if body.webhook:
        found["webhook"] = allowed(body.webhook, webhook_hosts)
    return found


def own_config(config: RunConfig | None, context: Mapping[str, Any] | None, thread: NamedThread | None = None) -> ConfigInput:
    """What a client may set of the graph's config. Raises InvalidRequest, BothContexts."""
    found: ConfigInput = {}
    if config is None:
        return found
    if configurable := _configurable(config, thread):
        if context:
            raise BothContexts("Cannot specify both configurable and context: give `context` alone", field="context")
        found["configurable"] = configurable
    if config.tags:
        found["tags"] = config.tags
    if config.recursion_limit:
        found["recursion_limit"] = config.recursion_limit
    if config.max_concurrency:
        found["max_concurrency"] = config.max_concurrency
    if config.metadata:
        found["metadata"] = config.metadata
    return found


def _configurable(config: RunConfig, thread: NamedThread | None) -> dict[str, Any]:
    found = dict(config.configurable or {})
    if thread and found.get("thread_id") == str(thread.id):
        del found["thread_id"]
    for name in found:
        if name in OURS or name.startswith(INTERNAL):
            raise InvalidRequest(f"config.configurable.{name}: a caller may not set it", field=f"config.configurable.{name}")
    return found


def _checkpoint(body: RunCreate, fork: str | None) -> CheckpointInput:
    checkpoint = body.checkpoint or Checkpoint()
    found: CheckpointInput = {}
    if at := checkpoint.checkpoint_id or body.checkpoint_id or fork:
        found["checkpoint_id"] = at
    if checkpoint.checkpoint_ns:
        found["checkpoint_ns"] = checkpoint.checkpoint_ns
    if checkpoint.checkpoint_map:
        found["checkpoint_map"] = checkpoint.checkpoint_map
    return found
