"""Model endpoints and what they cost."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import PERCENT, RELEASE, Alert
from slipway_monitoring.rules.expressions import increase, rate, share_above
from slipway_monitoring.rules.scope import Scope, none_of, quoted
from slipway_monitoring.rules.thresholds import Thresholds

MODEL = "model {{ $labels.model }}"


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _endpoint_failing(limits, scope)
    yield _circuit_open(scope)
    yield _rate_limited(scope, limits.rate_limited_ratio, none_of("model", limits.rate_limited_ratio_by_model), {})
    for model, ratio in sorted(limits.rate_limited_ratio_by_model.items()):
        yield _rate_limited(scope, ratio, [f"model={quoted(model)}"], {"model": model})
    yield _cost(limits, scope)
    if limits.daily_budget_usd is not None:
        yield _budget(limits.daily_budget_usd, limits.budget_ratio, scope)
    yield _callers_near_their_budgets(scope)
    yield _unpriced(scope)
    yield _price_file_refused(scope)


def _endpoint_failing(limits: Thresholds, scope: Scope) -> Alert:
    every = scope.select("agent_llm_requests_total")
    bad = scope.select("agent_llm_requests_total", 'status=~"server_error|connection_error|timeout|auth"')
    return Alert(
        name="AgentModelEndpointFailing",
        expr=share_above(scope, bad, every, limits.model_failure_ratio, 300, "model"),
        severity="critical",
        hold=120,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of the requests to {MODEL} fail",
        description=f"In 5 minutes, more than {limits.model_failure_ratio * 100:g}% of the attempts ended in 5xx, no connection, "
        "a timeout or a refused key. Retries and the fallback model hide a part of it from users.",
        dashboard="cost-quality",
    )


def _circuit_open(scope: Scope) -> Alert:
    # By replica each has found out by itself: as many are named as send no calls.
    open_now = scope.select("agent_model_circuits_open")
    return Alert(
        name="AgentModelCircuitOpen",
        expr=f"sum by (namespace, job, model) ({open_now}) > 0",
        severity="critical",
        hold=60,
        keep=60,
        summary=f'{RELEASE}: {{{{ $value | printf "%.0f" }}}} replicas send no calls to {MODEL}',
        description="The model does not answer the service's own question, asked again 10 s after each error or timeout. "
        "Users get the fallback's answers, "
        "or model_unavailable at once.",
        dashboard="cost-quality",
    )


def _rate_limited(scope: Scope, ratio: float, matchers: list[str], labels: dict[str, str]) -> Alert:
    every = scope.select("agent_llm_requests_total", *matchers)
    bad = scope.select("agent_llm_requests_total", *matchers, 'status="rate_limited"')
    return Alert(
        name="AgentModelRateLimited",
        expr=share_above(scope, bad, every, ratio, 600, "model"),
        severity="warning",
        hold=300,
        keep=300,
        summary=f"{RELEASE}: {PERCENT} of the requests to {MODEL} are rate limited",
        description=f"In 10 minutes, more than {ratio * 100:g}% of the attempts got 429; users wait for the retries.",
        dashboard="cost-quality",
        labels=labels,
    )


def _cost(limits: Thresholds, scope: Scope) -> Alert:
    # Extrapolated from 15 minutes: increase() over the hour would say 30 USD after half an hour at 60 USD/h.
    spent = rate(scope.select("agent_cost_usd_total"), scope.over(900))
    return Alert(
        name="AgentCostHigh",
        expr=f"{spent} * 3600 > {limits.cost_usd_per_hour:g}",
        severity="critical",
        hold=600,
        keep=300,
        summary=f'{RELEASE}: models cost {{{{ $value | printf "%.2f" }}}} USD an hour',
        description=f"The rate of 15 minutes is above {limits.cost_usd_per_hour:g} USD an hour.",
        dashboard="cost-quality",
    )


def _budget(budget: float, ratio: float, scope: Scope) -> Alert:
    spent = increase(scope.select("agent_cost_usd_total"), scope.over(86_400))
    return Alert(
        name="AgentBudgetNearlySpent",
        expr=f"{spent} / {budget:g} > {ratio:g}",
        severity="warning",
        hold=0,
        keep=900,
        summary=f"{RELEASE}: {PERCENT} of the daily budget of {budget:g} USD is spent",
        description=f"In the last 24 hours, more than {ratio * 100:g}% of the budget went to models.",
        dashboard="cost-quality",
    )


def _callers_near_their_budgets(scope: Scope) -> Alert:
    warned = increase(scope.select("agent_budget_warnings_total"), scope.over(3600), "scope")
    return Alert(
        name="AgentCallerNearBudget",
        expr=f"{warned} > 0",
        severity="warning",
        hold=0,
        keep=900,
        summary=f"{RELEASE}: a {{{{ $labels.scope }}}} has spent 80% of its budget",
        description="Once all is spent, runs end with outcome budget and new ones are refused until the day or month is over.",
        dashboard="cost-quality",
    )


def _unpriced(scope: Scope) -> Alert:
    calls = increase(scope.select("agent_unpriced_model_calls_total"), scope.over(3600), "model")
    return Alert(
        name="AgentModelUnpriced",
        expr=f"{calls} > 0",
        severity="warning",
        hold=0,
        keep=900,
        summary=f"{RELEASE}: {MODEL} has no price",
        description="Its calls cost nothing in the ledger, in budgets and in AgentCostHigh.",
        dashboard="cost-quality",
    )


def _price_file_refused(scope: Scope) -> Alert:
    # Counted at each look, every 2 s, for as long as the broken file stands.
    refused = increase(scope.select("agent_price_reloads_total", 'result="refused"'), scope.over(300))
    return Alert(
        name="AgentPriceFileRefused",
        expr=f"{refused} > 0",
        severity="warning",
        hold=0,
        keep=300,
        summary=f"{RELEASE}: the price file is broken",
        description="Running pods bill by the prices that they had before; a pod that starts now ends with an error.",
        dashboard="cost-quality",
    )
