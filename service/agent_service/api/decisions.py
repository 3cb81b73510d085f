"""Decisions of a person about an interrupt: their form, and whether they fit what was asked."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, Literal, Self, TypeGuard

from pydantic import ConfigDict, FailFast, Field, TypeAdapter, ValidationError, model_validator

from agent_service.api.field_types import Body, JsonObject, JsonValue, Text
from agent_service.errors import InvalidRequest
from agent_service.principal import Principal
from agent_service.resources import Resources
from agent_service.runs.run_types import Interrupt, Run

MAX_DECISIONS = 50


class EditedAction(Body):
    """A tool call as the person wants it."""

    name: Text
    args: JsonObject


class Approve(Body):
    type: Literal["approve"]


class Edit(Body):
    type: Literal["edit"]
    edited_action: EditedAction


class Reject(Body):
    type: Literal["reject"]
    message: Text = Field("", description="Why; the model reads it.")


class Respond(Body):
    type: Literal["respond"]
    message: Text = Field(description="What the model gets in place of the tool's output.")


Decision = Annotated[Approve | Edit | Reject | Respond, Field(discriminator="type")]


class ResumeRequest(Body):
    """Exactly one of the three; none where a breakpoint waits, which takes nothing."""

    model_config = ConfigDict(json_schema_extra={"maxProperties": 1})

    decisions: Annotated[list[Decision], FailFast()] = Field(
        default_factory=list,
        min_length=1,
        max_length=MAX_DECISIONS,
        description="One for each action that a tool's approval asked for, in order.",
    )
    value: JsonValue = Field(None, description="What a graph's own interrupt() returns.")
    values: JsonObject = Field(default_factory=dict, description="The same by interrupt id, when several wait.")

    @model_validator(mode="after")
    def _at_most_one(self) -> Self:
        if len(self.model_fields_set) > 1:
            raise ValueError("expected exactly one of decisions, value, values")
        return self

    @property
    def by_interrupt(self) -> bool:
        """Whether the values are by interrupt id."""
        return "values" in self.model_fields_set

    @property
    def resume_value(self) -> object:
        """What the interrupt returns in the graph; by interrupt id if `by_interrupt`."""
        if self.decisions:
            return {"decisions": [decision.model_dump(exclude_unset=True) for decision in self.decisions]}
        return self.values if self.by_interrupt else self.value


async def decide(res: Resources, principal: Principal, waiting: Run, body: ResumeRequest, key: str | None = None) -> Run:
    """Starts the run that carries the decision, within the input rules. Raises as check_resume and RunService.resume."""
    check_resume(body, waiting)
    await res.thread_runs.check_texts(body.resume_value)
    values, by_interrupt = body.resume_value, body.by_interrupt
    return await res.runs.resume(principal, waiting.id, values=values, by_interrupt=by_interrupt, idempotency_key=key)


_DECISIONS = TypeAdapter(Annotated[list[Decision], FailFast(), Field(max_length=MAX_DECISIONS)])


def check_resume(body: ResumeRequest, run: Run) -> None:
    """Raises InvalidRequest unless each approval that waits gets decisions that fit it, in whichever field they come."""
    given = next(iter(body.model_fields_set), None)
    interrupts = run.interrupts or []
    if run.at_breakpoint or run.outcome == "budget":
        if given and (given != "value" or body.value is not None):
            waits = "a breakpoint waits" if run.at_breakpoint else "the run stopped at its budget"
            raise InvalidRequest(f"{given}: {waits}, which takes no value; expected {{}}", field=given)
        return
    if given is None:
        raise InvalidRequest("body: expected exactly one of decisions, value, values", field="body")
    if body.decisions:
        check_decisions(body.decisions, interrupts)
        return
    for item in interrupts:
        if asks_approval(item["value"]) and (not body.by_interrupt or item["id"] in body.values):
            field = f"values.{item['id']}" if body.by_interrupt else "value"
            check_decisions(_decisions_in(body.values[item["id"]] if body.by_interrupt else body.value, field), [item])


def _decisions_in(value: object, field: str) -> list[Decision]:
    given = value["decisions"] if isinstance(value, Mapping) and value.keys() == {"decisions"} else None
    try:
        return _DECISIONS.validate_python(given)
    except ValidationError:
        raise InvalidRequest(
            f'{field}: an approval waits, expected `decisions` (or {{"decisions": [...]}})', field=field
        ) from None


def asks_approval(value: object) -> TypeGuard[Mapping[str, Any]]:
    """Whether an interrupt's value is a request of langchain's HumanInTheLoopMiddleware, whatever stands in it."""
    return isinstance(value, Mapping) and "action_requests" in value


def check_decisions(decisions: Sequence[Decision], interrupts: Sequence[Interrupt]) -> None:
    """Raises InvalidRequest unless there is one allowed decision for each action that waits.

    Otherwise the graph would raise, and the interrupt would be used up. Interrupts of another form are let through.
    """
    asked = [item["value"] for item in interrupts]
    for request in filter(asks_approval, asked):
        actions = request["action_requests"]
        if len(actions) != len(decisions):
            names = ", ".join(str(action.get("name")) for action in actions)
            raise InvalidRequest(f"decisions: expected {len(actions)}, for {names}, got {len(decisions)}", field="decisions")
        for number, (decision, config) in enumerate(zip(decisions, request.get("review_configs") or [], strict=False)):
            allowed = config.get("allowed_decisions") or [decision.type]
            if decision.type not in allowed:
                field = f"decisions.{number}.type"
                raise InvalidRequest(f"{field}: expected one of {', '.join(allowed)}", field=field)


def in_words(words: str, run: Run) -> ResumeRequest:
    """A decision that was said in text: by whom is at a client that knows nothing of decisions.

    Raises:
        InvalidRequest: it could be taken for more than one thing. Consent must be said in so many words.
    """
    interrupts = run.interrupts or []
    if len(interrupts) > 1:
        raise InvalidRequest(f"{len(interrupts)} decisions wait: text is not enough, expected data with `values`")
    asked = interrupts[0]["value"] if interrupts else None
    if not run.at_breakpoint and not asks_approval(asked):
        return ResumeRequest(value=words)
    verdict, _, why = words.strip().partition(":")
    match verdict.strip().lower():
        case "approve" if not why and run.at_breakpoint:
            return ResumeRequest()
        case "approve" if not why:
            decision: Decision = Approve(type="approve")
        case "reject" if not run.at_breakpoint:
            decision = Reject(type="reject", message=why.strip())
        case _:
            or_not = "" if run.at_breakpoint else ", `reject` or `reject: why`, or data with `decisions`"
            raise InvalidRequest(f"the run waits for consent: expected `approve`{or_not}")
    actions = asked["action_requests"] if asks_approval(asked) else []
    return ResumeRequest(decisions=[decision] * len(actions))
