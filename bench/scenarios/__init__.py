"""The scenarios, in the order in which they run."""

from bench.scenarios.paced import paced
from bench.scenarios.start import start
from bench.scenarios.turns import levels, tool
from bench.stage import Scenario

SCENARIOS = (
    Scenario("start", "cold start to ready, memory of a fresh replica", start, 120, quick=True),
    Scenario("turns", "50 tokens without delay by 1, 16 and 64 clients, beside the direct line", levels, 300, quick=True),
    Scenario("tool", "a tool step: two model calls a turn, by 16 clients", tool, 150),
    Scenario("paced", "streams of 50 tokens/s until the p95 gap is above 50 ms", paced, 330, quick=True),
)
