"""How deep and how large a JSON value is, found in steps: what recurses over it later must not meet the first deep one."""

from collections.abc import Iterable

MAX_GRAPH_LEVELS = 32
"""Of a value that a graph is given; the checkpoint's encoder recurses, and real decisions and arguments have under 5."""

MAX_LEVELS = 64
"""Of what an endpoint sends, its envelope included, which has about 8."""


def fits(value: object, *, levels: int, values: int) -> bool:
    """Whether there are at most so many levels of objects and arrays, and so many values in them altogether."""
    layer, count = [value], 1
    for _ in range(levels + 1):
        layer = [item for found in layer if (inner := _inner(found)) for item in inner]
        count += len(layer)
        if count > values:
            return False
        if not layer:
            return True
    return False


def _inner(value: object) -> Iterable[object] | None:
    if isinstance(value, dict):
        return value.values()
    return value if isinstance(value, list) else None
