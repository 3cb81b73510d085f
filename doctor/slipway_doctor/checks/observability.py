"""Would somebody notice, and find out why?"""

from collections.abc import Iterator, Sequence

from slipway_clients.cluster import Manifest
from slipway_doctor.checks.facts import Facts
from slipway_doctor.checks.finding import Verdict, fail, ok, unknown, warn
from slipway_doctor.checks.live import no_prometheus

RuleName = tuple[str, str]
"""Group and alert (or record)."""


def json_logs(facts: Facts) -> Verdict:
    """Whether logs can be parsed, and hold no text of questions."""
    if facts.container.get("tty"):
        return fail("Terminal", "with tty: true the service writes lines for people", "remove tty from the container")
    if facts.environment.word("LOG_LEVEL") == "debug":
        return warn("Debug", "LOG_LEVEL=debug writes what graphs raise, which may quote questions", "set LOG_LEVEL=info")
    return ok("Json", "logs are one JSON object a line")


def tracing(facts: Facts) -> Verdict:
    """Whether a slow or failed run leaves a trace, by OTLP or at LangSmith."""
    environment = facts.environment
    if any(environment.has(name) for name in ("OTEL_EXPORTER_OTLP_ENDPOINT", "OTEL_EXPORTER_OTLP_TRACES_ENDPOINT")):
        return ok("OpenTelemetry", "traces are sent by OTLP")
    if environment.word("LANGSMITH_TRACING") in {"true", "1"}:
        return ok("LangSmith", "traces are sent to LangSmith")
    if environment.whole_sources:
        return unknown("EnvironmentNotRead", "variables come from envFrom, which is not read")
    fix = "set OTEL_EXPORTER_OTLP_ENDPOINT, or LANGSMITH_TRACING with LANGSMITH_API_KEY"
    return warn("NoTraces", "no trace of a slow or failed run is kept", fix)


def scraped(facts: Facts) -> Verdict:
    """Whether Prometheus has a target for each ready pod."""
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    fix = "set monitoring.serviceMonitor.enabled=true with the labels that your Prometheus selects; check the network policy"
    if facts.prometheus.up == 0:
        return fail("NotScraped", "Prometheus has no metrics of this release", fix)
    if facts.prometheus.up < len(facts.ready):
        return fail("PodsNotScraped", "Prometheus reaches fewer pods than are ready", fix)
    return ok("Scraped", "Prometheus has the metrics of every pod")


def rules_loaded(facts: Facts) -> Verdict:
    """A PrometheusRule may be in the cluster and yet not be taken up by Prometheus: its own list of rules decides."""
    if facts.prometheus is None or facts.prometheus.error:
        return no_prometheus(facts)
    if "prometheusrules" in facts.forbidden:
        return unknown("Forbidden", "PrometheusRules cannot be listed", "allow list of prometheusrules")
    objects = facts.of("prometheusrules")
    if not objects:
        fix = "set monitoring.alerts.enabled=true, or operator.alertPolicy.enabled=true"
        return fail("NoRules", "no PrometheusRule belongs to this release", fix)
    loaded = dict(_loaded_rules(facts))
    wanted = {rule for each in objects for rule in _rules_of(each)}
    if missing := sorted(wanted - loaded.keys()):
        fix = "compare the PrometheusRule's labels with the ruleSelector of your Prometheus; one bad rule drops a whole group"
        return fail("RulesNotLoaded", f"Prometheus has not loaded {_names(missing)}", fix)
    if broken := sorted(rule for rule in wanted if loaded[rule] == "err"):
        return fail("RulesFailing", f"Prometheus cannot evaluate {_names(broken)}", "the page Status > Rules says why")
    return ok("Loaded", "Prometheus evaluates every alert rule of this release")


def _rules_of(manifest: Manifest) -> Iterator[RuleName]:
    for group in manifest["spec"].get("groups") or ():
        for rule in group.get("rules") or ():
            yield group["name"], rule.get("alert") or rule["record"]


def _loaded_rules(facts: Facts) -> Iterator[tuple[RuleName, str]]:
    """Rules whose expression names the release, with their health: another release's group may have the same name."""
    for rule in facts.prometheus.rules if facts.prometheus else ():
        if f'"{facts.namespace}"' in rule.query and f'"{facts.release}"' in rule.query:
            yield (rule.group, rule.name), rule.health


def _names(rules: Sequence[RuleName], most: int = 3) -> str:
    shown = ", ".join(name for _, name in rules[:most])
    return shown if len(rules) <= most else f"{shown} and {len(rules) - most} more"


def dashboards(facts: Facts) -> Verdict:
    """Whether the chart's ConfigMaps with dashboards are there."""
    if "configmaps" in facts.forbidden:
        return unknown("Forbidden", "ConfigMaps cannot be read", "set configMaps in the operator's watch.namespaces")
    if not facts.of("dashboards"):
        fix = "set monitoring.dashboards.enabled=true; where another release brings them, list this condition in spec.accepted"
        return warn("NoDashboards", "this release brings no dashboards", fix)
    return ok("Delivered", "the dashboards are there for Grafana's sidecar")
