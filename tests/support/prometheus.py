"""A real Prometheus that scrapes one release, evaluates rules and tells an Alertmanager."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import httpx
import yaml

from tests.support.ports import free_port
from tests.support.programs import program, serving


@dataclass(frozen=True, slots=True)
class Prometheus:
    client: httpx.AsyncClient

    async def query(self, expression: str) -> list[dict[str, Any]]:
        """Rows of an instant query: `metric` and `value`."""
        result: list[dict[str, Any]] = (await self._get("query", query=expression))["result"]
        return result

    async def rules(self) -> list[dict[str, Any]]:
        """Every rule with its health, last error and alerts."""
        groups = (await self._get("rules"))["groups"]
        return [rule for group in groups for rule in group["rules"]]

    async def _get(self, call: str, **parameters: str) -> Any:
        answer = (await self.client.get(f"/api/v1/{call}", params=parameters)).json()
        assert answer["status"] == "success", f"{parameters}: {answer.get('error')}"
        return answer["data"]


@asynccontextmanager
async def running_prometheus(
    folder: Path, *, target: str, labels: dict[str, str], rules: list[dict[str, Any]], alertmanager: str, every: str
) -> AsyncIterator[Prometheus]:
    """Scrapes the base URL `target` under these labels, and evaluates, `every` so often (such as `500ms`)."""
    binary = program("prometheus", "prometheus")
    (folder / "rules.yaml").write_text(yaml.dump({"groups": rules}, Dumper=yaml.CSafeDumper), encoding="utf-8")
    config = folder / "prometheus.yaml"
    config.write_text(yaml.dump(_config(target, labels, alertmanager, every), Dumper=yaml.CSafeDumper), encoding="utf-8")
    address = f"127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address={address}",
        "--rules.alert.resend-delay=1s",
        "--log.level=warn",
    ]
    async with serving(command, f"http://{address}", folder / "prometheus.log") as client:
        yield Prometheus(client)


def _config(target: str, labels: dict[str, str], alertmanager: str, every: str) -> dict[str, Any]:
    job = {name: value for name, value in labels.items() if name != "job"}
    return {
        "global": {"scrape_interval": every, "scrape_timeout": every, "evaluation_interval": every},
        "rule_files": ["rules.yaml"],
        "alerting": {"alertmanagers": [{"static_configs": [{"targets": [urlsplit(alertmanager).netloc]}]}]},
        "scrape_configs": [
            {"job_name": labels["job"], "static_configs": [{"targets": [urlsplit(target).netloc], "labels": job}]},
        ],
    }
