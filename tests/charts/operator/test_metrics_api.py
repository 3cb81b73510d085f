"""custom.metrics.k8s.io by the operator's chart: off by default; the certificate is kept by Helm, cert-manager's, or yours."""

import base64
from typing import Any

import pytest
from cryptography import x509

from tests.charts.operator.chart import ANYWHERE, CHART, METRICS_API, made, manifests, refused
from tests.support.charts import Manifest, every, merged, one, render_in_cluster, values_of

ON = "metricsApi.enabled=true"
MINE = ("metricsApi.tls.existingSecret=mine", "metricsApi.tls.caBundle=Q0E=")
NAME = "slipway-operator-metrics-api"


def test_it_is_off_by_default() -> None:
    found = manifests()

    assert every(found, "APIService") == []
    assert {m["metadata"]["namespace"] for m in every(found, "RoleBinding")} <= {"slipway-system"}
    assert "METRICS_API_PORT" not in str(one(found, "Deployment"))


@pytest.mark.parametrize(("values", "secret", "bundle"), [(METRICS_API, NAME, None), (values_of(ON, *MINE), "mine", "Q0E=")])
def test_one_api_service_leads_to_the_operators_port_and_it_has_a_certificate(
    values: dict[str, Any], secret: str, bundle: str | None
) -> None:
    found = manifests(values)
    api, service, deployment = (one(found, "APIService"), one(found, "Service", NAME), one(found, "Deployment"))
    spec = deployment["spec"]["template"]["spec"]
    container = spec["containers"][0]

    assert api["metadata"]["name"] == f"{api['spec']['version']}.{api['spec']['group']}" == "v1beta2.custom.metrics.k8s.io"
    assert api["spec"]["service"] == {"name": NAME, "namespace": "slipway-system"}
    assert (api["spec"].get("caBundle"), "insecureSkipTLSVerify" in api["spec"]) == (bundle, False)
    [port] = service["spec"]["ports"]
    ports = {each["name"]: each["containerPort"] for each in container["ports"]}
    environment = {each["name"]: each.get("value") for each in container["env"]}
    assert (port["port"], str(ports[port["targetPort"]])) == (443, environment["METRICS_API_PORT"])
    [mount], [volume] = container["volumeMounts"], spec["volumes"]
    assert (mount["mountPath"], volume["secret"]["secretName"]) == (environment["METRICS_API_CERTIFICATES"], secret)
    assert {"ports": [{"port": "metrics-api"}]} in one(found, "NetworkPolicy")["spec"]["ingress"]


def test_cert_manager_makes_the_certificate_for_the_services_name() -> None:
    certificate, api = made("Certificate", METRICS_API), made("APIService", METRICS_API)

    assert certificate["spec"]["dnsNames"] == [f"{NAME}.slipway-system.svc"]
    assert certificate["spec"]["secretName"] == NAME
    assert api["metadata"]["annotations"] == {"cert-manager.io/inject-ca-from": f"slipway-system/{NAME}"}


def test_its_only_right_is_to_read_by_which_authority_the_front_proxy_is_known() -> None:
    more = [m for m in manifests(METRICS_API) if m not in manifests()]
    rights = [m for m in more if "rbac" in m["apiVersion"]]

    assert [(m["kind"], m["metadata"]["namespace"], m["roleRef"]["name"]) for m in rights] == [
        ("RoleBinding", "kube-system", "extension-apiserver-authentication-reader")
    ]


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([ON], "without a cluster"),
        ([ON, "metricsApi.tls.existingSecret=mine"], "needs metricsApi.tls.caBundle"),
        (
            [ON, *MINE, "metricsApi.tls.certManager=true"],
            "no certManager",
        ),
    ],
)
def test_what_would_leave_an_hpa_without_an_answer_is_refused(values: list[str], words: str) -> None:
    assert words in refused("checkCRDs=false", *values)


async def in_cluster(*found: Manifest) -> list[Manifest]:
    """With a certificate of Helm's, in a cluster that has these Secrets and no other."""
    values = merged(ANYWHERE, values_of(ON))
    return await render_in_cluster(CHART, values, found, name="slipway-operator", namespace="slipway-system")


async def test_helm_makes_a_certificate_once_and_keeps_it() -> None:
    first = await in_cluster()
    secret = one(first, "Secret", NAME)
    second = await in_cluster(secret)

    signed = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["tls.crt"]))
    authority = x509.load_pem_x509_certificate(base64.b64decode(secret["data"]["ca.crt"]))
    signed.verify_directly_issued_by(authority)
    names = signed.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    assert names.get_values_for_type(x509.DNSName) == [f"{NAME}.slipway-system.svc"]
    assert one(first, "APIService")["spec"]["caBundle"] == secret["data"]["ca.crt"]
    assert one(second, "Secret", NAME)["data"] == secret["data"]
    assert one(second, "APIService")["spec"]["caBundle"] == secret["data"]["ca.crt"]
