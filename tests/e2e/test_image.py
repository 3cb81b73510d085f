"""The images: each runs as nobody in particular, holds one component and nothing to install more with, and stays small."""

import json
from collections.abc import Iterator

import pytest

from tests.e2e.agent import OPERATOR_IMAGE, SERVICE_IMAGE
from tests.support.cluster import Namespace, fresh_namespace, idle_pod, kubectl, wait_until
from tests.support.figures import Report

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

SIZES_SECONDS = 90
"""A kubelet looks at its images every 30 s."""

LARGEST_MB = {SERVICE_IMAGE: 500, OPERATOR_IMAGE: 250}

IMAGES = {
    "service": (SERVICE_IMAGE, ("agent_operator", "slipway_clients", "slipway_doctor", "slipway_monitoring")),
    "operator": (OPERATOR_IMAGE, ("agent_service",)),
}
"""Image, and the packages of other components."""

BUILDS = ("hatchling", "pip")


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """A pod of each image that only waits."""
    with fresh_namespace("e2e-image") as space:
        space.apply(*(idle_pod(name, image) for name, (image, _) in IMAGES.items()))
        space.kubectl("wait", "--for=condition=Ready", "--timeout=60s", *(f"pod/{name}" for name in IMAGES))
        yield space


@pytest.mark.parametrize("name", IMAGES)
def test_an_image_runs_as_nobody_in_particular_and_holds_its_own_components(namespace: Namespace, name: str) -> None:
    absent = (*IMAGES[name][1], *BUILDS)
    script = f"import importlib.util, os; print(os.getuid(), *filter(importlib.util.find_spec, {absent!r}))"

    assert namespace.kubectl("exec", name, "--", "python", "-c", script).split() == ["10001"]


@pytest.mark.usefixtures("namespace")
def test_the_images_stay_small(report: Report) -> None:
    sizes = wait_until("every image in a node's list", image_sizes, seconds=SIZES_SECONDS, every=2)
    report("images: " + ", ".join(f"{name} {size:.0f} MB in the node" for name, size in sizes.items()))

    assert all(size < LARGEST_MB[name] for name, size in sizes.items())


def image_sizes() -> dict[str, float] | None:
    """Megabytes by image name, as the nodes report them; None until all are there."""
    nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
    images = [image for node in nodes for image in node["status"]["images"]]
    sizes = {name: image["sizeBytes"] / 1e6 for image in images for name in image["names"] or () if name in LARGEST_MB}
    return sizes if sizes.keys() == LARGEST_MB.keys() else None
