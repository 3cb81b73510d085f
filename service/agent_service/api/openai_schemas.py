"""Requests and responses of the OpenAI wire. Unknown fields of a request are ignored: each client sends some of its own.

`null` means the default wherever a field is optional: some clients send every field they know.
"""

from collections.abc import Mapping
from typing import Annotated, Any, Literal

from pydantic import BaseModel, Discriminator, FailFast, Field, Tag
from typing_extensions import TypeAliasType

from agent_service.api.field_types import Lenient, Text

MODEL_ID = "slipway"
"""The default graph on this wire; each graph also has its own name."""

MAX_MESSAGES = 500
"""A chat of 250 turns; longer ones are cut by every client."""

MAX_PARTS = 200
"""Of one message: its text and images; providers take up to a hundred of these."""

MAX_CALLS = 128
"""Of one message of the assistant: as many as OpenAI takes tools in one request."""


class TextPart(Lenient):
    type: Literal["text"]
    text: Text = ""


class RefusalPart(Lenient):
    type: Literal["refusal"]
    refusal: Text = ""


class ImageUrl(Lenient):
    url: Text = Field(min_length=1)
    detail: Text = "auto"


class ImagePart(Lenient):
    type: Literal["image_url"]
    image_url: ImageUrl


Part = Annotated[
    Annotated[TextPart, Tag("text")] | Annotated[RefusalPart, Tag("refusal")] | Annotated[ImagePart, Tag("image_url")],
    Discriminator(
        lambda part: part.get("type") if isinstance(part, dict) else getattr(part, "type", None),
        custom_error_type="part",
        custom_error_message="expected a part of type text, refusal or image_url: the agent takes no audio, video or files",
    ),
]


Parts = TypeAliasType("Parts", Annotated[list[Part], FailFast(), Field(max_length=MAX_PARTS)])


class FunctionCall(Lenient):
    name: Text = Field(min_length=1)
    arguments: Text = "{}"


class ToolCall(Lenient):
    id: Text = Field(min_length=1)
    function: FunctionCall


class ChatMessage(Lenient):
    """Calls of the client's own tools, and their results, are history: the agent calls none of them."""

    role: Literal["system", "developer", "user", "assistant", "tool"]
    content: Annotated[
        Annotated[Text, Tag("text")] | Annotated[Parts, Tag("parts")],
        Discriminator(lambda content: "text" if isinstance(content, str) else "parts"),
    ] = ""
    refusal: Text = ""
    tool_calls: Annotated[list[ToolCall], FailFast(), Field(max_length=MAX_CALLS)] = Field(default_factory=list)
    tool_call_id: Text = ""

    @property
    def text(self) -> str:
        """What it says, of all its parts together; a refusal counts as text."""
        if isinstance(self.content, str):
            return self.content or self.refusal
        return "".join(part.refusal if isinstance(part, RefusalPart) else part.text for part in self._said) or self.refusal

    @property
    def _said(self) -> list[TextPart | RefusalPart]:
        return [part for part in self.content if isinstance(part, TextPart | RefusalPart)]

    @property
    def images(self) -> list[tuple[int, ImagePart]]:
        """With their places among the parts."""
        parts = [] if isinstance(self.content, str) else self.content
        return [(place, part) for place, part in enumerate(parts) if isinstance(part, ImagePart)]

    @property
    def graph_content(self) -> str | list[dict[str, Any]]:
        """As a graph gets it: one text, or parts where there are images."""
        if isinstance(self.content, str) or not self.images:
            return self.text
        return [
            {"type": "text", "text": part.refusal} if isinstance(part, RefusalPart) else part.model_dump()
            for part in self.content
        ]


class StreamOptions(Lenient):
    """`include_usage`: a last chunk tells the tokens."""

    include_usage: bool = False


class CompletionRequest(Lenient):
    """Fields that tune a model (temperature, …) are accepted and left to the graph."""

    model: Text = MODEL_ID
    messages: Annotated[list[ChatMessage], FailFast(), Field(min_length=1, max_length=MAX_MESSAGES)]
    stream: bool = False
    stream_options: StreamOptions | None = None
    user: str | None = Field(None, description="Taken and not used: it names a person, and no conversation.")
    metadata: Mapping[str, Any] = Field(
        default_factory=dict, description="`session_id` or `conversation_id` tells the conversation, as the headers do."
    )
    n: Literal[1] = 1


class Model(BaseModel):
    id: str = MODEL_ID
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "slipway"


class ModelList(BaseModel):
    object: Literal["list"] = "list"
    data: list[Model]


class CompletionMessage(BaseModel):
    role: Literal["assistant"]
    content: str


class Choice(BaseModel):
    index: int
    message: CompletionMessage
    finish_reason: Literal["stop", "length"]


class CompletionUsage(BaseModel):
    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: dict[str, int]


class Completion(BaseModel):
    id: str
    object: Literal["chat.completion"]
    created: int
    model: str
    choices: list[Choice]
    usage: CompletionUsage
