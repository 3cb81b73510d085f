"""agent_operator.reconcile.alertpolicy: what stands in the cluster, and what the status says of it."""

import json

import pytest
import yaml

from agent_operator.manifests.alert_objects import metrics_of
from slipway_clients.cluster import Forbidden, Manifest, Unavailable
from slipway_clients.cluster.kinds import ALERT_POLICY, ALERTMANAGER_CONFIG, CONFIG_MAP, PROMETHEUS_RULE, SECRET
from tests.operator.policies import MADE, bench, policy


def names(groups: list[dict[str, list[dict[str, str]]]]) -> set[str]:
    return {rule["alert"] for group in groups for rule in group["rules"]}


async def test_a_policy_becomes_a_rule_of_its_own() -> None:
    async with bench(policy(outputLabels={"release": "prometheus"})) as b:
        again = await b.reconcile()

        made = b.made()
    assert again is not None
    assert made["metadata"]["labels"] == {
        "release": "prometheus",
        "app.kubernetes.io/managed-by": "slipway-operator",
        "app.kubernetes.io/instance": "demo",
        "slipway.dev/alertpolicy": "main",
    }
    [owner] = made["metadata"]["ownerReferences"]
    assert (owner["kind"], owner["name"], owner["controller"]) == ("AlertPolicy", "main", True)
    assert "AgentTurnLatencyHigh" in names(made["spec"]["groups"])
    text = yaml.dump(made["spec"], Dumper=yaml.CSafeDumper)
    assert 'namespace="team"' in text
    assert 'job="demo"' in text


async def test_prometheus_is_believed_and_not_the_write() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        before = b.condition("RulesLoaded"), b.condition("Ready")
        b.prometheus.load(b.cluster)
        await b.reconcile()
        after = b.condition("RulesLoaded"), b.condition("Ready")

    assert [each[:2] for each in before] == [("False", "RulesNotLoaded"), ("False", "RulesNotLoaded")]
    assert "ruleSelector" in before[0][2]
    assert [each[:2] for each in after] == [("True", "RulesLoaded"), ("True", "RulesLoaded")]


async def test_a_new_threshold_is_not_loaded_while_prometheus_runs_the_old_one() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.prometheus.load(b.cluster)
        b.cluster.put(policy(thresholds={"costUsdPerHour": 7}))
        await b.reconcile()
        old = b.condition("RulesLoaded")
        b.prometheus.load(b.cluster)
        await b.reconcile()

        assert old[:2] == ("False", "OldRules")
        assert b.condition("RulesLoaded")[0] == "True"
        assert "> 7" in yaml.dump(b.made()["spec"], Dumper=yaml.CSafeDumper)


async def test_a_rule_that_prometheus_cannot_evaluate_is_named_with_its_error() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.prometheus.load(b.cluster)
        b.prometheus.broken = {"AgentTurnLatencyHigh": "many-to-many matching"}
        await b.reconcile()

        status, reason, message = b.condition("Ready")
    assert (status, reason) == ("False", "RulesFail")
    assert "AgentTurnLatencyHigh: many-to-many matching" in message


async def test_a_status_is_bounded_whatever_prometheus_says() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.prometheus.load(b.cluster)
        rules = [rule for group in b.prometheus.groups for rule in group["rules"]]
        b.prometheus.groups[0]["rules"] += [{**rules[0], "alert": f"{rules[0]['alert']}{number}"} for number in range(500)]
        b.prometheus.broken = {rule["alert"]: "e" * 1500 for group in b.prometheus.groups for rule in group["rules"]}
        b.prometheus.firing = set(b.prometheus.broken)
        b.prometheus.unseen = metrics_of(b.prometheus.groups)
        await b.reconcile()
        found = b.cluster.find(ALERT_POLICY, "team", "main")

    assert found is not None
    assert found["status"]["firing"] > 500
    assert len(json.dumps(found["status"])) < 16_000


async def test_metrics_that_never_existed_are_named() -> None:
    async with bench(policy()) as b:
        b.prometheus.unseen = {"agent_cost_usd_total"}
        await b.reconcile()
        missing = b.condition("MetricsExist")
        b.prometheus.unseen = set()
        await b.reconcile()

        assert missing[:2] == ("False", "MetricsMissing")
        assert "agent_cost_usd_total" in missing[2]
        assert b.condition("MetricsExist")[0] == "True"


async def test_a_change_that_is_on_its_way_is_looked_for_sooner() -> None:
    async with bench(policy()) as b:
        coming = await b.reconcile()
        b.clock.pass_by(600)
        late = await b.reconcile()
        b.prometheus.load(b.cluster)
        loaded = await b.reconcile()

    assert (coming, late, loaded) == (3, 10, 10)


async def test_what_fires_is_named_and_counted() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.prometheus.load(b.cluster)
        b.prometheus.firing = {"AgentCostHigh"}
        await b.reconcile()

        found = b.cluster.find(ALERT_POLICY, "team", "main")
        assert found is not None
        assert (found["status"]["firing"], b.condition("Firing")) == (1, ("True", "AlertsFiring", "AgentCostHigh"))


async def test_without_a_prometheus_it_says_that_nobody_confirms() -> None:
    async with bench(policy(), prometheus_url="") as b:
        await b.reconcile()

        assert b.prometheus.asked == []
        assert b.condition("RulesLoaded")[:2] == ("Unknown", "NoPrometheus")
        assert b.condition("Ready")[:2] == ("True", "AppliedUnconfirmed")


async def test_the_policys_prometheus_comes_before_the_operators_and_may_be_away() -> None:
    async with bench(policy(prometheus={"url": "http://other"})) as b:
        b.prometheus.down = True
        await b.reconcile()

        assert b.prometheus.asked == ["other/api/v1/rules"]
        status, reason, message = b.condition("RulesLoaded")
    assert (status, reason) == ("Unknown", "PrometheusUnavailable")
    assert "connection refused" in message


async def test_a_rule_that_was_deleted_comes_back_with_an_event() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.cluster.drop(PROMETHEUS_RULE, "team", MADE)
        await b.reconcile()

        assert b.made()["spec"]["groups"]
        assert [event.reason for event in b.cluster.events] == ["RulesApplied", "RulesRestored"]


async def test_an_edit_is_undone_and_labels_of_others_stay() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        good = b.made()["spec"]
        edited = b.made()
        edited["metadata"]["labels"]["theirs"] = "yes"
        edited["spec"] = {"groups": [], "query_offset": "5m"}
        b.cluster.put(edited)
        await b.reconcile()

        assert b.made()["spec"] == good
        assert b.made()["metadata"]["labels"]["theirs"] == "yes"


async def test_nothing_is_written_while_nothing_changes() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.prometheus.load(b.cluster)
        await b.reconcile()
        before = len(b.cluster.writes())
        for _ in range(5):
            b.clock.pass_by(60)
            await b.reconcile()

        assert len(b.cluster.writes()) == before


async def test_a_foreign_object_of_the_name_is_left_alone() -> None:
    foreign = {
        "apiVersion": "monitoring.coreos.com/v1",
        "kind": "PrometheusRule",
        "metadata": {"name": MADE, "namespace": "team"},
        "spec": {"groups": []},
    }
    async with bench(policy(), foreign) as b:
        await b.reconcile()

        assert b.made()["spec"] == {"groups": []}
        status, reason, message = b.condition("Ready")
    assert (status, reason) == ("False", "ForeignObject")
    assert f"PrometheusRule {MADE}" in message


async def test_what_another_policy_of_the_name_left_behind_is_foreign_too() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.cluster.drop(ALERT_POLICY, "team", "main")
        b.cluster.put(policy())
        await b.reconcile()

        assert b.condition("Ready")[:2] == ("False", "ForeignObject")


async def test_a_config_map_takes_the_place_of_the_rule_and_back() -> None:
    async with bench(policy()) as b:
        await b.reconcile()
        b.cluster.put(policy(output="ConfigMap"))
        await b.reconcile()
        config_map = b.cluster.find(CONFIG_MAP, "team", MADE)
        assert config_map is not None
        assert b.cluster.find(PROMETHEUS_RULE, "team", MADE) is None
        [text] = config_map["data"].values()
        assert "AgentTurnLatencyHigh" in names(yaml.load(text, yaml.CSafeLoader)["groups"])

        b.cluster.put(policy())
        await b.reconcile()
        assert b.cluster.find(CONFIG_MAP, "team", MADE) is None
        assert b.made()


def hook(**labels: str) -> Manifest:
    """The receiver's Secret, which agrees unless it is told otherwise."""
    metadata = {"namespace": "team", "name": "hook", "labels": labels or {"slipway.dev/alert-receiver": "true"}}
    return {"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "data": {}}


@pytest.mark.parametrize("secret", [hook(app="shop"), hook(**{"slipway.dev/alert-receiver": "false"}), None, "forbidden"])
async def test_a_receiver_needs_the_consent_of_its_secret_and_the_rules_do_not(secret: Manifest | str | None) -> None:
    webhook = {"webhook": {"urlSecret": {"name": "hook", "key": "url"}}}
    async with bench(policy(receiver=webhook), *([secret] if isinstance(secret, dict) else [])) as b:
        if secret == "forbidden":
            b.cluster.fail(Forbidden("secrets is forbidden"), verb="get", kind=SECRET)
        await b.reconcile()

        assert b.condition("RulesApplied")[:2] == ("False", "NoConsent")
        assert b.cluster.find(ALERTMANAGER_CONFIG, "team", MADE) is None
        assert b.made()


async def test_a_consent_that_is_taken_back_takes_the_receiver_away() -> None:
    async with bench(policy(receiver={"webhook": {"urlSecret": {"name": "hook", "key": "url"}}}), hook()) as b:
        await b.reconcile()
        assert b.cluster.find(ALERTMANAGER_CONFIG, "team", MADE)
        b.cluster.put(hook(app="shop"))
        await b.reconcile()

        assert b.cluster.find(ALERTMANAGER_CONFIG, "team", MADE) is None
        assert b.condition("Ready")[:2] == ("False", "NoConsent")


@pytest.mark.parametrize("url", ["http://victim", "http://other/x", "https://other", "http://169.254.169.254", "file:///x"])
async def test_a_prometheus_that_the_operator_does_not_name_is_not_asked(url: str) -> None:
    async with bench(policy(prometheus={"url": url})) as b:
        await b.reconcile()

        assert b.prometheus.asked == []
        assert b.condition("Ready")[0] in {"True", "False"}


async def test_a_receiver_gets_the_alerts_of_the_release_and_no_others() -> None:
    webhook = {"webhook": {"urlSecret": {"name": "hook", "key": "url"}}, "severities": ["critical"], "groupWait": "5s"}
    async with bench(policy(receiver=webhook), hook()) as b:
        await b.reconcile()
        config = b.cluster.find(ALERTMANAGER_CONFIG, "team", MADE)
        assert config is not None
        b.cluster.put(policy())
        await b.reconcile()

        assert b.cluster.find(ALERTMANAGER_CONFIG, "team", MADE) is None
    route = config["spec"]["route"]
    assert [f"{each['name']}{each['matchType']}{each['value']}" for each in route["matchers"]] == [
        "namespace=team",
        "job=demo",
        "severity=~critical",
    ]
    assert route["groupWait"] == "5s"
    [receiver] = config["spec"]["receivers"]
    assert receiver["webhookConfigs"] == [{"urlSecret": {"name": "hook", "key": "url"}, "sendResolved": True}]


async def test_limits_of_tools_routes_and_models_and_objectives_reach_the_rules() -> None:
    spec = policy(
        tools=[{"name": "search", "failureRatio": 0.37}],
        routes=[{"path": "/chat", "errorRatio": 0.23}],
        models=[{"name": "gpt", "rateLimitedRatio": 0.41}],
        objectives=[{"indicator": "availability", "objective": 0.995}],
        disabledAlerts=["AgentCostHigh"],
        labels={"team": "ai"},
    )
    async with bench(spec) as b:
        await b.reconcile()
        groups = b.made()["spec"]["groups"]

    text = yaml.dump(groups, width=10_000, Dumper=yaml.CSafeDumper)
    assert all(number in text for number in ("0.37", "0.23", "0.41"))
    assert "AgentErrorBudgetBurnFast" in names(groups)
    assert "AgentCostHigh" not in names(groups)
    assert all(rule["labels"]["team"] == "ai" for group in groups for rule in group["rules"])


async def test_what_the_rules_do_not_take_is_a_condition_that_names_the_field() -> None:
    async with bench(policy(thresholds={"turnSeconds": 31})) as b:
        await b.reconcile()

        assert b.cluster.find(PROMETHEUS_RULE, "team", MADE) is None
        status, reason, message = b.condition("Ready")
    assert (status, reason) == ("False", "WrongSpec")
    assert "turn_seconds" in message


async def test_an_api_server_that_is_away_is_left_to_the_queue() -> None:
    async with bench(policy()) as b:
        b.cluster.fail(Unavailable("restarting"), verb="apply")

        with pytest.raises(Unavailable):
            await b.reconcile()
        assert await b.reconcile() is not None


async def test_a_policy_that_is_gone_is_not_looked_at_again() -> None:
    async with bench() as b:
        assert await b.reconcile() is None
        assert b.cluster.writes() == []
