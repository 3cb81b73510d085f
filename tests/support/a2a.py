"""A2A's own client, and a careful user of it."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx
from a2a.client import Client, ClientConfig, ClientFactory
from a2a.client.base_client import BaseClient
from a2a.client.card_resolver import parse_agent_card
from a2a.helpers.proto_helpers import new_data_part, new_text_part
from a2a.types.a2a_pb2 import Message, Role, SendMessageRequest, StreamResponse, Task, TaskState


@asynccontextmanager
async def client_of(url: str, version: str = "1.0", headers: dict[str, str] | None = None) -> AsyncIterator[Client]:
    """A client that reads the card of that version, and so speaks it."""
    async with httpx.AsyncClient(headers=headers, timeout=30) as http:
        card = (await http.get(f"{url}/.well-known/agent-card.json", headers={"A2A-Version": version})).json()
        if version == "0.3":
            card.pop("supportedInterfaces")
        yield ClientFactory(ClientConfig(httpx_client=http)).create(parse_agent_card(card))


QUESTION = "How far is the moon?"


def message(text: str | None = QUESTION, *, message_id: str = "", data: Any = None, **ids: str) -> SendMessageRequest:
    """A message of a user with one part: the text, or the data."""
    part = new_text_part(text) if text is not None else new_data_part(data)
    return SendMessageRequest(message=Message(message_id=message_id or uuid4().hex, role=Role.ROLE_USER, parts=[part], **ids))


@dataclass
class Told:
    """What a stream said: a client's view of the task, put together as the protocol says."""

    task: Task = field(default_factory=Task)
    artifacts: dict[str, str] = field(default_factory=dict)
    states: list[str] = field(default_factory=list)

    @property
    def answer(self) -> str:
        (text,) = self.artifacts.values()
        return text

    def take(self, event: StreamResponse) -> None:
        if event.HasField("task"):
            self.task = event.task
            self.artifacts = {a.artifact_id: a.parts[0].text for a in event.task.artifacts}
            self.states.append(TaskState.Name(event.task.status.state))
        elif event.HasField("artifact_update"):
            update = event.artifact_update
            before = self.artifacts.get(update.artifact.artifact_id, "") if update.append else ""
            self.artifacts[update.artifact.artifact_id] = before + update.artifact.parts[0].text
        else:
            self.task.status.CopyFrom(event.status_update.status)
            self.states.append(TaskState.Name(event.status_update.status.state))


async def told(
    events: AsyncIterator[StreamResponse], into: Told | None = None, *, until_text: int | None = None, leave: bool = True
) -> Told:
    """Reads to the end, or until so many characters of the answer are there, and then leaves."""
    so_far = into or Told()
    async for event in events:
        so_far.take(event)
        if until_text is not None and sum(map(len, so_far.artifacts.values())) >= until_text:
            break
    if leave:
        await events.aclose()  # type: ignore[attr-defined]  # they are generators
    return so_far


async def send(client: Client, request: SendMessageRequest) -> Task:
    """By the call that waits for the end."""
    assert isinstance(client, BaseClient)
    client._config.streaming = False
    try:
        (event,) = [event async for event in client.send_message(request)]
    finally:
        client._config.streaming = True
    return event.task
