"""What our three kinds may say, judged once more: an object may be older than its definition, or than a pattern in it.

The same limits as in charts/slipway-operator/crds-source; tests/operator/manifests/test_specs.py holds both together. Names
lead to paths, labels to selectors and queries, URLs to hosts: what stands here is all that an object can say about them.
"""

import re
from collections.abc import Mapping
from datetime import timedelta
from typing import Annotated, Any, Literal, Self, TypeVar

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, ValidationError, model_validator

from slipway_clients.cluster.paths import LONGEST, SUBDOMAIN, label_key, label_value
from slipway_clients.egress.text import plain

SHOWN = 3
"""Faults in one message: it is read in a terminal."""


_DURATION = re.compile(r"(?:([0-9]{1,6})h)?(?:([0-9]{1,6})m)?(?:([0-9]{1,6})s)?")


class WrongSpec(ValueError):
    """A line that names the fields, and what was expected of them."""


def _label_key(key: str) -> str:
    return _said(label_key, key)


def _label_value(value: str) -> str:
    return _said(label_value, value)


def _said(check: Any, text: str) -> str:
    try:
        return str(check(text))
    except Exception as error:
        raise ValueError(str(error)) from None


def duration(text: object) -> timedelta:
    """`1h30m`, `45s`: hours, minutes and seconds as Go writes them, the grammar of the definitions. Raises ValueError."""
    if isinstance(text, timedelta):
        return text
    found = _DURATION.fullmatch(text) if isinstance(text, str) and text else None
    if found is None:
        raise ValueError("expected a duration such as 90s, 15m or 1h30m")
    hours, minutes, seconds = (int(part or 0) for part in found.groups())
    return timedelta(hours=hours, minutes=minutes, seconds=seconds)


Name = Annotated[str, Field(max_length=LONGEST, pattern=f"^{SUBDOMAIN}$")]
Key = Annotated[str, Field(max_length=LONGEST, pattern=r"^[-._a-zA-Z0-9]+$")]
Id = Annotated[str, Field(max_length=128, pattern=r"^[A-Za-z0-9_-]+$")]
Release = Annotated[str, Field(max_length=53, pattern=r"^[a-z0-9]([-a-z0-9.]*[a-z0-9])?$")]
Line = Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^\x00-\x1f\x7f]+$")]
Duration = Annotated[timedelta, BeforeValidator(duration)]
Pause = Annotated[str, Field(max_length=16, pattern=r"^[0-9]{1,9}(ms|s|m|h)$")]
Url = Annotated[str, Field(max_length=2048, pattern=r"^https?://[A-Za-z0-9._~!$&'()*+,;=:@%/?#\[\]-]+$")]
# Prometheus and Alertmanager run `{{ … }}` in labels and links as templates, which may query everything that they hold.
Plain = Annotated[str, Field(max_length=256, pattern=r"^[^{}\x00-\x1f\x7f]*$")]
Link = Annotated[str, Field(max_length=1024, pattern=r"^https?://[A-Za-z0-9._~!$&'()*+,;=:%/?#\[\]-]+$")]
Labels = dict[Annotated[str, AfterValidator(_label_key)], Annotated[str, AfterValidator(_label_value)]]
Share = Annotated[float, Field(gt=0, le=1, allow_inf_nan=False)]
Positive = Annotated[float, Field(gt=0, allow_inf_nan=False)]


class Block(BaseModel):
    """What is not named here is dropped. Numbers are not made of text, and text not of numbers."""

    model_config = ConfigDict(extra="ignore", strict=True, populate_by_name=True, frozen=True)

    @model_validator(mode="before")
    @classmethod
    def _without_nulls(cls, given: Any) -> Any:
        """The API takes a null for a field that is not set."""
        return {name: value for name, value in given.items() if value is not None} if isinstance(given, dict) else given


class PrometheusBlock(Block):
    """Which Prometheus is asked, of those that the operator's settings name."""

    url: Url | None = None


# AlertPolicy.

_TOOL, _ROUTE, _MODEL = r"^[A-Za-z0-9_.:/-]+$", r"^/([A-Za-z0-9_.:/-]|\{[A-Za-z0-9_:]+\})*$", r"^[A-Za-z0-9_.:/@-]+$"

LABEL_NAME = r"^[a-zA-Z_][a-zA-Z0-9_]*$"
SET_BY_RULES = ("alertname", "namespace", "job", "severity", "pod", "tool", "model", "route")


def _alert_label(name: str) -> str:
    if name in SET_BY_RULES or name.startswith("__"):
        raise ValueError("must not replace a label that the rules set, nor begin with __")
    return name


def _output_label(name: str) -> str:
    if name.startswith(("app.kubernetes.io/", "slipway.dev/")):
        raise ValueError("must not begin with app.kubernetes.io/ or slipway.dev/, which are the operator's own")
    return _label_key(name)


class Tool(Block):
    """A tool's own threshold."""

    name: str = Field(min_length=1, max_length=128, pattern=_TOOL)
    ratio: Share = Field(alias="failureRatio")


class Route(Block):
    """A route's own threshold."""

    path: str = Field(min_length=1, max_length=256, pattern=_ROUTE)
    ratio: Share = Field(alias="errorRatio")


class Model(Block):
    """A model's own threshold."""

    name: str = Field(min_length=1, max_length=128, pattern=_MODEL)
    ratio: Share = Field(alias="rateLimitedRatio")


class Objective(Block):
    """A share that is promised, over 30 days: an error budget."""

    indicator: Literal["availability", "latency"]
    objective: float = Field(gt=0.5, lt=1, allow_inf_nan=False)


class LinksBlock(Block):
    """Where runbooks and dashboards are served."""

    runbooks: Link | None = None
    grafana: Link | None = None


class SecretEntry(Block):
    """One entry of a Secret of the policy's namespace."""

    name: Name
    key: Key


class Webhook(Block):
    """Alerts as a POST to a URL."""

    secret: SecretEntry = Field(alias="urlSecret")


class Slack(Block):
    """Alerts to a channel."""

    channel: Annotated[str, Field(min_length=1, max_length=128, pattern=r"^[^{}\x00-\x1f\x7f]+$")]
    secret: SecretEntry = Field(alias="apiUrlSecret")


class PagerDuty(Block):
    """Alerts to a service of PagerDuty."""

    secret: SecretEntry = Field(alias="routingKeySecret")


class Receiver(Block):
    """Who gets the alerts: exactly one of the three."""

    webhook: Webhook | None = None
    slack: Slack | None = None
    pager_duty: PagerDuty | None = Field(None, alias="pagerDuty")
    severities: list[Literal["critical", "warning"]] | None = Field(None, min_length=1, max_length=2)
    group_wait: Pause | None = Field(None, alias="groupWait")
    group_interval: Pause | None = Field(None, alias="groupInterval")
    repeat_interval: Pause | None = Field(None, alias="repeatInterval")

    @model_validator(mode="after")
    def _one(self) -> Self:
        if len([each for each in (self.webhook, self.slack, self.pager_duty) if each]) != 1:
            raise ValueError("receiver must have exactly one of webhook, slack and pagerDuty")
        return self

    @property
    def secret(self) -> SecretEntry:
        """What Alertmanager would read."""
        [one] = [each for each in (self.webhook, self.slack, self.pager_duty) if each]
        return one.secret


Thresholds = dict[Annotated[str, Field(pattern=r"^[a-zA-Z]{1,40}$")], Positive]


class AlertPolicySpec(Block):
    """`spec` of an AlertPolicy, with the defaults of its definition."""

    release: Release
    thresholds: Annotated[Thresholds, Field(max_length=40)] = Field(default_factory=dict)
    tools: list[Tool] = Field([], max_length=100)
    routes: list[Route] = Field([], max_length=100)
    models: list[Model] = Field([], max_length=100)
    objectives: list[Objective] = Field([], max_length=2)
    disabled: list[Annotated[str, Field(max_length=64, pattern=r"^Agent[A-Za-z0-9]+$")]] = Field(
        [], alias="disabledAlerts", max_length=100
    )
    labels: dict[Annotated[str, Field(pattern=LABEL_NAME, max_length=128), AfterValidator(_alert_label)], Plain] = Field(
        {}, max_length=20
    )
    links: LinksBlock | None = None
    output: Literal["PrometheusRule", "ConfigMap"] = "PrometheusRule"
    output_labels: dict[Annotated[str, AfterValidator(_output_label)], Annotated[str, AfterValidator(_label_value)]] = Field(
        {}, alias="outputLabels", max_length=20
    )
    prometheus: PrometheusBlock | None = None
    receiver: Receiver | None = None


# AgentHealth.


class LimitsBlock(Block):
    """When a figure is no longer well; the product's limits where it names none."""

    p99_seconds: float | None = Field(None, alias="p99Seconds", gt=0, le=300)
    error_ratio: float | None = Field(None, alias="errorRatio", gt=0, lt=1)
    key_age_days: float | None = Field(None, alias="keyAgeDays", gt=0, le=3650)
    min_replicas: int | None = Field(None, alias="minReplicas", ge=1, le=1000)


class Accepted(Block):
    """A check whose finding does not count, and why."""

    condition: Annotated[str, Field(max_length=64, pattern=r"^[A-Za-z][A-Za-z0-9]*$")]
    because: Annotated[str, Field(min_length=3, max_length=200)]


class RolloutBlock(Block):
    """Which version of the graph is the new one, and which release it is compared with."""

    version: str = Field("", pattern=r"^([A-Za-z0-9][A-Za-z0-9._+-]{0,63})?$")
    baseline: Release | None = None


class AgentHealthSpec(Block):
    """`spec` of an AgentHealth."""

    release: Release
    prometheus: PrometheusBlock | None = None
    limits: LimitsBlock | None = None
    rollout: RolloutBlock | None = None
    accepted: list[Accepted] = Field([], max_length=40)


Shape = TypeVar("Shape", bound=Block)


def read_spec(manifest: Mapping[str, Any], shape: type[Shape]) -> Shape:
    """The spec as a value that holds nothing but what `shape` describes. Raises WrongSpec."""
    try:
        return shape.model_validate(manifest.get("spec"))
    except ValidationError as error:
        raise WrongSpec(_describe(error)) from None
    except RecursionError:
        raise WrongSpec("spec: nested too deep") from None


def _describe(error: ValidationError) -> str:
    found = error.errors(include_url=False, include_input=False, include_context=False)
    lines = [f"spec.{'.'.join(plain(part, 64) for part in each['loc'])}: {plain(each['msg'], 200)}" for each in found[:SHOWN]]
    more = f" (and {len(found) - SHOWN} more)" if len(found) > SHOWN else ""
    return "; ".join(lines) + more
