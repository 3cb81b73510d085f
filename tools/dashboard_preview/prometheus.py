"""A Prometheus of one's own on a free loopback port, and its query API."""

import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx

START_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Series:
    """Labels, and values by Unix time."""

    labels: dict[str, str]
    values: dict[float, float]


@dataclass(frozen=True, slots=True)
class Api:
    client: httpx.Client

    def over_time(self, expr: str, start: float, end: float, step: float) -> list[Series]:
        found = self._ask("query_range", query=expr, start=start, end=end, step=step)
        return [Series(each["metric"], {t: float(value) for t, value in each["values"]}) for each in found]

    def at(self, expr: str, moment: float) -> list[Series]:
        found = self._ask("query", query=expr, time=moment)
        return [Series(each["metric"], {each["value"][0]: float(each["value"][1])}) for each in found]

    def _ask(self, call: str, **parameters: Any) -> list[dict[str, Any]]:
        answer = self.client.get(f"/api/v1/{call}", params=parameters).json()
        if answer["status"] != "success":
            raise ValueError(f"{parameters['query']}: {answer['error']}")
        result: list[dict[str, Any]] = answer["data"]["result"]
        return result


@contextmanager
def reaching(url: str) -> Iterator[Api]:
    with httpx.Client(base_url=url, timeout=30) as client:
        yield Api(client)


@contextmanager
def running(database: Path) -> Iterator[Api]:
    """Serves the database for as long as the block runs."""
    config = database.with_suffix(".yaml")
    config.write_text("global: {}\n", encoding="utf-8")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    # A scraped target that goes away ends its series at once; one from a file would go on for 5 minutes.
    options = [
        f"--storage.tsdb.path={database}",
        f"--web.listen-address={address}",
        "--query.lookback-delta=45s",
        "--log.level=error",
    ]
    process = subprocess.Popen(["prometheus", f"--config.file={config}", *options])
    try:
        with httpx.Client(base_url=f"http://{address}", timeout=30) as client:
            _wait(client, process)
            yield Api(client)
    finally:
        process.terminate()
        process.wait()


def _wait(client: httpx.Client, process: subprocess.Popen[bytes]) -> None:
    deadline = time.monotonic() + START_SECONDS
    while time.monotonic() < deadline and process.poll() is None:
        try:
            if client.get("/-/ready").is_success:
                return
        except httpx.ConnectError:
            pass
        time.sleep(0.1)
    raise TimeoutError("prometheus did not start")
