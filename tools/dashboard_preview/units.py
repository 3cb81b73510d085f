"""Numbers as Grafana prints them, near enough to judge whether a panel reads well."""

import math

SCALES = {
    "short": ((1e9, " Bil"), (1e6, " Mil"), (1e3, " K"), (1, "")),
    "none": ((1, ""),),
    "bytes": ((2**30, " GiB"), (2**20, " MiB"), (2**10, " KiB"), (1, " B")),
    "opm": ((1e3, "K ops/m"), (1, " ops/m")),
    "reqps": ((1e3, "K req/s"), (1, " req/s")),
    "currencyUSD": ((1e3, "K"), (1, "")),
    "s": ((86400, " days"), (3600, " hours"), (60, " mins"), (1, " s"), (1e-3, " ms"), (1e-6, " µs")),
}


def text(value: float, unit: str, decimals: int | None = None) -> str:
    if math.isnan(value):
        return "no traffic"
    if unit == "percentunit":
        return f"{value * 100:.{_digits(value * 100, decimals)}f}%"
    scale = SCALES[unit]
    one = next(each for each in scale if each[0] == 1)
    size, suffix = next((each for each in scale if abs(value) >= each[0]), scale[-1] if value else one)
    number = f"{value / size:.{_digits(value / size, decimals)}f}{suffix}"
    return f"${number}" if unit == "currencyUSD" else number


def _digits(value: float, decimals: int | None) -> int:
    """Three significant digits unless the panel says otherwise."""
    if decimals is not None:
        return decimals
    if value == 0 or value == round(value):
        return 0
    return max(0, 2 - math.floor(math.log10(abs(value))))
