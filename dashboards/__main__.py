"""Writes the dashboards' JSON into the charts (`make dashboards`)."""

from agent_operator.rules.thresholds import Thresholds
from dashboards.catalog import sheets

if __name__ == "__main__":
    for path, sheet in sheets(Thresholds()).items():
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(sheet.render(), encoding="utf-8")
