"""A test is found from its module by name: tests/service/runs/test_writer.py tries service/agent_service/runs/writer.py.

What crosses modules stands under tests/integration, attack, durability, field, conformance, e2e and chaos.
"""

from pathlib import Path

import pytest

from tools.code_figures import helpers, sources

ROOT = Path(__file__).parents[2]
COMPONENTS = ("clients", "doctor", "monitoring", "operator", "service")
PACKAGES = {component: next((ROOT / component).glob("*/__init__.py")).parent for component in COMPONENTS}
LINES = 60
"""Of a module from which on it has a test of its own, or a line in ELSEWHERE."""

ELSEWHERE = {
    # clients
    "clients/cluster/test_http_cluster.py": ["cluster/interface"],
    "clients/cluster/test_paths.py": ["cluster/kinds"],
    "doctor/test_by_release.py": ["cluster/proxy", "checks/gather"],
    "clients/test_egress.py": ["egress/client", "egress/origins", "egress/read"],
    # doctor: each check is tried on a release that is good, and on one that is spoiled for it
    "doctor/checks/test_checks.py": [
        *("checks/cost", "checks/environment", "checks/facts", "checks/figures", "checks/finding", "checks/infrastructure"),
        *("checks/live", "checks/observability", "checks/registry", "checks/reliability", "checks/security"),
    ],
    "doctor/test_command.py": ["examination", "report"],
    "doctor/test_by_url.py": ["stream"],
    # monitoring: what a module declares is looked at as a whole, as it is shipped
    "monitoring/dashboards/test_dashboards.py": [
        *("dashboards/cost_quality", "dashboards/frame", "dashboards/operator", "dashboards/overview", "dashboards/panels"),
        *("dashboards/promql", "dashboards/rollouts_keys", "dashboards/saturation", "dashboards/tools_nodes"),
    ],
    "monitoring/rules/test_rules_promtool.py": [
        *(
            "rules/alert",
            "rules/capacity",
            "rules/graph",
            "rules/models",
            "rules/presence",
            "rules/slo",
            "rules/thresholds",
            "rules/users",
        ),
    ],
    # operator
    "operator/test_main.py": ["handlers/engine", "startup"],
    "operator/manifests/test_specs.py": ["manifests/rotation_spec"],
    "operator/reconcile/test_alertpolicy.py": ["manifests/alert_conditions", "manifests/alert_objects"],
    "operator/reconcile/rotation/test_machine.py": ["reconcile/rotation/situation", "reconcile/rotation/status"],
    "operator/reconcile/rotation/test_reconciler.py": ["reconcile/rotation/report", "reconcile/rotation/secret"],
    "operator/reconcile/rotation/test_sources.py": ["reconcile/rotation/api_keys", "providers/openai_admin"],
    "monitoring/rules/test_operator_rules.py": ["metrics"],
    # service: what only a whole turn, request or process shows, and what a larger module is made of
    "service/agents/test_adopt.py": ["agents/chat_model"],
    "service/agents/test_models.py": ["agents/endpoint_models"],
    "service/agents/default/test_graph.py": ["agents/default/middleware", "agents/default/tools"],
    "service/agents/test_offline.py": ["agents/offline_data", "agents/offline_rules"],
    "attack/test_model_calls.py": ["agents/completion_format"],
    "attack/test_model_endpoint.py": ["agents/endpoint"],
    "integration/test_access.py": ["api/app", "api/deps", "api/runs", "api/sessions", "runs/session_store"],
    "integration/test_bad_input.py": ["api/error_handlers"],
    "conformance/test_openapi.py": ["api/openapi"],
    "integration/test_response_cache.py": ["runs/answers", "runs/redis_answers", "runs/response_cache"],
    "integration/test_history.py": ["runs/compaction", "runs/replaced_questions"],
    "integration/test_outcomes.py": ["api/sse"],
    "service/api/test_a2a.py": ["api/a2a_forms", "api/rpc"],
    "service/api/test_mcp.py": ["api/mcp_elicitation", "api/mcp_tools", "api/mcp_versions"],
    "service/api/test_openai.py": ["api/openai_input"],
    "attack/test_hostile_requests.py": ["api/field_types", "api/json_body", "api/openai_schemas", "api/schemas"],
    "service/auth/test_jwt_verifier.py": ["auth/claims"],
    "attack/test_children.py": ["child_processes"],
    "first_hour/test_dev.py": ["development/local_folder"],
    "first_hour/test_own_graph.py": ["graph_builder"],
    "durability/test_crons.py": ["api/langgraph/cron_routes", "api/langgraph/cron_schemas", "runs/cron_store"],
    "integration/test_langgraph_assistants.py": [
        *("api/langgraph/assistant_routes", "api/langgraph/assistant_schemas", "api/langgraph/assistants"),
        *("runs/assistant_store", "runs/assistant", "runs/run_view"),
    ],
    "integration/test_langgraph_store.py": ["api/langgraph/store_routes", "api/langgraph/store_schemas", "db/caller_store"],
    "durability/test_langgraph_streams.py": ["runs/recorder"],
    "conformance/langgraph/test_thread_stream.py": ["api/langgraph/thread_streams"],
    "conformance/langgraph/test_protocol_v2.py": ["api/langgraph/protocol_encoder", "api/langgraph/protocol_routes"],
    "integration/test_langgraph_wire.py": [
        *("api/langgraph/run_inputs", "api/langgraph/run_routes"),
        *("api/langgraph/thread_routes", "api/langgraph/views", "api/langgraph/wire_schemas"),
        *(
            "runs/on_thread",
            "runs/run_rows",
            "runs/state_json",
            "runs/thread_runs",
            "runs/thread_store",
            "runs/thread_types",
        ),
    ],
    "service/test_cli.py": ["commands/costs", "terminal"],
    "service/test_settings.py": ["setting_types"],
    "service/data/test_statement.py": ["data/grammar"],
    "field/test_schema_of_the_role.py": ["db/langgraph_tables"],
    "field/test_session_settings.py": ["db/session_settings"],
    "service/documents/test_ingest.py": ["documents/discover", "documents/document_store"],
    "service/documents/test_parse.py": ["documents/document", "documents/html", "documents/markdown"],
    "contract/test_docs.py": ["errors"],
    "service/test_metrics.py": ["gauges"],
    "durability/test_drain.py": ["main"],
    "attack/test_other_site.py": ["middleware/origin"],
    "integration/test_start.py": ["resources"],
    "service/runs/test_checkpoints.py": ["runs/graphs"],
    "service/runs/test_event_log.py": ["runs/events"],
    "service/runs/test_callback_handler.py": ["runs/extract", "runs/live_run"],
    "field/test_runtime_context.py": ["runs/graph_context"],
    "durability/test_peers.py": ["runs/notices"],
    "service/runs/test_writer.py": ["runs/records"],
    "service/test_redis_rates.py": ["redis_link"],
    "field/test_unfit_database.py": ["runs/rehearsal"],
    "service/runs/test_run_leases_machine.py": ["runs/run_types"],
    "service/runs/test_worker.py": ["runs/runtime"],
    "field/test_types_in_the_state.py": ["runs/serde"],
    "field/test_parallel_branches.py": ["runs/speakers"],
    "attack/test_poisoned_run.py": ["runs/watchdog"],
    "service/server/test_protocol.py": ["server/connections", "server/refusals"],
    "field/test_sync_nodes.py": ["threads"],
    "integration/test_traces.py": ["tracing/export", "tracing/handler", "tracing/spans"],
}
"""Tests that try larger modules without one of their own, by the tests' paths under tests/."""

HELPERS_SHARE = 0.15
"""Of the tests' lines, at most, in files that hold no test (`make code-figures`). What one test alone needs stands beside it."""


def modules(component: str, lines: int = 0) -> set[str]:
    """Modules and packages of so many lines, as paths under the component's package, without an ending."""
    package = PACKAGES[component]
    found = [path for path in package.rglob("*.py") if path.read_bytes().count(b"\n") >= lines]
    return {str((path.parent if path.name == "__init__.py" else path.with_suffix("")).relative_to(package)) for path in found}


def mirrors(component: str) -> list[Path]:
    return sorted(path.relative_to(ROOT / "tests" / component) for path in (ROOT / "tests" / component).rglob("test_*.py"))


def named(test: Path, known: set[str]) -> str | None:
    """The module that the test's name names: `test_writer`, or `test_writer_lost_commit` for one side of it."""
    words = test.stem.removeprefix("test_").split("_")
    for count in range(len(words), 0, -1):
        name = "_".join(words[:count])
        if (path := str(test.parent / name)) in known:
            return path
        if name == test.parent.name and str(test.parent) in known:
            return str(test.parent)
    return None


@pytest.mark.parametrize("component", COMPONENTS)
def test_every_test_names_its_module(component: str) -> None:
    known = modules(component)
    assert [str(test) for test in mirrors(component) if named(test, known) is None] == []


def test_every_larger_module_has_its_test_or_says_where_it_is_tested() -> None:
    without = [
        each
        for component in COMPONENTS
        for each in sorted(modules(component, LINES) - {named(test, modules(component)) for test in mirrors(component)})
    ]
    assert sorted(without) == sorted(each for listed in ELSEWHERE.values() for each in listed)


def test_the_tests_that_stand_for_them_exist() -> None:
    assert [test for test in ELSEWHERE if not (ROOT / "tests" / test).is_file()] == []


def test_helpers_are_a_small_part_of_the_tests() -> None:
    assert helpers(sources("tests")) < HELPERS_SHARE
