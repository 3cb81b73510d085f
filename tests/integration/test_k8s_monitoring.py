"""The examples of k8s/monitoring/ in the programs that read them."""

import asyncio
import json
import subprocess
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml

from tests.support.ports import free_port
from tests.support.programs import program, serving
from tools.dashboards import ROOT

MONITORING = ROOT / "k8s/monitoring"
ALERTMANAGER = MONITORING / "alertmanager.yaml"
PATIENCE = 10.0
"""Seconds."""

RELEASE = {"namespace": "support", "job": "assistant"}
POD = {
    "__meta_kubernetes_pod_container_port_name": "ops",
    "__meta_kubernetes_pod_phase": "Running",
    "__meta_kubernetes_pod_label_app_kubernetes_io_instance": "assistant",
    "__meta_kubernetes_namespace": "support",
    "__meta_kubernetes_pod_name": "assistant-slipway-1",
}
"""What Kubernetes' service discovery says of a pod. Debian's Prometheus is built without it."""


def read(name: str) -> dict[str, Any]:
    config: dict[str, Any] = yaml.load((MONITORING / name).read_text(encoding="utf-8"), yaml.CSafeLoader)
    return config


def output(*command: str | Path) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


@pytest.fixture
async def alertmanager(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    binary = program("prometheus-alertmanager", "prometheus-alertmanager")
    url = f"http://127.0.0.1:{free_port()}"
    options = [f"--web.listen-address={url.removeprefix('http://')}", "--cluster.listen-address=", f"--storage.path={tmp_path}"]
    async with serving([binary, f"--config.file={ALERTMANAGER}", *options], url, tmp_path / "log") as client:
        yield client


async def muted(client: httpx.AsyncClient, *alerts: dict[str, str]) -> list[dict[str, str]]:
    """Those that others mute while all of them fire. Alertmanager notes what mutes a moment after it was told."""
    told = await client.post("/api/v2/alerts", json=[{"labels": {**RELEASE, **alert}} for alert in alerts])
    assert told.is_success, told.text
    async with asyncio.timeout(PATIENCE):
        while not (found := await _inhibited(client)):
            await asyncio.sleep(0.02)
    return found


async def _inhibited(client: httpx.AsyncClient) -> list[dict[str, str]]:
    listed = (await client.get("/api/v2/alerts")).json()
    labels = [alert["labels"] for alert in listed if alert["status"]["inhibitedBy"]]
    return [{name: value for name, value in each.items() if name not in RELEASE} for each in labels]


def alert(name: str, severity: str, **labels: str) -> dict[str, str]:
    return {"alertname": name, "severity": severity, **labels}


def test_alertmanager_takes_the_configuration() -> None:
    output(program("amtool", "prometheus-alertmanager"), "check-config", ALERTMANAGER)


@pytest.mark.parametrize(("severity", "receivers"), [("critical", "pagerduty,slack"), ("warning", "slack")])
def test_critical_alerts_wake_somebody_up_and_all_are_written_down(severity: str, receivers: str) -> None:
    amtool = program("amtool", "prometheus-alertmanager")
    tested = output(amtool, "config", "routes", "test", f"--config.file={ALERTMANAGER}", f"severity={severity}", "job=assistant")

    assert tested.strip() == receivers


async def test_a_stuck_drain_mutes_its_pods_being_down_and_no_other_pods(alertmanager: httpx.AsyncClient) -> None:
    down, other = (alert("AgentTargetDown", "warning", pod=pod) for pod in "ab")

    assert await muted(alertmanager, alert("AgentDrainingStuck", "warning", pod="a"), down, other) == [down]


async def test_critical_mutes_the_warnings_of_its_release_only(alertmanager: httpx.AsyncClient) -> None:
    critical, warning = alert("AgentTurnLatencyHigh", "critical"), alert("AgentToolFailuresHigh", "warning", tool="query_data")
    others = [alert("AgentModelRateLimited", "warning", job="another"), alert("NodeDiskFull", "warning")]

    assert await muted(alertmanager, critical, warning, *others) == [warning]


async def test_a_release_without_metrics_mutes_its_pods_being_down(alertmanager: httpx.AsyncClient) -> None:
    down = alert("AgentTargetDown", "warning", pod="a")

    assert await muted(alertmanager, alert("AgentMetricsAbsent", "critical"), down) == [down]


def test_prometheus_names_targets_as_alerts_and_dashboards_expect(tmp_path: Path) -> None:
    promtool = program("promtool", "prometheus")
    config = read("prometheus.yaml")
    (scrape,) = config["scrape_configs"]
    del scrape["kubernetes_sd_configs"]
    others = [{"__meta_kubernetes_pod_container_port_name": "api"}, {"__meta_kubernetes_pod_phase": "Succeeded"}]
    scrape["static_configs"] = [
        {"targets": [f"127.0.0.1:{9 + number}"], "labels": {**POD, **other}} for number, other in enumerate([{}, *others])
    ]
    file = tmp_path / "prometheus.yaml"
    file.write_text(yaml.dump(config, Dumper=yaml.CSafeDumper), encoding="utf-8")

    found = json.loads(output(promtool, "check", "service-discovery", "--timeout=1s", file, "slipway"))

    labels = [{name: value for name, value in each["labels"].items() if not name.startswith("__")} for each in found]
    assert sorted(labels, key=len) == [{}, {}, {**RELEASE, "instance": "127.0.0.1:9", "pod": "assistant-slipway-1"}]


def test_grafanas_sidecar_looks_for_what_the_chart_puts_on_dashboards() -> None:
    sidecar = read("kube-prometheus-stack.values.yaml")["grafana"]["sidecar"]["dashboards"]
    chart = yaml.load((ROOT / "charts/slipway/values.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)["monitoring"][
        "dashboards"
    ]

    assert chart["labels"] == {sidecar["label"]: sidecar["labelValue"]}
    assert set(chart["annotations"]) == {sidecar["folderAnnotation"]}


def test_receivers_read_files_of_secrets_that_are_mounted() -> None:
    mounted = read("kube-prometheus-stack.values.yaml")["alertmanager"]["alertmanagerSpec"]["secrets"]
    receivers = read("alertmanager.yaml")["receivers"]
    files = [Path(each["slack_configs"][0]["api_url_file"]) for each in receivers if "slack_configs" in each]
    files += [Path(each["pagerduty_configs"][0]["routing_key_file"]) for each in receivers if "pagerduty_configs" in each]

    assert {file.parent for file in files} == {Path("/etc/alertmanager/secrets") / name for name in mounted}
    assert len(files) == len(receivers)
