"""Where keys come from: one interface for all providers, so that the machine knows none of them."""

import json
import secrets
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import partial
from typing import Protocol

import httpx

from agent_operator.manifests.rotation_spec import KeyRotationSpec, OpenAI
from agent_operator.providers import NewKey, ProviderError
from agent_operator.providers.endpoint import check_key
from agent_operator.providers.openai_admin import DEFAULT_BASE_URL, OpenAIAdmin
from agent_operator.reconcile.consent import HOSTS, POOL, NoConsent, hosts_of, read_shared
from agent_operator.reconcile.rotation.api_keys import ApiKeyRecords
from agent_operator.reconcile.rotation.secret import read_value
from agent_operator.reconcile.rotation.situation import Identity
from agent_operator.reconcile.tools import Tools
from slipway_clients.cluster import Cluster, Manifest
from slipway_clients.cluster.kinds import SECRET
from slipway_clients.egress.origins import Origin, OriginRefused, allow

ALLOW = "slipway.dev/allow"
"""Annotation of an admin key's Secret: `namespace/project` pairs, separated by commas, that may be served with it. Without
it, whoever may make a KeyRotation in any namespace could use every admin key of the operator on any project."""

USED = "slipway.dev/used"
"""Annotation of a pool's Secret: entry -> name of the revision that took it, as JSON. Kept, so that none is used twice."""

SKEW = timedelta(minutes=1)
"""By which the provider's clock and ours may differ, when it says that an old key was used after the last pod let go of it."""

JWT_SECRET_BYTES = 48


class KeySource(Protocol):
    """All methods but `expected` raise ProviderError, NotHolder or ClusterError. Each may be repeated.

    What cannot be undone is proved right by the Lease, once and right before it, as a list may have taken minutes. A write to
    an object that was read with the situation needs no proof: its version guards it.
    """

    async def clear(self, name: str) -> None:
        """Deletes keys of this name, which an attempt left whose answer or write was lost."""

    async def make(self, name: str) -> NewKey:
        """Makes a key of this name, whose value is told once. `clear` first."""

    async def verify(self, key_id: str, value: str) -> None:
        """The staged key is there and works; or, of a key that pods check: it is made known to them."""

    async def revoke(self, keep: set[str], *, quiet_since: datetime | None) -> str:
        """Deletes all our keys but these, and says what was done.

        Nothing is deleted when a key was used after `quiet_since`: somebody uses it who is none of the consumers.
        """

    async def expected(self) -> str | None:
        """The revision that pods report once they accept the staged key; None when it is the Secret's own."""


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where a new key is tried: a URL of the object, whose writer must not choose who gets to see the key."""

    http: httpx.AsyncClient
    url: str | None
    settings: frozenset[Origin]
    """Hosts of the operator's settings."""

    def judge(self, secret: Manifest, *named: Origin) -> None:
        """Raises ProviderError unless the operator's settings, `secret` that holds the key, or `named` name the URL's host."""
        if self.url is None:
            return
        try:
            allow(self.url, hosts_of(secret) | set(named), self.settings)
        except OriginRefused as error:
            message = f"verify.url: {error}: name it in the annotation {HOSTS} of the Secret {secret['metadata']['name']}"
            raise ProviderError("HostNotAllowed", message, refused=True) from None

    async def try_key(self, value: str) -> None:
        """Raises ProviderError unless the key works. `judge` first."""
        if self.url is not None:
            await check_key(self.http, self.url, value)


Prove = Callable[[], Awaitable[None]]
"""That this operator is the one of the namespace still. Raises NotHolder."""


@dataclass(frozen=True, slots=True)
class OpenAISource(KeySource):
    """Keys of an OpenAI project: a service account each, or keys of one account."""

    admin: OpenAIAdmin
    prove: Prove
    endpoint: Endpoint
    admin_secret: Manifest
    base: Origin
    block: OpenAI
    prefix: str

    async def clear(self, name: str) -> None:
        for key in await self.admin.issued(name):
            if key.name == name:  # r1 is a prefix of r10
                await self._delete(key.id)

    async def make(self, name: str) -> NewKey:
        self.endpoint.judge(self.admin_secret, self.base)
        block = self.block
        await self.prove()
        if block.account:
            return await self.admin.make_key(block.account, name, block.scopes, block.key_lifetime)
        return await self.admin.make_account(name, block.key_lifetime)

    async def verify(self, key_id: str, value: str) -> None:
        self.endpoint.judge(self.admin_secret, self.base)
        if key_id not in {key.id for key in await self.admin.issued(self.prefix)}:
            raise ProviderError("NewKeyGone", f"the provider does not know the new key {key_id}")
        await self.endpoint.try_key(value)

    async def revoke(self, keep: set[str], *, quiet_since: datetime | None) -> str:
        old = [key for key in await self.admin.issued(self.prefix) if key.id not in keep]
        if quiet_since:
            used = [key.id for key in old if key.last_used and key.last_used > quiet_since + SKEW]
            if used:
                raise ProviderError("OldKeyInUse", f"used after every pod had the new key, by somebody else: {', '.join(used)}")
        for key in old:
            await self._delete(key.id)
        return f"deleted at the provider: {', '.join(key.id for key in old) or 'nothing'}"

    async def expected(self) -> None:
        return None

    async def _delete(self, key_id: str) -> None:
        await self.prove()
        await self.admin.delete(key_id)


@dataclass(frozen=True, slots=True)
class PoolSource(KeySource):
    """Keys that somebody issued before, each used once, in the order of their names."""

    cluster: Cluster
    prove: Prove
    endpoint: Endpoint
    namespace: str
    name: str
    """Of the Secret."""

    async def clear(self, name: str) -> None:
        """Nothing is lost: an entry that was taken is found again by the name of its revision."""

    async def make(self, name: str) -> NewKey:
        await self.prove()
        pool = await self._pool()
        self.endpoint.judge(pool)
        used = _used(pool)
        entry = next((each for each in sorted(pool.get("data") or {}) if used.get(each, name) == name), None)
        taken = next((each for each, by in used.items() if by == name), entry)
        if taken is None:
            raise ProviderError("PoolExhausted", f"every key of the Secret {self.name} was used: add one", refused=True)
        if taken not in used:
            notes = {**(pool["metadata"].get("annotations") or {}), USED: json.dumps({**used, taken: name}, sort_keys=True)}
            await self.cluster.replace({**pool, "metadata": {**pool["metadata"], "annotations": notes}})
        value = read_value(pool, taken)
        if not value:
            raise ProviderError("PoolKeyEmpty", f"the entry {taken} of the Secret {self.name} is empty", refused=True)
        return NewKey(taken, value)

    async def verify(self, key_id: str, value: str) -> None:  # noqa: ARG002  # the interface's
        self.endpoint.judge(await self._pool())
        await self.endpoint.try_key(value)

    async def revoke(self, keep: set[str], *, quiet_since: datetime | None) -> str:  # noqa: ARG002  # the interface's
        old = sorted(set(_used(await self._pool())) - keep)
        return f"out of use, to be revoked by hand where they were issued: {', '.join(old) or 'none'}"

    async def expected(self) -> None:
        return None

    async def _pool(self) -> Manifest:
        try:
            pool = await read_shared(self.cluster, self.namespace, self.name, POOL, "true")
        except NoConsent as error:
            raise ProviderError("NoConsent", str(error), refused=True) from None
        if pool is None:
            raise ProviderError("PoolMissing", f"there is no Secret {self.name}", refused=True)
        return pool


@dataclass(frozen=True, slots=True)
class JwtSource(KeySource):
    """Secrets of HS256 tokens: nothing but random bytes, known to nobody else."""

    async def clear(self, name: str) -> None:
        """A secret that was never written is nowhere."""

    async def make(self, name: str) -> NewKey:
        return NewKey(name.rpartition("-")[2], secrets.token_urlsafe(JWT_SECRET_BYTES))

    async def verify(self, key_id: str, value: str) -> None:
        """Every random secret works."""

    async def revoke(self, keep: set[str], *, quiet_since: datetime | None) -> str:  # noqa: ARG002  # the interface's
        return "tokens signed with it are refused as soon as pods have read the Secret again"

    async def expected(self) -> None:
        return None


class Sources:
    """Opens the source that a spec names."""

    def __init__(self, tools: Tools) -> None:
        self._cluster = tools.cluster
        self._http = tools.http
        self._clock = tools.clock
        self._fences = tools.fences
        self._namespace = tools.settings.pod_namespace
        self._hosts = tools.settings.key_hosts

    async def open(self, spec: KeyRotationSpec, identity: Identity) -> KeySource:
        """Raises ProviderError when the admin key is not there or not for this namespace and project."""
        endpoint = Endpoint(self._http, spec.verify_url, self._hosts)
        provider, prove = spec.provider, partial(self._fences.check, identity.namespace)
        if provider.pool:
            return PoolSource(self._cluster, prove, endpoint, identity.namespace, provider.pool.secret_name)
        if provider.generated:
            api_key = provider.generated.api_key
            return ApiKeyRecords(self._cluster, self._clock, prove, identity, api_key) if api_key else JwtSource()
        assert provider.openai  # noqa: S101  # exactly one of the three
        return await self._openai(provider.openai, identity, endpoint, prove)

    async def _openai(self, block: OpenAI, identity: Identity, endpoint: Endpoint, prove: Prove) -> OpenAISource:
        where = f"{self._namespace}/{block.admin_key.secret_name}"
        secret = await self._cluster.get(SECRET, self._namespace, block.admin_key.secret_name)
        value = read_value(secret, block.admin_key.key) if secret else ""
        if secret is None or not value:
            raise ProviderError("AdminKeyMissing", f"the Secret {where} with the admin key is missing or empty", refused=True)
        if not _allowed(secret, identity.namespace, block.project):
            wanted = f"{identity.namespace}/{block.project}"
            raise ProviderError(
                "AdminKeyNotAllowed", f"the annotation {ALLOW} of the Secret {where} lacks {wanted}", refused=True
            )
        # The address stands beside the admin key: were it in the object, its writer could have the admin key sent anywhere.
        base = read_value(secret, "base-url") or DEFAULT_BASE_URL
        try:
            origin = Origin.of(base)
            allow(base, [origin], self._hosts)
        except OriginRefused as error:
            raise ProviderError("HostNotAllowed", f"base-url of the Secret {where}: {error}", refused=True) from None
        admin = OpenAIAdmin(self._http, base, value, block.project)
        return OpenAISource(admin, prove, endpoint, secret, origin, block, identity.prefix)


def _allowed(secret: Manifest, namespace: str, project: str) -> bool:
    text = (secret["metadata"].get("annotations") or {}).get(ALLOW, "")
    pairs = [pair.strip().partition("/") for pair in text.split(",")]
    return any(where in {"*", namespace} and what in {"*", project} for where, _, what in pairs)


def _used(pool: Manifest) -> dict[str, str]:
    try:
        used = json.loads((pool["metadata"].get("annotations") or {}).get(USED, "{}"))
    except ValueError:
        used = None
    if not isinstance(used, dict):
        raise ProviderError("PoolUnreadable", f"the annotation {USED} of the pool is no JSON object", refused=True)
    return used
