"""Model calls of a process that died: what the log of events tells of those that never reached the ledger."""

from collections.abc import Container, Iterable
from dataclasses import dataclass, field

from agent_service.runs.events import Event

BYTES_PER_TOKEN = 4
"""Of a prompt, for a bill: of English and of Chinese with o200k_base. A reservation is more careful (budgets.py)."""


def prompt_tokens(size: int) -> int:
    """An estimate, of a prompt of so many bytes: to count each prompt before it is sent would cost every call."""
    return size // BYTES_PER_TOKEN + 1


@dataclass(slots=True)
class CutOff:
    """What one call is known to have used."""

    attempt: int
    number: int
    node: str
    model: str
    prompt_tokens: int
    unseen_tokens: int = 0
    """That no event shows: hidden text, a tool's arguments."""
    shown: list[str] = field(default_factory=list)
    waiting: list[str] = field(default_factory=list)
    """Shown while another spoke; its turn would have shown it again."""

    @property
    def text(self) -> str:
        return "".join((*self.shown, *self.waiting))


def cut_off(history: Iterable[Event], billed: Container[tuple[int, int]]) -> list[CutOff]:
    """The calls that the events of dead attempts tell of, without those that are `billed`: attempt and number of each."""
    calls: dict[tuple[int, str], CutOff] = {}
    for event in history:
        call = calls.get((event.attempt, event.node))
        match event.kind:
            case "call" if "model" in event.payload:
                node, _, number = event.node.rpartition("#")
                begun = CutOff(event.attempt, int(number), node, event.payload["model"], event.payload["prompt_tokens"])
                calls[(event.attempt, event.node)] = begun
            case "call" if call:
                call.unseen_tokens += event.payload.get("unseen_tokens", 0)
            case "text" if call:
                call.shown.append(event.payload)
            case "reasoning" if call:
                call.shown.append(event.payload.get("text", ""))
            case "partial" if call:
                call.waiting.append(event.payload.get("text", ""))
            case "source" if call:
                call.waiting.clear()
    return [call for key, call in calls.items() if (call.attempt, call.number) not in billed]
