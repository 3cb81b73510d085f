"""AlertPolicy: its rules stand in the cluster as they should, and its status says what Prometheus makes of them."""

from collections.abc import Sequence
from typing import Any

from agent_operator.manifests import alert_objects as made
from agent_operator.manifests.alert_conditions import COMING, Answers, LoadedRule, findings, firing_count, ready
from agent_operator.manifests.alert_objects import Policy
from agent_operator.manifests.conditions import ConditionedStatus, Verdict, find_condition, set_conditions
from agent_operator.reconcile.consent import RECEIVER, NoConsent, read_shared
from agent_operator.reconcile.tools import Key, Tools, write_status
from slipway_clients.clock import parse_timestamp
from slipway_clients.cluster import Forbidden, Invalid, Kind, Manifest, kind_of
from slipway_clients.cluster.kinds import ALERT_POLICY, ALERTMANAGER_CONFIG, CONFIG_MAP, PROMETHEUS_RULE
from slipway_clients.egress.origins import OriginRefused
from slipway_clients.egress.text import plain
from slipway_clients.prometheus import PrometheusError
from slipway_monitoring.rules.scope import quoted

LOOK_AGAIN = 10.0
"""Seconds. Drift, and what Prometheus says, are looked up: nobody tells us of either. Two small reads per policy."""

LOOK_SOON = 3.0
"""Seconds, while Prometheus is about to take up a change."""

TAKES_UP = 120.0
"""Seconds after which a change that has not shown up is no longer on its way: the usual reload is 5 to 60 s later."""

MAY_BE_MADE = (PROMETHEUS_RULE, CONFIG_MAP, ALERTMANAGER_CONFIG)


class AlertPolicyStatus(ConditionedStatus, total=False):
    """`status` of an AlertPolicy. `rules` and `firing` are numbers, of the last time that its rules were applied."""

    rules: int
    firing: int


class ForeignObject(Exception):
    """An object has the name of ours and is not ours."""


class AlertPolicies:
    """`reconcile` of AlertPolicy objects."""

    def __init__(self, tools: Tools) -> None:
        self._tools = tools

    async def reconcile(self, key: Key) -> float | None:
        """Seconds until the next look; None when the policy is gone. Raises ClusterError."""
        manifest = await self._tools.cluster.get(ALERT_POLICY, key.namespace, key.name)
        if manifest is None or manifest["metadata"].get("deletionTimestamp"):
            return None  # what was made from it goes with it, by its owner reference
        refusal: Exception | None
        try:
            policy = Policy.of(manifest)
            groups = made.groups_of(policy, runbooks=self._tools.settings.runbooks_url)
            refusal = await self._receiver_refused(policy)
            wanted = _wanted(policy, groups, receiver=refusal is None)
            await self._apply(policy, wanted)
        except (ValueError, ForeignObject, Invalid) as error:
            refusal = error
        if refusal:
            await self._write(manifest, [_refused(refusal)], 0, 0)
            return LOOK_AGAIN
        answers = await self._ask(policy, groups)
        applied = Verdict("RulesApplied", "True", "Applied", ", ".join(_title(each) for each in wanted))
        found = findings(groups, made.mark_of(groups), answers)
        count = sum(len(group["rules"]) for group in groups)
        await self._write(manifest, [applied, *found], count, firing_count(answers))
        return LOOK_SOON if found[0].reason in COMING and not self._overdue(manifest) else LOOK_AGAIN

    async def _receiver_refused(self, policy: Policy) -> Exception | None:
        """Alertmanager would read the Secret for whoever may write a policy, so its owner has to agree, and to go on agreeing."""
        if policy.spec.receiver is None:
            return None
        name = policy.spec.receiver.secret.name
        try:
            secret = await read_shared(self._tools.cluster, policy.namespace, name, RECEIVER, "true")
        except NoConsent as error:
            return error
        except Forbidden as error:
            return NoConsent(f"whether the Secret {name} has the label {RECEIVER}=true cannot be read: {error}")
        return None if secret else NoConsent(f"there is no Secret {name} with the label {RECEIVER}=true")

    async def _apply(self, policy: Policy, wanted: Sequence[Manifest]) -> None:
        for each in wanted:
            await self._make(policy, each)
        kept = {kind_of(each) for each in wanted}
        for kind in MAY_BE_MADE:
            if kind not in kept:
                await self._remove(policy, kind)

    async def _make(self, policy: Policy, wanted: Manifest) -> None:
        found = await self._find(policy, kind_of(wanted))
        if found is None:
            await self._create(policy, wanted)
            return
        if not made.is_owned(found, policy):
            raise ForeignObject(f"{_title(wanted)} is not of this policy and is left as it is: delete it, or rename the policy")
        if made.differs(found, wanted):
            await self._repair(policy, wanted)

    async def _create(self, policy: Policy, wanted: Manifest) -> None:
        await self._tools.cluster.apply(wanted)
        cause = "RulesRestored" if _applied_before(policy.manifest) else "RulesApplied"
        await self._tools.cluster.event(policy.manifest, type="Normal", reason=cause, message=f"{_title(wanted)} was made")

    async def _repair(self, policy: Policy, wanted: Manifest) -> None:
        # Forced: the object is ours as a whole, whoever edited it. What an apply leaves of theirs goes by the replace.
        now = await self._tools.cluster.apply(wanted, force=True)
        if made.differs(now, wanted):
            content = {part: value for part, value in wanted.items() if part in made.CONTENT}
            await self._tools.cluster.replace({**now, **content})
        message = f"{_title(wanted)} was brought in line with the policy"
        await self._tools.cluster.event(policy.manifest, type="Normal", reason="RulesUpdated", message=message)

    async def _remove(self, policy: Policy, kind: Kind) -> None:
        try:
            found = await self._find(policy, kind)
        except Forbidden:
            return  # without the right there is nothing that we made; what was made before goes with the policy
        if found is not None and made.is_owned(found, policy):
            metadata = found["metadata"]
            await self._tools.cluster.delete(kind, metadata["namespace"], metadata["name"], uid=metadata["uid"])

    async def _find(self, policy: Policy, kind: Kind) -> Manifest | None:
        return await self._tools.cluster.get(kind, policy.namespace, policy.object_name)

    async def _ask(self, policy: Policy, groups: list[dict[str, Any]]) -> Answers:
        try:
            url = self._tools.settings.prometheus_of(policy.spec.prometheus and policy.spec.prometheus.url)
        except OriginRefused as error:
            return Answers("refused", str(error))
        if not url:
            return Answers("")
        if not groups:
            return Answers(url)
        matchers = f"namespace={quoted(policy.namespace)},job={quoted(policy.spec.release)}"
        prometheus, metrics = self._tools.prometheus(url), made.metrics_of(groups)
        try:
            rules = await prometheus.rules(group["name"] for group in groups)
            seen = await prometheus.seen(metrics, matchers, now=self._tools.clock.now().timestamp())
        except PrometheusError as error:
            return Answers(url, str(error))
        loaded = [
            LoadedRule(each.name, each.annotations.get(made.ANNOTATION, ""), each.health, each.last_error, each.state == "firing")
            for each in rules
        ]
        return Answers(url, "", loaded, sorted(metrics - seen))

    def _overdue(self, policy: Manifest) -> bool:
        loaded = find_condition(policy.get("status", {}).get("conditions", []), "RulesLoaded")
        if loaded is None or loaded["status"] != "False":
            return False
        return (self._tools.clock.now() - parse_timestamp(loaded["lastTransitionTime"])).total_seconds() > TAKES_UP

    async def _write(self, policy: Manifest, found: list[Verdict], rules: int, firing: int) -> None:
        generation, now = policy["metadata"]["generation"], self._tools.clock.now()
        before = policy.get("status", {})
        verdicts = [*found, ready(found[0], found[1] if len(found) > 1 else found[0])]
        conditions = set_conditions(before.get("conditions", []), verdicts, generation=generation, now=now)
        status: AlertPolicyStatus = {"observedGeneration": generation, "conditions": conditions}
        if found[0].status == "True":
            status["rules"], status["firing"] = rules, firing
        elif "rules" in before:
            status["rules"], status["firing"] = before["rules"], before.get("firing", 0)
        await write_status(self._tools, policy, status)


def _wanted(policy: Policy, groups: list[dict[str, Any]], *, receiver: bool) -> list[Manifest]:
    config = [made.alertmanager_config(policy, policy.spec.receiver)] if receiver and policy.spec.receiver else []
    return [made.rules_object(policy, groups), *config]


def _applied_before(policy: Manifest) -> bool:
    return find_condition(policy.get("status", {}).get("conditions", []), "RulesApplied") is not None


def _refused(error: Exception) -> Verdict:
    reason = "WrongSpec"
    for kind, name in ((ForeignObject, "ForeignObject"), (NoConsent, "NoConsent"), (Invalid, "Refused")):
        reason = name if isinstance(error, kind) else reason
    return Verdict("RulesApplied", "False", reason, plain(error, 1000))


def _title(manifest: Manifest) -> str:
    return f"{manifest['kind']} {manifest['metadata']['name']}"
