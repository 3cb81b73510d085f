"""Builders of queries. Every one selects by release and pod, and keeps `namespace` and `job` in its sums."""

RELEASE = 'namespace=~"$namespace", job=~"$job"'
POD = f'{RELEASE}, pod=~"$pod"'
OBJECTS = 'namespace=~"$object_namespace", job=~"$job", pod=~"$pod"'
"""What the operator says of an object in another namespace."""

LABELS = ("namespace", "job")
RATE = "$__rate_interval"
RANGE = "$__range"


def series(metric: str, where: str = "", *, selector: str = POD) -> str:
    """The metric of the chosen pods; `where` adds matchers."""
    return f"{metric}{{{', '.join(filter(None, (selector, where)))}}}"


def aggregate(function: str, inner: str, *by: str) -> str:
    """`function` over `inner`, by release and `by`."""
    return f"{function} by ({', '.join((*LABELS, *by))}) ({inner})"


def of_releases(query: str, anchor: str = "agent_build_info", *, seen: str = "") -> str:
    """Only releases that export `anchor`, or did within `seen`: what every process exports (`up`, `process_*`) is the whole
    cluster's while All is chosen."""
    own = f"last_over_time({series(anchor)}[{seen}])" if seen else series(anchor)
    return f"{query} and on ({', '.join(LABELS)}) {own}"


def total(metric: str, *by: str, where: str = "") -> str:
    """Sum of a gauge."""
    return aggregate("sum", series(metric, where), *by)


def highest(metric: str, *by: str, where: str = "") -> str:
    """The highest value of a gauge."""
    return aggregate("max", series(metric, where), *by)


def per_second(metric: str, *by: str, where: str = "") -> str:
    """Rate of a counter; a sum of rates, as a rate of a sum takes each restart of a pod for traffic."""
    return aggregate("sum", f"rate({series(metric, where)}[{RATE}])", *by)


def per_minute(metric: str, *by: str, where: str = "") -> str:
    """Of what is rare: 0.5 a minute says more than 0.00833 a second."""
    return f"{per_second(metric, *by, where=where)} * 60"


def in_range(metric: str, *by: str, where: str = "") -> str:
    """What a counter counted in the dashboard's time range."""
    return aggregate("sum", f"increase({series(metric, where)}[{RANGE}])", *by)


def quantile(q: float, histogram: str, *by: str, where: str = "", window: str = RATE) -> str:
    """Over all chosen pods; quantiles of pods cannot be averaged."""
    rates = f"rate({series(f'{histogram}_bucket', where)}[{window}])"
    return f"histogram_quantile({q}, {aggregate('sum', rates, *by, 'le')})"


def buckets(histogram: str) -> str:
    """For a heatmap, which has no place for a second release: of all chosen ones together."""
    return f"sum by (le) (rate({series(f'{histogram}_bucket')}[{RATE}]))"


def share(part: str, whole: str, *by: str) -> str:
    """`part` of `whole`, 0 to 1; `by` are labels that only `part` has. NaN without traffic, which draws nothing."""
    if not by:
        return f"{part} / {whole}"
    return f"{part} / on ({', '.join(LABELS)}) group_left () {whole}"


def per_each(cost: str, events: str, *by: str) -> str:
    """`cost` for each event; NaN, not infinite, while there are none: what a turn costs is counted before its end."""
    return share(cost, f"({events} / ({events} > bool 0))", *by)
