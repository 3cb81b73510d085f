"""What Slipway must reach, as a table: baseline (the tutorial), limit (the direct line to the model), ratio, goal."""

from collections.abc import Callable
from dataclasses import dataclass

from bench.figures import Results, markdown
from bench.servers import DIRECT, OWN, SHARED, TUTORIAL


@dataclass(frozen=True, slots=True)
class Goal:
    """`most`, `least`: of the figure itself. `times`: how often better than the tutorial. Either may be absent.

    `why`: what keeps Slipway from it where it is missed.
    """

    key: str
    title: str
    unit: str = ""
    digits: int = 1
    most: float | None = None
    least: float | None = None
    times: float | None = None
    why: str = ""

    @property
    def text(self) -> str:
        parts = []
        if self.most is not None:
            parts.append(f"≤ {self.most:g} {self.unit}".rstrip())
        if self.least is not None:
            parts.append(f"≥ {self.least:g} {self.unit}".rstrip())
        if self.times is not None:
            parts.append(times_text(self.times))
        return ", ".join(parts)

    def ratio(self, results: Results, name: str) -> float | None:
        """How many times better than the tutorial; None where that was not measured."""
        ours, theirs = results.median(self.key, name), results.median(self.key, TUTORIAL)
        if ours is None or theirs is None:
            return None
        better, worse = (ours, theirs) if self.least is not None else (theirs, ours)
        return better / worse if worse else None

    def missed(self, results: Results, name: str) -> list[str]:
        """What of the goal is not reached; nothing where nothing was measured."""
        ours, ratio = results.median(self.key, name), self.ratio(results, name)
        tests: list[tuple[float | None, float | None, Callable[[float, float], bool], str]] = [
            (ours, self.most, float.__le__, f"≤ {self.most} {self.unit}"),
            (ours, self.least, float.__ge__, f"≥ {self.least} {self.unit}"),
            (ratio, self.times, float.__ge__, times_text(self.times or 1)),
        ]
        return [
            text.rstrip()
            for value, wanted, holds, text in tests
            if value is not None and wanted is not None and not holds(float(value), float(wanted))
        ]


def times_text(times: float) -> str:
    """Under 1 Slipway may take more than the tutorial."""
    return f"{times:g} times better" if times >= 1 else f"≤ {1 / times:g} times the tutorial's"


LIBRARIES = "three quarters of it are LangGraph, langchain, FastAPI, psycopg, aiohttp and system calls, which both sides have"
ALONE = "a turn that is alone pays for its two commits and for each time that the process wakes up; sixteen share these"
BEATS = "each stream is read and written every 40 ms, as a reader would see more: 0.1 ms each time, mostly Python and event loop"
GAPS = "gaps grow before the core is full, as all streams are read in one beat, and the last of them waits for all the others"
BEFORE_THE_FIRST = "the run is committed before it begins, and then LangGraph and langchain begin as slowly as in the tutorial"
MORE_IS_STORED = "events, ledger, outcome and lease are stored besides the state"
OBJECTS = "by tracemalloc LangGraph and langchain take 56 kB of it, the two connections 20; a reader more takes a fifth"
IMPORTS = "the imports of LangGraph, langchain and FastAPI, as in the tutorial"
"""Reasons: shares by `py-spy` and `cProfile` on the servers of the bench."""

# On the machine where the tutorial took 36 ms of CPU a turn, `langgraph dev` took 50 and Aegra 57 for one by threads: four times
# less than `langgraph dev` is 2.9 times less than the tutorial.
GOALS = (
    Goal("c16_cpu", "server CPU a turn of 50 tokens, c=16", "ms", most=6, times=5.5, why=LIBRARIES),
    Goal("c1_cpu", "server CPU a turn of 50 tokens, c=1", "ms", times=5.5, why=ALONE),
    Goal("c64_cpu", "server CPU a turn of 50 tokens, c=64", "ms", times=5.5, why=LIBRARIES),
    Goal("threads_cpu", "server CPU a turn by LangGraph's SDK wire, c=16", "ms", times=2.9),
    Goal("c16_rate", "turns a second of a core, c=16", "/s", 0, least=150, why=LIBRARIES),
    Goal("paced_streams", "streams of 50 tokens/s a core, p95 gap ≤ 50 ms", "", 0, least=200, times=6, why=GAPS),
    Goal("paced_cpu_50", "server CPU a stream of 100 tokens, 50 streams", "ms", times=6, why=BEATS),
    Goal("c1_added", "time to first token added, c=1", "ms", most=5, times=4, why=BEFORE_THE_FIRST),
    Goal("c1_commits", "PostgreSQL transactions a turn, c=1", "", most=5),
    Goal("c16_commits", "PostgreSQL transactions a turn, c=16", "", 2, most=1.5),
    Goal("c16_postgres_cpu", "PostgreSQL CPU a turn, c=16", "ms", 2, times=2, why=MORE_IS_STORED),
    Goal("c16_wal", "WAL a turn, c=16", "kB", times=1 / 1.2, why=MORE_IS_STORED),
    Goal("idle_commits", "transactions a second of an idle replica", "/s", 2, most=1),
    Goal("idle_stream_memory", "memory of an open stream and its run", "kB", 0, most=30, why=OBJECTS),
    Goal("start_seconds", "cold start until ready", "s", 2, most=2, why=IMPORTS),
    Goal("start_memory", "memory of a fresh replica", "MB", 0, most=200),
    Goal("kill_seconds", "killed replica → next new token at the client", "s", most=10),
)


def table(results: Results) -> str:
    """A row for each goal that was measured."""
    rows = []
    for goal in GOALS:
        if goal.key not in results.rows:
            continue
        row = results.rows[goal.key]
        ratios = [f"{ratio:.1f}" if (ratio := goal.ratio(results, name)) else "-" for name in (SHARED, OWN)]
        rows.append(
            [
                f"{goal.title}, {goal.unit}" if goal.unit else goal.title,
                *(row.text(name) for name in (TUTORIAL, DIRECT, SHARED, OWN)),
                " / ".join(ratios),
                goal.text,
                verdict(goal, results),
            ]
        )
    header = ["figure", "tutorial (baseline)", "direct (limit)", SHARED, OWN, "ratio of both", "must reach", "reached"]
    return markdown(header, rows)


def verdict(goal: Goal, results: Results) -> str:
    """`yes`, or what is missed by which kind of graph; without a baseline there is no ratio, and so no answer."""
    missed = {name: goal.missed(results, name) for name in (SHARED, OWN)}
    if not any(missed.values()):
        lacks = goal.times is not None and goal.ratio(results, SHARED) is None and goal.ratio(results, OWN) is None
        return "unknown: the ratio was not measured" if lacks else "yes"
    if missed[SHARED] == missed[OWN]:
        return f"no: {', '.join(missed[SHARED])}"
    short = {SHARED: "server's model", OWN: "own ChatOpenAI"}
    return "; ".join(f"no, {short[name]}: {', '.join(parts)}" for name, parts in missed.items() if parts)
