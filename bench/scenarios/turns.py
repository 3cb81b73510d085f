"""Turns of 50 tokens without delay, a tool step, and a session of 200 turns."""

from bench.scenarios.compare import Comparison, TurnFigures, thread_turns, turns
from bench.servers import side_by_side
from bench.stage import FULL, Stage

LEVELS = {clients: TurnFigures(f"c{clients}", f"50 tokens, c={clients}") for clients in (1, 16, 64)}

THREADS = TurnFigures("threads", "by LangGraph's SDK wire, messages-tuple, c=16")

TOOL = TurnFigures("tool", "with a tool step, c=16")


async def levels(stage: Stage) -> None:
    async with side_by_side(stage.postgres, stage.model_url) as servers:
        comparison = await Comparison.of(stage, servers)
        for clients, figures in LEVELS.items():
            if stage.effort is FULL or clients < 64:
                await comparison.measure(figures, turns(clients, stage.effort.seconds), direct=True)


async def threads(stage: Stage) -> None:
    async with side_by_side(stage.postgres, stage.model_url) as servers:
        await (await Comparison.of(stage, servers)).measure(THREADS, thread_turns(16, stage.effort.seconds))


async def tool(stage: Stage) -> None:
    load = turns(16, stage.effort.seconds, tool=True)
    async with side_by_side(stage.postgres, stage.model_url, graph="tool") as servers:
        await (await Comparison.of(stage, servers, warm_up=load)).measure(TOOL, load)
