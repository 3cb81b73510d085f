"""Client API keys: the key in the target Secret for who calls, its hash in a Secret that the pods mount as API_KEYS_DIR.

The format is the service's (docs/operations/authentication.md); tests/contract holds both sides together.
"""

import base64
import hashlib
import json
import secrets
import string
from collections.abc import Awaitable, Callable, Iterator
from datetime import datetime
from typing import Annotated, Literal

from pydantic import AfterValidator, AwareDatetime, BaseModel, Field, ValidationError

from agent_operator.manifests.rotation_spec import ApiKey
from agent_operator.providers import NewKey, ProviderError
from agent_operator.reconcile.consent import RECORDS, NoConsent, consents, read_shared
from agent_operator.reconcile.rotation.situation import Identity
from slipway_clients.clock import Clock, timestamp
from slipway_clients.cluster import Cluster, Manifest
from slipway_clients.cluster.kinds import SECRET

ID_ALPHABET = string.ascii_lowercase + string.digits
ADMIN = "admin"
"""The role, and the value of the label that lets KeyRotations give it."""

SECRET_BYTES = 32
"""256 bits, in 43 characters of base64url."""


def _printable(name: str) -> str:
    if not name.isprintable():
        raise ValueError("has a control character")
    return name


Name = Annotated[str, Field(min_length=1, max_length=128), AfterValidator(_printable)]


class Record(BaseModel):
    """A record as the service reads it. The order of fields is the one in which it hashes them."""

    id: str = Field(pattern=r"^[a-z0-9]{8}$")
    hash: str = Field(pattern=r"^[0-9a-f]{64}$")
    tenant: Name
    user: Name
    role: Literal["user", "admin"]
    created_at: AwareDatetime
    expires_at: AwareDatetime | None = None


class ApiKeyRecords:
    """A `KeySource`. Its keys are accepted as soon as their record is there, and refused when it is gone."""

    def __init__(
        self, cluster: Cluster, clock: Clock, prove: Callable[[], Awaitable[None]], identity: Identity, block: ApiKey
    ) -> None:
        self._cluster = cluster
        self._clock = clock
        self._prove = prove
        self._identity = identity
        self._block = block

    async def clear(self, name: str) -> None:
        """A key that was never staged has no record."""

    async def make(self, name: str) -> NewKey:  # noqa: ARG002  # the interface's
        await self._read_to_write()
        key_id = "".join(secrets.choice(ID_ALPHABET) for _ in range(8))
        return NewKey(key_id, f"slw_{key_id}_{secrets.token_urlsafe(SECRET_BYTES)}")

    async def verify(self, key_id: str, value: str) -> None:
        """Adds the record: from now on pods that have read it accept the key."""
        await self._prove()
        secret = await self._read_to_write()
        if secret is None:
            await self._cluster.create(self._with(self._empty(), key_id, value))
        elif key_id not in (secret.get("data") or {}):
            await self._cluster.replace(self._with(secret, key_id, value))

    async def revoke(self, keep: set[str], *, quiet_since: datetime | None) -> str:  # noqa: ARG002  # the interface's
        await self._prove()  # which keys are in use was read before, so that the version read here guards nothing
        secret = await self._read("true", ADMIN)
        old = sorted(set(_issued_by(secret, self._identity.uid)) - keep) if secret else []
        if secret and old:
            await self._cluster.replace({**secret, "data": {k: v for k, v in secret["data"].items() if k not in old}})
        return f"records removed: {', '.join(old) or 'none'}"

    async def expected(self) -> str | None:
        secret = await self._cluster.get(SECRET, self._identity.namespace, self._name)
        return set_revision(secret) if secret and consents(secret, RECORDS, "true", ADMIN) else None

    @property
    def _name(self) -> str:
        return self._block.records

    async def _read_to_write(self) -> Manifest | None:
        """A key of an administrator needs more than a Secret that is there for users' keys, or than none."""
        if self._block.role != ADMIN:
            return await self._read("true", ADMIN)
        secret = await self._read(ADMIN)
        if secret is None:
            wanted = f"role admin needs the Secret {self._name} with the label {RECORDS}={ADMIN}"
            raise ProviderError("NoConsent", wanted, refused=True)
        return secret

    async def _read(self, *values: str) -> Manifest | None:
        try:
            return await read_shared(self._cluster, self._identity.namespace, self._name, RECORDS, *values)
        except NoConsent as error:
            raise ProviderError("NoConsent", str(error), refused=True) from None

    def _empty(self) -> Manifest:
        metadata = {"namespace": self._identity.namespace, "name": self._name, "labels": {RECORDS: "true"}}
        return {"apiVersion": "v1", "kind": "Secret", "type": "Opaque", "metadata": metadata, "data": {}}

    def _with(self, secret: Manifest, key_id: str, value: str) -> Manifest:
        record = {
            "hash": hashlib.sha256(value.encode()).hexdigest(),
            "tenant": self._block.tenant,
            "user": self._block.user,
            "role": self._block.role,
            "created_at": timestamp(self._clock.now()),
            "issued_by": self._identity.uid,
        }
        data = {**(secret.get("data") or {}), key_id: base64.b64encode(json.dumps(record).encode()).decode()}
        return {**secret, "data": data}


def set_revision(secret: Manifest) -> str:
    """What the service's `/status` reports of a folder with these files."""
    records = sorted(_records(secret), key=lambda record: record.id)
    return hashlib.sha256("\n".join(record.model_dump_json() for record in records).encode()).hexdigest()[:16]


def _records(secret: Manifest) -> Iterator[Record]:
    for name, text in (secret.get("data") or {}).items():
        try:
            yield Record.model_validate({**json.loads(base64.b64decode(text)), "id": name})
        except (ValidationError, ValueError, TypeError):
            continue  # the service leaves it out, too


def _issued_by(secret: Manifest, uid: str) -> Iterator[str]:
    for name, text in (secret.get("data") or {}).items():
        try:
            record = json.loads(base64.b64decode(text))
        except ValueError:
            continue
        if isinstance(record, dict) and record.get("issued_by") == uid:
            yield name
