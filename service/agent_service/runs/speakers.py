"""One answer out of several voices: who speaks while another does waits, and is heard after it."""

from dataclasses import dataclass, field

from agent_service.runs import events
from agent_service.runs.buffer import EventBuffer


@dataclass(slots=True)
class _Waiting:
    texts: list[str] = field(default_factory=list)
    ended: bool = False
    message_id: str | None = None


class Speakers:
    """Model calls that stream at the same time (parallel nodes) reach the answer one message after another.

    A source is the node, `#`, and a number that tells its calls apart. The text of one that waits goes out at once as `partial`
    events, so that a reader may show it beside the answer; when its turn comes a `source` event names it and its text follows.
    """

    def __init__(self, said: EventBuffer) -> None:
        self._said = said
        self._speaking: str | None = None
        self._waiting: dict[str, _Waiting] = {}

    def say(self, source: str, text: str) -> None:
        """Text of a source: at once if it is the one that speaks, else as `partial` until its turn."""
        if self._speaking is None:
            self._begin(source)
        if source == self._speaking:
            self._said.publish_text(text, source)
        else:
            self._waiting.setdefault(source, _Waiting()).texts.append(text)
            self._said.publish(events.partial(text, source))

    def end(self, source: str, message_id: str | None = None) -> None:
        """The source has said all. With an id its text is that message, which a recovery keeps if a checkpoint holds it."""
        if waiting := self._waiting.get(source):
            waiting.ended, waiting.message_id = True, message_id
        elif source == self._speaking:
            self._finish(source, message_id)
            self._let_next_speak()

    def drop(self, source: str) -> None:
        """Takes back what the source said: it is being said anew by another."""
        if self._waiting.pop(source, None) is None:
            self._said.drop_text(source)

    def end_all(self) -> None:
        """Nobody says more: what waits is heard."""
        for waiting in self._waiting.values():
            waiting.ended = True
        self._let_next_speak()

    def _begin(self, source: str) -> None:
        self._speaking = source
        if self._said.text:
            self._said.publish_text("\n\n", source)

    def _finish(self, source: str, message_id: str | None) -> None:
        if message_id:
            self._said.publish(events.message(message_id, source))
        self._speaking = None

    def _let_next_speak(self) -> None:
        self._speaking = None
        while self._waiting:
            source = next(iter(self._waiting))
            waiting = self._waiting.pop(source)
            self._said.publish(events.source(source))
            self._begin(source)
            self._said.publish_text("".join(waiting.texts), source)
            if not waiting.ended:
                return
            self._finish(source, waiting.message_id)
