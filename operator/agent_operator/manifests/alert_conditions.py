"""What an AlertPolicy says of its rules, from what was applied and what Prometheus answered."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from agent_operator.manifests.conditions import Verdict

MAX_NAMES = 10
"""Names in one message: a condition is read in a terminal."""

COMING = ("OldRules", "RulesNotLoaded")
"""Reasons of RulesLoaded that pass by themselves when a change is on its way to Prometheus."""


@dataclass(frozen=True, slots=True)
class LoadedRule:
    """As Prometheus runs it; `mark` is the annotation that names policy and version."""

    name: str
    mark: str
    health: str
    error: str
    firing: bool


@dataclass(frozen=True, slots=True)
class Answers:
    """What Prometheus said; with `error`, nothing."""

    url: str
    error: str = ""
    rules: Sequence[LoadedRule] = ()
    unseen_metrics: Sequence[str] = field(default_factory=tuple)


def findings(groups: list[dict[str, Any]], mark: str, answers: Answers) -> list[Verdict]:
    """RulesLoaded, MetricsExist and Firing."""
    if not answers.url:
        return _unknown("NoPrometheus", "Set spec.prometheus.url, or prometheus.url of the operator, to have this confirmed")
    if answers.error:
        return _unknown("PrometheusUnavailable", answers.error)
    return [_loaded(groups, mark, answers), _metrics(answers), _firing(answers)]


def ready(applied: Verdict, loaded: Verdict) -> Verdict:
    """Rules that nobody can confirm count as ready: without a Prometheus to ask, applied is all there is to know."""
    if applied.status != "True":
        return applied._replace(type="Ready")
    if loaded.status == "False":
        return loaded._replace(type="Ready")
    reason = "RulesLoaded" if loaded.status == "True" else "AppliedUnconfirmed"
    return Verdict("Ready", "True", reason, loaded.message)


def firing_count(answers: Answers) -> int:
    """Rules of the policy that fire now."""
    return sum(rule.firing for rule in answers.rules)


def _loaded(groups: list[dict[str, Any]], mark: str, answers: Answers) -> Verdict:
    wanted = sum(len(group["rules"]) for group in groups)
    current = [rule for rule in answers.rules if rule.mark == mark]
    broken = [rule for rule in current if rule.health == "err"]
    if broken:
        causes = sorted({f"{rule.name}: {rule.error}" for rule in broken})
        return Verdict("RulesLoaded", "False", "RulesFail", f"Prometheus cannot evaluate {_some(causes)}")
    if len(current) >= wanted:
        return Verdict("RulesLoaded", "True", "RulesLoaded", f"{answers.url} runs all {wanted} rules")
    if answers.rules:
        message = f"{answers.url} runs {len(current)} of {wanted} rules, others are older. It reloads within a minute"
        return Verdict("RulesLoaded", "False", "OldRules", message)
    fix = "Do its ruleSelector and ruleNamespaceSelector (or its sidecar) take the object? See spec.outputLabels"
    return Verdict("RulesLoaded", "False", "RulesNotLoaded", f"{answers.url} runs none of the {wanted} rules. {fix}")


def _metrics(answers: Answers) -> Verdict:
    if not answers.unseen_metrics:
        return Verdict("MetricsExist", "True", "MetricsSeen", "Every metric that the rules read was seen in the last 7 days")
    message = f"Never seen in 7 days, so alerts on them cannot fire: {_some(answers.unseen_metrics)}. Is the release scraped?"
    return Verdict("MetricsExist", "False", "MetricsMissing", message)


def _firing(answers: Answers) -> Verdict:
    names = sorted({rule.name for rule in answers.rules if rule.firing})
    if names:
        return Verdict("Firing", "True", "AlertsFiring", _some(names))
    return Verdict("Firing", "False", "NothingFires", "No alert of this policy fires")


def _unknown(reason: str, message: str) -> list[Verdict]:
    return [Verdict(type_, "Unknown", reason, message) for type_ in ("RulesLoaded", "MetricsExist", "Firing")]


def _some(names: Sequence[str]) -> str:
    more = len(names) - MAX_NAMES
    return ", ".join(names[:MAX_NAMES]) + (f" and {more} more" if more > 0 else "")
