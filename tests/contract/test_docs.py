"""The pages say what the code does: settings, metrics, routes, links, examples."""

import asyncio
import os
import re
import shutil
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from markdown_it import MarkdownIt
from playwright.async_api import async_playwright

from agent_operator.reconcile.rotation.machine import TRANSITIONS, Effect
from agent_operator.reconcile.rotation.status import Phase
from agent_service.api.app import create_app
from agent_service.errors import SlipwayError
from agent_service.metrics import Metrics
from tests.support.service import running_service
from tools import rotation_docs, settings_docs

ROOT = Path(__file__).parent.parent.parent
PAGES = sorted(
    {
        *ROOT.glob("*.md"),
        *ROOT.glob("*/README.md"),
        *(page for each in ("docs", "examples", "k8s") for page in (ROOT / each).rglob("*.md")),
    }
)
USER_PAGES = [page for page in PAGES if page.parent.name == "user"]

NOT_DESCRIBED = {("GET", "/"), ("GET", "/spend"), ("GET", "/metrics"), ("GET", "/status")}
"""The chat page, and what only the ops port serves."""


def blocks(page: Path, language: str) -> Iterator[str]:
    tokens = MarkdownIt().parse(page.read_text(encoding="utf-8"))
    return (token.content for token in tokens if token.type == "fence" and token.info == language)


def rows(page: Path) -> Iterator[list[str]]:
    """Cells of each table row."""
    for line in page.read_text(encoding="utf-8").splitlines():
        if line.startswith("| "):
            yield [cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]]


def test_the_settings_page_is_the_generated_one() -> None:
    assert settings_docs.PAGE.read_text(encoding="utf-8") == settings_docs.render(), "run: make settings-docs"


def test_the_page_of_rotations_shows_the_machine_as_it_is() -> None:
    page = rotation_docs.PAGE.read_text(encoding="utf-8")
    assert page == rotation_docs.render(page), "run: make rotation-docs"


def test_the_page_of_rotations_names_each_event_effect_and_phase() -> None:
    page = rotation_docs.PAGE.read_text(encoding="utf-8")
    assert [row for row in TRANSITIONS if not (row.event.__doc__ and row.event.__doc__.splitlines()[0] in page)] == []
    assert [each for each in (*Effect, *Phase) if f"`{each}`" not in page] == []


def test_the_metrics_page_lists_every_metric_with_its_type_and_labels_and_no_other() -> None:
    metrics = Metrics(models=(), version="", graph="", guardrail_rules=())
    declared = {
        (family.name + {"counter": "_total", "info": "_info"}.get(family.type, ""), family.type)
        for family in metrics.registry.collect()
        if family.name.startswith("agent_")
    }
    documented = {
        (cells[0].strip("`"), cells[1]) for cells in rows(ROOT / "docs/operations/metrics.md") if cells[0].startswith("`agent_")
    }

    assert documented == declared


async def test_the_readme_with_the_page_of_langgraph_lists_every_route_and_no_other(database_url: str) -> None:
    async with running_service(database_url) as service:
        described = create_app(service.resources).openapi()["paths"]
    served = {(method.upper(), path) for path, methods in described.items() for method in methods}
    pages = [ROOT / "README.md", ROOT / "docs/user/langgraph-sdk.md"]
    cells = [each[0] for page in pages for each in rows(page)]
    listed = {(method, path) for cell in cells for method, path in re.findall(r"`([A-Z]+) (/\S*)`", cell)}

    assert listed - NOT_DESCRIBED == served


def test_the_lines_of_troubleshooting_are_the_service_s() -> None:
    page = (ROOT / "docs/operations/troubleshooting.md").read_text(encoding="utf-8").partition("## It does not start")[2]
    lines = re.findall(r"^\| `([^`]+)` \|", page.partition("\n## ")[0], re.MULTILINE)
    source = "".join(path.read_text(encoding="utf-8") for path in (ROOT / "service").rglob("*.py"))
    pieces = [piece.strip() for line in lines for piece in re.split("[…:=]", line)]

    assert lines
    assert [piece for piece in pieces if piece not in source] == []


@pytest.mark.parametrize("page", PAGES, ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_to_pages_that_exist(page: Path) -> None:
    links = re.findall(r"\]\(([^)#:\s]+)(?:#[^)]*)?\)", page.read_text(encoding="utf-8"))

    assert [link for link in links if not (page.parent / link).exists()] == []


async def run(*command: str, url: str) -> str:
    process = await asyncio.create_subprocess_exec(
        *command, env={**os.environ, "SLIPWAY": url}, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT
    )
    output, _ = await process.communicate()
    assert process.returncode == 0, output.decode()
    return output.decode()


async def test_the_shell_examples_of_the_http_api_work_in_their_order(database_url: str) -> None:
    script = "set -eu\n" + "".join(blocks(ROOT / "docs/user/http-api.md", "sh"))
    async with running_service(database_url) as service:
        output = await run("sh", "-c", script, url=service.url)

    assert output.count("data: [DONE]") == 1
    assert '"outcome":"completed"' in output
    ids = re.findall(r'"run_id":"([0-9a-f-]+)","session_id":"(?!demo)', output)
    assert len(set(ids)) < len(ids), "the retried question should be answered by one run"


@pytest.mark.timeout(300)  # each is a process of its own, on a machine that may be busy
async def test_the_python_examples_work(database_url: str) -> None:
    examples = [block for page in USER_PAGES for block in blocks(page, "python")]
    async with running_service(database_url) as service:
        outputs = [await run(sys.executable, "-c", example, url=service.url) for example in examples]

    assert examples
    assert all(output.strip() for output in outputs)


async def test_the_javascript_example_works_in_a_browser(database_url: str) -> None:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    (example,) = blocks(ROOT / "docs/user/http-api.md", "js")
    script = f"""() => new Promise((resolve) => {{
        {example}
        source.addEventListener("message", (event) => event.data === "[DONE]" && resolve(answer));
    }})"""
    async with running_service(database_url) as service, async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox"])
        page = await browser.new_page()
        await page.goto(f"{service.url}/live")
        answer = await page.evaluate(script)
        await browser.close()

    assert "no LLM" in answer


INSIDE = {
    *("settings", "graph", "schema_mismatch", "lease_lost", "client_gone", "graph_changed", "graph_failed", "query_refused"),
    "model_not_found",
}
"""Codes that no call answers with: of commands, of the log, of runs and tools; and one that is OpenAI's own."""


def subclasses(cls: type[SlipwayError]) -> Iterator[type[SlipwayError]]:
    for each in cls.__subclasses__():
        yield each
        yield from subclasses(each)


def test_the_page_of_the_api_has_every_code_beside_its_status() -> None:
    page = (ROOT / "docs/user/http-api.md").read_text(encoding="utf-8")
    rows = [line.split("|") for line in page.splitlines() if re.match(r"\| \d{3}", line)]
    told = {
        (status.strip(), code)
        for _, statuses, codes, *_ in rows
        for status in statuses.split(",")
        for code in re.findall(r"`(\w+)`", codes)
    }
    public = [each for each in subclasses(SlipwayError) if "code" in vars(each) and each.code not in INSIDE]

    assert len(public) > 15
    assert [each.code for each in public if (str(each.status), each.code) not in told] == []
    assert {("403", "cross_site"), ("403", "host_not_allowed")} <= told


def test_every_page_is_in_the_navigation_of_the_site() -> None:
    site = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    pages = [page.relative_to(ROOT / "docs") for page in PAGES if page.is_relative_to(ROOT / "docs")]
    missing = [str(page) for page in pages if page.parts[0] != "runbooks" and f"- {page}\n" not in site]

    assert [page for page in missing if f": {page}\n" not in site] == [], "add them to mkdocs.yml"
