"""Answers to identical first questions, kept for a while: opt-in, as only who wrote the graph knows that they stay true.

The same question of the same scope to the same version of the graph and model, at the start of a session. One run makes the
answer, however many ask at once on however many processes; the others wait for it, and take over if it fails.
"""

import hashlib
import json
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Literal

from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import RunnableConfig
from langgraph.constants import END, START

from agent_service.errors import SettingsError
from agent_service.metrics import Metrics
from agent_service.runs import events
from agent_service.runs.answers import Answers, Found, Made
from agent_service.runs.events import News, storable
from agent_service.runs.graphs import ServedGraph, named_graphs
from agent_service.runs.live_run import LiveRun
from agent_service.runs.pauses import Pauses
from agent_service.runs.recovery import Graph
from agent_service.runs.run_types import Ending
from agent_service.settings import Settings

Scope = Literal["principal", "tenant", "everyone"]

FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS = 0.05, 0.5
"""Between two looks for the answer that another run makes."""

SOURCE = "cache"
"""Where the text of such an answer comes from, in the place of a node."""


def cached_graphs(settings: Settings, served: Sequence[str]) -> frozenset[str]:
    """Graphs whose answers may be given again, as who wrote them has said; none without RESPONSE_CACHE_SECONDS.

    Raises:
        SettingsError: a graph is named that is not served, or none although there are several.
    """
    named = named_graphs("RESPONSE_CACHE_GRAPHS", settings.response_cache_graphs, served)
    if not settings.response_cache_seconds:
        return frozenset()
    if not named and len(served) > 1:
        raise SettingsError(f"RESPONSE_CACHE_GRAPHS: name those of {', '.join(served)} whose answers may be given again")
    return frozenset(named or served)


class ResponseCache:
    """Of one process.

    Args:
        graphs: names of those whose answers may be given again.
        version: of the graphs and their models; another one has answers of its own.
    """

    def __init__(
        self, answers: Answers, metrics: Metrics, *, graphs: frozenset[str], scope: Scope, version: tuple[str, ...]
    ) -> None:
        self._graphs = graphs
        self._answers = answers
        self._metrics = metrics
        self._scope = scope
        self._version = version

    async def through(
        self,
        served: ServedGraph,
        live: LiveRun,
        config: RunnableConfig,
        given: Any,
        said: set[str],
        drive: Callable[[], Awaitable[Ending]],
    ) -> Ending:
        """The run's ending, by the cache or by `drive`.

        Args:
            given: what the graph is to be given; None when an earlier attempt has.
            said: ids of the messages that the session's state has from earlier attempts.
        """
        graph, key = served.graph, self._key(served, live)
        if key is None:
            return await drive()
        if _message_id(live) in said:  # an earlier attempt had got so far
            live.cached = True
            return await _idle(graph, config)
        if given is None:
            return await self._made(live, key, drive)
        found, waited = await self._find(live, key)
        if found.state == "hit":
            self._metrics.cache_requests.labels("waited" if waited else "hit").inc()
            return await self._say(graph, live, config, given["messages"], found)
        if found.state == "make":
            self._metrics.cache_requests.labels("miss").inc()
            return await self._made(live, key, drive)
        return await drive()

    def _key(self, served: ServedGraph, live: LiveRun) -> bytes | None:
        """None for a graph that has not opted in, and for what is no question alone, such as a decision or a history."""
        if served.name not in self._graphs:
            return None
        run = live.run
        if run.input.get("messages") != [{"role": "user", "content": run.question}] or not served.chats:
            return None
        scope = {"principal": (run.tenant, run.user_id), "tenant": (run.tenant,), "everyone": ()}[self._scope]
        asked = [self._scope, *scope, *self._version, served.name, served.target, run.question, run.input.get("context")]
        return hashlib.sha256(json.dumps(asked, sort_keys=True, default=str).encode()).digest()

    async def _find(self, live: LiveRun, key: bytes) -> tuple[Found, bool]:
        """What to do, and whether that took waiting: for as long as another run is executed that makes the answer."""
        pauses = Pauses(FIRST_WAIT_SECONDS, MOST_WAIT_SECONDS)
        while True:
            found = await self._answers.find(live, key, again=pauses.taken > 0)
            if found.state != "wait":
                return found, pauses.taken > 0
            await pauses.take()

    async def _made(self, live: LiveRun, key: bytes, drive: Callable[[], Awaitable[Ending]]) -> Ending:
        """Has the run make the answer, and keeps it if that is one to be given again."""
        async with self._answers.making(live, key):
            ending = await drive()
            if ending.outcome == "completed" and not live.refused and (answer := live.said.answer):
                shown = [(e.kind, e.node, e.payload) for e in live.said.events if e.kind in {"tool_start", "tool_end"}]
                await self._answers.keep(live, key, Made(storable(answer), storable(shown), storable(live.route)))
        return ending

    async def _say(
        self, graph: Graph, live: LiveRun, config: RunnableConfig, question: list[BaseMessage], found: Found
    ) -> Ending:
        """Tells the answer as if it had been made, and puts it into the session, for the questions that follow."""
        live.cached, live.route = True, found.route
        live.sourced = any(payload.get("sources") for _, _, payload in found.shown or ())
        for kind, node, payload in found.shown or ():
            live.said.publish(News(kind, payload, node))
        answer = found.answer or ""
        live.said.publish_text(answer, SOURCE)
        live.said.publish(events.message(_message_id(live), SOURCE))
        said = {"messages": [*question, AIMessage(answer, id=_message_id(live))]}
        saved = await graph.aupdate_state(config, said, START)
        return await _idle(graph, {**config, "configurable": {**config["configurable"], **saved["configurable"]}})


async def _idle(graph: Graph, config: RunnableConfig) -> Ending:
    """Or the graph would be about to answer, as after any input."""
    await graph.aupdate_state(config, None, END)
    return Ending("completed")


def _message_id(live: LiveRun) -> str:
    """Of the answer's message in the state of the run's session."""
    return f"cached-{live.run.id}"
