"""docs/performance.md and its plots, from the results of one whole run."""

from collections.abc import Callable, Iterable
from pathlib import Path
from string import Template

from bench import svg
from bench.figures import Results, everything, markdown
from bench.goals import GOALS, Goal, table
from bench.scenarios import SCENARIOS
from bench.scenarios.growth import GROWTH
from bench.scenarios.history import HISTORY
from bench.scenarios.notify import ALWAYS, NEVER, WATCHED_ONLY
from bench.scenarios.paced import LADDER, MOST_GAP_MS
from bench.scenarios.replicas import REPLICAS
from bench.scenarios.turns import LEVELS, THREADS, TOOL, WITH_LIMITS
from bench.servers import DIRECT, OWN, SHARED, TUTORIAL
from bench.sizing import (
    ANSWER_SECONDS,
    DATABASE_CORES,
    LOAD,
    TURN_EVERY_SECONDS,
    USERS,
    WAL_MB_PER_SECOND,
    Sizing,
    sizing,
)

PAGE = Path("docs/performance.md")
FOLDER = Path("docs/performance")

TEMPLATE = Path(__file__).parent / "performance.md.in"

NO_ADVICE = "Streams or turns were not measured in this run, so there is no advice."

FOLLOWS = """\
These follow from the figures above (`bench/sizing.py`), for a core like that of this machine and a graph that makes one
model call. A graph with work of its own needs that on top: measure yours in place of those in `bench/graph.py`."""

ENDS = """\
**Where one database ends.** A server with {cores} cores, {load} full, that takes {wal} MB/s of WAL has room for about
{end} turns a second, and {limit} is full first: that is {users} users who are there at once. Before that, watch the
latency of commits and the lag of the standby. Replicas for reading do not help, as a turn writes more than it reads. A
database for each group of tenants does: install the chart once for each, and route by tenant in front. Nothing of
Slipway joins over tenants but `GET /usage` of role `platform`. Shorter [retention](operations/retention.md) keeps
backups small; turns do not get dearer with what is stored (below)."""

SERVERS = (TUTORIAL, SHARED, OWN)

Plotted = Callable[[Results], str]


def write(results: Results, root: Path) -> list[Path]:
    """Writes the page and the plots; returns what was written."""
    folder = root / FOLDER
    folder.mkdir(exist_ok=True)
    files = {folder / f"{name}.svg": plot(results) for name, plot in PLOTS.items()}
    files[root / PAGE] = page(results)
    for file, text in files.items():
        file.write_text(text, encoding="utf-8")
    return list(files)


# Plots


def cpu_plot(results: Results) -> str:
    kinds = {f"c={clients}": figures for clients, figures in LEVELS.items()} | {"tool step": TOOL, "200 turns": HISTORY}
    groups = {label: _medians(results, figures.cpu.key, SERVERS) for label, figures in kinds.items()}
    return svg.bars(
        svg.Plot("Server CPU a turn of 50 tokens (less is better)", "clients, or kind of turn", "ms"),
        {label: group for label, group in groups.items() if group},
    )


def gap_plot(results: Results) -> str:
    series = {}
    for name in (*SERVERS, DIRECT):
        series[name] = [(float(n), gap) for n in LADDER if (gap := results.median(f"paced_gap_{n}", name)) is not None]
    plot = svg.Plot(
        "Gap between two writes of a stream of 50 tokens/s, 95th percentile",
        "streams at once on one core",
        "ms",
        mark=(MOST_GAP_MS, f"{MOST_GAP_MS:g} ms"),
        most=200,
    )
    return svg.lines(plot, series)


def notice_plot(results: Results) -> str:
    groups = {f"{n} replicas": _medians(results, f"notify_cpu_{n}", (NEVER, WATCHED_ONLY, ALWAYS)) for n in (20, 100)}
    plot = svg.Plot("PostgreSQL cores by who notifies, 10 commits/s a replica (less is better)", "", "cores")
    return svg.bars(plot, {label: group for label, group in groups.items() if group})


PLOTS: dict[str, Plotted] = {"cpu": cpu_plot, "gap": gap_plot, "notices": notice_plot}


def _medians(results: Results, key: str, names: Iterable[str]) -> dict[str, float]:
    return {name: value for name in names if (value := results.median(key, name)) is not None}


# The page


def page(results: Results) -> str:
    """The template, with tables in place of its names."""
    turns = tuple(f"{figures.key}_" for figures in (*LEVELS.values(), TOOL, HISTORY))
    found = sizing(results)
    values = {
        "environment": "\n".join(f"- {name}: {value}" for name, value in results.environment.items()),
        "goals": table(results),
        "missed": _missed(results),
        "turns": _rows(results, turns),
        "wire": _rows(results, (f"{THREADS.key}_",)),
        "limits": _rows(results, tuple(f"{figures.key}_" for figures in WITH_LIMITS.values())),
        "streams": _rows(results, ("paced_", "idle_stream", "idle_reader", "reconnect", "kill")),
        "advice": _advice(found, results) if found else NO_ADVICE,
        "growth": "\n\n".join(
            _rows(results, keys) for keys in ((f"{GROWTH.key}_",), (f"{REPLICAS.key}_",), ("start_", "idle_c", "idle_p"))
        ),
        "notices": _rows(results, ("notify_",)),
    }
    return Template(TEMPLATE.read_text(encoding="utf-8")).substitute(values)


def _missed(results: Results) -> str:
    """What is missed, what was not measured, what failed."""
    missed = [line for goal in GOALS if (line := _shortfall(goal, results))]
    absent = [goal.title for goal in GOALS if goal.key not in results.rows]
    what = {scenario.name: scenario.what for scenario in SCENARIOS}
    failed = [f"- {name} ({what.get(name, '?')}): {reason}" for name, reason in results.failed.items()]
    parts = [
        "\n".join(["Missed in this run:", "", *missed]) if missed else "All of it is reached in this run.",
        f"Not measured in this run: {', '.join(absent)}." if absent else "",
        "\n".join(["Scenarios that failed in this run:", "", *failed]) if failed else "",
    ]
    return "\n\n".join(part for part in parts if part)


def _shortfall(goal: Goal, results: Results) -> str:
    """A line for what both kinds of graph miss of it; empty for nothing."""
    found = []
    for name in (SHARED, OWN):
        if goal.missed(results, name):
            ratio = goal.ratio(results, name)
            figure = f"{results.rows[goal.key].text(name)} {goal.unit}".rstrip()
            found.append(f"{name}: {figure}{f' (ratio {ratio:.1f})' if ratio else ''}")
    why = f". Why: {goal.why}" if goal.why else ""
    return f"- {goal.title}, {'; '.join(found)}; must be {goal.text}{why}." if found else ""


def _rows(results: Results, beginnings: tuple[str, ...]) -> str:
    """A table of everything that was measured under keys that begin so."""
    return everything(row for key, row in results.rows.items() if key.startswith(beginnings))


def _advice(found: Sizing, results: Results) -> str:
    memory = results.rows["idle_stream_memory"].text(SHARED) if "idle_stream_memory" in results.rows else "?"
    fresh = results.rows["start_memory"].text(SHARED) if "start_memory" in results.rows else "?"
    at_once = USERS / TURN_EVERY_SECONDS * ANSWER_SECONDS
    asks = f"a question every {TURN_EVERY_SECONDS} s, {ANSWER_SECONDS} s of answer: {at_once:.0f} streams at once"
    server = f"{found.postgres_cores / LOAD:.1f} cores, {found.wal_mb:.0f} MB/s of WAL, {found.transactions:,} transactions/s"
    rows = [
        ["a core of the service", f"{found.streams} streams at once", f"{LOAD:.0%} of what it carries"],
        [f"{USERS:,} users who are there", f"{found.pods} pods of one core, and one to spare", asks],
        ["memory of a pod", f"{fresh} MB and {memory} kB a stream", "measured; what your graph loads comes on top"],
        ["1,000 turns a second in PostgreSQL", server, "CPU and WAL a turn at c=16, the worse kind of graph"],
        ["connections", "13 a pod, twice that in a rollout", "`DATABASE_POOL_SIZE` and 3 more"],
    ]
    return "\n\n".join([FOLLOWS, markdown(["for", "plan", "because"], rows), _end(found)])


def _end(found: Sizing) -> str:
    """Where one database ends, and what then."""
    return ENDS.format(
        cores=DATABASE_CORES,
        load=f"{LOAD:.0%}",
        wal=WAL_MB_PER_SECOND,
        end=f"{found.end:,}",
        limit=found.limit,
        users=f"{found.end_users:,}",
    )
