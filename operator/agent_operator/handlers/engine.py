"""kopf, told what to watch and what to answer its probe."""

from typing import Any

import kopf
import structlog

from agent_operator.reconcile.controller import Controller
from agent_operator.reconcile.tools import Key
from agent_operator.settings import DOMAIN, FINALIZER, OperatorSettings
from slipway_clients.cluster import InvalidName, WrongAnswer
from slipway_clients.cluster.kinds import OWN, Kind
from slipway_clients.cluster.paths import checked, name_segment, namespace_segment

CHUNK = 5
"""Objects in one answer to kopf's lists, which it reads without a limit. An object is 1.5 MB at most, and a megabyte of labels 30
as Python has them. 400 objects of 200 kB took 306 MiB in kopf's chunks of 500: tests/attack/test_many_objects.py."""

OBJECT_KEPT = 0.5
"""Seconds for which kopf holds an object after its event was handled; its default of 5 s held all that a list brought."""

log = structlog.stdlib.get_logger(__name__)


async def watch(own: OperatorSettings, controller: Controller, version: str) -> None:
    """Watches until SIGTERM or SIGINT. Raises when a watch cannot go on."""
    settings = kopf.OperatorSettings()
    configure(own, settings)
    await kopf.operator(
        registry=registry(controller, version),
        settings=settings,
        clusterwide=not own.namespaces,
        namespaces=own.namespaces,
        liveness_endpoint=liveness_endpoint(own),
    )


def liveness_endpoint(own: OperatorSettings) -> str:
    host = f"[{own.listen_address}]" if ":" in own.listen_address else own.listen_address
    return f"http://{host}:{own.probe_port}/healthz"


def configure(own: OperatorSettings, settings: kopf.OperatorSettings) -> None:
    """Everything that kopf writes on objects carries our name, so that another kopf operator never takes it for its own."""
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=DOMAIN)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=DOMAIN)
    settings.peering.standalone = own.standalone
    settings.peering.name = own.peering_name
    settings.peering.mandatory = not own.standalone
    settings.posting.enabled = False  # Events are ours, by the cluster client
    # Neither namespaces nor CRDs are watched, so no role is needed for them: the chart brings the CRDs before the operator.
    settings.scanning.disabled = True
    settings.watching.chunk_size = CHUNK
    settings.queueing.idle_timeout = OBJECT_KEPT


def registry(controller: Controller, version: str) -> kopf.OperatorRegistry:
    """A registry of its own, so that importing a module registers nothing."""
    handlers = kopf.OperatorRegistry()

    @kopf.on.login(registry=handlers)
    async def login(**given: Any) -> kopf.ConnectionInfo | None:
        return kopf.login_with_service_account(**given) or kopf.login_with_kubeconfig(**given)

    for kind in OWN:
        _enqueue(handlers, kind, controller)

    @kopf.on.probe(registry=handlers, id="version", errors=kopf.ErrorsMode.PERMANENT)
    async def report(**_: Any) -> str:
        # Only a permanent error becomes a 500; any other is tried again within the request, which then hangs.
        if complaints := controller.liveness.complaints():
            raise kopf.PermanentError("; ".join(complaints))
        return version

    return handlers


def _enqueue(handlers: kopf.OperatorRegistry, kind: Kind, controller: Controller) -> None:
    # `on.event` keeps nothing on the object, puts no finalizer and compares nothing: what changed is not our question.
    group, version = kind.api_version.split("/")

    @kopf.on.event(group, version, kind.plural, registry=handlers, id=f"enqueue-{kind.plural}")
    async def enqueue(event: kopf.RawEvent, body: kopf.Body, **_: Any) -> None:
        try:
            metadata = checked(
                {"apiVersion": kind.api_version, "kind": kind.kind, **body},
                kind,
                namespace_segment(body["metadata"].get("namespace")),
                None,
            )["metadata"]
            key = Key(kind.kind, metadata["namespace"], name_segment(metadata.get("name")))
        except (InvalidName, WrongAnswer) as error:
            log.warning("watch_told_of_another_object", error=str(error))
            return
        if event["type"] == "DELETED":
            controller.ended(key)
        else:
            controller.changed(key, metadata["resourceVersion"])
