"""Every alert on histories of its metrics, by Prometheus' own test runner. Here those on an amount; what they all have in common.

`test_rules_of_ratios.py` and `test_rules_of_options.py` have the others.
"""

from collections.abc import Iterator
from math import nan
from pathlib import Path
from typing import Any

import pytest
import yaml

from slipway_monitoring.rules import Selector, Slo, Thresholds, render
from tests.monitoring.rules.history import (
    DAY,
    HOUR,
    MINUTE,
    RELEASE,
    Case,
    Series,
    Sighting,
    gauge,
    growing,
    http,
    of_release,
    phases,
    rising_then_falling,
    steady,
)
from tests.monitoring.rules.promtool import promtool, run_cases
from tests.monitoring.rules.test_rules_of_options import options
from tests.monitoring.rules.test_rules_of_ratios import ratio_cases

pytestmark = pytest.mark.slow


def absolute() -> Iterator[Case]:
    """Alerts on an amount, which need no guard."""
    yield from _cost()
    yield from _callers()
    yield from _unpriced()
    yield from _price_file()
    yield from _circuits()
    yield from _pool()
    yield from _queue()
    yield from _loop()
    yield from _draining()
    yield from _recoveries()
    yield from _feedback()
    yield from _key_spread()
    yield from _key_age()
    yield from _presence()
    yield from _redis()


def _cost() -> Iterator[Case]:
    name, spent = "AgentCostHigh", Series("agent_cost_usd_total", {"model": "gpt"})
    for title, hourly, seen in (
        ("fires above 50 USD an hour", 60.0, of_release(HOUR, "models cost 60.00 USD an hour")),
        ("is silent below 50 USD an hour", 48.0, Sighting(HOUR)),
    ):
        yield gauge(name, title, {spent: growing((hourly / 60, HOUR), step=MINUTE)}, seen)
    one_run = growing((0, HOUR), (12, MINUTE), (0, HOUR), step=MINUTE)
    yield gauge(name, "is silent about one expensive run", {spent: one_run}, Sighting(HOUR + 12 * MINUTE))
    ends = growing((1.0, HOUR), (0.1, HOUR), step=MINUTE)
    yield gauge(name, "resolves", {spent: ends}, of_release(HOUR, "models cost 60.00 USD an hour"), Sighting(2 * HOUR))


def _callers() -> Iterator[Case]:
    warned = Series("agent_budget_warnings_total", {"scope": "user"})
    one = growing((0, 10 * MINUTE), (1, MINUTE), (0, 2 * HOUR), step=MINUTE)
    seen = of_release(12 * MINUTE, "a user has spent 80% of its budget", scope="user")
    yield gauge("AgentCallerNearBudget", "fires when one is told, and resolves", {warned: one}, seen, Sighting(2 * HOUR))
    yield gauge("AgentCallerNearBudget", "is silent while nobody is", {warned: steady(3, HOUR)}, Sighting(HOUR))


def _unpriced() -> Iterator[Case]:
    calls = Series("agent_unpriced_model_calls_total", {"model": "new"})
    one = growing((0, 10 * MINUTE), (1, MINUTE), (0, 2 * HOUR), step=MINUTE)
    seen = of_release(12 * MINUTE, "model new has no price", model="new")
    yield gauge("AgentModelUnpriced", "fires at the first call, and resolves", {calls: one}, seen, Sighting(2 * HOUR))
    yield gauge("AgentModelUnpriced", "is silent while each call has a price", {calls: steady(0, HOUR)}, Sighting(HOUR))


def _price_file() -> Iterator[Case]:
    name, looks = "AgentPriceFileRefused", Series("agent_price_reloads_total", {"result": "refused"})
    broken = growing((0, 10 * MINUTE), (30, 10 * MINUTE), (0, HOUR), step=MINUTE)
    seen = of_release(20 * MINUTE, "the price file is broken")
    yield gauge(
        name, "fires while a broken file stands, and resolves", {looks: broken}, Sighting(9 * MINUTE), seen, Sighting(HOUR)
    )
    loaded = Series("agent_price_reloads_total", {"result": "loaded"})
    yield gauge(
        name, "is silent about new prices", {looks: steady(0, HOUR), loaded: growing((1, HOUR), step=MINUTE)}, Sighting(HOUR)
    )


def _circuits() -> Iterator[Case]:
    name = "AgentModelCircuitOpen"
    kept_out = Series("agent_model_circuits_open", {"model": "gpt"})
    second = kept_out.on(pod="bot-2", instance="10.0.0.2:9090")
    seen = of_release(30 * MINUTE, "2 replicas send no calls to model gpt", model="gpt")
    both = {kept_out: rising_then_falling(1, 0, 30 * MINUTE), second: rising_then_falling(1, 0, 30 * MINUTE)}
    yield gauge(name, "fires, says how many, and resolves", both, seen, Sighting(HOUR))
    yield gauge(name, "is silent while all models answer", {kept_out: steady(0, HOUR)}, Sighting(HOUR))


def _redis() -> Iterator[Case]:
    name, missed = "AgentRedisAway", Series("agent_redis_fallbacks_total", {"use": "rates"})
    away = growing((1, 30 * MINUTE), (0, 31 * MINUTE), step=MINUTE)
    seen = of_release(30 * MINUTE, "Redis does not answer")
    yield gauge(name, "fires while PostgreSQL does its work, and resolves", {missed: away}, seen, Sighting(HOUR))
    once = growing((0, 10 * MINUTE), (1, MINUTE), (0, HOUR), step=MINUTE)
    yield gauge(name, "is silent where Redis answers, or none is used", {missed: steady(0, HOUR)}, Sighting(HOUR))
    moments = [Sighting(minute * MINUTE) for minute in range(10, 20)]
    yield gauge(name, "is silent when one command was missed", {missed: once}, *moments)


def _pool() -> Iterator[Case]:
    name = "AgentDatabasePoolSaturated"
    used, most = Series("agent_db_pool_connections", {"state": "in_use"}), Series("agent_db_pool_connections_limit")
    seen = of_release(30 * MINUTE, "pod bot-1 uses 100% of its database connections", pod="bot-1")
    busy = {used: rising_then_falling(10, 2, 30 * MINUTE), most: steady(10, HOUR)}
    yield gauge(name, "fires when all are in use, and resolves", busy, seen, Sighting(HOUR))
    yield gauge(name, "is silent at 80 %", {used: steady(8, HOUR), most: steady(10, HOUR)}, Sighting(HOUR))
    moment = phases((2, 30 * MINUTE), (10, 2 * MINUTE), (2, 30 * MINUTE), step=MINUTE)
    seconds = [Sighting(at * MINUTE) for at in range(30, 40)]
    yield gauge(name, "is silent about two busy minutes", {used: moment, most: steady(10, HOUR)}, *seconds)


def _queue() -> Iterator[Case]:
    name, queued, most = "AgentQueueSaturated", Series("agent_runs_queued"), Series("agent_runs_queued_limit")
    second = {"pod": "bot-2", "instance": "10.0.0.2:9090"}
    limits = {most: steady(200, HOUR), most.on(**second): steady(200, HOUR)}
    waiting = {queued: rising_then_falling(90, 3, 30 * MINUTE), queued.on(**second): steady(90, HOUR)}
    seen = of_release(30 * MINUTE, "the queue of runs is 90% full")
    yield gauge(name, "fires when two pods fill the queue that they share, and resolves", limits | waiting, seen, Sighting(HOUR))
    half = {queued: steady(70, HOUR), queued.on(**second): steady(70, HOUR)}
    yield gauge(name, "is silent at 70 %", limits | half, Sighting(HOUR))


def _loop() -> Iterator[Case]:
    name, lag = "AgentEventLoopBlocked", Series("agent_event_loop_lag_seconds")
    seen = of_release(30 * MINUTE, "the event loop of pod bot-1 stands still for up to 2s", pod="bot-1")
    yield gauge(name, "fires and resolves", {lag: rising_then_falling(2, 0.01, 30 * MINUTE)}, seen, Sighting(HOUR))
    once = phases((0.01, 10 * MINUTE), (2, 2 * MINUTE), (0.01, 20 * MINUTE), step=MINUTE)
    seconds = [Sighting(at * MINUTE) for at in range(9, 20)]
    yield gauge(name, "is silent about one stall", {lag: once}, *seconds)
    yield gauge(name, "is silent below 0.5 s", {lag: steady(0.4, HOUR)}, Sighting(HOUR))


def _draining() -> Iterator[Case]:
    name = "AgentDrainingStuck"
    started, allowed = Series("agent_drain_started_timestamp_seconds"), Series("agent_drain_limit_seconds")
    # promtool's time begins at 0, so the signal comes at 10 minutes; the pod is gone at 30.
    signal = phases((0, 10 * MINUTE), (10 * MINUTE, 20 * MINUTE), step=MINUTE)
    limit = {allowed: phases((300, 30 * MINUTE), step=MINUTE)}
    late = of_release(17 * MINUTE, "pod bot-1 has been draining for 7m 0s", pod="bot-1")
    seen = [Sighting(16 * MINUTE), late, Sighting(40 * MINUTE)]
    yield gauge(name, "fires a minute after the limit, and resolves when the pod is gone", {started: signal, **limit}, *seen)
    never = {started: steady(0, 2 * HOUR), allowed: steady(300, 2 * HOUR)}
    yield gauge(name, "is silent about pods that serve", never, Sighting(2 * HOUR))


def _recoveries() -> Iterator[Case]:
    name, taken = "AgentRunsRecovered", Series("agent_runs_recovered_total", {"reason": "crash"})
    four = growing((0, 10 * MINUTE), (1, 4 * MINUTE), (0, HOUR), step=MINUTE)
    seen = of_release(15 * MINUTE, "4 runs were taken over from dead processes in 15 minutes")
    yield gauge(name, "fires at four, and resolves", {taken: four}, seen, Sighting(HOUR))
    three = growing((0, 10 * MINUTE), (1, 2 * MINUTE), (0, HOUR), step=MINUTE)
    yield gauge(name, "is silent at two", {taken: three}, *[Sighting(at * MINUTE) for at in range(10, 30)])
    rollout = Series("agent_runs_recovered_total", {"reason": "handover"})
    yield gauge(name, "is silent about rollouts", {rollout: growing((10, HOUR), step=MINUTE)}, Sighting(HOUR))


def thumb(score: int, version: str) -> Series:
    return Series("agent_feedback_total", {"score": str(score), "version": version})


def rollout(*, old: tuple[float, float], new: tuple[float, float]) -> dict[Series, list[float]]:
    """Two days of version 1, then one of version 2 in pods of its own: thumbs (up, down) of each in an hour."""
    second = {"pod": "bot-2", "instance": "10.0.0.2:9090"}
    values: dict[Series, list[float]] = {Series("agent_answers_total", {"version": "1", "result": "sourced"}): [1.0] * 48}
    values[Series("agent_answers_total", {"version": "2", "result": "sourced"}).on(**second)] = [nan] * 48 + [1.0] * 30
    for score, before, after in ((1, old[0], new[0]), (0, old[1], new[1])):
        values[thumb(score, "1")] = growing((before, 47 * HOUR), step=HOUR)
        values[thumb(score, "2").on(**second)] = [nan] * 48 + growing((after, 29 * HOUR), step=HOUR)
    return values


def _feedback() -> Iterator[Case]:
    name, after, step = "AgentFeedbackFell", 72 * HOUR, HOUR
    good, bad = (4.0, 1.0), (1.0, 4.0)
    seen = of_release(after, "version 2 gets 25% of the thumbs up that the version before it got", version="2")
    yield gauge(name, "fires a day after a worse version", rollout(old=good, new=bad), Sighting(47 * HOUR), seen, step=step)
    yield gauge(
        name, "is silent about a version that is a little worse", rollout(old=good, new=(2.5, 2.5)), Sighting(after), step=step
    )
    yield gauge(name, "is silent about a better one", rollout(old=bad, new=good), Sighting(after), step=step)
    yield gauge(name, "is silent while few give thumbs", rollout(old=good, new=(0.0, 0.5)), Sighting(60 * HOUR), step=step)
    yield gauge(name, "is silent while few gave them before", rollout(old=(0.2, 0.05), new=bad), Sighting(after), step=step)
    both = rollout(old=good, new=bad)
    both[Series("agent_answers_total", {"version": "1", "result": "sourced"})] += [1.0] * 30
    yield gauge(name, "is silent while both versions run", both, Sighting(after), step=step)
    mended = rollout(old=good, new=bad)
    third = {"pod": "bot-3", "instance": "10.0.0.3:9090"}
    gone = Series("agent_answers_total", {"version": "2", "result": "sourced"}).on(pod="bot-2", instance="10.0.0.2:9090")
    mended[gone] = mended[gone][:78] + [nan] * 4
    mended[Series("agent_answers_total", {"version": "1", "result": "sourced"}).on(**third)] = [nan] * 78 + [1.0] * 4
    yield gauge(name, "resolves with a rollback", mended, seen, Sighting(81 * HOUR), step=step)


def _key_spread() -> Iterator[Case]:
    name, key = "AgentKeyRevisionSpread", Series("agent_key_revision", {"key": "openai"})
    late = key.on(pod="bot-2", instance="10.0.0.2:9090")
    pods = {key.on(revision="2"): steady(1, HOUR), late.on(revision="1"): phases((1, 30 * MINUTE), (0, 31 * MINUTE), step=MINUTE)}
    taken_up = {late.on(revision="2"): phases((0, 30 * MINUTE), (1, 31 * MINUTE), step=MINUTE)}
    seen = of_release(20 * MINUTE, "pods use 2 revisions of key openai", key="openai")
    yield gauge(
        name, "fires, and resolves when the last pod follows", pods | taken_up, Sighting(14 * MINUTE), seen, Sighting(HOUR)
    )
    two_keys = {key.on(revision="2"): steady(1, HOUR), Series(key.metric, {"key": "api_keys", "revision": "9"}): steady(1, HOUR)}
    yield gauge(name, "is silent about two keys with a revision each", two_keys, Sighting(HOUR))


def _key_age() -> Iterator[Case]:
    name, step = "AgentKeyTooOld", HOUR
    loaded = Series("agent_key_loaded_timestamp_seconds", {"key": "openai"})
    rotated = phases((HOUR, 92 * DAY), (92 * DAY, DAY), step=step)
    seen = [Sighting(89 * DAY), of_release(91 * DAY, "key openai is 91 days old", key="openai"), Sighting(92 * DAY + 12 * HOUR)]
    yield gauge(name, "fires after 90 days, and resolves when the key is rotated", {loaded: rotated}, *seen, step=step)
    unknown = {loaded: phases((0, 92 * DAY), step=step)}
    yield gauge(name, "is silent about a key whose age nobody knows", unknown, Sighting(91 * DAY), step=step)


def _presence() -> Iterator[Case]:
    served, up = http("200"), Series("up")
    gone = phases((1, 30 * MINUTE), step=MINUTE)
    seen = of_release(45 * MINUTE, "Prometheus has no metrics of this release")
    yield gauge("AgentMetricsAbsent", "fires when all are gone", {served: gone}, Sighting(30 * MINUTE), seen)
    back = [*gone, *[nan] * 30, *steady(1, 30 * MINUTE)]
    yield gauge("AgentMetricsAbsent", "resolves", {served: back}, seen, Sighting(80 * MINUTE))
    yield gauge("AgentMetricsAbsent", "is silent without traffic", {served: steady(0, HOUR)}, Sighting(HOUR))
    seen = of_release(30 * MINUTE, "pod bot-1 does not answer Prometheus", pod="bot-1")
    pods = {up: rising_then_falling(0, 1, 30 * MINUTE), up.on(pod="bot-2", instance="10.0.0.2:9090"): steady(1, HOUR)}
    yield gauge("AgentTargetDown", "fires for the pod that is down, and resolves", pods, seen, Sighting(HOUR))
    yield gauge("AgentTargetDown", "is silent while all answer", {up: steady(1, HOUR)}, Sighting(HOUR))
    reached = Series("agent_dependency_up", {"dependency": "database"})
    seen = of_release(30 * MINUTE, "no pod reaches database", dependency="database")
    yield gauge(
        "AgentDependencyDown", "fires, and resolves", {reached: rising_then_falling(0, 1, 30 * MINUTE)}, seen, Sighting(HOUR)
    )
    one_pod = {reached: steady(0, HOUR), reached.on(pod="bot-2", instance="10.0.0.2:9090"): steady(1, HOUR)}
    yield gauge("AgentDependencyDown", "is silent when one pod reaches it", one_pod, Sighting(HOUR))


def all_groups() -> list[dict[str, Any]]:
    slos = (Slo("availability", 0.999), Slo("latency", 0.99))
    return render(Thresholds(daily_budget_usd=100), selector=Selector(**RELEASE), slos=slos)


def test_every_alert_on_an_amount_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    run_cases(tmp_path, absolute(), thresholds=Thresholds())


def test_each_alert_has_a_case_in_which_it_fires_one_in_which_it_does_not_and_one_in_which_it_ends() -> None:
    cases = [*absolute(), *ratio_cases(), *(case for each in options() for case in each.cases)]
    every = {rule["alert"] for group in all_groups() for rule in group["rules"]}

    assert {case.alert for case in cases if any(seen.labels for seen in case.seen)} == every
    assert {case.alert for case in cases if not any(seen.labels for seen in case.seen)} == every
    assert {case.alert for case in cases if "resolves" in case.title} == every


def test_prometheus_accepts_the_rules_of_every_option(tmp_path: Path) -> None:
    every = tmp_path / "every.yaml"
    every.write_text(yaml.dump({"groups": all_groups()}, Dumper=yaml.CSafeDumper), encoding="utf-8")

    assert "SUCCESS" in promtool("check", "rules", every)
