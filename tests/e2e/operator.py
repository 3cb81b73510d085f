"""The operator by its chart, attending to one namespace of the tests. CRDs are the cluster's, so no test removes them."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.support.cluster import Namespace, kubectl
from tests.support.helm import Release, Values

CHART = Path(__file__).parent.parent.parent / "charts" / "slipway-operator"

IMAGE = os.environ.get("OPERATOR_IMAGE", "localhost/slipway-operator:e2e")

PROMETHEUS = "http://prometheus.monitoring:9090"


def install_crds() -> None:
    kubectl("apply", "--server-side", "--force-conflicts", f"--filename={CHART / 'crds-source'}")
    kubectl("wait", "--for=condition=Established", "--timeout=30s", f"--filename={CHART / 'crds-source'}")


@contextmanager
def running_operator(
    namespace: Namespace, *, rights: Values | None = None, rbac: Values | None = None, **values: object
) -> Iterator[Release]:
    """Installed in `namespace`, watching it alone; its roles end with it, as in the namespaced mode of production.

    `rights` are those of the namespace's entry in `watch.namespaces`.
    """
    install_crds()
    repository, _, tag = IMAGE.rpartition(":")
    given: Values = {
        "image": {"repository": repository, "tag": tag},
        "crds": {"install": False},
        "watch": {"allNamespaces": False, "namespaces": [{"name": namespace.name, **(rights or {})}]},
        "rbac": {"aggregate": False, **(rbac or {})},
        "prometheus": {"url": PROMETHEUS},
        **values,
    }
    release = Release(namespace, "slipway-operator", CHART)
    release.upgrade(given)
    yield release
