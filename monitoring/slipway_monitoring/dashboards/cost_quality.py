"""What it costs, and whether the answers are worth it."""

from slipway_monitoring.dashboards.frame import DashboardSpec, Row
from slipway_monitoring.dashboards.panels import VERDICTS, Limit, Panel, PanelText, Query, graph, stat_panel
from slipway_monitoring.dashboards.promql import (
    aggregate,
    in_range,
    per_each,
    per_minute,
    per_second,
    quantile,
    series,
    share,
    total,
)
from slipway_monitoring.dashboards.shared import BROKEN, RELEASE_NAME, TURNS, cost_per_hour, quantiles
from slipway_monitoring.rules.thresholds import Thresholds

COST = "agent_cost_usd_total"
CALLS = per_second("agent_llm_requests_total", "model")
MODEL = f"{RELEASE_NAME} {{{{model}}}}"
VERSION = f"{RELEASE_NAME} {{{{version}}}}"


def build(limits: Thresholds) -> DashboardSpec:
    """`limits` draw the thresholds of the alerts as lines."""
    return DashboardSpec(
        uid="slipway-cost-quality",
        title="Slipway / Cost and quality",
        description="Money, tokens, the model endpoint, and what users think of the answers.",
        rows=(_numbers(limits), _money(limits), _tokens(), _endpoint(limits), _quality(), _versions()),
    )


def _numbers(limits: Thresholds) -> Row:
    good = in_range("agent_feedback_total", where='score="1"')
    cached = per_second("agent_tokens_total", where='type="cached"')
    return Row(
        "In short",
        (
            cost_per_hour(
                PanelText("Cost per hour", "At the present rate.", "currencyUSD", ("AgentCostHigh", "AgentBudgetNearlySpent")),
                limits,
            ),
            stat_panel(
                PanelText("Spent", "In the chosen time range. Exact sums per user and session: `slipway costs`.", "currencyUSD"),
                Query(in_range(COST), RELEASE_NAME),
                decimals=2,
                width=4,
            ),
            stat_panel(
                PanelText("Cost of a turn", "Money of all models by turns that ended, in the chosen time range.", "currencyUSD"),
                Query(per_each(in_range(COST), in_range("agent_runs_total")), RELEASE_NAME),
                decimals=4,
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Input from the cache", "Input tokens that the model endpoint had cached, and bills at less.", "percentunit"
                ),
                Query(share(cached, per_second("agent_tokens_total", where='type="input"')), RELEASE_NAME),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText(
                    "Calls without a price",
                    "Model calls that cost an unknown sum: a model is missing in the price table.",
                    "short",
                    ("AgentModelUnpriced",),
                ),
                Query(in_range("agent_unpriced_model_calls_total"), RELEASE_NAME),
                limit=Limit(warning=1),
                decimals=0,
                width=4,
            ),
            stat_panel(
                PanelText("Thumbs up", "Of all thumbs in the chosen time range.", "percentunit"),
                Query(share(good, in_range("agent_feedback_total")), RELEASE_NAME),
                decimals=0,
                width=5,
            ),
        ),
    )


def _money(limits: Thresholds) -> Row:
    return Row(
        "Money",
        (
            graph(
                PanelText(
                    "Cost per hour by model",
                    "Dollars per hour at the present rate. The line is the alert's, for all models together.",
                    "currencyUSD",
                    ("AgentCostHigh",),
                ),
                Query(f"{per_second(COST, 'model')} * 3600", MODEL),
                limit=Limit(critical=limits.cost_usd_per_hour),
                stacked=True,
                width=10,
            ),
            graph(
                PanelText(
                    "Cost per turn",
                    "Rises with longer conversations, more model calls per turn, or a dearer model.",
                    "currencyUSD",
                ),
                Query(per_each(per_second(COST), TURNS), RELEASE_NAME),
                width=8,
            ),
            graph(
                PanelText(
                    "Price file",
                    "Per minute: new prices taken up, and looks at a broken file, whose prices are not.",
                    "opm",
                    ("AgentPriceFileRefused",),
                ),
                Query(per_minute("agent_price_reloads_total", "result"), f"{RELEASE_NAME} {{{{result}}}}"),
                width=6,
            ),
        ),
    )


def _tokens() -> Row:
    per_turn = per_each(per_second("agent_tokens_total", "type"), TURNS, "type")
    return Row(
        "Tokens",
        (
            graph(
                PanelText("Tokens by model", "Read and written, per second.", "short"),
                Query(per_second("agent_tokens_total", "model", where='type=~"input|output"'), MODEL),
                stacked=True,
                width=8,
            ),
            graph(
                PanelText("Tokens per turn by type", "Cached tokens are a part of input.", "short"),
                Query(per_turn, f"{RELEASE_NAME} {{{{type}}}}"),
                width=8,
            ),
            graph(
                PanelText(
                    "Model calls per turn", "Attempts at the model endpoint by turns: retries and loops raise it.", "short"
                ),
                Query(per_each(per_second("agent_llm_requests_total"), TURNS), RELEASE_NAME),
                width=8,
            ),
            graph(
                PanelText(
                    "Budgets nearly spent",
                    "Per minute: users and tenants with 80 % of a day or month gone, whom the log names (budget_nearly_spent).",
                    "opm",
                    ("AgentCallerNearBudget",),
                ),
                Query(per_minute("agent_budget_warnings_total", "scope"), f"{RELEASE_NAME} {{{{scope}}}}"),
                width=12,
            ),
            graph(
                PanelText(
                    "Response cache",
                    "First questions per minute: answered from it, after waiting for a run that made the answer, or not in it."
                    " Redis away: PostgreSQL did what Redis was asked for.",
                    "opm",
                    ("AgentRedisAway",),
                ),
                Query(per_minute("agent_cache_requests_total", "result"), f"{RELEASE_NAME} {{{{result}}}}"),
                Query(per_minute("agent_redis_fallbacks_total", "use"), f"{RELEASE_NAME} Redis away: {{{{use}}}}"),
                width=12,
            ),
        ),
    )


def _endpoint(limits: Thresholds) -> Row:
    return Row(
        "Model endpoint",
        (
            graph(
                PanelText("Attempts by status", "Per second; retries count.", "reqps"),
                Query(per_second("agent_llm_requests_total", "status"), f"{RELEASE_NAME} {{{{status}}}}"),
                stacked=True,
                colors=VERDICTS,
                width=5,
            ),
            graph(
                PanelText("Rate limited", "Share of a model's attempts answered 429.", "percentunit", ("AgentModelRateLimited",)),
                Query(share(per_second("agent_llm_requests_total", "model", where='status="rate_limited"'), CALLS), MODEL),
                limit=Limit(warning=limits.rate_limited_ratio),
                width=5,
            ),
            graph(
                PanelText(
                    "Failing",
                    "Share of a model's attempts that end in 5xx, no connection, a timeout or a refused key.",
                    "percentunit",
                    ("AgentModelEndpointFailing",),
                ),
                Query(share(per_second("agent_llm_requests_total", "model", where=BROKEN), CALLS), MODEL),
                limit=Limit(critical=limits.model_failure_ratio),
                width=5,
            ),
            graph(
                PanelText("Model latency (p95)", "A call to its last token, by model.", "s"),
                Query(quantile(0.95, "agent_llm_request_duration_seconds", "model"), MODEL, exemplars=True),
                width=5,
            ),
            graph(
                PanelText(
                    "Left alone",
                    "Replicas that send no calls to a model, as it does not answer.",
                    "short",
                    ("AgentModelCircuitOpen",),
                ),
                Query(total("agent_model_circuits_open", "model"), MODEL),
                Query(per_minute("agent_model_circuits_opened_total", "model"), f"{MODEL}: begun a minute"),
                width=4,
            ),
        ),
    )


def _quality() -> Row:
    return Row(
        "Quality",
        (
            graph(
                PanelText("Thumbs", "In the last hour.", "short"),
                Query(
                    aggregate("sum", f"increase({series('agent_feedback_total')}[1h])", "score"), f"{RELEASE_NAME} {{{{score}}}}"
                ),
                width=8,
            ),
            graph(
                PanelText("Questions refused by rule", "Input rules that matched, per minute.", "opm"),
                Query(per_minute("agent_guardrail_blocks_total", "rule"), f"{RELEASE_NAME} {{{{rule}}}}"),
                width=8,
            ),
            graph(
                PanelText("Time to first word", "From a run's start to its first text.", "s"),
                *quantiles("agent_time_to_first_token_seconds"),
                width=8,
            ),
        ),
    )


def _versions() -> Row:
    def answered(title: str, description: str, result: str) -> Panel:
        part, whole = (per_second("agent_answers_total", "version", where=where) for where in (f'result="{result}"', ""))
        return graph(PanelText(title, description, "percentunit"), Query(share(part, whole), VERSION), width=6)

    up, thumbs = (
        aggregate("sum", f"increase({series('agent_feedback_total', where)}[1d])", "version") for where in ('score="1"', "")
    )
    return Row(
        "Quality by version of the graph",
        (
            graph(
                PanelText(
                    "Thumbs up by version",
                    "Share of a day's thumbs, by the version that answered. Half of what it was before a rollout is an alert.",
                    "percentunit",
                    ("AgentFeedbackFell",),
                ),
                Query(share(up, thumbs), VERSION),
                width=6,
            ),
            answered("Refused", "Share of turns that an input rule, the graph or the model declined.", "refused"),
            answered("Without sources", "Share of turns that were answered without a source that a tool cited.", "unsourced"),
            answered("At the iteration limit", "Share of turns that used up their model calls or steps.", "iteration_limit"),
        ),
    )
