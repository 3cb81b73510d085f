"""The agent's Deployment: environment, volumes, probes, rollout."""

import json
from pathlib import Path

import pytest
from psycopg.pq import Conninfo

from agent_service.agents.input_rules import load_input_rules
from agent_service.settings import Settings
from tests.charts.slipway import CASES, EXTERNAL, GRAPH, PLACED, SCALED, agent, environment, made, manifests
from tests.support.charts import one, values_of

DIGEST = f"sha256:{'ab' * 32}"


def annotations(*sets: str) -> dict[str, str]:
    found: dict[str, str] = made("Deployment", GRAPH, values_of(*sets))["spec"]["template"]["metadata"]["annotations"]
    return found


@pytest.mark.parametrize("case", CASES)
def test_the_pod_sets_no_variable_that_the_service_does_not_know(case: str) -> None:
    known = {name.upper() for name in Settings.model_fields}
    known |= {option.envvar.decode() for option in Conninfo.get_defaults() if option.envvar}

    assert environment(CASES[case]).keys() - known == set()


@pytest.mark.parametrize("case", CASES)
def test_the_service_takes_the_pods_plain_settings(case: str) -> None:
    env = environment(CASES[case])
    given = {name.lower(): value for name, value in env.items() if isinstance(value, str) and not name.startswith("PG")}
    secret = {"jwt_secret": "s" * 32} if "JWT_SECRET" in env else {}

    settings = Settings.model_validate({**given, **secret, "host": "0.0.0.0"})
    assert settings.drain_seconds == settings.max_turn_seconds


def test_a_digest_wins_over_the_tag() -> None:
    for container in agent(values_of(f"image.digest={DIGEST}", "image.tag=1.2.3"))["containers"]:
        assert container["image"] == f"slipway@{DIGEST}"


def test_migration_and_service_are_one_image() -> None:
    spec = agent(values_of("image.repository=mine", "image.tag=1.2.3"))

    assert {c["image"] for c in spec["containers"] + spec["initContainers"]} == {"mine:1.2.3"}
    assert spec["initContainers"][0]["args"][0] == "migrate"


def test_keys_are_folders_so_that_they_rotate_without_a_restart() -> None:
    spec, env = agent(EXTERNAL), environment(EXTERNAL)
    mounts = {m["mountPath"]: m for m in spec["containers"][0]["volumeMounts"]}
    volumes = {v["name"]: v for v in spec["volumes"]}

    for variable, secret in (
        ("OPENAI_KEY_DIR", "model-key"),
        ("API_KEYS_DIR", "api-keys"),
        ("JWT_SECRET_DIR", "token-key"),
    ):
        mount = mounts[env[variable]]
        assert "subPath" not in mount
        assert volumes[mount["name"]]["secret"] == {"secretName": secret, "defaultMode": 0o440}


def test_the_databases_address_and_authority_are_files_that_may_change() -> None:
    spec, env = agent(EXTERNAL), environment(EXTERNAL)
    (volume,) = [v for v in spec["volumes"] if v["name"] == "database"]
    address, authority = (source["secret"] for source in volume["projected"]["sources"])

    assert (env["DATABASE_URL_FILE"], env["PGSSLROOTCERT"]) == ("/run/secrets/database/url", "/run/secrets/database/ca.crt")
    assert address == {"name": "database"}
    assert authority == {"name": "database-ca", "items": [{"key": "ca.crt", "path": "ca.crt"}]}
    for container in (*spec["initContainers"], *spec["containers"]):
        (mount,) = [m for m in container["volumeMounts"] if m["name"] == "database"]
        assert mount == {"name": "database", "mountPath": "/run/secrets/database", "readOnly": True}
        assert {e["name"] for e in container["env"]} >= {"DATABASE_URL_FILE", "PGSSLROOTCERT", "PGSSLMODE"}


def test_the_evaluation_databases_address_is_read_at_start() -> None:
    assert "DATABASE_URL_FILE" not in environment()
    assert "database" not in {v["name"] for v in agent()["volumes"]}


def test_with_an_issuer_no_secret_is_generated() -> None:
    env = environment(EXTERNAL)

    assert "JWT_SECRET" not in env
    assert (env["JWT_JWKS_URL"], env["JWT_ISSUER"]) == ("http://login.internal:8443/keys", "https://login")


def test_with_nothing_said_the_generated_secret_is_used() -> None:
    assert environment()["JWT_SECRET"] == {"secretKeyRef": {"name": "my-agent-slipway-auth", "key": "jwt-secret"}}


def test_an_existing_jwt_secret_is_used() -> None:
    env = environment(values_of("auth.jwt.existingSecret=mine"))

    assert env["JWT_SECRET"] == {"secretKeyRef": {"name": "mine", "key": "jwt-secret"}}


def test_disabled_authentication_needs_and_sets_both_switches() -> None:
    env = environment(values_of("auth.mode=disabled", "auth.disabledOnAnyAddress=true"))

    assert (env["AUTH"], env["AUTH_DISABLED_ON_ANY_ADDRESS"]) == ("disabled", "true")
    assert "JWT_SECRET" not in env


NAMED = ("ingress.enabled=true", "ingress.host=chat.example.com")
ROUTED = ("httpRoute.enabled=true", "httpRoute.hostnames=['*.example.com', chat.example.org]", "httpRoute.parentRefs=[{name: g}]")


@pytest.mark.parametrize(
    ("values", "hosts"),
    [
        ((), None),
        (NAMED, "chat.example.com"),
        (ROUTED, "chat.example.org"),
        ((*NAMED, *ROUTED, "auth.allowedHosts=[a.example.net]"), "a.example.net,chat.example.com,chat.example.org"),
        (("ingress.enabled=true", "auth.allowedHosts=[a.example.net]"), "a.example.net"),
    ],
)
def test_without_authentication_browsers_may_call_by_the_names_of_the_edge(values: tuple[str, ...], hosts: str | None) -> None:
    env = environment(values_of("auth.mode=disabled", "auth.disabledOnAnyAddress=true", *values))

    assert env.get("ALLOWED_HOSTS") == hosts
    assert "ALLOWED_HOSTS" not in environment(values_of(*values)), "with tokens a name is no matter"


def test_images_are_taken_where_the_values_say_so() -> None:
    assert environment(values_of("model.acceptImages=true"))["ACCEPT_IMAGES"] == "true"
    assert "ACCEPT_IMAGES" not in environment()


@pytest.mark.parametrize(
    ("source", "volume"),
    [
        ("graph.files={a.py: x}", {"configMap": {"name": "my-agent-slipway-graph"}}),
        ("graph.configMap=mine", {"configMap": {"name": "mine"}}),
        ("graph.volume={image: {reference: graphs:1}}", {"image": {"reference": "graphs:1"}}),
    ],
)
@pytest.mark.parametrize(("package", "folder"), [("", "/opt/graph"), ("travel", "/opt/graph/travel")])
def test_a_graph_is_mounted_where_the_service_looks(source: str, volume: dict[str, object], package: str, folder: str) -> None:
    values = values_of(source, "graph.module=travel.agent:build", f"graph.package={package!r}")
    spec, env = agent(values), environment(values)

    (mount,) = [m for m in spec["containers"][0]["volumeMounts"] if m["name"] == "graph"]
    assert mount["mountPath"] == folder
    assert {"name": "graph", **volume} in spec["volumes"]
    assert (env["AGENT_GRAPH"], env["AGENT_GRAPH_DIR"]) == ("travel.agent:build", "/opt/graph")


@pytest.mark.parametrize("module", ["", "research", "travel.agent:build", "/opt/graph/agent.py:build"])
def test_several_graphs_come_by_a_langgraph_json_of_the_mounted_files(module: str) -> None:
    files = 'graph.files={langgraph.json: "{}", agent.py: "build = 1"}'
    env = environment(values_of(files, "graph.langgraphJson=/opt/graph/langgraph.json", f"graph.module={module!r}"))

    assert env["LANGGRAPH_CONFIG"] == "/opt/graph/langgraph.json"
    assert env.get("AGENT_GRAPH", "") == module


def test_files_and_prices_become_configmaps() -> None:
    found = manifests(GRAPH)

    assert one(found, "ConfigMap", "my-agent-slipway-graph")["data"] == {"agent.py": "build = 1", "__init__.py": ""}
    assert one(found, "ConfigMap", "my-agent-slipway-prices")["data"] == {"prices.yaml": "models: {}"}
    assert environment(GRAPH)["PRICE_FILE"] == "/etc/slipway/prices.yaml"


def test_input_rules_become_a_file_that_the_service_reads(tmp_path: Path) -> None:
    found, env = manifests(GRAPH), environment(GRAPH)
    file = tmp_path / "rules.yaml"
    file.write_text(one(found, "ConfigMap", "my-agent-slipway-input-rules")["data"]["rules.yaml"], encoding="utf-8")
    (mount,) = [m for m in agent(GRAPH)["containers"][0]["volumeMounts"] if m["name"] == "input-rules"]

    (rule,) = load_input_rules(file, frozenset())

    assert (rule.name, rule.message, rule.pattern.search("what of Project X?") is not None) == ("project", "Ask legal: #x", True)
    assert env["INPUT_RULES_FILE"] == f"{mount['mountPath']}/rules.yaml"


@pytest.mark.parametrize(
    "change",
    [
        "graph.files={agent.py: build = 2}",
        "guardrails.inputRules=[{name: a, pattern: b}]",
    ],
)
def test_a_change_of_what_the_chart_makes_rolls_the_pods(change: str) -> None:
    assert annotations() == annotations()
    assert annotations(change) != annotations()


def test_the_graphs_version_is_the_images_tag_and_its_files_or_what_you_say() -> None:
    def version(*sets: str) -> str:
        return str(environment(values_of("image.tag=1.2.3", *sets))["GRAPH_VERSION"])

    one, other = (version("graph.module=agent:build", f"graph.files={{agent.py: build = {n}}}") for n in (1, 2))
    assert version() == "1.2.3"
    assert one != other
    assert one.startswith("1.2.3-")
    assert version('graph.version="2026.11"') == "2026.11"
    assert environment(values_of())["GRAPH_VERSION"]


def test_new_prices_roll_no_pod_and_are_mounted_as_a_folder_so_that_the_service_sees_them() -> None:
    assert annotations('graph.prices="models: {a: 1}"') == annotations()
    (mount,) = [m for m in agent(GRAPH)["containers"][0]["volumeMounts"] if m["name"] == "prices"]
    assert "subPath" not in mount  # the kubelet never changes a file that is mounted by itself


def test_settings_of_the_user_reach_the_service_and_the_migration() -> None:
    env, spec = environment(GRAPH), agent(GRAPH)

    assert (env["MAX_MODEL_CALLS"], env["GUARDRAILS"]) == ("20", "off")
    assert env["LANGSMITH_API_KEY"]["secretKeyRef"]["name"] == "langsmith"
    for container in spec["containers"] + spec["initContainers"]:
        assert {"name": "ca", "mountPath": "/etc/ca"} in container["volumeMounts"]


def test_large_numbers_of_a_values_file_stay_whole() -> None:
    # JSON makes them floats on their way into a template, as Helm does with those of a values file
    values = json.loads('{"env": {"MAX_BODY_BYTES": 10000000.0, "MODEL_TIMEOUT": 0.5}, "postgres": {"runAsUser": 1000680000.0}}')

    assert (environment(values)["MAX_BODY_BYTES"], environment(values)["MODEL_TIMEOUT"]) == ("10000000", "0.5")
    postgres = made("StatefulSet", values)["spec"]["template"]["spec"]["securityContext"]
    assert [postgres[key] for key in ("runAsUser", "runAsGroup", "fsGroup")] == [1_000_680_000] * 3


def test_probes_are_on_the_ops_port_and_apart() -> None:
    container = agent()["containers"][0]
    probes = {name: container[f"{name}Probe"]["httpGet"] for name in ("startup", "liveness", "readiness")}

    assert {probe["port"] for probe in probes.values()} == {"ops"}
    assert (probes["liveness"]["path"], probes["readiness"]["path"]) == ("/live", "/ready")
    assert {p["name"]: p["containerPort"] for p in container["ports"]} == {"api": 8000, "ops": 9090}


def test_a_rollout_adds_before_it_takes_away() -> None:
    spec = made("Deployment")["spec"]

    assert spec["strategy"]["rollingUpdate"] == {"maxSurge": 1, "maxUnavailable": 0}
    assert spec["replicas"] == 2


@pytest.mark.parametrize("mode", SCALED)
def test_with_autoscaling_replicas_are_the_autoscalers(mode: str) -> None:
    assert "replicas" not in made("Deployment", SCALED[mode])["spec"]


def test_pods_spread_over_nodes_and_zones_each_rollout_by_itself() -> None:
    constraints = agent()["topologySpreadConstraints"]

    assert [c["topologyKey"] for c in constraints] == ["kubernetes.io/hostname", "topology.kubernetes.io/zone"]
    assert all(c["matchLabelKeys"] == ["pod-template-hash"] for c in constraints)


def test_the_spread_can_be_replaced_and_turned_off() -> None:
    own = [{"topologyKey": "rack", "maxSkew": 2, "whenUnsatisfiable": "DoNotSchedule"}]

    assert agent({"topologySpreadConstraints": own})["topologySpreadConstraints"] == own
    assert "topologySpreadConstraints" not in agent({"topologySpreadConstraints": []})


def test_placement_is_the_users() -> None:
    spec = agent(PLACED)
    template = made("Deployment", PLACED)["spec"]["template"]["metadata"]

    assert spec["nodeSelector"] == {"disk": "ssd"}
    assert spec["tolerations"] == [{"key": "agents", "operator": "Exists"}]
    assert (spec["affinity"], spec["priorityClassName"]) == ({"nodeAffinity": {}}, "high")
    assert spec["imagePullSecrets"] == [{"name": "registry"}]
    assert template["annotations"]["note"] == "one"
    assert template["labels"]["team"] == "agents"


def test_ids_can_be_left_to_the_platform() -> None:
    values = values_of("podSecurityContext.fsGroup=null", "postgres.runAsUser=null")

    assert "fsGroup" not in agent(values)["securityContext"]
    postgres = made("StatefulSet", values)["spec"]["template"]["spec"]["securityContext"]
    assert postgres.keys() == {"runAsNonRoot", "seccompProfile"}


def test_a_service_account_of_the_users_is_used() -> None:
    values = values_of("serviceAccount.create=false", "serviceAccount.name=mine")

    assert agent(values)["serviceAccountName"] == "mine"
    assert [m for m in manifests(values) if m["kind"] == "ServiceAccount"] == []
