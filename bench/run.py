"""Runs scenarios one after the other, each bounded in time: one that fails is named, and the rest goes on."""

import os
import platform
import time
import traceback
from collections.abc import Iterable, Iterator, Sequence
from importlib.metadata import version
from pathlib import Path

from bench.client import WrongAnswer
from bench.database import Postgres, postgres
from bench.figures import Results
from bench.processes import OTHERS_CPU, allow_files, pin
from bench.servers import fake_model
from bench.stage import Effort, Scenario, Stage, bounded


async def run(scenarios: Sequence[Scenario], effort: Effort, minutes: float) -> Results:
    """Within so many minutes in all.

    Raises:
        WrongAnswer: a server said a wrong character, or too few.
    """
    pin(0, OTHERS_CPU)
    allow_files()
    results = Results()
    with postgres() as database:
        async with fake_model() as model_url:
            results.environment.update(environment(database, effort))
            stage = Stage(database, model_url, effort, results, time.monotonic())
            await measure(scenarios, stage, minutes)
    return results


async def measure(scenarios: Sequence[Scenario], stage: Stage, minutes: float) -> None:
    """One after the other; one that fails is named in the results.

    Raises:
        WrongAnswer: nothing more is measured.
    """
    for scenario in scenarios:
        stage.say(f"{scenario.name}: {scenario.what}")
        try:
            await bounded(scenario, stage, minutes)
        except Exception as error:
            causes = list(leaves(error))
            if wrong := next((cause for cause in causes if isinstance(cause, WrongAnswer)), None):
                raise wrong from error
            stage.results.failed[scenario.name] = _reason(causes[0])
            stage.say(f"{scenario.name} FAILED: {stage.results.failed[scenario.name]}")
            traceback.print_exception(causes[0], limit=-4)
    stage.say("done")


def leaves(error: BaseException) -> Iterator[BaseException]:
    """The errors of which a group is made."""
    if isinstance(error, BaseExceptionGroup):
        for part in error.exceptions:
            yield from leaves(part)
    else:
        yield error


def _reason(error: BaseException) -> str:
    if isinstance(error, TimeoutError) and str(error):
        return str(error)
    return f"{type(error).__name__}: {error}"


def environment(database: Postgres, effort: Effort) -> dict[str, str]:
    """What the figures depend on."""
    return {
        "effort": f"{effort.name}: {effort.repetitions} repetitions of {effort.seconds:g} s",
        "machine": f"{_cpu_name()}, {os.cpu_count()} cores, Linux {platform.release()}",
        "Python": platform.python_version(),
        "PostgreSQL": database.version,
        **{name: version(name) for name in ("langgraph", "langchain-core", "langchain-openai", "openai", "fastapi")},
        "date": time.strftime("%Y-%m-%d", time.gmtime()),
    }


def _cpu_name() -> str:
    lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
    return next((line.partition(": ")[2] for line in lines if line.startswith("model name")), platform.machine())


def named(names: Iterable[str], known: Sequence[Scenario]) -> list[Scenario]:
    """Raises KeyError with the name that is unknown."""
    found = {scenario.name: scenario for scenario in known}
    wanted = {found[name].name for name in names}
    return [scenario for scenario in known if scenario.name in wanted]
