"""Runs that execute in this process."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Literal
from uuid import UUID

from langgraph.runtime import RunControl

from agent_service.runs.buffer import EventBuffer, Watch
from agent_service.runs.run_types import Ending, HandOver, ModelCall, Run
from agent_service.runs.steps import Steps
from agent_service.tracing.spans import UNTRACED

StopReason = Literal["cancel", "hand_over", "lost", "refused"]
"""`refused`: the database does not take what the run stores."""


KEPT_STATES = 16
"""Of a run, in memory, where they mostly share their parts. A reader who is further behind gets them from the checkpoints."""


class LiveRun:
    """One attempt at a run: what it has said and used, what of it is not yet stored, and how it is stopped."""

    def __init__(self, run: Run, *, fresh: bool = False) -> None:
        """`fresh`: its session is new, so the graph had no state before it."""
        self.run = run
        self.fresh = fresh
        self.said = EventBuffer(run.attempt)
        self.calls: list[ModelCall] = []
        """That go into the ledger: of this attempt, and those that it found open of a dead one."""
        self.billed: Sequence[ModelCall] = ()
        """That earlier attempts have put into the ledger."""
        self.logged_events = 0
        self.logged_calls = 0
        self.route = run.route
        """That the graph took; a run that goes on after a decision begins with that of the run before."""
        self.cached = False
        """Its answer is that of another run."""
        self.sourced = False
        """A tool has cited a source."""
        self.refused = False
        """The graph or its model has declined to answer."""
        self.embedded: Callable[[str, int, bool], None] = lambda _model, _tokens, _estimated: None
        """Bills an embedding: its model and tokens, and whether these are estimated."""
        self.trace = UNTRACED
        self.stop: StopReason | None = None
        self.task: asyncio.Task[None] | None = None
        self.started = False
        self.control = RunControl()
        """Of LangGraph: asks it to stop at the end of a step."""
        self.steps = Steps()
        """Of the graph's state: what the next commit takes."""
        self.saving: Steps | None = None
        """What the commit under way has taken."""
        self.ending: Ending | HandOver | None = None
        """How it is to end; set once, and its outcome is what the database has of it."""
        self.put_state = False
        """The graph has put some."""
        self.every_state = True
        """Each of its states is stored; else not those that another one follows before the next commit."""
        self.asks_first = False
        """Its graph's first state holds the question alone."""
        self.question: str | None = None
        """The checkpoint that does."""
        self.left_out: set[str] = set()
        """Checkpoints that are not stored: what comes late for them is not either."""
        self.urgent = False
        """The next commit takes all that it has; else one within FLUSH_SECONDS takes what it should (writer.py)."""
        self.forgivable = True
        """Should it be lost to a peer: whether the crash that was counted for it may be taken back. Set by the watchdog."""
        self.states: dict[int, Any] = {}
        """The newest states of the graph, by the number of the event that tells of each: for who reads along."""
        self.advanced = False
        """This attempt has stored the end of a step: what it met, it survived."""

    def keep_state(self, state: Any) -> None:
        """Of the event that is published next."""
        self.states[len(self.said.events) + 1] = state
        while len(self.states) > KEPT_STATES:
            del self.states[next(iter(self.states))]

    @property
    def stopped(self) -> bool:
        """True once the run is not to go on here."""
        return self.stop is not None

    def halt(self, reason: StopReason) -> None:
        """Stops it, unless it has stopped or said its last. What it still writes is for its task to say."""
        if self.stop is None and self.task and self.said.state == "open":
            self.stop = reason
            if self.started:  # a task that is cancelled before its first step never gets to end its run
                self.task.cancel()

    @property
    def unwritten(self) -> bool:
        """Whether anything of it is not committed."""
        return bool(self.steps or self.saving) or self._has_news

    @property
    def gives_steps(self) -> bool:
        """Whether the next commit takes its `steps`. The question alone waits for work: a session's history stands in it."""
        return bool(self.steps) and (self.steps.work or self.every_state or self.urgent or self.ending is not None)

    @property
    def due(self) -> bool:
        """Whether the next commit has anything to take of it."""
        return self.gives_steps or self._has_news

    @property
    def _has_news(self) -> bool:
        return self.logged_events < len(self.said.events) or self.logged_calls < len(self.calls)


class LiveRuns:
    """The live runs of this process by id, and who reads the log of which runs, wherever these execute."""

    def __init__(self) -> None:
        self._runs: dict[UUID, LiveRun] = {}
        self._readers: dict[UUID, set[Watch]] = {}

    def watch_log(self, run_id: UUID) -> "Watch":
        """Wakes when the log may have news of that run."""
        # Those of runs that nobody reads any more go with the next reader of any run.
        for idle in [run for run, watches in self._readers.items() if not watches]:
            del self._readers[idle]
        return Watch(self._readers.setdefault(run_id, set()))

    def is_watched(self, run_id: UUID) -> bool:
        """Whether anybody follows the run on this process."""
        live = self._runs.get(run_id)
        return bool((live and live.said.watched) or self._readers.get(run_id))

    def tell(self, run_id: UUID) -> None:
        """Wakes those who read the run's log here."""
        for watch in self._readers.get(run_id, ()):
            watch.wake("now")

    def tell_all(self) -> None:
        """Likewise for every run: after a gap in notices anything may have happened."""
        for run_id in self._readers:
            self.tell(run_id)

    def add(self, run: Run, *, fresh: bool = False) -> LiveRun:
        """From now on the run executes here."""
        live = LiveRun(run, fresh=fresh)
        self._runs[run.id] = live
        return live

    def discard(self, live: LiveRun) -> None:
        """The attempt is over, or another one has taken its place already."""
        if self._runs.get(live.run.id) is live:
            del self._runs[live.run.id]

    def get(self, run_id: UUID) -> LiveRun | None:
        return self._runs.get(run_id)

    def __iter__(self) -> Iterator[LiveRun]:
        return iter(list(self._runs.values()))

    def __len__(self) -> int:
        return len(self._runs)
