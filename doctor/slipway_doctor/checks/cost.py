"""Is the bill bounded, and is it known?"""

from slipway_doctor.checks.facts import Facts
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn
from slipway_doctor.checks.live import no_prometheus

COST_METRIC = "agent_cost_usd_total"

MIN_CACHE_REQUESTS = 100
"""First questions since the pods started, under which none that was answered from the cache says nothing."""

MIN_INPUT_TOKENS = 100_000
"""Tokens sent since the pods started, under which a share of cached ones says nothing."""


BUDGETS = ("DAILY_TOKEN_LIMIT", "DAILY_USD_LIMIT", "MONTHLY_TENANT_TOKEN_LIMIT", "MONTHLY_TENANT_USD_LIMIT")


def budget_watched(facts: Facts) -> Verdict:
    """Budgets that are set in the database alone do not count: who has none there may spend without a limit."""
    if facts.environment.offline:
        return ok("BuiltIn", "the built-in model costs nothing")
    if limited := [name for name in BUDGETS if _is_on(facts, name)]:
        return ok("Budget", f"{limited[0]} limits what everyone may spend")
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    if any(COST_METRIC in rule.query and f'"{facts.namespace}"' in rule.query for rule in facts.prometheus.rules):
        return ok("CostAlert", "an alert watches what the models cost")
    return fail(
        "NoCostAlert",
        "nothing limits or watches what the models cost",
        "set budgets.userPerDay or budgets.tenantPerMonth, monitoring.alerts.enabled=true, or use an AlertPolicy",
    )


def prices_known(facts: Facts) -> Verdict:
    """Whether the cost that is told leaves out calls of models without a price."""
    unpriced = facts.pod_total("agent_unpriced_model_calls_total")
    if unpriced is None:
        return unknown("PodsNotAsked", "no pod's metrics could be read")
    if unpriced > 0:
        return fail(
            "PriceMissing",
            "calls of a model without a price count as no cost",
            "add the model to PRICE_FILE (docs/operations/costs.md)",
        )
    return ok("Priced", "every model that was called has a price")


def prompt_cache(facts: Facts) -> Verdict:
    """Whether prompts begin alike, so that the provider bills most of their tokens at the cached price."""
    if facts.environment.offline:
        return ok("BuiltIn", "the built-in model costs nothing")
    sent, cached = (facts.pod_total("agent_tokens_total", type=kind) for kind in ("input", "cached"))
    if sent is None or sent < MIN_INPUT_TOKENS:
        return unknown("LittleTraffic", "too few tokens have been sent to tell")
    if not cached:
        fix = "keep the beginning of prompts the same from call to call: instructions and tools first, what changes last"
        return warn("CacheUnused", "the endpoint has served no input token from its prompt cache", fix)
    return ok("CacheUsed", "the endpoint serves input tokens from its prompt cache")


def response_cache(facts: Facts) -> Verdict:
    """Off is as good as on: only who wrote the graph knows whether its answers may be given twice."""
    if not _is_on(facts, "RESPONSE_CACHE_SECONDS"):
        return ok("Off", "each question is answered anew")
    asked = [facts.pod_total("agent_cache_requests_total", result=result) for result in ("hit", "waited", "miss")]
    hit, waited, miss = (count or 0 for count in asked)
    if all(count is None for count in asked) or hit + waited + miss < MIN_CACHE_REQUESTS:
        return unknown("LittleTraffic", "too few first questions have been asked to tell")
    if not hit + waited:
        fix = "set responseCache.scope to tenant or everyone, if answers may be shared, or turn it off"
        return warn("CacheUnused", "no first question was answered from the response cache", fix)
    return ok("CacheUsed", "the response cache answers first questions that were asked before")


def cheap_model(facts: Facts) -> Verdict:
    """Whether routing and guardrails are done by a model that costs less."""
    environment = facts.environment
    if environment.offline:
        return ok("BuiltIn", "the built-in model costs nothing")
    if not environment.has("CHEAP_MODEL") or environment.get("CHEAP_MODEL") == environment.get("MODEL"):
        return warn(
            "NoCheapModel", "MODEL also does the small jobs: routing, guardrails", "set model.cheapName to a smaller model"
        )
    return ok("Set", "small jobs go to a cheaper model")


def _is_on(facts: Facts, name: str) -> bool:
    """Whether a setting that is off at 0 has another value, or one that is not for us to read."""
    return bool(facts.environment.get(name).strip("0.")) or name in facts.environment.secret
