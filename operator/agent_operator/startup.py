"""What happens before the first event: kopf's settings, and the answer of the probe."""

import os
from importlib.metadata import version
from typing import Any

import kopf

from agent_operator.settings import DOMAIN, FINALIZER, OperatorSettings

VERSION = version("slipway")


@kopf.on.startup()
async def configure(settings: kopf.OperatorSettings, **_: Any) -> None:
    """Raises kopf.PermanentError, which ends the process, when a setting is wrong."""
    try:
        apply(OperatorSettings.load(os.environ), settings)
    except ValueError as error:
        raise kopf.PermanentError(str(error)) from None


def apply(own: OperatorSettings, settings: kopf.OperatorSettings) -> None:
    """Everything that kopf writes on objects carries our name, so that another kopf operator never takes it for its own."""
    settings.persistence.finalizer = FINALIZER
    settings.persistence.progress_storage = kopf.AnnotationsProgressStorage(prefix=DOMAIN)
    settings.persistence.diffbase_storage = kopf.AnnotationsDiffBaseStorage(prefix=DOMAIN)
    settings.peering.standalone = own.standalone
    settings.peering.name = own.peering_name
    settings.peering.mandatory = not own.standalone


@kopf.on.probe(id="version")
async def report_version(**_: Any) -> str:
    """Body of the liveness probe: which operator answers."""
    return VERSION
