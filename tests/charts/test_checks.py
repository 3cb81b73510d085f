"""Values that contradict each other are refused with a sentence that says what to change."""

import re

import pytest

from tests.charts.slipway import CASES, CHART, made, manifests, refused
from tests.support.charts import refusal, values_of

REFUSALS = {
    "model.existingSecret must name the Secret": ["operator.keyRotation.enabled=true"],
    "operator.keyRotation.provider: say who issues": [
        "operator.keyRotation.enabled=true",
        "model.name=large",
        "model.existingSecret=model-key",
    ],
    "postgres.caSecret: the evaluation database has no certificate": ["postgres.caSecret=authority"],
    "image.tag: `latest`": ["image.tag=latest"],
    "image.tag: 1.1 is a number, in which 1.10 is 1.1; write it in quotes, or --set-string image.tag=": ["image.tag=1.10"],
    "postgres.image.tag: 17 is a number": ["postgres.image.tag=17"],
    "streaming.maxTurnSeconds: it is missing": ["streaming.maxTurnSeconds=null"],
    "env: A is a number that Helm cannot hold": ["env.A=9007199254740993"],
    "terminationGracePeriodSeconds: 60 would kill turns: streaming.maxTurnSeconds=300 needs 330": [
        "terminationGracePeriodSeconds=60"
    ],
    "autoscaling.scaleDownWindowSeconds: 60 is shorter than a turn (300)": ["autoscaling.scaleDownWindowSeconds=60"],
    "model.existingSecret: large needs the key": ["model.name=large"],
    "model.name: `offline` is built in and uses no key": ["model.existingSecret=key"],
    "auth.mode: `disabled` makes everyone": ["auth.mode=disabled"],
    "auth.oidc.issuer: nobody signs in with auth.mode=disabled": [
        "auth.oidc.issuer=https://login.example",
        "auth.mode=disabled",
        "auth.disabledOnAnyAddress=true",
    ],
    "auth.oidc.clientId: set the client id": ["auth.oidc.issuer=https://login.example"],
    "auth.oidc.issuer: auth.oidc.clientId and": ["auth.oidc.clientId=slipway"],
    "protocols.publicUrl: auth.oidc.issuer sends people back to an https:// URL": [
        "auth.oidc.issuer=https://login.example",
        "auth.oidc.clientId=slipway",
    ],
    "postgres.port: it is called networkPolicy.postgresPort now, as nothing else reads it; set that to 6432": [
        "postgres.port=6432"
    ],
    "auth.jwt.rotatingSecret: set auth.jwt.existingSecret=two and auth.jwt.key to an empty text": ["auth.jwt.rotatingSecret=two"],
    "auth.jwt.key: empty means the folder of a Secret of yours": ["auth.jwt.key=''"],
    "monitoring.alerts.thresholds.turnSeconds: no turn takes 60 s with streaming.maxTurnSeconds=30": [
        "monitoring.alerts.enabled=true",
        "monitoring.alerts.thresholds.turnSeconds=60",
        "streaming.maxTurnSeconds=30",
    ],
    "ingress.tls: ingress.tlsSecret is one certificate for all hosts": [
        "ingress.host=a.example",
        "ingress.tlsSecret=one",
        "ingress.tls=[{secretName: two, hosts: [a.example]}]",
    ],
    "ingress.tls: there is a certificate for b.example, which is none": [
        "ingress.host=a.example",
        "ingress.tls=[{secretName: two, hosts: [b.example]}]",
    ],
    "graph.files and graph.configMap: the graph can come from one of them only": [
        "graph.module=a:b",
        "graph.files={a.py: x}",
        "graph.configMap=mine",
    ],
    "graph.module: graph.volume is mounted, but nothing says which graph": ["graph.volume={emptyDir: {}}"],
    "graph.module: research is no package.module:attribute": ["graph.module=research"],
    "graph.package: there are no files for it": ["graph.package=mine"],
    "env and extraEnv: MODEL belongs to the chart; set model.name": ["env={MODEL: large}"],
    "env and extraEnv: DRAIN_SECONDS belongs to the chart; set streaming.maxTurnSeconds": [
        "extraEnv=[{name: DRAIN_SECONDS, value: '5'}]"
    ],
    "env and extraEnv: database_url belongs to the chart": ["env={database_url: postgresql:///other}"],
    "env and extraEnv: OPS_PORT belongs to the chart; it stays 9090": ["env={OPS_PORT: 9191}"],
    "env and extraEnv: a name stands there twice": ["env={LOG_LEVEL: debug}", "extraEnv=[{name: LOG_LEVEL, value: info}]"],
    "autoscaling.minReplicas: 20 is above autoscaling.maxReplicas=10": ["autoscaling.enabled=true", "autoscaling.minReplicas=20"],
    "autoscaling.targetConcurrency: a pod executes at most streaming.maxConcurrentRuns=100, so 150": [
        "autoscaling.enabled=true",
        "autoscaling.targetConcurrency=150",
    ],
    "autoscaling.keda.serverAddress: KEDA asks Prometheus": ["autoscaling.enabled=true", "autoscaling.mode=keda"],
    "resources.requests.cpu: autoscaling.mode=cpu is a percentage of it": [
        "autoscaling.enabled=true",
        "autoscaling.mode=cpu",
        "resources.requests.cpu=null",
    ],
    "pdb: set maxUnavailable or minAvailable": ["pdb.maxUnavailable=null"],
    "enabled: it is for the `condition` of a parent chart": ["enabled=false"],
    "podLabels: app.kubernetes.io/name is the chart's own": ["podLabels={app.kubernetes.io/name: other}"],
    "postgres.existingSecret: postgres.mode=external needs": ["postgres.mode=external"],
    "postgres.mode: `evaluation` brings a database of its own": ["postgres.mode=evaluation", "postgres.existingSecret=database"],
    "model.needsKey: false means that the endpoint wants no key": [
        "model.name=x",
        "model.needsKey=false",
        "model.existingSecret=key",
    ],
    "pdb.maxUnavailable: 0 would let no node be drained": ["pdb.maxUnavailable=0"],
    "pdb.minAvailable: 2 of at least 2 pods": ["pdb.maxUnavailable=null", "pdb.minAvailable=2"],
    "pdb.minAvailable: 60% of at least 2 pods": ["pdb.maxUnavailable=null", "pdb.minAvailable=60%"],
    "pdb.minAvailable: 3 of at least 3 pods": [
        "pdb.maxUnavailable=null",
        "pdb.minAvailable=3",
        "replicaCount=9",
        "autoscaling.enabled=true",
        "autoscaling.minReplicas=3",
    ],
    "httpRoute.parentRefs: name the Gateway": ["httpRoute.enabled=true"],
    "ingress.host: ingress.tlsSecret is a certificate for a host": ["ingress.enabled=true", "ingress.tlsSecret=certificate"],
}


@pytest.mark.parametrize("sentence", REFUSALS)
def test_a_contradiction_is_refused(sentence: str) -> None:
    assert sentence in refused(*REFUSALS[sentence])


MONITORING = "monitoring.coreos.com/v1"

ABSENT = {
    f"monitoring.serviceMonitor.enabled: the cluster has no {MONITORING}/ServiceMonitor": [
        "monitoring.serviceMonitor.enabled=true"
    ],
    f"monitoring.alerts.enabled: the cluster has no {MONITORING}/PrometheusRule": ["monitoring.alerts.enabled=true"],
    "autoscaling.mode=keda: the cluster has no keda.sh/v1alpha1/ScaledObject": [
        "autoscaling.enabled=true",
        "autoscaling.mode=keda",
        "autoscaling.keda.serverAddress=http://prometheus",
    ],
    "httpRoute.enabled: the cluster has no gateway.networking.k8s.io/v1/HTTPRoute": [
        "httpRoute.enabled=true",
        "httpRoute.parentRefs=[{name: main}]",
    ],
}


@pytest.mark.parametrize("sentence", ABSENT)
def test_an_object_whose_crd_is_missing_is_refused_with_the_way_out(sentence: str) -> None:
    said = refusal(CHART, values_of(*ABSENT[sentence]))

    assert sentence in said
    assert "checkCRDs=false" in said
    assert manifests(values_of(*ABSENT[sentence]))  # which has checkCRDs=false


def test_a_cpu_target_without_any_resources_is_refused_with_the_same_sentence() -> None:
    assert "resources.requests.cpu" in refused("autoscaling.enabled=true", "autoscaling.mode=cpu", "resources=null")


@pytest.mark.parametrize("least", [1, "50%"])
def test_a_budget_that_lets_one_pod_go_is_let_in(least: int | str) -> None:
    budget = made("PodDisruptionBudget", {"pdb": {"maxUnavailable": None, "minAvailable": least}})

    assert budget["spec"]["minAvailable"] == least
    assert "maxUnavailable" not in budget["spec"]


def test_every_refusal_of_the_chart_is_tested() -> None:
    formats = re.findall(r'fail \(?(?:printf )?"([^"]+)"', (CHART / "templates/_checks.tpl").read_text(encoding="utf-8"))
    said = [*(refused(*sets) for sets in REFUSALS.values()), refusal(CHART, values_of("monitoring.alerts.enabled=true"))]

    def is_said(text: str) -> bool:
        pattern = re.sub("%[sdv]", ".+", re.escape(text))
        return any(re.search(pattern, sentence) for sentence in said)

    assert len(formats) > 15
    assert [text for text in formats if not is_said(text)] == []


@pytest.mark.parametrize("case", CASES)
def test_sound_values_are_let_in(case: str) -> None:
    assert manifests(CASES[case])
