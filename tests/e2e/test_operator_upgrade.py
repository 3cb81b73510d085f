"""From each packaged release of the operator to this one and back, while a key is being replaced."""

import tarfile
import time
from pathlib import Path
from typing import Any

import pytest

from tests.e2e.agent import image_values
from tests.e2e.operator import CHART, IMAGE, install_crds
from tests.e2e.rotations import end_rotations
from tests.support.cluster import Namespace, fresh_namespace, kubectl, wait_until
from tests.support.figures import Report
from tests.support.helm import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

RELEASES = sorted((Path(__file__).parent.parent / "data" / "charts").glob("slipway-operator-[0-9]*.tgz"))

ROTATED_SECONDS = 120

OVERLAP_SECONDS = 20
"""So long a rotation is under way: an upgrade takes less."""


def secret(name: str, labels: dict[str, str], **data: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": name, "labels": labels}, "stringData": data}


ROTATION = {
    "apiVersion": "slipway.dev/v1alpha1",
    "kind": "KeyRotation",
    "metadata": {"name": "pool"},
    "spec": {
        "target": {"secretName": "model-key"},
        "consumers": {"selector": {"matchLabels": {"app.kubernetes.io/instance": "nobody"}}},
        "provider": {"pool": {"secretName": "keys"}},
        "overlap": f"{OVERLAP_SECONDS}s",
    },
}


def status(namespace: Namespace) -> dict[str, Any]:
    return dict(namespace.get("keyrotation", "pool").get("status", {}))


def idle_at(namespace: Namespace, revision: int) -> None:
    def look() -> bool:
        found = status(namespace)
        return (found.get("revision"), found.get("phase")) == (revision, "Idle")

    wait_until(f"revision {revision}", look, seconds=ROTATED_SECONDS)


def begin(namespace: Namespace, name: str) -> None:
    """Another rotation, which is then under way."""
    namespace.kubectl("annotate", "--overwrite", "keyrotation", "pool", f"slipway.dev/rotate-now={name}")
    wait_until("a rotation under way", lambda: status(namespace).get("phase") != "Idle", seconds=ROTATED_SECONDS)


@pytest.mark.parametrize("before", RELEASES, ids=lambda path: path.stem)
def test_a_rotation_goes_on_over_an_upgrade_of_the_operator_and_its_rollback(
    before: Path, tmp_path: Path, report: Report
) -> None:
    with tarfile.open(before) as packed:
        packed.extractall(tmp_path, filter="data")
    both = {"image": image_values(IMAGE), "crds": {"install": False}}
    try:
        kubectl("apply", "--server-side", "--force-conflicts", f"--filename={tmp_path / 'slipway-operator' / 'crds-source'}")
        with fresh_namespace("e2e-operator-upgrade") as namespace:
            release = Release(namespace, "slipway-operator", CHART)
            secrets = ["keys", "model-key"]
            release.upgrade(both | {"watchNamespaces": [namespace.name], "rbac": {"secretNames": secrets}}, chart=before)
            try:
                namespace.apply(
                    secret("keys", {"slipway.dev/key-pool": "true"}, a="sk-1", b="sk-2", c="sk-3"),
                    secret("model-key", {"slipway.dev/keyrotation": "pool"}),
                    ROTATION,
                )
                idle_at(namespace, 1)
                began = time.monotonic()
                begin(namespace, "upgrade")
                install_crds()
                watch = {"allNamespaces": False, "namespaces": [{"name": namespace.name, "secretNames": secrets}]}
                release.upgrade(both | {"watch": watch, "rbac": {"aggregate": False}})
                idle_at(namespace, 2)
                begin(namespace, "rollback")
                release.rollback()
                idle_at(namespace, 3)
                report(f"operator upgraded from {before.stem} and rolled back in two rotations: {time.monotonic() - began:.0f} s")
            finally:
                end_rotations(namespace)
    finally:
        install_crds()
