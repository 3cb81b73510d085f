"""Each check, both ways: a good release passes all of them, and each spoiled one gets its reason from its check."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import pytest

from slipway_clients.prometheus import Rule
from slipway_doctor.checks.facts import Pod
from slipway_doctor.checks.finding import Status
from slipway_doctor.checks.registry import CHECKS, judge, judge_settings
from tests.doctor.checks import release
from tests.doctor.checks.release import (
    QUERY,
    Change,
    answering,
    edited,
    env,
    every_pod,
    figures,
    first_pod,
    forbidden,
    objects_are,
    template,
    versions,
)

OK, WARN, FAIL, UNKNOWN = Status.OK, Status.WARN, Status.FAIL, Status.UNKNOWN


def down(name: str, detail: str) -> Mapping[str, Any]:
    found = release.health()["dependencies"]
    return {"dependencies": {**found, name: {"ok": False, "detail": detail}}}


def waiting(reason: str) -> Change:
    def edit(pod: Pod) -> Pod:
        pod.manifest["status"] = {
            "conditions": [{"type": "Ready", "status": "False"}],
            "containerStatuses": [{"ready": False, "restartCount": 1, "state": {"waiting": {"reason": reason}}}],
        }
        return pod

    return first_pod(edit)


def between_two_crashes(pod: Pod) -> Pod:
    state: dict[str, Any] = {"running": {}}
    ended = {"terminated": {"exitCode": 1}}
    pod.manifest["status"]["conditions"][0]["status"] = "False"
    pod.manifest["status"]["containerStatuses"] = [{"ready": False, "restartCount": 2, "state": state, "lastState": ended}]
    return pod


def just_crashed_again(pod: Pod) -> Pod:
    ended = {"terminated": {"exitCode": 1}}
    pod.manifest["status"]["conditions"][0]["status"] = "False"
    pod.manifest["status"]["containerStatuses"] = [{"ready": False, "restartCount": 1, "state": ended, "lastState": ended}]
    return pod


def not_ready(pod: Pod) -> Pod:
    pod.manifest["status"]["conditions"][0]["status"] = "False"
    return pod


def leaving(until: str) -> Change:
    def edit(pod: Pod) -> Pod:
        pod.manifest["metadata"]["deletionTimestamp"] = until
        return pod

    return first_pod(edit)


def draining_since(seconds: float) -> Change:
    def edit(pod: Pod) -> Pod:
        samples = {**(pod.samples or {}), "agent_drain_started_timestamp_seconds": [({}, release.NOW.timestamp() - seconds)]}
        return replace(pod, samples=samples, status=pod.status and pod.status.model_copy(update={"draining": True}))

    return first_pod(edit)


def on_node_1(pod: Pod) -> Pod:
    pod.manifest["spec"]["nodeName"] = "node1"
    return pod


def metric(name: str, value: float, **labels: str) -> Change:
    return every_pod(lambda pod: replace(pod, samples={**(pod.samples or {}), name: [(labels, value)]}))


def cached(result: str, each: float) -> Change:
    """The response cache is on, and each pod has counted so many of a result."""
    return lambda facts: metric("agent_cache_requests_total", each, result=result)(env(RESPONSE_CACHE_SECONDS="60")(facts))


def condition(kind: str, reason: str) -> Change:
    found = [{"type": kind, "status": "False", "reason": reason}]
    return edited("horizontalpodautoscalers", lambda hpa: hpa.update(status={"conditions": found}))


def silent(pod: Pod) -> Pod:
    return Pod(pod.manifest)


def twice(plural: str) -> Change:
    found = release.objects()[plural][0]
    return objects_are(plural, found, {**found, "metadata": release.metadata("another")})


NO_PROMETHEUS: Change = lambda facts: replace(facts, prometheus=None)  # noqa: E731  # one of a table of changes
NO_DEPLOYMENT: Change = lambda facts: replace(facts, deployment=None)  # noqa: E731  # likewise
NO_PODS: Change = lambda facts: replace(facts, pods=())  # noqa: E731  # likewise

SPOILED: list[tuple[str, Change, Status, str]] = [
    ("PodsReady", NO_DEPLOYMENT, FAIL, "DeploymentMissing"),
    ("PodsReady", waiting("CrashLoopBackOff"), FAIL, "CrashLoop"),
    ("PodsReady", first_pod(between_two_crashes), FAIL, "CrashLoop"),
    ("PodsReady", first_pod(just_crashed_again), FAIL, "CrashLoop"),
    ("PodsReady", waiting("ErrImagePull"), FAIL, "ImagePull"),
    ("PodsReady", first_pod(not_ready), FAIL, "PodsNotReady"),
    ("PodsReady", forbidden("pods"), UNKNOWN, "Forbidden"),
    ("DatabaseReachable", first_pod(answering(health=down("database", "no"))), FAIL, "DatabaseUnreachable"),
    ("DatabaseReachable", every_pod(silent), UNKNOWN, "PodsNotAsked"),
    ("DatabaseReachable", NO_PODS, UNKNOWN, "NoPods"),
    (
        "ModelEndpointReachable",
        first_pod(answering(health=down("model_endpoint", "the model endpoint refused the key"))),
        FAIL,
        "KeyRefused",
    ),
    ("ModelEndpointReachable", first_pod(answering(health=down("model_endpoint", "HTTP 503"))), FAIL, "EndpointUnreachable"),
    ("DrainsEnd", leaving("2026-03-01T11:59:00Z"), FAIL, "DrainStuck"),
    ("DrainsEnd", leaving("2026-03-01T11:59:58Z"), OK, "Draining"),
    ("DrainsEnd", draining_since(320), FAIL, "DrainStuck"),
    ("DrainsEnd", leaving("2026-03-01T12:04:00Z"), OK, "Draining"),
    ("DrainsEnd", draining_since(30), OK, "Draining"),
    ("KeyRevisionsEqual", first_pod(answering({"keys": {"openai": "6"}})), WARN, "RevisionSpread"),
    ("KeyRevisionsEqual", every_pod(silent), UNKNOWN, "PodsNotAsked"),
    ("LatencyWithinLimit", figures(p99_seconds=31.0), FAIL, "TurnsSlow"),
    ("LatencyWithinLimit", figures(p99_seconds=None), OK, "NoTraffic"),
    ("LatencyWithinLimit", NO_PROMETHEUS, UNKNOWN, "NoPrometheus"),
    ("LatencyWithinLimit", figures(error="refused"), UNKNOWN, "PrometheusUnreachable"),
    ("ErrorsWithinLimit", figures(error_ratio=0.06), FAIL, "ErrorsHigh"),
    ("ErrorsWithinLimit", figures(error_ratio=1.0, requests=3.0), OK, "LittleTraffic"),
    ("NoAlertsFiring", figures(firing=[{"alertname": "AgentSlow", "severity": "warning"}]), WARN, "AlertsFiring"),
    ("NoAlertsFiring", figures(firing=[{"alertname": "AgentDown", "severity": "critical"}]), FAIL, "AlertsFiring"),
    ("ReplicasEnough", edited("horizontalpodautoscalers", lambda h: h["spec"].update(minReplicas=1)), FAIL, "SingleReplica"),
    ("PodsSpread", every_pod(on_node_1), WARN, "OneNode"),
    ("DisruptionBudget", objects_are("poddisruptionbudgets"), FAIL, "NoBudget"),
    (
        "DisruptionBudget",
        edited("poddisruptionbudgets", lambda b: b["spec"]["selector"]["matchLabels"].update(x="y")),
        FAIL,
        "NoBudget",
    ),
    ("DisruptionBudget", twice("poddisruptionbudgets"), FAIL, "SeveralBudgets"),
    ("DisruptionBudget", edited("poddisruptionbudgets", lambda b: b["status"].update(desiredHealthy=2)), FAIL, "BlocksDrains"),
    ("DisruptionBudget", forbidden("poddisruptionbudgets"), UNKNOWN, "Forbidden"),
    ("AutoscalerAble", objects_are("horizontalpodautoscalers"), WARN, "NoAutoscaler"),
    ("AutoscalerAble", twice("horizontalpodautoscalers"), FAIL, "SeveralAutoscalers"),
    ("AutoscalerAble", condition("ScalingActive", "FailedGetPodsMetric"), FAIL, "MetricMissing"),
    ("AutoscalerAble", condition("AbleToScale", "FailedGetScale"), FAIL, "NotAbleToScale"),
    ("AutoscalerAble", condition("ScalingActive", "ScalingDisabled"), OK, "AbleToScale"),
    ("AutoscalerAble", edited("horizontalpodautoscalers", lambda h: h.pop("status")), UNKNOWN, "NotEvaluated"),
    ("DatabaseExternal", objects_are("databases", release.pod_manifest("postgres-0", "node1")), WARN, "Evaluation"),
    (
        "DatabaseConnectionsFit",
        every_pod(answering({"database": {"max_connections": 77, "tls": True}})),
        FAIL,
        "TooManyConnections",
    ),
    ("DatabaseConnectionsFit", every_pod(silent), UNKNOWN, "NotReported"),
    ("ProbesApart", template(lambda _, c: c.pop("livenessProbe")), FAIL, "ProbeMissing"),
    ("ProbesApart", template(lambda _, c: c.update(livenessProbe=c["readinessProbe"])), FAIL, "ProbesShared"),
    ("ProbesApart", template(lambda _, c: c.pop("startupProbe")), WARN, "NoStartupProbe"),
    ("GraceFitsDrain", template(lambda s, _: s.pop("terminationGracePeriodSeconds")), FAIL, "GraceTooShort"),
    ("GraceFitsDrain", env(DRAIN_SECONDS="301"), FAIL, "GraceTooShort"),
    ("GraceFitsDrain", env(DRAIN_SECONDS="300"), OK, "FitsDrain"),
    ("GraceFitsDrain", env(DRAIN_SECONDS="five"), UNKNOWN, "NotUnderstood"),
    ("TimeoutsNested", env(MODEL_TIMEOUT="300"), FAIL, "TimeoutsNested"),
    ("TimeoutsNested", env(DRAIN_SECONDS="60"), WARN, "DrainShorterThanTurn"),
    ("ModelRetried", env(MODEL_MAX_RETRIES="0"), FAIL, "NoRetries"),
    ("IterationsLimited", env(MAX_MODEL_CALLS="51"), WARN, "LimitHigh"),
    ("DrainTested", figures(drained=False), WARN, "NeverDrained"),
    ("DrainTested", figures(drained=None), UNKNOWN, "NoHistory"),
    ("FallbackModel", env(FALLBACK_MODEL=""), WARN, "NoFallback"),
    ("FallbackModel", env(FALLBACK_MODEL="gpt-4.1"), FAIL, "SameModel"),
    ("RolloutHealthy", env(GRAPH_VERSION=""), UNKNOWN, "VersionUnknown"),
    ("RolloutHealthy", env(GRAPH_VERSION="3"), UNKNOWN, "TooFewTurns"),
    ("RolloutHealthy", figures(versions=[]), UNKNOWN, "OneVersion"),
    ("RolloutHealthy", figures(versions=[], versions_error="the answer is too large"), UNKNOWN, "PrometheusUnreachable"),
    ("RolloutHealthy", figures(versions=versions(new_failed=30)), FAIL, "Worse"),
    ("JsonLogs", template(lambda _, c: c.update(tty=True)), FAIL, "Terminal"),
    ("JsonLogs", env(LOG_LEVEL="debug"), WARN, "Debug"),
    ("Traced", env(OTEL_EXPORTER_OTLP_ENDPOINT=""), WARN, "NoTraces"),
    ("Traced", env(OTEL_EXPORTER_OTLP_ENDPOINT="", LANGSMITH_TRACING="true"), OK, "LangSmith"),
    ("Scraped", figures(up=0), FAIL, "NotScraped"),
    ("Scraped", figures(up=1), FAIL, "PodsNotScraped"),
    ("RulesLoaded", objects_are("prometheusrules"), FAIL, "NoRules"),
    ("RulesLoaded", figures(rules=[]), FAIL, "RulesNotLoaded"),
    ("RulesLoaded", figures(rules=[Rule("cost", "AgentCostHigh", "ok", QUERY.replace("prod", "dev"))]), FAIL, "RulesNotLoaded"),
    ("RulesLoaded", figures(rules=[Rule("cost", "AgentCostHigh", "err", QUERY)]), FAIL, "RulesFailing"),
    ("Dashboards", objects_are("dashboards"), WARN, "NoDashboards"),
    ("BudgetWatched", figures(rules=[]), FAIL, "NoCostAlert"),
    ("BudgetWatched", env(DAILY_USD_LIMIT="0.50"), OK, "Budget"),
    ("BudgetWatched", env(MONTHLY_TENANT_TOKEN_LIMIT="100"), OK, "Budget"),
    ("BudgetWatched", env(DAILY_USD_LIMIT="0.00", DAILY_TOKEN_LIMIT="0"), OK, "CostAlert"),
    ("PricesKnown", metric("agent_unpriced_model_calls_total", 1.0), FAIL, "PriceMissing"),
    ("PricesKnown", every_pod(silent), UNKNOWN, "PodsNotAsked"),
    ("PromptCacheUsed", metric("agent_tokens_total", 1e6, type="input"), WARN, "CacheUnused"),
    ("PromptCacheUsed", metric("agent_tokens_total", 10, type="input"), UNKNOWN, "LittleTraffic"),
    ("CheapModel", env(CHEAP_MODEL=""), WARN, "NoCheapModel"),
    ("ResponseCache", env(RESPONSE_CACHE_SECONDS="0"), OK, "Off"),
    ("ResponseCache", env(RESPONSE_CACHE_SECONDS="60"), UNKNOWN, "LittleTraffic"),
    ("ResponseCache", cached("miss", 99), WARN, "CacheUnused"),
    ("ResponseCache", cached("waited", 99), OK, "CacheUsed"),
    ("ResponseCache", cached("hit", 10), UNKNOWN, "LittleTraffic"),
    ("AuthRequired", env(AUTH="disabled"), FAIL, "Disabled"),
    ("AuthRequired", env(API_KEYS_DIR=""), FAIL, "NobodyKnown"),
    ("Guardrails", env(GUARDRAILS="off"), FAIL, "Off"),
    ("DataReadOnly", env(DATA_SCHEMAS="slipway_data, public"), FAIL, "OwnTablesExposed"),
    ("NoKeyInEnvironment", env(OPENAI_API_KEY="sk-x"), FAIL, "PlainValue"),
    ("NoKeyInEnvironment", env(DATABASE_URL="postgresql://u:p@db/x"), FAIL, "PlainValue"),
    ("NoKeyInEnvironment", env(DATABASE_URL="postgresql://u@db/x"), OK, "None"),
    (
        "NoKeyInEnvironment",
        lambda facts: replace(facts, environment=replace(facts.environment, secret=frozenset({"OPENAI_API_KEY"}))),
        WARN,
        "KeyInEnvironment",
    ),
    ("KeysMountedWhole", template(lambda _, c: c["volumeMounts"][0].update(subPath="current")), FAIL, "SubPath"),
    ("KeyFresh", objects_are("secrets", release.secret("2025-11-30T00:00:00Z")), FAIL, "KeyTooOld"),
    ("KeyFresh", forbidden("secrets"), UNKNOWN, "Forbidden"),
    ("KeyFresh", objects_are("keyrotations", {"status": {"currentKeyTime": "2025-11-30T00:00:00Z"}}), FAIL, "KeyTooOld"),
    ("KeyFresh", objects_are("secrets"), UNKNOWN, "NoKeySecret"),
    ("DatabaseEncrypted", every_pod(answering({"database": {"max_connections": 197, "tls": False}})), FAIL, "Plain"),
    ("NetworkLimited", objects_are("networkpolicies"), WARN, "Open"),
    ("NetworkLimited", edited("networkpolicies", lambda p: p["spec"].update(policyTypes=["Ingress"])), WARN, "Open"),
    ("PodRestricted", template(lambda _, c: c.pop("securityContext")), WARN, "NotRestricted"),
]


def test_a_good_release_passes_every_check() -> None:
    assert [f"{f.id}: {f.reason} {f.message}" for f in judge(release.facts()) if f.status is not OK] == []


@pytest.mark.parametrize(("check", "spoil", "status", "reason"), SPOILED, ids=lambda v: v if isinstance(v, str) else "")
def test_a_spoiled_release_gets_its_reason(check: str, spoil: Change, status: Status, reason: str) -> None:
    (finding,) = [f for f in judge(spoil(release.facts())) if f.id == check]

    assert (finding.status, finding.reason) == (status, reason)
    assert (finding.status in {WARN, FAIL}) <= bool(finding.fix), "what is wrong comes with what to do"


def test_every_check_is_seen_to_fail() -> None:
    assert {check.id for check in CHECKS} == {check for check, _, status, _ in SPOILED if status in {WARN, FAIL}}


def test_ids_and_reasons_are_names_that_a_condition_takes() -> None:
    names = [f.reason for _, spoil, *_ in SPOILED for f in judge(spoil(release.facts()))] + [check.id for check in CHECKS]

    assert [name for name in names if not (name.isalnum() and name[0].isupper())] == []
    assert len({check.id for check in CHECKS}) == len(CHECKS)


def test_outside_of_a_cluster_only_settings_are_judged() -> None:
    bare = replace(release.facts(), deployment=None, pods=(), objects={}, prometheus=None)

    assert {f.status for f in judge_settings(bare)} == {OK}
    assert 0 < len(judge_settings(bare)) < len(CHECKS)


def test_with_the_built_in_model_nothing_asks_for_an_endpoint_or_a_key() -> None:
    offline = env(MODEL="offline", CHEAP_MODEL="", FALLBACK_MODEL="")(release.facts())

    assert [f.id for f in judge(offline) if f.status is not OK] == []
