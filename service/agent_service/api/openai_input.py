"""What an OpenAI client sent, as a graph's input: its messages, and the conversation that they belong to.

Clients tell a conversation in three ways. By a name that says: you remember, here is what comes next. By a name beside
the whole history, as chat pages do, which also ask for titles under that name, let people edit what they said, and ask
again. Or by the history alone. `user` is no such name: LibreChat and Open WebUI send the person's id there.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from agent_service.api.openai_schemas import ChatMessage, CompletionRequest
from agent_service.errors import InvalidRequest

REMEMBERED = ("x-session-id",)
"""Headers that name a session of the agent, which then reads the last message only."""

CHATS = ("x-openwebui-chat-id", "x-conversation-id")
"""Headers that name a chat of a page that sends its history: Open WebUI's (ENABLE_FORWARD_USER_INFO_HEADERS), and one for
LibreChat's `headers:` with {{LIBRECHAT_BODY_CONVERSATIONID}}."""

MAX_NAME_CHARS = 256


@dataclass(frozen=True, slots=True)
class Conversation:
    """A session of the caller's, by the client's name for it. `remembered`: the client leaves the history to the agent."""

    session_id: str
    remembered: bool


def conversation(headers: Mapping[str, str], metadata: Mapping[str, Any]) -> Conversation | None:
    """Which conversation the request names; None if it names none."""
    places = (
        (True, [*(headers.get(name) for name in REMEMBERED), metadata.get("session_id")]),
        (False, [*(headers.get(name) for name in CHATS), metadata.get("conversation_id")]),
    )
    for remembered, names in places:
        for name in names:
            if isinstance(name, str) and name.strip():
                return Conversation(_session_id(name.strip()), remembered)
    return None


def _session_id(name: str) -> str:
    if len(name) > MAX_NAME_CHARS:
        raise InvalidRequest(f"the conversation's name: expected at most {MAX_NAME_CHARS} characters", field="metadata")
    # A hash, so that any text can be a name. The session is the caller's own, whoever else can work the hash out.
    return "v1-" + hashlib.sha256(name.encode(errors="surrogatepass")).hexdigest()[:40]


def question(body: CompletionRequest, *, max_chars: int, images: bool) -> str:
    """The text of the last message. Raises InvalidRequest for messages that the agent cannot take."""
    last = body.messages[-1]
    if last.role != "user" or not last.text.strip():
        raise InvalidRequest("messages: expected the last one to be the user's, with some text", field="messages")
    if len(last.text) > max_chars:
        raise InvalidRequest(f"messages: expected at most {max_chars} characters in the last one", field="messages")
    for number, message in enumerate(body.messages):
        for place, _ in message.images:
            if not images:
                field = f"messages.{number}.content.{place}"
                raise InvalidRequest(f"{field}: this agent reads text only; leave the image out", field=field)
    return last.text


def graph_messages(messages: Sequence[ChatMessage]) -> list[dict[str, Any]]:
    """The messages for the graph, in a form that every model takes: none is empty, each call of a tool has its result."""
    answered = {message.tool_call_id for message in messages if message.role == "tool"}
    asked: set[str] = set()
    given: list[dict[str, Any]] = []
    for message in messages:
        if message.role == "tool":
            if message.tool_call_id in asked:
                asked.discard(message.tool_call_id)
                given.append({"role": "tool", "content": message.text, "tool_call_id": message.tool_call_id})
            continue
        calls = [call for call in message.tool_calls if call.id in answered] if message.role == "assistant" else []
        asked |= {call.id for call in calls}
        if content := message.graph_content or ("" if calls else None):
            given.append({"role": "system" if message.role == "developer" else message.role, "content": content})
        elif calls:
            given.append({"role": "assistant", "content": ""})
        if calls:
            given[-1]["tool_calls"] = [{"type": "function", **call.model_dump()} for call in calls]
    return given


def history(messages: Sequence[ChatMessage]) -> list[tuple[str, str]]:
    """What was said before the last message: (role, text) of the user and the assistant."""
    spoken = [m for m in messages[:-1] if m.role in {"user", "assistant"}]
    return [(m.role, m.text.strip()) for m in spoken if m.text.strip()]


def ends_with(sent: Sequence[tuple[str, str]], so_far: Sequence[tuple[str, str]]) -> bool:
    """Whether a client's history ends where the session stands. An edited one, a branch or a title's prompt does not."""
    return len(sent) >= len(so_far) and list(sent[len(sent) - len(so_far) :]) == list(so_far)
