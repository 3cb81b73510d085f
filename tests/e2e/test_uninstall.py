"""Both charts at a real API server: what is applied again changes nothing, and what `helm uninstall` leaves is on the page."""

import contextlib
import subprocess

import pytest

from tests.charts.test_uninstall import listed
from tests.e2e.agent import CHART, default_values
from tests.e2e.operator import running_operator
from tests.support.cluster import Namespace, fresh_namespace, kubectl, wait_until
from tests.support.helm import Release, helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

KINDS = (
    "deployments,statefulsets,pods,jobs,services,secrets,configmaps,serviceaccounts,persistentvolumeclaims,"
    "roles,rolebindings,networkpolicies,poddisruptionbudgets,horizontalpodautoscalers,ingresses,leases"
)

OF_THE_CLUSTER = {"configmap/kube-root-ca.crt", "serviceaccount/default"}
"""In each namespace of any cluster."""

GONE_SECONDS = 90
"""A pod of the agent drains, the database's shuts down."""


def left(namespace: Namespace) -> set[str]:
    return set(namespace.kubectl("get", KINDS, "--output=name").split()) - OF_THE_CLUSTER


def difference(release: Release) -> str:
    """Between the release's objects and what another server-side apply of them would make: what a GitOps tool would show."""
    options = ("--server-side", "--force-conflicts", "--field-manager=gitops", "--filename=-")
    done = subprocess.run(
        ["kubectl", "--namespace", release.namespace.name, "diff", *options],
        input=helm(release.namespace, "get", "manifest", release.name),
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode in (0, 1), done.stderr  # 1: there is a difference
    return done.stdout


def test_applying_again_changes_nothing_and_uninstalling_leaves_what_the_page_lists() -> None:
    with fresh_namespace("e2e-uninstall") as namespace, running_operator(namespace) as operator:
        agent = Release(namespace, "my-agent", CHART)
        agent.upgrade(default_values() | {"replicaCount": 1})
        agent.test()
        wait_until("the operator's Lease", lambda: "lease.coordination.k8s.io/slipway-operator" in left(namespace), seconds=60)
        assert [difference(release) for release in (agent, operator)] == ["", ""]

        agent.uninstall()
        operator.uninstall()
        expected = {name for name in listed() if not name.startswith("customresourcedefinition")}
        with contextlib.suppress(AssertionError):  # said better below
            wait_until("nothing else is left", lambda: left(namespace) == expected, seconds=GONE_SECONDS)
        found = left(namespace)
        crds = set(kubectl("get", "customresourcedefinitions", "--output=name").split())

    assert found == expected
    assert {name for name in crds if name.endswith(".slipway.dev")} == listed() - expected
