"""compose.yaml and its nginx.conf agree with the service and with each other."""

import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from agent_service.main import CONNECTIONS_SECONDS, HAND_OVER_SECONDS, STREAMS_SECONDS
from agent_service.settings import Settings

ROOT = Path(__file__).parent.parent.parent
COMPOSE: dict[str, Any] = yaml.load((ROOT / "compose.yaml").read_text(encoding="utf-8"), yaml.CSafeLoader)
SERVICES: dict[str, Any] = COMPOSE["services"]
REPLICAS = {name: service for name, service in SERVICES.items() if service.get("command") == ["serve"]}
NGINX = (ROOT / "k8s/nginx/nginx.conf").read_text(encoding="utf-8")


def directives(name: str) -> list[str]:
    return re.findall(rf"^\s*{name}\s+([^;{{]+);", NGINX, re.MULTILINE)


def seconds(text: str) -> float:
    return float(text.removesuffix("s"))


def test_nginx_knows_every_replica_and_no_other() -> None:
    assert len(REPLICAS) == 3
    assert sorted(server.split()[0] for server in directives("server")) == sorted(f"{name}:8000" for name in REPLICAS)


def test_streams_pass_nginx_and_a_post_is_never_sent_twice() -> None:
    defaults = Settings.model_fields
    streams, others = (seconds(text) for text in directives("proxy_read_timeout"))

    assert directives("proxy_buffering") == ["off"]
    assert directives("proxy_http_version") == ["1.1"]
    assert directives("proxy_next_upstream") == ["error timeout"]
    assert streams > 2 * defaults["heartbeat_seconds"].default
    assert others > defaults["max_turn_seconds"].default


def test_a_replica_is_given_the_time_to_drain() -> None:
    needed = HAND_OVER_SECONDS + STREAMS_SECONDS + CONNECTIONS_SECONDS
    for service in REPLICAS.values():
        assert seconds(service["stop_grace_period"]) > float(service["environment"]["DRAIN_SECONDS"]) + needed


def test_replicas_wait_for_the_migration_and_that_for_the_database() -> None:
    assert SERVICES["migrate"]["depends_on"] == {"postgres": {"condition": "service_healthy"}}
    assert SERVICES["migrate"]["command"] == ["migrate"]
    for service in REPLICAS.values():
        assert service["depends_on"] == {"migrate": {"condition": "service_completed_successfully"}}
    assert SERVICES["nginx"]["depends_on"].keys() == REPLICAS.keys()


def test_only_nginx_can_be_reached_from_outside_and_only_on_loopback() -> None:
    published = {name: service["ports"] for name, service in SERVICES.items() if "ports" in service}

    assert published == {"nginx": ["127.0.0.1:8080:8080"]}
    assert COMPOSE["networks"]["database"] == {"internal": True}
    assert SERVICES["postgres"]["networks"] == ["database"]


def test_secrets_are_files_and_no_file_of_the_repository() -> None:
    assert COMPOSE["secrets"] == {"postgres_password": {"file": "./secrets/postgres_password"}}
    assert "/secrets/" in (ROOT / ".gitignore").read_text(encoding="utf-8").splitlines()
    for service in SERVICES.values():
        for name in service.get("environment", {}):
            assert not re.search(r"PASSWORD$|API_KEY$|JWT_SECRET$|TOKEN$", name), name


@pytest.mark.parametrize("name", [*REPLICAS, "migrate"])
def test_every_setting_is_one_of_the_service(name: str) -> None:
    assert {setting.lower() for setting in SERVICES[name]["environment"]} <= Settings.model_fields.keys()


@pytest.mark.parametrize("name", SERVICES)
def test_images_are_pinned_and_files_that_are_mounted_exist(name: str) -> None:
    service = SERVICES[name]
    tag = service["image"].rpartition(":")[2]
    mounted = [volume.split(":")[0] for volume in service.get("volumes", []) if volume.startswith("./")]

    assert tag
    assert tag != "latest"
    assert [path for path in mounted if not path.startswith("./secrets/") and not (ROOT / path).exists()] == []
