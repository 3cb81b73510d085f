"""From each packaged release of the operator to this one, with an object that was made under its definitions."""

import json
import tarfile
import time
from pathlib import Path

import pytest

from tests.e2e.agent import image_values
from tests.e2e.operator import CHART, IMAGE, install_crds
from tests.e2e.rotations import end_rotations, secret
from tests.support.cluster import Namespace, fresh_namespace, kubectl, wait_until
from tests.support.figures import Report
from tests.support.helm import Release, helm

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASES = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-operator-[0-9]*.tgz"))

ROTATED_SECONDS = 120


ROTATION = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "KeyRotation",
    "metadata": {"name": "pool"},
    "spec": {
        "target": {"secretName": "model-key"},
        "consumers": {"selector": {"matchLabels": {"app.kubernetes.io/instance": "nobody"}}, "minPods": 0},
        "provider": {"pool": {"secretName": "keys"}},
        "overlap": "5s",
    },
}


def idle_at(namespace: Namespace, revision: int) -> bool:
    found = namespace.get("keyrotation", "pool").get("status", {})
    return (found.get("revision"), found.get("phase")) == (revision, "Idle")


@pytest.mark.parametrize("before", RELEASES, ids=lambda path: path.stem)
def test_objects_and_a_release_of_before_are_taken_over(before: Path, tmp_path: Path, report: Report) -> None:
    """There is no image of that release here, and this one's refuses its settings, so the operator of before does not run."""
    with tarfile.open(before) as packed:
        packed.extractall(tmp_path, filter="data")
    both = {"image": image_values(IMAGE), "crds": {"install": False}}
    secrets = ["keys", "model-key"]
    try:
        kubectl("apply", "--server-side", "--force-conflicts", f"--filename={tmp_path / 'slipway-operator' / 'crds-source'}")
        with fresh_namespace("e2e-operator-upgrade") as namespace:
            release = Release(namespace, "slipway-operator", CHART)
            old = both | {"watchNamespaces": [namespace.name], "rbac": {"secretNames": secrets}}
            helm(namespace, "install", release.name, str(before), "--values=-", stdin=json.dumps(old))
            namespace.apply(
                secret("keys", {"a": "sk-1", "b": "sk-2"}, {"slipway.dev/key-pool": "true"}),
                secret("model-key", {}, {"slipway.dev/keyrotation": "pool"}),
                ROTATION,
            )
            began = time.monotonic()
            install_crds()
            watch = {"allNamespaces": False, "namespaces": [{"name": namespace.name, "secretNames": secrets}]}
            release.upgrade(both | {"watch": watch, "rbac": {"aggregate": False}})
            try:
                wait_until("the first key", lambda: idle_at(namespace, 1), seconds=ROTATED_SECONDS)
                namespace.kubectl("annotate", "keyrotation", "pool", "slipway.dev/rotate-now=1")
                wait_until("the second key", lambda: idle_at(namespace, 2), seconds=ROTATED_SECONDS)
                report(f"operator upgraded from {before.stem}: its rotation is attended to, {time.monotonic() - began:.0f} s")
            finally:
                end_rotations(namespace)
    finally:
        install_crds()
