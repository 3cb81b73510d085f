"""What A2A's methods are given, in the forms of 1.0 and 0.3 alike. Unknown fields are ignored: the protocol grows."""

from typing import Annotated, Any, Literal

from pydantic import AliasChoices, ConfigDict, FailFast, Field, StringConstraints

from agent_service.api.field_types import JsonValue, Lenient, SessionId, Text

MAX_PARTS = 200
"""Of one message."""

ShortText = Annotated[Text, StringConstraints(min_length=1, max_length=256)]


class _Params(Lenient):
    model_config = ConfigDict(strict=True, validate_by_name=False)


class Part(_Params):
    """Text, or data: what a decision says. 0.3 says in `kind` what it is, 1.0 by the field that is there."""

    kind: str = ""
    text: Text | None = None
    data: JsonValue = None


class Message(_Params):
    message_id: ShortText = Field(alias="messageId")
    context_id: SessionId | None = Field(None, alias="contextId")
    task_id: ShortText | None = Field(None, alias="taskId")
    role: Literal["ROLE_USER", "user"]
    parts: Annotated[list[Part], FailFast(), Field(min_length=1, max_length=MAX_PARTS)]


class Configuration(_Params):
    accepted_output_modes: Annotated[list[ShortText], FailFast(), Field(max_length=50)] = Field(
        default_factory=list, alias="acceptedOutputModes"
    )
    return_immediately: bool = Field(False, alias="returnImmediately")
    blocking: bool = True
    history_length: int | None = Field(None, alias="historyLength")
    push: Any = Field(None, validation_alias=AliasChoices("taskPushNotificationConfig", "pushNotificationConfig"))

    @property
    def waits(self) -> bool:
        """Whether the answer is to be the task's end: the usual, in both forms."""
        return self.blocking and not self.return_immediately


class SendParams(_Params):
    message: Message
    configuration: Configuration = Field(default_factory=Configuration)


class TaskParams(_Params):
    id: ShortText
    history_length: int | None = Field(None, alias="historyLength")
