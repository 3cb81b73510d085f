"""Streams of 50 tokens a second, as models give them: how many one core carries before readers see it."""

from dataclasses import dataclass

from bench.client import Turn
from bench.figures import Figure, percentile
from bench.load import NUMBERS, Target, together
from bench.script import Ask
from bench.servers import DIRECT, Server, side_by_side, stopped
from bench.stage import FULL, Stage

RATE, TOKENS = 50, 100
SPREAD_SECONDS = 0.5
"""Between the begins of the first stream and the last."""

MOST_GAP_MS = 50.0
"""The 95th percentile above which a reader sees text stutter: it comes 20 times a second."""

LADDER = (25, 50, 100, 150, 200, 300, 400, 500)
COMPARED = 50
"""Streams at which everybody's CPU is told, whether the rung holds or not; the only rung of the quick bench."""

HALVINGS = 2
"""Between the last rung that held and the first that did not, each repetition."""

STREAMS = Figure("paced_streams", "streams of 50 tokens/s a core carries, p95 gap ≤ 50 ms", "", 0)


def gap(count: int) -> Figure:
    return Figure(f"paced_gap_{count}", f"p95 gap, {count} streams of 50 tokens/s", "ms", 0)


def cpu(count: int) -> Figure:
    return Figure(f"paced_cpu_{count}", f"server CPU a stream of {TOKENS} tokens, {count} streams of 50 tokens/s", "ms")


@dataclass(frozen=True, slots=True)
class Contender:
    """A server, or the direct line."""

    name: str
    target: Target
    server: Server | None = None


async def paced(stage: Stage) -> None:
    async with side_by_side(stage.postgres, stage.model_url, MAX_CONCURRENT_RUNS=str(max(LADDER))) as servers:
        contenders = [Contender(server.name, server.target, server) for server in servers]
        contenders.insert(0, Contender(DIRECT, Target(stage.model_url, direct=True)))
        bounds = {}
        for contender in contenders:
            with stopped(server for server in servers if server is not contender.server):
                await together(contender.target, _asks(COMPARED), SPREAD_SECONDS)  # warm from here on
                bounds[contender.name] = await _climb(stage, contender)
        if stage.effort is not FULL:
            return
        for repetition in range(stage.effort.repetitions):
            for contender in contenders:
                stage.say(f"{STREAMS.title}, repetition {repetition + 1} of {stage.effort.repetitions}: {contender.name}")
                with stopped(server for server in servers if server is not contender.server):
                    found = await _halve(stage, contender, *bounds[contender.name])
                stage.record(STREAMS, contender.name, found)


async def _climb(stage: Stage, contender: Contender) -> tuple[int, int]:
    """The last rung that holds (0: none) and the first that does not, tried twice; the last one twice where all hold."""
    held = failed = 0
    for count in LADDER if stage.effort is FULL else (COMPARED,):
        found = await _probe(stage, contender, count)
        stage.say(f"{contender.name}: {count} streams, p95 gap {found:.0f} ms")
        if found <= MOST_GAP_MS or await _probe(stage, contender, count) <= MOST_GAP_MS:
            held, failed = count, 0
        elif count >= COMPARED:
            return held, failed or count
        else:
            failed = failed or count
    return held, held


async def _halve(stage: Stage, contender: Contender, held: int, failed: int) -> int:
    for _ in range(HALVINGS):
        middle = (held + failed) // 2
        if middle in {held, failed}:
            break
        if await _probe(stage, contender, middle, record=False) > MOST_GAP_MS:
            failed = middle
        else:
            held = middle
    return held


async def _probe(stage: Stage, contender: Contender, count: int, *, record: bool = True) -> float:
    """The p95 gap in milliseconds with so many streams."""
    before = contender.server.cpu_ms() if contender.server else 0.0
    turns = await together(contender.target, _asks(count), SPREAD_SECONDS)
    found = 1000 * percentile(gaps_of_all(turns), 0.95)
    if record:
        stage.record(gap(count), contender.name, found)
        if contender.server:
            stage.record(cpu(count), contender.name, (contender.server.cpu_ms() - before) / count)
    return found


def _asks(count: int) -> list[Ask]:
    return [Ask(TOKENS, RATE, number=next(NUMBERS)) for _ in range(count)]


def gaps_of_all(turns: list[Turn]) -> list[float]:
    """Gaps while all streams ran; all gaps where they never ran together, because the server could not keep up."""
    begin = max(turn.reads[0] for turn in turns)
    end = min(turn.reads[-1] for turn in turns)
    together = [gap for turn in turns for gap in turn.gaps(begin, end)]
    return together or [gap for turn in turns for gap in turn.gaps()]
