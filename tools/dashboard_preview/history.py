"""Writes made-up scrapes as blocks of a Prometheus database."""

import math
import subprocess
from collections import defaultdict
from collections.abc import Iterable, Iterator
from pathlib import Path

from prometheus_client import Metric

from tools.dashboard_preview.operator_work import Operator
from tools.dashboard_preview.traffic import FAULT, LENGTH, STEP, Pod, scrapes

Families = dict[tuple[str, str], list[str]]
"""Name and type to lines: OpenMetrics wants a family's lines together."""


def write(began: float, folder: Path) -> None:
    """Needs promtool. `folder` becomes a database that begins at the Unix time `began`."""
    families: Families = defaultdict(list)
    for time, pod, collected in scrapes(began):
        for family in collected:
            if not family.name.startswith("process_"):  # of this process
                _add(families, time, pod, family)
        _add_process(families, time, pod, time - began)
    _add_alerts(families, began)
    text = folder.with_suffix(".openmetrics")
    with text.open("w", encoding="utf-8") as file:
        file.writelines(_lines(families))
    command: list[str | Path] = ["promtool", "tsdb", "create-blocks-from", "openmetrics", text, folder]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


def _add(families: Families, time: float, pod: Pod | Operator, family: Metric) -> None:
    for sample in family.samples:
        if not sample.name.endswith("_created"):
            families[family.name, family.type].append(_line(sample.name, {**pod.labels, **sample.labels}, sample.value, time))


def _add_process(families: Families, time: float, pod: Pod | Operator, now: float) -> None:
    """What the Prometheus client says of a process, and Prometheus of a target."""
    age = now - pod.start
    values = {
        ("process_cpu_seconds", "counter", "_total"): (age * 0.4 + 9 * math.sin(age / 240)) * pod.rate,
        ("process_resident_memory_bytes", "gauge", ""): 1.6e8 + min(age, 1800) * 2e4,
        ("process_start_time_seconds", "gauge", ""): time - age,
        ("up", "gauge", ""): 1.0,
    }
    for (name, kind, suffix), value in values.items():
        families[name, kind].append(_line(f"{name}{suffix}", pod.labels, value, time))


def _add_alerts(families: Families, began: float) -> None:
    labels = {"alertname": "AgentToolFailuresHigh", "alertstate": "firing", "namespace": "support", "job": "assistant"}
    for step in range(int(FAULT / STEP) + 10, int(LENGTH / STEP) + 1):
        families["ALERTS", "gauge"].append(_line("ALERTS", labels, 1, began + step * STEP))


def _line(name: str, labels: dict[str, str], value: float, time: float) -> str:
    pairs = ",".join(f'{key}="{text}"' for key, text in labels.items())
    return f"{name}{{{pairs}}} {value} {time:.3f}\n"


def _lines(families: Families) -> Iterator[str]:
    yield from _with_heads(families.items())
    yield "# EOF\n"


def _with_heads(families: Iterable[tuple[tuple[str, str], list[str]]]) -> Iterator[str]:
    for (name, kind), lines in families:
        yield f"# TYPE {name} {kind}\n"
        yield from lines
