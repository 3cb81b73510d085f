"""`spec` of a KeyRotation as a value, with the defaults of its definition."""

from datetime import timedelta
from enum import StrEnum
from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from agent_operator.manifests.specs import Block, Duration, Id, Key, Labels, Line, Name, Url
from slipway_clients.cluster.paths import label_selector

VERIFY_TIMEOUT = timedelta(minutes=2)
"""Without `verify`: a provider knows a key that it made within seconds."""


class KeyKind(StrEnum):
    """What a rotation replaces; the names are those of the provider's block."""

    OPENAI = "openAI"
    POOL = "pool"
    API_KEY = "APIKey"
    JWT_SECRET = "JWTSecret"  # noqa: S105  # a kind, not a secret

    @property
    def presented(self) -> bool:
        """We present the key to somebody who checks it; else our pods check keys that others present."""
        return self in {KeyKind.OPENAI, KeyKind.POOL}

    @property
    def status_key(self) -> str:
        """Under which name a pod's `/status` tells the revision it has loaded."""
        return {KeyKind.API_KEY: "api_keys", KeyKind.JWT_SECRET: "jwt"}.get(self, "openai")


class NamedSecret(Block):
    """A Secret of the object's namespace."""

    secret_name: Name = Field(alias="secretName")


class AdminKey(NamedSecret):
    """A Secret of the operator's namespace, and the file in it."""

    key: Key = "admin-key"


class LabelSelector(Block):
    """Pods by their labels, all of which must match."""

    match_labels: Labels = Field(alias="matchLabels", min_length=1, max_length=16)


class Consumers(Block):
    """The pods that hold the key. `min_pods` fewer than that is no proof of anything."""

    selector: LabelSelector
    ops_port: int = Field(9090, alias="opsPort", ge=1, le=65535)
    min_pods: int = Field(1, alias="minPods", ge=0)

    @property
    def label_selector(self) -> str:
        """As the API takes it, `a=b,c=d`."""
        return label_selector(self.selector.match_labels)


class OpenAI(Block):
    """Keys of a project, made by its Admin API."""

    project: Id = Field(alias="projectID")
    admin_key: AdminKey = Field(alias="adminKey")
    mode: Literal["ServiceAccountPerRevision", "KeyPerRevision"] = "ServiceAccountPerRevision"
    account: Id | None = Field(None, alias="serviceAccountID")
    scopes: list[Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9._:/*-]+$")]] = Field([], max_length=32)
    key_lifetime: Duration | None = Field(None, alias="keyLifetime")

    @model_validator(mode="after")
    def _account_of_its_mode(self) -> Self:
        if (self.mode == "KeyPerRevision") != (self.account is not None):
            raise ValueError("serviceAccountID is for mode KeyPerRevision, which needs it")
        return self


class ApiKey(Block):
    """Who a client's key is for, and the Secret that takes its hash."""

    records: Name = Field(alias="recordsSecretName")
    user: Line
    tenant: Line = "default"
    role: Literal["user", "admin"] = "user"


class Generated(Block):
    """Keys that the operator draws itself."""

    kind: Literal["APIKey", "JWTSecret"]
    api_key: ApiKey | None = Field(None, alias="apiKey")

    @model_validator(mode="after")
    def _api_key_of_its_kind(self) -> Self:
        if (self.kind == "APIKey") != (self.api_key is not None):
            raise ValueError("kind APIKey needs apiKey, and only it")
        return self


class Provider(Block):
    """Where keys come from: exactly one of the three."""

    openai: OpenAI | None = Field(None, alias="openAI")
    generated: Generated | None = None
    pool: NamedSecret | None = None

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len([each for each in (self.openai, self.generated, self.pool) if each]) != 1:
            raise ValueError("provider needs exactly one of openAI, generated, pool")
        return self

    @property
    def kind(self) -> KeyKind:
        """Of the keys that it gives."""
        if self.generated:
            return KeyKind(self.generated.kind)
        return KeyKind.OPENAI if self.openai else KeyKind.POOL


class Window(Block):
    """Hours of the day, on some days of the week (none: on all). With `end` before `start` it reaches into the next day."""

    days: list[Literal["Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun"]] = Field([], max_length=7)
    start: str = Field("00:00", pattern=r"^([01][0-9]|2[0-3]):[0-5][0-9]$")
    end: str = Field("24:00", pattern=r"^(([01][0-9]|2[0-3]):[0-5][0-9]|24:00)$")


class Schedule(Block):
    """When rotations are due. `deny` wins over `allow`; without `allow` every moment is allowed."""

    cron: str | None = Field(None, max_length=100, pattern=r"^([0-9A-Za-z*/,#-]+ +){4}[0-9A-Za-z*/,#-]+$")
    interval: Duration | None = None
    time_zone: str = Field("UTC", alias="timeZone", max_length=64, pattern=r"^[A-Za-z0-9_+/-]+$")
    jitter: Duration = timedelta()
    allow: list[Window] = Field([], max_length=16)
    deny: list[Window] = Field([], max_length=16)


class Verify(Block):
    """Where a new key is tried before it is published, and for how long."""

    url: Url
    timeout: Duration = VERIFY_TIMEOUT


class Emergency(Block):
    """How long pods may take to load the new key when the old one leaked."""

    confirm_timeout: Duration = Field(timedelta(minutes=2), alias="confirmTimeout")


class KeyRotationSpec(Block):
    """`spec` of a KeyRotation, with the defaults of its definition."""

    target: NamedSecret
    consumers: Consumers
    provider: Provider
    schedule: Schedule | None = None
    verify: Verify | None = None
    overlap: Duration = timedelta(minutes=10)
    deadline: Duration = timedelta(minutes=15)
    emergency: Emergency = Emergency()
    deletion_policy: Literal["Retain", "Revoke"] = Field("Retain", alias="deletionPolicy")

    @model_validator(mode="after")
    def _target_is_no_source(self) -> Self:
        api_key = self.provider.generated.api_key if self.provider.generated else None
        sources = (self.provider.pool.secret_name if self.provider.pool else None, api_key.records if api_key else None)
        if self.target.secret_name in sources:
            raise ValueError("target.secretName must be another Secret than the provider's")
        return self

    @property
    def kind(self) -> KeyKind:
        """What is rotated."""
        return self.provider.kind

    @property
    def verify_url(self) -> str | None:
        """Where a new key is tried; None where it is not."""
        return self.verify.url if self.verify else None

    @property
    def verify_timeout(self) -> timedelta:
        """After which a new key that does not work is given up."""
        return self.verify.timeout if self.verify else VERIFY_TIMEOUT

    @property
    def key_lifetime(self) -> timedelta | None:
        """After which a key expires by itself, at a provider that has that."""
        return self.provider.openai.key_lifetime if self.provider.openai else None
