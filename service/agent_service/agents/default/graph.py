"""The graph that is served when AGENT_GRAPH names no other: guardrail → route → rag | data | general → answer."""

from collections.abc import Sequence
from typing import Any, Literal, Protocol, get_args

from langchain.agents import create_agent
from langchain_core.language_models import BaseChatModel
from langchain_core.messages import AIMessage, AnyMessage, HumanMessage, RemoveMessage, SystemMessage
from langchain_core.tools import BaseTool
from langgraph.constants import TAG_NOSTREAM
from langgraph.graph import END, START, MessagesState, StateGraph
from langgraph.types import Command

from agent_service.agents.context import AgentContext
from agent_service.agents.default import prompts
from agent_service.agents.default.middleware import Middleware, TablesInPrompt, agent_middleware
from agent_service.agents.default.tools import make_query_data, make_rag_search, note_tools
from agent_service.agents.default.window import context_window
from agent_service.agents.guardrails import MODEL_RULE, InputCheck, make_input_check
from agent_service.agents.loader import CompiledGraph
from agent_service.agents.offline import OfflineChatModel
from agent_service.errors import ModelRejected, ModelUnavailable
from agent_service.logs import logger

Route = Literal["RAG", "DATA", "GENERAL"]
ROUTES: tuple[Route, ...] = get_args(Route)

SMALL_JOB_TURNS = 2
"""Turns the router sees: a follow-up such as "and yesterday?" needs the one before."""
SMALL_JOB_TOKENS = 1_000

Update = dict[str, Any]


class State(MessagesState):
    """`outcome` tells the service how the run ended when not `completed`; `route` who answered."""

    route: Route | None
    outcome: str | None


class Node(Protocol):
    """A node of this graph."""

    async def __call__(self, state: State) -> Update | Command[Literal["route", "answer"]]: ...


def build(context: AgentContext, *, model_guardrail: bool = False) -> StateGraph[State, None, State, State]:
    """The default graph.

    `model_guardrail` also asks the cheap model whether a question is an attack: one small model call a turn.
    """
    graph = StateGraph(State)
    asks_model = model_guardrail and not isinstance(context.cheap_model, OfflineChatModel)
    guard_model = context.cheap_model if asks_model else None
    graph.add_node("guardrail", _guardrail(guard_model, make_input_check(context.settings)))
    graph.add_node("route", _route(context.cheap_model))
    graph.add_node("rag", _rag(context))
    graph.add_node("data", _data(context))
    graph.add_node("general", _agent(context, prompts.GENERAL, note_tools()))
    graph.add_node("answer", _answer)
    graph.add_edge(START, "guardrail")
    graph.add_conditional_edges("route", _agent_of_route, ["rag", "data", "general"])
    for agent in ("rag", "data", "general"):
        graph.add_edge(agent, "answer")
    graph.add_edge("answer", END)
    return graph


def _rag(context: AgentContext) -> CompiledGraph:
    search = make_rag_search(context.documents, context.settings.tool_output_chars)
    return _agent(context, prompts.RAG, [search])


def _data(context: AgentContext) -> CompiledGraph:
    tools = [make_query_data(context.database)]
    return _agent(context, prompts.DATA, tools, TablesInPrompt(context.database))


def _agent(context: AgentContext, prompt: str, tools: Sequence[BaseTool], *more: Middleware) -> CompiledGraph:
    middleware = [*agent_middleware(context, tools), *more]
    return create_agent(context.chat_model, tools, system_prompt=prompt, middleware=middleware)


def _guardrail(model: BaseChatModel | None, check: InputCheck) -> Node:
    async def guardrail(state: State) -> Command[Literal["route", "answer"]]:
        fresh: Update = {"route": None, "outcome": None}
        question = _question(state["messages"])
        refusal = check(question.text) if question else None
        rule = refusal.extra["rule"] if refusal else None
        if question and not rule and model and await _asks_to_block(model, question):
            rule = MODEL_RULE
        if not question or not rule:
            return Command(update=fresh, goto="route")
        # Out of the history, so that no later turn's model reads it.
        messages = [
            RemoveMessage(str(question.id)),
            AIMessage(prompts.BLOCKED.format(rule=rule), additional_kwargs={"refusal": rule}),
        ]
        return Command(update={**fresh, "messages": messages}, goto="answer")

    return guardrail


def _route(model: BaseChatModel) -> Node:
    async def route(state: State) -> Update:
        spoken = [m for m in state["messages"] if isinstance(m, HumanMessage) or (isinstance(m, AIMessage) and m.text)]
        recent = context_window(spoken, turns=SMALL_JOB_TURNS, tokens=SMALL_JOB_TOKENS)
        return {"route": parse_route(await _small_job(model, prompts.ROUTE, recent))}

    return route


async def _answer(state: State) -> Update:
    """Every run ends with words: an endpoint that returned none is said so."""
    last = state["messages"][-1]
    if isinstance(last, AIMessage) and last.text.strip():
        return {}
    return {"messages": [AIMessage(prompts.NO_ANSWER)]}


async def _asks_to_block(model: BaseChatModel, question: HumanMessage) -> bool:
    return (await _small_job(model, prompts.GUARD, [question])).strip(" .\n").upper() == "BLOCK"


async def _small_job(model: BaseChatModel, prompt: str, messages: Sequence[AnyMessage]) -> str:
    """The model's words, kept from the reader's stream; empty when the model fails: such jobs have a safe default."""
    try:
        reply = await model.ainvoke([SystemMessage(prompt), *messages], config={"tags": [TAG_NOSTREAM]})
    except (ModelUnavailable, ModelRejected) as error:
        logger(__name__).warning("small_model_job_failed", error=error.code)
        return ""
    return reply.text


def parse_route(reply: str) -> Route:
    """The route a model named, GENERAL for anything but exactly one of the three words."""
    word = reply.strip(" .*`\"'\n").upper()
    return next((route for route in ROUTES if route == word), "GENERAL")


def _question(messages: Sequence[AnyMessage]) -> HumanMessage | None:
    return next((m for m in reversed(messages) if isinstance(m, HumanMessage)), None)


async def _agent_of_route(state: State) -> str:
    # async: LangGraph sends a sync edge to a thread.
    return (state["route"] or "GENERAL").lower()
