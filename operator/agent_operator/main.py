"""The operator as a process: settings, logs, and the watch until SIGTERM."""

import asyncio
import os
import sys

import structlog

from agent_operator import startup
from agent_operator.handlers.engine import watch
from agent_operator.logs import setup_logging
from agent_operator.settings import OperatorSettings
from slipway_clients.cluster import ClusterError


def main() -> None:
    """Exits with 2 and one line when a setting is wrong or no cluster is configured, with 1 when the watch cannot go on."""
    try:
        settings = OperatorSettings.load(os.environ)
        setup_logging(settings.log_level)
        asyncio.run(serve(settings))
    except (ValueError, ClusterError) as error:
        print(error, file=sys.stderr)  # noqa: T201  # before there are logs
        sys.exit(2)
    except Exception:
        structlog.stdlib.get_logger(__name__).exception("operator_ended")
        sys.exit(1)


async def serve(settings: OperatorSettings) -> None:
    async with startup.operator(settings) as controller:
        await watch(settings, controller, startup.VERSION)


if __name__ == "__main__":
    main()
