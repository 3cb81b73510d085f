"""The scenarios, in the order in which they run."""

from bench.scenarios.growth import growth
from bench.scenarios.history import history
from bench.scenarios.idle import replica, streams
from bench.scenarios.notify import notify
from bench.scenarios.paced import paced
from bench.scenarios.reconnect import kill, reconnect
from bench.scenarios.replicas import replicas
from bench.scenarios.start import start
from bench.scenarios.turns import levels, limits, threads, tool
from bench.stage import Scenario

SCENARIOS = (
    Scenario("start", "cold start to ready, memory of a fresh replica", start, 120, quick=True),
    Scenario("turns", "50 tokens without delay by 1, 16 and 64 clients, beside the direct line", levels, 300, quick=True),
    Scenario("threads", "50 tokens by the wire of LangGraph's SDKs, beside the tutorial's own", threads, 300),
    Scenario("limits", "50 tokens with rates, places and budgets counted, beside a server without limits", limits, 150),
    Scenario("paced", "streams of 50 tokens/s until the p95 gap is above 50 ms", paced, 330, quick=True),
    Scenario("tool", "a tool step: two model calls a turn, by 16 clients", tool, 150),
    Scenario("history", "turns of sessions that have 200 turns behind them", history, 150),
    Scenario("reconnect", "500 readers come back with Last-Event-ID within a second", reconnect, 150),
    Scenario("kill", "a replica is killed: how long its readers wait for the next token", kill, 120),
    Scenario("streams", "2,000 idle streams: memory of each", streams, 240),
    Scenario("idle", "transactions and CPU of a replica without a run", replica, 90),
    Scenario("growth", "a turn on a database of a thousand runs, and of a million", growth, 300),
    Scenario("replicas", "1, 2 and 4 replicas on one database: what a turn costs", replicas, 200),
    Scenario("notify", "what notices cost PostgreSQL with 20 and 100 replicas", notify, 120),
)
