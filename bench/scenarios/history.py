"""Turns of sessions that have 200 turns behind them."""

from langchain_core.language_models.fake_chat_models import FakeListChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage
from langchain_core.runnables import RunnableConfig
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver

from bench.graph import one_call
from bench.scenarios.compare import Comparison, TurnFigures, turns
from bench.script import Ask
from bench.servers import side_by_side
from bench.stage import Stage

TURNS, SESSIONS = 200, 4

HISTORY = TurnFigures("history", f"a session of {TURNS} turns, c={SESSIONS}")


async def history(stage: Stage) -> None:
    """The sessions are written by LangGraph's own saver, to all three alike; Slipway takes them over as they are."""
    names = [f"long-{number}" for number in range(SESSIONS)]
    async with side_by_side(stage.postgres, stage.model_url) as servers:
        for server in servers:
            await _fill(server.database, names)
        comparison = await Comparison.of(stage, servers)
        await comparison.measure(HISTORY, turns(SESSIONS, stage.effort.seconds, sessions=names))


async def _fill(database: str, sessions: list[str]) -> None:
    messages: list[AnyMessage] = []
    for number in range(TURNS):
        ask = Ask(number=number)
        messages += [HumanMessage(ask.question, id=f"q{number}"), AIMessage(ask.text, id=f"a{number}")]
    async with AsyncPostgresSaver.from_conn_string(database) as saver:
        graph = one_call(FakeListChatModel(responses=[])).compile(checkpointer=saver)
        for session in sessions:
            config: RunnableConfig = {"configurable": {"thread_id": session}}
            await graph.aupdate_state(config, {"messages": messages}, as_node="answer")
