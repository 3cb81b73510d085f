"""Long answers through the cluster's proxy, by Ingress and by HTTPRoute: every word as it is said, none held back."""

import asyncio

import pytest

from tests.e2e.agent import Agent
from tests.e2e.conftest import INGRESS_HOST, ROUTE_HOST
from tests.e2e.measure import words_at
from tests.e2e.testkit.graph import answer
from tests.support.cluster import node_addresses, require_api
from tests.support.figures import Report
from tests.support.reader import Reader

pytestmark = [pytest.mark.e2e, pytest.mark.timeout(600)]

EDGE_PORT = 30080
"""NodePort of the cluster's proxy."""

STREAM_SECONDS = 130
"""Above the two minutes at which proxies with a total limit cut."""

FIRST_WORD_SECONDS = 3.0
LONGEST_GAP_SECONDS = 3.0
"""The graph says a word each second; a proxy that buffers holds back many."""


async def test_ingress_and_httproute_carry_a_stream_of_two_minutes_unbuffered(agent: Agent, report: Report) -> None:
    require_api("httproutes.gateway.networking.k8s.io")
    edge = [f"http://{next(iter(node_addresses().values()))}:{EDGE_PORT}"]
    ingress, route = await asyncio.gather(read_long(agent, edge, INGRESS_HOST), read_long(agent, edge, ROUTE_HOST))
    for name, reader in (("Ingress", ingress), ("HTTPRoute", route)):
        report(
            f"{name}: {STREAM_SECONDS} s of stream, first word after {reader.first_word_seconds:.1f} s, longest gap"
            f" {reader.longest_silence:.1f} s, {len(reader.errors)} connections made anew"
        )

    for reader in (ingress, route):
        assert reader.text.split() == answer(reader.question)
        assert reader.first_word_seconds < FIRST_WORD_SECONDS
        assert reader.longest_silence < LONGEST_GAP_SECONDS
        assert (reader.errors, reader.visible_errors) == ([], [])


async def read_long(agent: Agent, edge: list[str], host: str) -> Reader:
    question = words_at(host, words=STREAM_SECONDS, pace=1)(0)
    async with agent.client(Host=host) as client:
        return await Reader(lambda: edge, question).run(client)
