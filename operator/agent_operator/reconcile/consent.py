"""Secrets that an object names. Whoever may write the object need not be whoever may read the Secret, and the operator may do
both: so a Secret says by a label that it may be used, and by an annotation to which hosts its keys may be sent."""

from slipway_clients.cluster import Cluster, Manifest
from slipway_clients.cluster.kinds import SECRET
from slipway_clients.egress.origins import Origin, origins

POOL = "slipway.dev/key-pool"
"""Label `true`: KeyRotations of the namespace may give out the keys of this Secret."""

RECORDS = "slipway.dev/api-key-records"
"""Label `true`: KeyRotations may add and remove their own records of users in this Secret; `admin`: of administrators, too."""

RECEIVER = "slipway.dev/alert-receiver"
"""Label `true`: AlertPolicies of the namespace may have alerts sent with this Secret."""

HOSTS = "slipway.dev/hosts"
"""Annotation: hosts, separated by commas, that the keys of this Secret may be sent to by https: `api.openai.com, models:8443`."""


class NoConsent(Exception):
    """The Secret is there and does not carry the label; the message says which."""


def consents(secret: Manifest, label: str, *values: str) -> bool:
    """Whether the Secret's label has one of the values."""
    return (secret["metadata"].get("labels") or {}).get(label) in values


async def read_shared(cluster: Cluster, namespace: str, name: str, label: str, *values: str) -> Manifest | None:
    """The Secret; None when there is none.

    Raises:
        NoConsent: its label has none of the values.
        ClusterError: it could not be read.
    """
    secret = await cluster.get(SECRET, namespace, name)
    if secret is not None and not consents(secret, label, *values):
        raise NoConsent(f"the Secret {name} lacks the label {label}={' or '.join(values)}")
    return secret


def hosts_of(secret: Manifest) -> frozenset[Origin]:
    """Raises OriginRefused for an entry that is none."""
    return origins((secret["metadata"].get("annotations") or {}).get(HOSTS, ""))
