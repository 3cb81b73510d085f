"""Which kind is attended to by what: a new kind is one line here."""

from collections.abc import Mapping

from agent_operator.cluster.kinds import AGENT_HEALTH, ALERT_POLICY, KEY_ROTATION
from agent_operator.reconcile.agenthealth import agent_health
from agent_operator.reconcile.alertpolicy import AlertPolicies
from agent_operator.reconcile.queue import Reconcile
from agent_operator.reconcile.rotation import key_rotation
from agent_operator.reconcile.tools import Tools


def reconcilers(tools: Tools) -> Mapping[str, Reconcile]:
    """A reconcile for each kind of our own, by the kind's name."""
    return {
        AGENT_HEALTH.kind: agent_health(tools),
        ALERT_POLICY.kind: AlertPolicies(tools).reconcile,
        KEY_ROTATION.kind: key_rotation(tools),
    }
