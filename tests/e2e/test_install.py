"""`helm install` as the quick start has it, with nothing set but where the images are."""

import json
import shutil
import time
from collections.abc import Iterator

import httpx
import pytest
from playwright.async_api import async_playwright, expect

from tests.e2e.agent import CHART, Agent, default_values, open_door
from tests.integration.page.chat import Chat
from tests.support.cluster import fresh_namespace
from tests.support.figures import Report
from tests.support.helm import Release

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

NOTES_LINES = 15

PAGE_MILLISECONDS = 20_000


@pytest.fixture(scope="module")
def installed(report: Report) -> Iterator[Agent]:
    with fresh_namespace("e2e-install") as namespace:
        release = Release(namespace, "my-agent", CHART)
        started = time.monotonic()
        release.upgrade(default_values())
        report(f"fresh install: ready after {time.monotonic() - started:.0f} s, database and migration included")
        yield open_door(release, default_values())


def test_its_pods_pass_the_restricted_standard_with_a_read_only_root(installed: Agent) -> None:
    pods = installed.namespace.get("pods")
    containers = [container for pod in pods for container in pod["spec"]["containers"]]

    assert {pod["spec"]["automountServiceAccountToken"] for pod in pods} == {False}
    assert {container["securityContext"]["readOnlyRootFilesystem"] for container in containers} == {True}


def test_helm_test_opens_a_real_stream(installed: Agent, report: Report) -> None:
    started = time.monotonic()
    output = installed.release.test()
    report(f"helm test: {time.monotonic() - started:.0f} s")

    assert "Succeeded" in output
    assert "[DONE]" in output


async def test_without_a_token_nobody_gets_in(installed: Agent) -> None:
    async with httpx.AsyncClient() as stranger:
        response = await stranger.get(f"{installed.urls()[0]}/sessions")

    assert (response.status_code, response.json()["code"]) == (401, "unauthenticated")


def test_the_notes_fit_a_glance(installed: Agent) -> None:
    assert 0 < len(installed.release.notes().strip().splitlines()) <= NOTES_LINES


async def test_the_chat_page_loads_and_answers(installed: Agent) -> None:
    chromium = shutil.which("chromium")
    if not chromium:
        pytest.skip("needs chromium")
    expect.set_options(timeout=PAGE_MILLISECONDS)
    async with async_playwright() as playwright:
        browser = await playwright.chromium.launch(executable_path=chromium, args=["--no-sandbox", "--disable-gpu"])
        page = await browser.new_page()
        await page.add_init_script(f"sessionStorage.setItem('slipway.key', {json.dumps(installed.token())})")
        await page.goto(installed.urls()[0])
        chat = Chat(page)
        await chat.ask("How many runs did I have today?")
        await expect(chat.answer).to_contain_text("slipway_data.runs")
        await browser.close()


def test_a_second_upgrade_keeps_what_was_generated(installed: Agent) -> None:
    """New passwords would lock the old pods out."""
    before = secrets_of(installed)
    installed.upgrade({})

    assert secrets_of(installed) == before
    assert len(before) >= 2


def secrets_of(agent: Agent) -> dict[str, object]:
    made = agent.namespace.get("secrets", f"--selector=app.kubernetes.io/instance={agent.release.name}")
    return {secret["metadata"]["name"]: secret["data"] for secret in made}
