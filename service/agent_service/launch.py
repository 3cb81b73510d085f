"""From settings to a serving process, its modules imported only now: they take a second."""

import gc
from collections.abc import Callable
from typing import TYPE_CHECKING

from agent_service.settings import Settings

if TYPE_CHECKING:
    from agent_service.main import Beside

COLLECT_AFTER_AT_START = 100_000
"""New objects after which Python looks for cycles until the service is ready: about 20 MB, while a database is waited for. By its
own 700 it looked 280 times at what a graph with langchain-openai imports: 0.08 s of CPU."""


def launch(settings: Settings, on_ready: Callable[[str, int], None] = lambda _, __: None, beside: "Beside | None" = None) -> None:
    """Serves until a signal says stop. `on_ready` gets the address of the API and the number of the ops port."""
    gc.disable()  # it would look at all that is imported again and again, and find nothing: 0.3 s of CPU
    from agent_service.logs import setup_logging  # noqa: PLC0415  # see above
    from agent_service.main import run  # noqa: PLC0415  # see above

    gc.freeze()  # nor is there anything to be found in it later: a full collection takes 0.1 s, and holds up all streams
    gc.set_threshold(COLLECT_AFTER_AT_START)  # the graph's libraries come now; main.py sets another when the service is ready
    gc.enable()
    setup_logging(settings.log_level)
    run(settings, on_ready, beside)
