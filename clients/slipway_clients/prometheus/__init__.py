"""What Prometheus knows, through its HTTP API: rules, alerts, queries, and which metrics it has ever seen."""

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar

import httpx

from slipway_clients.egress.read import Answer, ReadError, read
from slipway_clients.egress.text import plain

TIMEOUT = 5.0
"""Seconds for one whole call. An instant query over one release takes milliseconds; a slower one is Prometheus in trouble."""

LARGEST = 8 << 20
"""Bytes of an answer: the rules of a Prometheus with some thousand of them are a few megabytes."""

REFUSALS = (401, 403)
"""Answers of a proxy in front of it, which are seldom JSON."""

T = TypeVar("T")

NAME = 128
"""Characters of a name or a label's value that are kept."""

QUERY = 10_000
"""Characters of a rule's expression that are kept: it is searched for a metric's name."""

LOOKBACK = 7 * 24 * 3600
"""Seconds in which a metric counts as seen: a weekly batch still does, a renamed metric soon does not."""


class PrometheusError(Exception):
    """Prometheus could not be asked, or refused; the message says which call and why."""


@dataclass(frozen=True, slots=True)
class Rule:
    """As Prometheus runs it. `health`: ok, err, unknown (not evaluated yet); `state` of an alert: inactive, pending, firing."""

    group: str
    name: str
    health: str
    query: str = ""
    last_error: str = ""
    state: str = ""
    labels: Mapping[str, str] = field(default_factory=dict)
    annotations: Mapping[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Alert:
    """An alert that is pending or firing, with the labels of its series."""

    name: str
    state: str
    labels: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Sample:
    """One series of a vector, and its value."""

    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One server. Every method raises PrometheusError, and nothing else.

    `token_file` holds a bearer token. It is read for each call, as the kubelet replaces it.
    """

    def __init__(self, http: httpx.AsyncClient, url: str, token_file: str = "") -> None:
        self._http = http
        self._url = url.rstrip("/")
        self._token_file = token_file

    async def query(self, expression: str) -> list[Sample]:
        """An instant query that gives a vector."""
        return await self._get("query", {"query": expression}, _samples)

    async def rules(self, groups: Iterable[str] = ()) -> list[Rule]:
        """All rules, or those of the named groups."""
        wanted = set(groups)
        found = await self._get("rules", {"rule_group[]": sorted(wanted)}, _rules)
        # An old Prometheus, or Thanos, ignores the filter.
        return [rule for rule in found if not wanted or rule.group in wanted]

    async def alerts(self) -> list[Alert]:
        """Every alert that is pending or firing."""
        return await self._get("alerts", {}, _alerts)

    async def seen(self, metrics: Iterable[str], matchers: str, *, now: float) -> set[str]:
        """Which of these metrics it holds series of in the last week. `matchers` such as `namespace="a",job="b"`."""
        names = "|".join(sorted(metrics))
        params = {"match[]": f'{{__name__=~"{names}",{matchers}}}', "start": now - LOOKBACK, "end": now}
        return await self._get("label/__name__/values", params, _names)

    def _credential(self) -> dict[str, str]:
        return {"Authorization": f"Bearer {read_token(self._token_file)}"} if self._token_file else {}

    async def _get(self, call: str, params: Mapping[str, Any], parse: Callable[[Any], T]) -> T:
        address = f"{self._url}/api/v1/{call}"
        try:
            headers = self._credential()
            answer = await read(self._http, "GET", address, seconds=TIMEOUT, limit=LARGEST, params=dict(params), headers=headers)
            if answer.status in REFUSALS:
                shown = "the token is not taken" if headers else "a token is wanted"
                raise PrometheusError(f"{address}: HTTP status {answer.status}, {shown}")
            body = answer.json()
        except ReadError as error:
            raise PrometheusError(f"{address}: {error}") from error
        if not isinstance(body, dict) or body.get("status") != "success":
            raise PrometheusError(f"{address}: {_complaint(answer, body)}")
        if "data" not in body:
            raise PrometheusError(f"{address}: no data")
        try:
            return parse(body["data"])
        except (LookupError, TypeError, ValueError, AttributeError) as error:
            raise PrometheusError(f"{address}: not an answer of Prometheus ({type(error).__name__})") from None


def read_token(path: str) -> str:
    """Raises PrometheusError, which does not hold what the file has: it goes into a status."""
    try:
        token = Path(path).read_text(encoding="ascii").strip()
    except (OSError, UnicodeError) as error:
        raise PrometheusError(f"the token of Prometheus cannot be read ({type(error).__name__})") from None
    if not token or not token.isprintable() or " " in token:
        raise PrometheusError("the file with the token of Prometheus does not hold one line of text")
    return token


def _samples(data: Any) -> list[Sample]:
    return [Sample(_labels(each["metric"]), float(each["value"][1])) for each in data["result"]]


def _rules(data: Any) -> list[Rule]:
    return [_rule(str(group["name"]), each) for group in data["groups"] for each in group["rules"]]


def _alerts(data: Any) -> list[Alert]:
    return [Alert(_word(each["labels"]["alertname"]), _word(each["state"]), _labels(each["labels"])) for each in data["alerts"]]


def _names(data: Any) -> set[str]:
    if not isinstance(data, list):
        raise TypeError("no list")
    return {_word(each) for each in data}


def _rule(group: str, found: Mapping[str, Any]) -> Rule:
    return Rule(
        group=group,
        name=_word(found["name"]),
        health=_word(found.get("health", "unknown")),
        query=str(found.get("query", ""))[:QUERY],
        last_error=plain(found.get("lastError", "")),
        state=_word(found.get("state", "")),
        labels=_labels(found.get("labels") or {}),
        annotations=_labels(found.get("annotations") or {}),
    )


def _labels(found: Mapping[str, Any]) -> dict[str, str]:
    """Labels or annotations. Their text ends in conditions, whoever wrote it."""
    return {str(name): plain(value) for name, value in found.items()}


def _word(text: object) -> str:
    return plain(text, NAME)


def _complaint(answer: Answer, body: Any) -> str:
    return plain(body["error"]) if isinstance(body, dict) and "error" in body else f"HTTP status {answer.status}"
