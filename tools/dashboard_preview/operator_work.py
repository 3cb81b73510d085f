"""A made-up operator: a key rotated together with the agents' made-up traffic, and one policy whose rules are not loaded."""

import random
from dataclasses import dataclass, field

from agent_operator.metrics import Metrics

KEY_ROTATION, ALERT_POLICY, AGENT_HEALTH = "KeyRotation", "AlertPolicy", "AgentHealth"
TIMELINE = (("Idle", 0), ("Minting", 3600), ("Confirming", 3630), ("Overlapping", 3780), ("Idle", 5100))
"""Phase of the rotation, and the second from which it is in it."""


@dataclass
class Operator:
    """One process, as a scrape sees it."""

    start: float = 0.0
    rate: float = 0.1
    metrics: Metrics = field(default_factory=lambda: Metrics("0.1.0"))
    dice: random.Random = field(default_factory=lambda: random.Random("operator"))

    @property
    def labels(self) -> dict[str, str]:
        return {"namespace": "slipway-system", "job": "slipway-operator", "pod": "slipway-operator-5f6d-1"}

    def live_through(self, now: float, began: float) -> None:
        """The 30 seconds up to `now`; `began` is the Unix time of the first second."""
        m, dice = self.metrics, self.dice
        for kind in (KEY_ROTATION, ALERT_POLICY, AGENT_HEALTH):
            for _ in range(dice.randint(1, 6)):
                m.reconcile_duration.labels(kind).observe(dice.lognormvariate(-3.2, 0.6))
            m.last_success.labels(kind).set(began + now - dice.uniform(0, 20))
        if dice.random() < 0.03:
            m.reconcile_errors.labels(ALERT_POLICY, "unavailable").inc()
        m.queue_depth.set(dice.choice((0, 0, 0, 1)))
        m.lease_held.set(1)
        m.watch_stale.set(0)
        self._conditions(now)
        self._rotation(now, began)

    def _conditions(self, now: float) -> None:
        loaded = "True" if now < 4000 else "False"
        ready, confirmed = {"type": "Ready", "status": "True"}, {"type": "Ready", "status": loaded}
        self.metrics.set_conditions(KEY_ROTATION, "support", "openai", [ready, {"type": "Stuck", "status": "False"}])
        self.metrics.set_conditions(ALERT_POLICY, "support", "assistant", [confirmed, {"type": "RulesLoaded", "status": loaded}])
        self.metrics.set_conditions(AGENT_HEALTH, "support", "assistant", [ready])
        self.metrics.set_conditions(AGENT_HEALTH, "sales", "copilot", [ready])

    def _rotation(self, now: float, began: float) -> None:
        m, where = self.metrics, ("support", "openai")
        phase, since = [each for each in TIMELINE if now >= each[1]][-1]
        for name, _ in TIMELINE:
            m.rotation_phase.labels(*where, name).set(name == phase)
        rotated = now >= TIMELINE[1][1]
        m.rotation_phase_start.labels(*where).set(began + (since or -86400 * 29))
        m.rotation_revision.labels(*where).set(8 if rotated else 7)
        m.rotation_key_created.labels(*where).set(began + (TIMELINE[1][1] if rotated else -86400 * 29))
        m.rotation_last_success.labels(*where).set(began + (TIMELINE[-1][1] if now >= TIMELINE[-1][1] else -86400 * 29))
        m.rotation_next.labels(*where).set(began + (86400 * 30 if rotated else TIMELINE[1][1]))
        m.rotation_stuck.labels(*where).set(0)
        m.rotation_pods_behind.labels(*where).set(max(0, 3 - (now - 3630) // 40) if phase == "Confirming" else 0)
        if TIMELINE[1][1] <= now < TIMELINE[1][1] + 30:
            m.rotation_provider_calls.labels("mint", "ok").inc()
            m.rotation_provider_calls.labels("verify", "ok").inc()
