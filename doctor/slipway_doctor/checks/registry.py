"""Every check, in the order in which they are shown. AgentHealth and `slipway doctor` both use this list."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from slipway_doctor.checks import cost, infrastructure, live, observability, reliability, security
from slipway_doctor.checks.facts import Facts
from slipway_doctor.checks.finding import Area, Finding, Verdict, unknown


@dataclass(frozen=True, slots=True)
class Check:
    """One line of the checklist. `judge` is a pure function of the facts."""

    id: str
    area: Area
    judge: Callable[[Facts], Verdict]
    settings_only: bool = False
    """It reads nothing but the environment, and so can judge a service outside of a cluster."""

    def __call__(self, facts: Facts) -> Finding:
        try:
            verdict = self.judge(facts)
        except (ValueError, KeyError, TypeError) as error:
            # A setting that is no number, an object of a shape nobody foresaw: the other checks must go on.
            verdict = unknown("NotUnderstood", f"{type(error).__name__}: {error}")
        return Finding(self.id, self.area, verdict.status, verdict.reason, verdict.message, verdict.fix)


CHECKS: Sequence[Check] = (
    Check("PodsReady", Area.HEALTH, live.pods_ready),
    Check("DatabaseReachable", Area.HEALTH, live.database_reachable),
    Check("ModelEndpointReachable", Area.HEALTH, live.model_endpoint),
    Check("DrainsEnd", Area.HEALTH, live.drains_end),
    Check("KeyRevisionsEqual", Area.HEALTH, live.key_revisions),
    Check("LatencyWithinLimit", Area.HEALTH, live.latency),
    Check("ErrorsWithinLimit", Area.HEALTH, live.errors),
    Check("NoAlertsFiring", Area.HEALTH, live.alerts_quiet),
    Check("ReplicasEnough", Area.INFRASTRUCTURE, infrastructure.replicas),
    Check("PodsSpread", Area.INFRASTRUCTURE, infrastructure.spread),
    Check("DisruptionBudget", Area.INFRASTRUCTURE, infrastructure.disruption_budget),
    Check("AutoscalerAble", Area.INFRASTRUCTURE, infrastructure.autoscaling),
    Check("DatabaseExternal", Area.INFRASTRUCTURE, infrastructure.database_external),
    Check("DatabaseConnectionsFit", Area.INFRASTRUCTURE, infrastructure.connections),
    Check("ProbesApart", Area.INFRASTRUCTURE, infrastructure.probes),
    Check("GraceFitsDrain", Area.INFRASTRUCTURE, infrastructure.grace_period),
    Check("TimeoutsNested", Area.RELIABILITY, reliability.timeouts, settings_only=True),
    Check("ModelRetried", Area.RELIABILITY, reliability.retries, settings_only=True),
    Check("IterationsLimited", Area.RELIABILITY, reliability.iteration_limit, settings_only=True),
    Check("DrainTested", Area.RELIABILITY, reliability.drain_tested),
    Check("FallbackModel", Area.RELIABILITY, reliability.fallback_model, settings_only=True),
    Check("RolloutHealthy", Area.RELIABILITY, reliability.rollout),
    Check("JsonLogs", Area.OBSERVABILITY, observability.json_logs, settings_only=True),
    Check("Traced", Area.OBSERVABILITY, observability.tracing, settings_only=True),
    Check("Scraped", Area.OBSERVABILITY, observability.scraped),
    Check("RulesLoaded", Area.OBSERVABILITY, observability.rules_loaded),
    Check("Dashboards", Area.OBSERVABILITY, observability.dashboards),
    Check("BudgetWatched", Area.COST, cost.budget_watched),
    Check("PricesKnown", Area.COST, cost.prices_known),
    Check("PromptCacheUsed", Area.COST, cost.prompt_cache),
    Check("ResponseCache", Area.COST, cost.response_cache),
    Check("CheapModel", Area.COST, cost.cheap_model, settings_only=True),
    Check("AuthRequired", Area.SECURITY, security.auth_required, settings_only=True),
    Check("Guardrails", Area.SECURITY, security.guardrails, settings_only=True),
    Check("DataReadOnly", Area.SECURITY, security.data_schemas, settings_only=True),
    Check("NoKeyInEnvironment", Area.SECURITY, security.no_key_in_environment, settings_only=True),
    Check("KeysMountedWhole", Area.SECURITY, security.keys_mounted_whole),
    Check("KeyFresh", Area.SECURITY, security.key_age),
    Check("DatabaseEncrypted", Area.SECURITY, security.database_tls),
    Check("NetworkLimited", Area.SECURITY, security.network_policy),
    Check("PodRestricted", Area.SECURITY, security.pod_restricted),
)


def judge(facts: Facts) -> list[Finding]:
    """Every check, in the order of the list."""
    return [check(facts) for check in CHECKS]


def judge_settings(facts: Facts) -> list[Finding]:
    """Of a service outside of a cluster: what its environment alone tells."""
    return [check(facts) for check in CHECKS if check.settings_only]
