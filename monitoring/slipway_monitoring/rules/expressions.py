"""The shapes of the expressions. Every sum keeps `namespace` and `job`, or its alert could not be routed."""

import math

from slipway_monitoring.rules.scope import Scope
from slipway_monitoring.rules.thresholds import EVENT_FLOOR

RELEASE = ("namespace", "job")


def rate(series: str, window: str, *by: str) -> str:
    """Events a second of a counter, summed by release and `by`. `window` such as `5m`."""
    return _total("rate", series, window, by)


def increase(series: str, window: str, *by: str) -> str:
    """Events of a counter within `window`, summed by release and `by`."""
    return _total("increase", series, window, by)


def by_pod(expression: str) -> str:
    """One row for each pod, whatever else the target is labelled with."""
    return f"max by (namespace, job, pod) ({expression})"


def share_above(scope: Scope, bad: str, total: str, limit: float, seconds: float, *by: str) -> str:
    """`bad` among `total` above `limit`, when there is enough to judge by: its value is the share."""
    window = scope.over(seconds)
    share = f"\n  {rate(bad, window, *by)}\n  / {rate(total, window, *by)}\n"
    return guarded(share, limit, bad=increase(bad, window, *by), total=increase(total, window, *by))


def guarded(share: str, limit: float, *, bad: str, total: str) -> str:
    """Enough is a volume of which `limit` is two events, or EVENT_FLOOR bad events.

    A volume alone would hide a service that fails 5 of 5 requests at night; no volume would wake people up for 1 of 3.
    """
    return f"({share}) > {limit:g}\nand (\n  {bad} >= {EVENT_FLOOR}\n  or {total} >= {volume_for(limit)}\n)"


def volume_for(limit: float) -> int:
    """Events of which a share of `limit` is two."""
    return math.ceil(round(2 / limit, 6))


def bound(seconds: float) -> str:
    """Matcher of a bucket. Prometheus 3 writes `30.0` where the client and Prometheus 2 may write `30`."""
    short = f"{seconds:g}"
    return f'le="{short}"' if "." in short else f'le=~"{short}|{short}\\\\.0"'


def _total(function: str, series: str, window: str, by: tuple[str, ...]) -> str:
    # The rate of each pod first: a rate of sums takes every restart for a burst.
    return f"sum by ({', '.join((*RELEASE, *by))}) ({function}({series}[{window}]))"
