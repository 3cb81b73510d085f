"""Which kind is attended to by what: a new kind is one line here."""

from collections.abc import Mapping

from agent_operator.reconcile.alertpolicy import AlertPolicies
from agent_operator.reconcile.queue import Reconcile
from agent_operator.reconcile.tools import Tools


def reconcilers(tools: Tools) -> Mapping[str, Reconcile]:
    """A reconcile for each kind of our own, by the kind's name."""
    return {"AlertPolicy": AlertPolicies(tools).reconcile}
