"""Settings of the operator: one frozen object per process, read from environment variables."""

import secrets
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Self

from slipway_clients.egress.origins import Origin, OriginRefused, origins, parse_url

DOMAIN = "slipway.dev"
"""Of our API group, annotations and finalizer. Fixed before the first release: changing it handles every object anew."""

FINALIZER = f"{DOMAIN}/finalizer"

LOG_LEVELS = ("debug", "info", "warning", "error")


@dataclass(frozen=True)
class OperatorSettings:
    namespaces: tuple[str, ...] = ()
    """The namespaces whose objects it attends to; empty for all of the cluster."""

    pod_namespace: str = "default"
    """Where the operator runs: the Secrets with administrators' keys are there."""

    pod_name: str = "slipway-operator"
    """With its namespace the holder of Leases, as no two pods alive share both."""

    prometheus_url: str = ""
    """For objects that name none; without any, conditions that need Prometheus say Unknown."""

    prometheus_urls: tuple[str, ...] = ()
    """Others that an object may name. Any URL would let whoever writes an object look around in the operator's network."""

    prometheus_token_file: str = ""
    """With the bearer token for `prometheus_url`. No other address gets it, and none by plain http."""

    prometheus_ca_file: str = ""
    """Authority, PEM, that Prometheus' certificates are checked against beside the usual ones. Read at start."""

    runbooks_url: str = ""
    """Base URL of the runbooks, for policies that name none; empty: their alerts have a path in the repository only."""

    key_hosts: frozenset[Origin] = frozenset()
    """Where any key may be sent, beside the hosts that its own Secret names. An `http://` entry is the only way to plain http."""

    resync_seconds: float = 60.0
    """Between two looks at all objects, which find what a deaf watch missed. A list of our own kinds, so it costs little."""

    workers: int = 4
    """Objects attended to at a time. They wait for HTTP answers most of the time, so one slow one delays few."""

    listen_address: str = "0.0.0.0"  # noqa: S104  # the kubelet and Prometheus are other machines
    """`::` in a pod whose first address is of IPv6: the kubelet asks there."""

    probe_port: int = 8080
    metrics_port: int = 9090
    metrics_api_port: int = 0
    """Of the API custom.metrics.k8s.io, by HTTPS; 0 does not serve it."""

    metrics_api_certificates: str = "/certificates"
    """Folder with its tls.crt and tls.key."""

    log_level: str = "info"
    standalone: bool = True
    """One replica with strategy Recreate needs no peering; false makes operators of one cluster agree by `peering_name`."""

    peering_name: str = "slipway-operator"
    """Not kopf's `default`, which every operator in the cluster joins, and any of them can then pause ours."""

    @classmethod
    def load(cls, environ: Mapping[str, str]) -> Self:
        """Reads the variables of docs/operations/operator.md.

        Raises:
            ValueError: one line that names the variable and what was expected.
        """
        if environ.get("LEASE_NAME"):
            raise ValueError("LEASE_NAME: remove it; the Lease is slipway-operator in each namespace that is attended to")
        if environ.get("PROMETHEUS_TOKEN_FILE") and not environ.get("PROMETHEUS_URL", "").startswith("https://"):
            raise ValueError("PROMETHEUS_TOKEN_FILE: a token goes by https only; set PROMETHEUS_URL to an address that begins so")
        return cls(
            namespaces=tuple(each.strip() for each in environ.get("WATCH_NAMESPACES", "").split(",") if each.strip()),
            pod_namespace=environ.get("POD_NAMESPACE") or cls.pod_namespace,
            # Outside of a pod two processes of one name would take each other's Leases for their own.
            pod_name=environ.get("POD_NAME") or f"{cls.pod_name}-{secrets.token_hex(4)}",
            prometheus_url=next(iter(_urls(environ, "PROMETHEUS_URL")), cls.prometheus_url),
            prometheus_urls=_urls(environ, "PROMETHEUS_ALLOWED_URLS"),
            prometheus_token_file=environ.get("PROMETHEUS_TOKEN_FILE", ""),
            prometheus_ca_file=_authority(environ, "PROMETHEUS_CA_FILE"),
            runbooks_url=_link(environ, "RUNBOOKS_URL"),
            key_hosts=_origins(environ, "KEY_HOSTS"),
            resync_seconds=_number(environ, "RESYNC_SECONDS", cls.resync_seconds, lowest=1, highest=3600),
            workers=int(_number(environ, "WORKERS", cls.workers, lowest=1, highest=64)),
            listen_address="::" if ":" in environ.get("POD_IP", "") else cls.listen_address,
            probe_port=int(_number(environ, "PROBE_PORT", cls.probe_port, lowest=1, highest=65535)),
            metrics_port=int(_number(environ, "METRICS_PORT", cls.metrics_port, lowest=0, highest=65535)),
            metrics_api_port=int(_number(environ, "METRICS_API_PORT", cls.metrics_api_port, lowest=0, highest=65535)),
            metrics_api_certificates=environ.get("METRICS_API_CERTIFICATES") or cls.metrics_api_certificates,
            log_level=_choice(environ, "LOG_LEVEL", cls.log_level, LOG_LEVELS),
            standalone=_choice(environ, "OPERATOR_STANDALONE", "true", ("true", "false")) == "true",
            peering_name=environ.get("OPERATOR_PEERING_NAME") or cls.peering_name,
        )

    def prometheus_of(self, url: object) -> str:
        """The Prometheus that an object asks for, or the default; empty without any. Raises OriginRefused for another one."""
        if not url:
            return self.prometheus_url
        wanted = _base(url)
        if wanted not in (self.prometheus_url, *self.prometheus_urls):
            raise OriginRefused(
                "prometheus.url is none of the operator's: leave it out, or have prometheus.allowedUrls of its chart name it"
            )
        return wanted

    @property
    def holder(self) -> str:
        """Who holds the Leases that this process takes."""
        return f"{self.pod_namespace}/{self.pod_name}"

    @property
    def loopback(self) -> frozenset[tuple[str, int]]:
        """Hosts and ports that these settings name; the HTTP client takes those of this machine, such as a sidecar's."""
        named = {Origin.of(url) for url in (self.prometheus_url, *self.prometheus_urls) if url}
        return frozenset((each.host, each.port) for each in named | self.key_hosts)


def _base(url: object) -> str:
    """A base URL in one form, so that two of them can be compared. Raises OriginRefused."""
    found = parse_url(url)
    if found.query or "?" in str(url):
        raise OriginRefused("a base URL has no query")
    return str(found).rstrip("/")


def _link(environ: Mapping[str, str], name: str) -> str:
    """An address for people, as it is: a wiki's may have a query or a fragment, and nothing here asks it."""
    link = environ.get(name, "").strip()
    if link and not link.startswith(("http://", "https://")):
        raise ValueError(f"{name}: expected an address that begins with https:// or http://")
    return link.rstrip("/")


def _urls(environ: Mapping[str, str], name: str) -> tuple[str, ...]:
    try:
        return tuple(_base(each) for each in environ.get(name, "").replace(",", " ").split())
    except OriginRefused as error:
        raise ValueError(f"{name}: {error}") from None


def _origins(environ: Mapping[str, str], name: str) -> frozenset[Origin]:
    try:
        return origins(environ.get(name, ""))
    except OriginRefused as error:
        raise ValueError(f"{name}: {error}") from None


def _authority(environ: Mapping[str, str], name: str) -> str:
    path = environ.get(name, "")
    if path:
        try:
            ssl.create_default_context(cafile=path)
        except OSError as error:
            raise ValueError(f"{name}: {path} is no certificate in PEM ({error.strerror or type(error).__name__})") from None
    return path


def _choice(environ: Mapping[str, str], name: str, default: str, allowed: tuple[str, ...]) -> str:
    value = environ.get(name, "").lower() or default
    if value not in allowed:
        raise ValueError(f"{name}: expected {' or '.join(allowed)}, got {environ[name]!r}")
    return value


def _number(environ: Mapping[str, str], name: str, default: float, *, lowest: float, highest: float) -> float:
    text = environ.get(name) or str(default)
    try:
        value = float(text)
    except ValueError:
        value = float("nan")
    if not lowest <= value <= highest:
        raise ValueError(f"{name}: expected a number from {lowest:g} to {highest:g}, got {text!r}")
    return value
