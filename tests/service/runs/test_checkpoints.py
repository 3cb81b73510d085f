"""Which states of a graph are stored: those that somebody may ask for."""

from typing import Annotated, Any
from uuid import uuid4

import pytest
from langchain_core.messages import AIMessage, AnyMessage, convert_to_messages
from langchain_core.runnables import RunnableConfig
from langgraph.channels.delta import DeltaChannel
from langgraph.checkpoint.base import CheckpointMetadata, empty_checkpoint
from langgraph.checkpoint.postgres.aio import AsyncPostgresSaver
from langgraph.func import entrypoint, task
from langgraph.graph import START, MessagesState, StateGraph
from typing_extensions import TypedDict

from agent_service.db.pool import Pool
from agent_service.runs.checkpoints import CURRENT_LIVE
from agent_service.runs.graphs import ServedGraph
from tests.service.runs import graphs
from tests.service.runs.conftest import Database, Serve, begin, until
from tests.service.runs.test_writer import Process

NODES = ("plan", "work", "answer")


def three_nodes(**compiled: Any) -> Any:
    async def node(_: MessagesState) -> graphs.Update:
        return graphs.says("done")

    return graphs.chain(*((name, node) for name in NODES)).compile(**compiled)


def states(database: Database) -> list[tuple[str, str | None]]:
    rows = database.rows("SELECT checkpoint_id, parent_checkpoint_id FROM checkpoints ORDER BY checkpoint_id")
    return [(row["checkpoint_id"], row["parent_checkpoint_id"]) for row in rows]


async def test_a_turn_leaves_its_last_state_whose_history_is_whole(serve: Serve, database: Database, pool: Pool) -> None:
    async with serve(three_nodes()) as service:
        for question in ("one", "two"):
            await database.finished(await begin(service, question=question, session_id="s"))

    found = states(database)
    assert 2 <= len(found) < 2 * len(("input", "start", *NODES)), "commits may fall between the steps of a busy machine"
    assert {parent for _, parent in found} <= {None, *(name for name, _ in found)}, "no state names one that is not there"
    saved = await AsyncPostgresSaver(pool).aget_tuple({"configurable": {"thread_id": "s"}})
    assert saved
    said = [message.content for message in saved.checkpoint["channel_values"]["messages"]]
    assert said == ["one", *["done"] * 3, "two", *["done"] * 3]
    assert saved.pending_writes == []


@pytest.mark.parametrize("how", ["a client of LangGraph", "a developer", "a graph that stops behind a node"])
async def test_every_state_is_stored_where_somebody_asks_for_it(how: str, serve: Serve, database: Database) -> None:
    graph = three_nodes(interrupt_after=["answer"]) if "stops" in how else three_nodes()
    async with serve(graph, DEVELOPER_MODE="on" if how == "a developer" else "off") as service:
        if how == "a client of LangGraph":
            async with service.client() as client:
                made = (await client.post("/threads", json={})).json()
                body = {"assistant_id": "agent", "input": {"messages": [{"role": "user", "content": "q"}]}}
                waited = await client.post(f"/threads/{made['thread_id']}/runs/wait", json=body)
                assert waited.status_code == 200, waited.text
        else:
            await database.finished(await begin(service, question="q"))

    assert len(states(database)) == len(("input", "start", *NODES))


def joined(messages: list[AnyMessage], updates: list[list[AnyMessage]]) -> list[AnyMessage]:
    return [*messages, *(message for update in updates for message in convert_to_messages(update))]  # type: ignore[list-item]  # as there


class Kept(TypedDict):
    messages: Annotated[list[AnyMessage], DeltaChannel(joined)]


async def test_what_is_done_at_the_state_of_the_question_is_stored_while_the_run_goes_on(
    serve: Serve, database: Database, effects: graphs.Effects
) -> None:
    """A crash would repeat it: the choice of a router on START, and the tasks of a workflow that a node calls."""

    @task
    async def charge(_: str) -> str:
        effects.add("charge")
        return "charged"

    @entrypoint()
    async def workflow(question: str) -> str:
        charged = await charge(question)
        await effects.gates["goes on"].wait()
        return charged

    async def work(state: MessagesState) -> graphs.Update:
        return graphs.says(str(await workflow.ainvoke(graphs.question(state))))

    async def route(_: MessagesState) -> str:
        effects.add("route")
        return "work"

    graph = StateGraph(MessagesState).add_node("work", work).add_conditional_edges(START, route, ["work"])
    async with serve(graph) as service:
        run_id = await begin(service, question="q")
        stored = "SELECT channel FROM checkpoint_writes WHERE checkpoint_ns LIKE 'work:%%'"
        await until(lambda: database.rows(stored))
        assert database.run(run_id)["status"] == "running"
        assert database.rows("SELECT 1 FROM checkpoints WHERE checkpoint_ns = ''")
        effects.gates["goes on"].set()
        await database.finished(run_id)
    assert effects == ["route", "charge"]


async def test_a_state_that_states_of_a_subgraph_name_is_there(serve: Serve, database: Database) -> None:
    async def node(_: MessagesState) -> graphs.Update:
        return graphs.says("done")

    async with serve(graphs.within(graphs.chain(("a", node), ("b", node)), ("last", node))) as service:
        await database.finished(await begin(service, question="q"))

    named = database.rows("SELECT DISTINCT metadata->'parents'->>'' AS id FROM checkpoints WHERE checkpoint_ns <> ''")
    there = {row["id"] for row in database.rows("SELECT checkpoint_id AS id FROM checkpoints WHERE checkpoint_ns = ''")}
    assert {row["id"] for row in named} <= there
    assert named


async def test_results_that_come_late_for_a_state_that_is_left_out_are_not_stored(pool: Pool) -> None:
    process = Process(pool)
    (run,) = await process.begin_all("s")
    run.every_state = False
    inside = {"thread_id": run.run.thread_id, "checkpoint_ns": "", CURRENT_LIVE: run}
    saved = [{"checkpoint_id": None}]
    for _ in range(2):
        config: RunnableConfig = {"configurable": {**inside, **saved[-1]}}
        put = await process.saver.aput(config, empty_checkpoint(), CheckpointMetadata(source="loop", step=1), {})
        saved.append(dict(put["configurable"]))

    await process.saver.aput_writes({"configurable": {**inside, **saved[1]}}, [("messages", "late")], "task")

    assert list(run.left_out) == [saved[1]["checkpoint_id"]]
    assert not run.steps.writes


async def test_values_that_are_kept_as_changes_are_whole_in_the_graph_and_in_one_that_a_node_makes(serve: Serve) -> None:
    """Nobody can tell from a graph that its nodes make others."""

    def node(_: Any) -> graphs.Update:
        return {"messages": [AIMessage("done")]}

    by_changes = graphs.chain(*((name, node) for name in NODES), state=Kept)

    async def makes_one(state: Any) -> graphs.Update:
        return {"messages": (await by_changes.compile(checkpointer=True).ainvoke(state))["messages"][-1:]}

    for graph in (by_changes, graphs.chain(("makes", makes_one), ("again", makes_one))):
        async with serve(graph) as service, service.client() as client:
            session = str(uuid4())
            for number, question in enumerate(("one", "two", "three"), 1):
                answered = await client.post("/chat", json={"question": question, "session_id": session})
                assert answered.json()["outcome"] == "completed", answered.text
                state = (await client.get(f"/threads/{session}/state")).json()
                said = [message["content"] for message in state["values"]["messages"]]
                asked = [word for word in said if word != "done"]
                assert asked == ["one", "two", "three"][:number]
                assert len(said) == number + said.count("done")
                assert said.count("done") >= 2 * number


def test_a_graph_that_stops_behind_a_node_needs_every_state_at_any_depth() -> None:
    def node(_: Any) -> graphs.Update:
        return {"messages": [AIMessage("x")]}

    stops_inside = graphs.chain(("a", node)).compile(interrupt_after=["a"])

    assert ServedGraph("g", graphs.chain(("sub", stops_inside), ("b", node)).compile()).needs_every_state
    assert not ServedGraph("g", graphs.within(graphs.chain(("a", node))).compile()).needs_every_state
    assert not ServedGraph("g", three_nodes(interrupt_before=["work"])).needs_every_state
