"""API keys in use: the same revision everywhere, and not too old."""

from collections.abc import Iterator

from slipway_monitoring.rules.alert import RELEASE, Alert
from slipway_monitoring.rules.scope import Scope
from slipway_monitoring.rules.thresholds import Thresholds

KEY = "key {{ $labels.key }}"
DAY_SECONDS = 86_400


def alerts(limits: Thresholds, scope: Scope) -> Iterator[Alert]:
    yield _spread(limits, scope)
    yield _age(limits, scope)


def _spread(limits: Thresholds, scope: Scope) -> Alert:
    in_use = f"{scope.select('agent_key_revision')} == 1"
    revisions = f"count by (namespace, job, key, revision) ({in_use})"
    return Alert(
        name="AgentKeyRevisionSpread",
        expr=f"count by (namespace, job, key) ({revisions}) > 1",
        severity="warning",
        hold=limits.key_spread_seconds,
        summary=f"{RELEASE}: pods use {{{{ $value }}}} revisions of {KEY}",
        description="A pod has not taken up the new revision. Revoking the old one now would fail its calls.",
        dashboard="rollouts-keys",
    )


def _age(limits: Thresholds, scope: Scope) -> Alert:
    loaded = f"min by (namespace, job, key) ({scope.select('agent_key_loaded_timestamp_seconds')} > 0)"
    return Alert(
        name="AgentKeyTooOld",
        expr=f"(time() - {loaded}) / {DAY_SECONDS} > {limits.key_age_days:g}",
        severity="warning",
        hold=3600,
        summary=f'{RELEASE}: {KEY} is {{{{ $value | printf "%.0f" }}}} days old',
        description=f"Keys should be rotated within {limits.key_age_days:g} days.",
        dashboard="rollouts-keys",
    )
