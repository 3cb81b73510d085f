"""The images in a real cluster: restricted pods with a read-only root, a database, a stream."""

import json
import os
import secrets
import time
from collections.abc import Iterator
from pathlib import Path
from string import Template

import httpx
import jwt
import pytest

from tests.support import sse
from tests.support.cluster import Namespace, fresh_namespace, kubectl

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(300)]

SERVICE_IMAGE = os.environ.get("SLIPWAY_IMAGE", "localhost/slipway:e2e")
OPERATOR_IMAGE = os.environ.get("OPERATOR_IMAGE", "localhost/slipway-operator:e2e")
POSTGRES_IMAGE = os.environ.get("POSTGRES_IMAGE", "localhost/slipway-postgres:e2e")

JWT_SECRET = secrets.token_hex(32)
MANIFEST = Path(__file__).parent / "service.yaml"


@pytest.fixture(scope="module")
def namespace() -> Iterator[Namespace]:
    """The database, the service and the operator, all of them ready."""
    with fresh_namespace("slipway-e2e") as space:
        manifest = Template(MANIFEST.read_text(encoding="utf-8")).substitute(
            namespace=space.name,
            password=secrets.token_hex(16),
            jwt_secret=JWT_SECRET,
            postgres_image=POSTGRES_IMAGE,
            service_image=SERVICE_IMAGE,
            operator_image=OPERATOR_IMAGE,
        )
        started = time.monotonic()
        space.kubectl("apply", "--filename=-", stdin=manifest)
        space.wait_until_ready("postgres", "slipway", "operator", seconds=60)
        report(f"everything ready after {time.monotonic() - started:.0f} s")
        yield space


def report(line: str) -> None:
    print(line)  # noqa: T201  # figures for the reader of `make e2e`, which does not capture


def client(url: str, user: str) -> httpx.AsyncClient:
    token = jwt.encode({"sub": user, "exp": int(time.time()) + 300}, JWT_SECRET, "HS256")
    return httpx.AsyncClient(base_url=url, timeout=60, headers={"Authorization": f"Bearer {token}"})


def image_sizes(*wanted: str) -> dict[str, int]:
    """Bytes by image name, as the nodes report them: a kubelet looks at its images every 30 s."""
    deadline = time.monotonic() + 90
    while time.monotonic() < deadline:
        nodes = json.loads(kubectl("get", "nodes", "--output=json"))["items"]
        images = [image for node in nodes for image in node["status"]["images"]]
        sizes = {name: image["sizeBytes"] for image in images for name in image["names"] or () if name in wanted}
        if sizes.keys() == set(wanted):
            return sizes
        time.sleep(1)
    raise AssertionError(f"no node reported {' and '.join(wanted)} within 90 s")


def test_the_service_is_ready_on_its_ops_port(namespace: Namespace) -> None:
    with namespace.port_forward("deployment/slipway", "9090") as url:
        ready, live, health = (httpx.get(f"{url}{path}") for path in ("/ready", "/live", "/health"))

    assert (ready.status_code, live.status_code, health.status_code) == (200, 200, 200)
    assert health.json()["dependencies"]["database"]["ok"] is True


async def test_a_question_is_answered_by_a_stream_from_the_ledger(namespace: Namespace) -> None:
    with namespace.port_forward("service/slipway", "80") as url:
        async with client(url, "alice") as caller:
            started = time.monotonic()
            question = {"question": "How many runs did I have today?"}
            stream = await sse.read(caller, "GET", "/chat/stream", params=question)
            report(f"a streamed turn took {time.monotonic() - started:.2f} s")

    assert stream.done
    assert "slipway_data.runs" in stream.text
    assert [tool["tool"] for tool in stream.named("tool_start")] == ["query_data"]


async def test_without_a_token_nobody_gets_in(namespace: Namespace) -> None:
    with namespace.port_forward("service/slipway", "80") as url:
        async with httpx.AsyncClient(base_url=url) as stranger:
            response = await stranger.get("/sessions")

    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


@pytest.mark.parametrize(("deployment", "absent"), [("slipway", "agent_operator"), ("operator", "agent_service")])
def test_an_image_runs_as_nobody_in_particular_and_holds_one_component(
    namespace: Namespace, deployment: str, absent: str
) -> None:
    script = (
        f"import importlib.util, os; print(os.getuid(), importlib.util.find_spec({absent!r}), importlib.util.find_spec('pip'))"
    )

    output = namespace.kubectl("exec", f"deployment/{deployment}", "--", "python", "-c", script)

    uid, component, pip = output.split()
    assert (uid, component, pip) == ("10001", "None", "None")


def test_the_operator_answers_its_probe(namespace: Namespace) -> None:
    with namespace.port_forward("deployment/operator", "8080") as url:
        response = httpx.get(f"{url}/healthz")

    assert response.json().keys() == {"version"}


def test_the_images_stay_small(namespace: Namespace) -> None:  # noqa: ARG001  # it brings the images into use
    sizes = {name: size / 1e6 for name, size in image_sizes(SERVICE_IMAGE, OPERATOR_IMAGE).items()}
    report(", ".join(f"{name}: {size:.0f} MB in the node" for name, size in sizes.items()))

    assert sizes[SERVICE_IMAGE] < 500
    assert sizes[OPERATOR_IMAGE] < 200
