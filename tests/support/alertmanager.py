"""A real Alertmanager that sends everything to one webhook, and the webhook."""

import asyncio
from collections.abc import AsyncIterator, Collection
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import yaml
from aiohttp import web

from tests.support.ports import free_port
from tests.support.programs import program, serving


@dataclass
class Webhook:
    """The last that was told of each alert, by its name: `status`, `labels`, `annotations`."""

    url: str = ""
    alerts: dict[str, dict[str, Any]] = field(default_factory=dict)
    _news: asyncio.Condition = field(default_factory=asyncio.Condition)

    async def until(self, status: str, names: Collection[str], seconds: float) -> None:
        """Returns when all of these are `firing` or `resolved`.

        Raises:
            TimeoutError: they were not, after so many seconds; names those that are missing.
        """
        try:
            async with asyncio.timeout(seconds), self._news:
                await self._news.wait_for(lambda: not self._lacking(status, names))
        except TimeoutError:
            raise TimeoutError(f"not {status}: {self._lacking(status, names)}") from None

    def _lacking(self, status: str, names: Collection[str]) -> list[str]:
        return [name for name in names if self.alerts.get(name, {}).get("status") != status]

    async def receive(self, request: web.Request) -> web.Response:
        told = await request.json()
        async with self._news:
            self.alerts |= {alert["labels"]["alertname"]: alert for alert in told["alerts"]}
            self._news.notify_all()
        return web.Response()


@asynccontextmanager
async def running_webhook() -> AsyncIterator[Webhook]:
    hook = Webhook()
    app = web.Application()
    app.router.add_post("/", hook.receive)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    try:
        await web.TCPSite(runner, "127.0.0.1", 0).start()
        host, port = runner.addresses[0][:2]
        hook.url = f"http://{host}:{port}/"
        yield hook
    finally:
        await runner.cleanup()


@asynccontextmanager
async def running_alertmanager(folder: Path, webhook: Webhook) -> AsyncIterator[str]:
    """Its base URL. It groups by alert and release, and waits for nothing."""
    binary = program("prometheus-alertmanager", "prometheus-alertmanager")
    route = {
        "receiver": "hook",
        "group_by": ["alertname", "namespace", "job"],
        "group_wait": "100ms",
        "group_interval": "500ms",
        "repeat_interval": "1h",
    }
    receiver = {"name": "hook", "webhook_configs": [{"url": webhook.url, "send_resolved": True}]}
    config = folder / "alertmanager.yaml"
    config.write_text(yaml.safe_dump({"route": route, "receivers": [receiver]}), encoding="utf-8")
    url = f"http://127.0.0.1:{free_port()}"
    command = [
        binary,
        f"--config.file={config}",
        f"--storage.path={folder / 'alertmanager'}",
        f"--web.listen-address={url.removeprefix('http://')}",
        "--cluster.listen-address=",
        "--log.level=warn",
    ]
    async with serving(command, url, folder / "alertmanager.log"):
        yield url
