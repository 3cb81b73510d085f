"""Draws the shipped dashboards: HTML and, where Chromium is installed, PNG (`make dashboards-preview`)."""

import json
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from agent_operator.rules.thresholds import Thresholds
from dashboards.catalog import ROOT, sheets
from dashboards.preview import history, page, prometheus, traffic

OUT = ROOT / ".slipway" / "dashboards"
SHOWN = 3600.0
"""Seconds: the range that the dashboards open with."""


def main() -> int:
    began = time.time() // traffic.STEP * traffic.STEP - traffic.LENGTH
    span = page.Span(began + traffic.LENGTH - SHOWN, began + traffic.LENGTH, traffic.STEP)
    OUT.mkdir(parents=True, exist_ok=True)
    empty = 0
    with tempfile.TemporaryDirectory() as folder:
        database = Path(folder) / "tsdb"
        history.write(began, database)
        with prometheus.running(database) as api:
            for path in sheets(Thresholds()):
                html, silent = page.render(json.loads(path.read_text(encoding="utf-8")), api, span)
                picture = _save(path.stem, html)
                empty += len(silent)
                print(f"{picture}  {'empty: ' + ', '.join(silent) if silent else 'every panel has data'}")  # noqa: T201  # a command
    return 1 if empty else 0


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
