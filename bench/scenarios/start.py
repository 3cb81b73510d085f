"""From nothing to ready, and what a replica that has done nothing yet takes of memory."""

from bench.figures import Figure
from bench.servers import KINDS, TUTORIAL, server_process
from bench.stage import Stage

READY = Figure("start_seconds", "cold start until ready", "s", 2)
MEMORY = Figure("start_memory", "memory of a fresh replica", "MB", 0)


async def start(stage: Stage) -> None:
    """The database answers before, and the files of Python are in the page cache after the first start."""
    for repetition in range(stage.effort.repetitions):
        stage.say(f"{READY.title}, repetition {repetition + 1} of {stage.effort.repetitions}")
        for name in KINDS:
            with stage.postgres.database(migrated=name != TUTORIAL) as database:
                async with server_process(name, database, stage.model_url) as server:
                    stage.record(READY, name, server.start_seconds)
                    stage.record(MEMORY, name, server.memory_bytes() / 1e6)
