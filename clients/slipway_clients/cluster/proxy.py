"""Pods and services from outside of the cluster: through the API server, with the rights of who asks."""

import io
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import httpx
import httpx2
import lightkube
from lightkube.config.client_adapter import AsyncClient, ConnectionParams
from lightkube.config.kubeconfig import KubeConfig, SingleConfig
from lightkube.core.exceptions import ConfigError

from slipway_clients.cluster.interface import Unavailable
from slipway_clients.cluster.kinds import POD, SERVICE, Manifest
from slipway_clients.cluster.paths import proxy_path
from slipway_clients.egress.text import plain

KubeAccess = SingleConfig
"""A context of a kubeconfig: where the API server is, and as whom to speak to it."""

ORIGIN = "http://kubernetes"
"""Stands for the API server in the URLs below; the transport puts the real address and the credentials in."""

TIMEOUT = 10.0
"""Seconds for one call: the API server passes it on, and the pod answers from memory."""


PRINTED = 8 << 20
"""Bytes that a command in a pod may print: three answers of an ops port."""


class _Transport(httpx.AsyncBaseTransport):
    """Lets code that speaks httpx use lightkube's client, which has TLS and credentials of the kubeconfig."""

    def __init__(self, http: httpx2.AsyncClient) -> None:
        self._http = http

    async def handle_async_request(self, request: httpx.Request) -> httpx.Response:
        target, headers = request.url.raw_path.decode(), {"Accept-Encoding": "identity"}
        try:
            asked = self._http.build_request(request.method, target, headers=headers)
            answer = await self._http.send(asked, stream=True, follow_redirects=False)
        except (httpx2.HTTPError, OSError) as error:
            raise httpx.ConnectError(f"{type(error).__name__} {error}".rstrip(), request=request) from error
        kept = {name: value for name, value in answer.headers.items() if name in {"content-type", "content-encoding"}}
        return httpx.Response(answer.status_code, headers=kept, stream=_Body(answer))


class _Body(httpx.AsyncByteStream):
    """As it comes, so that the reader can stop: a pod may answer without an end."""

    def __init__(self, answer: httpx2.Response) -> None:
        self._answer = answer

    async def __aiter__(self) -> AsyncIterator[bytes]:
        try:
            async for chunk in self._answer.aiter_raw():
                yield chunk
        except (httpx2.HTTPError, OSError) as error:
            raise httpx.ReadError(f"{type(error).__name__} {error}".rstrip()) from error

    async def aclose(self) -> None:
        await self._answer.aclose()


def find_config(context: str | None = None) -> SingleConfig:
    """Of a context of KUBECONFIG or `~/.kube/config`; the current one without a name.

    Raises:
        Unavailable: there is none, or it is wrong.
    """
    try:
        found = KubeConfig.from_env().get(context)
    except (ConfigError, KeyError, OSError) as error:
        raise Unavailable(f"no cluster is configured: {error}") from error
    if found is None:
        raise Unavailable("no cluster is configured: the kubeconfig has no current context")
    return found


@asynccontextmanager
async def through_api_server(config: SingleConfig) -> AsyncIterator[httpx.AsyncClient]:
    """A client for `pod_url` and `service_url`, and for nothing else."""
    async with (
        AsyncClient(config, ConnectionParams(timeout=httpx2.Timeout(TIMEOUT))) as http,
        httpx.AsyncClient(transport=_Transport(http)) as client,
    ):
        yield client


async def run_in_pod(config: SingleConfig, pod: Manifest, container: str, command: Sequence[str]) -> str:
    """What a command prints in a pod. Network policies do not concern it, as the kubelet runs it.

    Raises:
        Unavailable: it could not be run, or failed.
    """
    metadata = pod["metadata"]
    client, printed = lightkube.AsyncClient(config), _Bounded()
    try:
        await client.exec(
            metadata["name"],
            namespace=metadata["namespace"],
            container=container,
            command=command,
            stdout=printed,
            raise_on_error=True,
            timeout=TIMEOUT,
        )
    except Exception as error:  # of a web socket, a time-out, the API server, the command: all mean no answer
        raise Unavailable(f"exec in {metadata['name']}: {type(error).__name__} {plain(error)}".rstrip()) from error
    finally:
        await client.aclose()
    return printed.getvalue().decode(errors="replace")


class _Bounded(io.BytesIO):
    """Whose container it is decides what its `python` prints, and how much."""

    def write(self, data: Any) -> int:
        if self.tell() + len(data) > PRINTED:
            raise OverflowError(f"more than {PRINTED} bytes")
        return super().write(data)


def pod_url(pod: Manifest, port: int) -> str:
    """Of a pod's port, for `through_api_server`. Raises InvalidName."""
    metadata = pod["metadata"]
    return ORIGIN + proxy_path(POD, metadata["namespace"], metadata["name"], port)


def service_url(namespace: str, service: str, port: str) -> str:
    """`port` is a number or a name. Raises InvalidName."""
    return ORIGIN + proxy_path(SERVICE, namespace, service, port)
