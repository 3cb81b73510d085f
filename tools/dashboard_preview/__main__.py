"""Draws the shipped dashboards: HTML and, where Chromium is installed, PNG (`make dashboards-preview`)."""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from slipway_monitoring.rules.thresholds import Thresholds
from tools.dashboard_preview import history, page, prometheus, traffic
from tools.dashboards import ROOT, specs

OUT = ROOT / ".slipway" / "dashboards"
SHOWN = 3600.0
"""Seconds: the range that the dashboards open with."""


def main() -> int:
    """1 when a panel has no data."""
    parser = argparse.ArgumentParser(prog="python -m tools.dashboard_preview", description=__doc__)
    parser.add_argument("prometheus", nargs="?", help="URL of a Prometheus to draw from, instead of made-up traffic")
    url = parser.parse_args().prometheus
    OUT.mkdir(parents=True, exist_ok=True)
    end = time.time() // traffic.STEP * traffic.STEP
    span = page.Span(end - SHOWN, end, traffic.STEP)
    with prometheus.reaching(url) if url else _made_up(end - traffic.LENGTH) as api:
        return 1 if sum([_draw(path, api, span) for path in specs(Thresholds())]) else 0


@contextmanager
def _made_up(began: float) -> Iterator[prometheus.Api]:
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "tsdb"
        history.write(began, database)
        with prometheus.running(database) as api:
            yield api


def _draw(path: Path, api: prometheus.Api, span: page.Span) -> int:
    """The number of panels without data."""
    html, silent = page.render(json.loads(path.read_text(encoding="utf-8")), api, span)
    picture = _save(path.stem, html)
    print(f"{picture}  {'empty: ' + ', '.join(silent) if silent else 'every panel has data'}")  # noqa: T201  # a command
    return len(silent)


def _save(name: str, html: str) -> Path:
    target = OUT / f"{name}.html"
    target.write_text(html, encoding="utf-8")
    chromium = shutil.which("chromium")
    if not chromium:
        return target
    picture = target.with_suffix(".png")
    height = int(html.partition('main style="height:')[2].partition("px")[0]) + 80
    options = ["--headless", "--no-sandbox", "--disable-gpu", "--hide-scrollbars", f"--window-size={page.WIDTH + 24},{height}"]
    subprocess.run([chromium, *options, f"--screenshot={picture}", target.as_uri()], check=True, capture_output=True, timeout=60)
    return picture


if __name__ == "__main__":
    sys.exit(main())
