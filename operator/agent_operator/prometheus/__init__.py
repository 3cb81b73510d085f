"""What Prometheus knows, through its HTTP API: rules, alerts, queries, and which metrics it has ever seen."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from typing import Any

import httpx

TIMEOUT = 5.0
"""Seconds for one call. An instant query over one release takes milliseconds; a slower one is Prometheus in trouble."""

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
    labels: Mapping[str, str]
    value: float


class Prometheus:
    """One server. Every method raises PrometheusError, and nothing else."""

    def __init__(self, http: httpx.AsyncClient, url: str) -> None:
        self._http = http
        self._url = url.rstrip("/")

    async def query(self, expression: str) -> list[Sample]:
        """An instant query that gives a vector."""
        found = await self._get("query", {"query": expression})
        return [Sample(each["metric"], float(each["value"][1])) for each in found["result"]]

    async def rules(self, groups: Iterable[str] = ()) -> list[Rule]:
        """All rules, or those of the named groups."""
        wanted = set(groups)
        found = await self._get("rules", {"rule_group[]": sorted(wanted)})
        # An old Prometheus, or Thanos, ignores the filter.
        return [
            _rule(group["name"], each)
            for group in found["groups"]
            if not wanted or group["name"] in wanted
            for each in group["rules"]
        ]

    async def alerts(self) -> list[Alert]:
        """Every alert that is pending or firing."""
        found = await self._get("alerts", {})
        return [Alert(each["labels"]["alertname"], each["state"], each["labels"]) for each in found["alerts"]]

    async def seen(self, metrics: Iterable[str], matchers: str, *, now: float) -> set[str]:
        """Which of these metrics it holds series of in the last week. `matchers` such as `namespace="a",job="b"`."""
        names = "|".join(sorted(metrics))
        found = await self._get(
            "label/__name__/values",
            {"match[]": f'{{__name__=~"{names}",{matchers}}}', "start": now - LOOKBACK, "end": now},
        )
        return set(found)

    async def _get(self, call: str, params: Mapping[str, Any]) -> Any:
        address = f"{self._url}/api/v1/{call}"
        try:
            response = await self._http.get(address, params=dict(params), timeout=TIMEOUT)
            body = response.json()
        except (httpx.HTTPError, httpx.InvalidURL, ValueError) as error:
            raise PrometheusError(f"{address}: {type(error).__name__} {error}".rstrip()) from error
        if not isinstance(body, dict) or body.get("status") != "success":
            raise PrometheusError(f"{address}: {_complaint(response, body)}")
        if "data" not in body:
            raise PrometheusError(f"{address}: no data")
        return body["data"]


def _rule(group: str, found: Mapping[str, Any]) -> Rule:
    return Rule(
        group=group,
        name=found["name"],
        health=found.get("health", "unknown"),
        query=found.get("query", ""),
        last_error=found.get("lastError", ""),
        state=found.get("state", ""),
        labels=found.get("labels") or {},
        annotations=found.get("annotations") or {},
    )


def _complaint(response: httpx.Response, body: Any) -> str:
    return str(body["error"]) if isinstance(body, dict) and "error" in body else f"HTTP status {response.status_code}"
