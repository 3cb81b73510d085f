"""Turns of 50 tokens without delay: by both wires, with every limit on, with a tool step."""

from contextlib import AsyncExitStack

from bench.scenarios.compare import Comparison, TurnFigures, thread_turns, turns
from bench.servers import (
    AEGRA_PROGRAM,
    LIMITED,
    LIMITS,
    REFERENCE_PROGRAM,
    SHARED,
    aegra_process,
    reference_process,
    server_process,
    side_by_side,
)
from bench.stage import FULL, Stage

LEVELS = {clients: TurnFigures(f"c{clients}", f"50 tokens, c={clients}") for clients in (1, 16, 64)}

THREADS = TurnFigures("threads", "by LangGraph's SDK wire, messages-tuple, c=16")

WITH_LIMITS = {clients: TurnFigures(f"limits{clients}", f"with limits or without, c={clients}") for clients in (1, 16)}

TOOL = TurnFigures("tool", "with a tool step, c=16")


async def levels(stage: Stage) -> None:
    async with side_by_side(stage.postgres, stage.model_url) as servers:
        comparison = await Comparison.of(stage, servers)
        for clients, figures in LEVELS.items():
            if stage.effort is FULL or clients < 64:
                await comparison.measure(figures, turns(clients, stage.effort.seconds), direct=True)


async def threads(stage: Stage) -> None:
    """The tutorial has its own wire only; `langgraph dev` and Aegra are there where REFERENCE_LANGGRAPH and _AEGRA name them."""
    load = thread_turns(16, stage.effort.seconds)
    async with AsyncExitStack() as stack:
        servers = await stack.enter_async_context(side_by_side(stage.postgres, stage.model_url))
        if REFERENCE_PROGRAM:
            servers = [*servers, await stack.enter_async_context(reference_process(stage.model_url))]
        if AEGRA_PROGRAM:
            database = stack.enter_context(stage.postgres.database(migrated=False))
            servers = [*servers, await stack.enter_async_context(aegra_process(database, stage.model_url))]
        await (await Comparison.of(stage, servers, warm_up=load)).measure(THREADS, load)


async def limits(stage: Stage) -> None:
    """Beside the same server, which has none of them."""
    async with AsyncExitStack() as stack:
        servers = []
        for name, settings in ((SHARED, {}), (LIMITED, LIMITS)):
            database = stack.enter_context(stage.postgres.database(migrated=True))
            servers.append(await stack.enter_async_context(server_process(name, database, stage.model_url, **settings)))
        comparison = await Comparison.of(stage, servers)
        for clients, figures in WITH_LIMITS.items():
            await comparison.measure(figures, turns(clients, stage.effort.seconds))


async def tool(stage: Stage) -> None:
    load = turns(16, stage.effort.seconds, tool=True)
    async with side_by_side(stage.postgres, stage.model_url, graph="tool") as servers:
        await (await Comparison.of(stage, servers, warm_up=load)).measure(TOOL, load)
