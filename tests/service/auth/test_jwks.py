import asyncio
from contextlib import suppress
from typing import Any

import aiohttp
import pytest
from hypothesis import given
from hypothesis import strategies as st

from agent_service.auth.jwks import FRESH_SECONDS, RETRY_SECONDS, Jwks, usable_keys
from agent_service.errors import IssuerUnavailable, Unauthenticated
from tests.support.clock import Clock
from tests.support.jwks import make_key, serve_issuer


async def test_the_set_is_fetched_once_for_many_tokens() -> None:
    async with serve_issuer(make_key("k1")) as issuer:
        jwks = Jwks(issuer.url)
        found = await asyncio.gather(*(jwks.find("k1") for _ in range(50)))
        assert {key.key_id for key in found} == {"k1"}
        assert issuer.fetches == 1


async def test_a_storm_of_unknown_key_ids_costs_the_issuer_one_fetch_in_ten_seconds() -> None:
    clock = Clock()
    async with serve_issuer(make_key("k1")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        for _ in range(3):
            refused = await asyncio.gather(*(jwks.find(f"made-up-{n}") for n in range(100)), return_exceptions=True)
            assert {type(error) for error in refused} == {Unauthenticated}
            assert (await jwks.find("k1")).key_id == "k1"
            clock.pass_by(RETRY_SECONDS)
        assert issuer.fetches == 3


async def test_a_rotated_key_is_found_without_a_restart_and_the_old_one_dropped() -> None:
    clock = Clock()
    async with serve_issuer(make_key("old")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        assert (await jwks.find("old")).key_id == "old"
        issuer.keys = [make_key("new")]
        clock.pass_by(RETRY_SECONDS)
        assert (await jwks.find("new")).key_id == "new"
        with pytest.raises(Unauthenticated):
            await jwks.find("old")


async def test_a_withdrawn_key_stops_when_the_set_is_no_longer_fresh() -> None:
    clock = Clock()
    async with serve_issuer(make_key("old")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        assert (await jwks.find("old")).key_id == "old"
        issuer.keys = [make_key("new")]
        clock.pass_by(FRESH_SECONDS - 1)
        assert (await jwks.find("old")).key_id == "old"
        clock.pass_by(1)
        with pytest.raises(Unauthenticated):
            await jwks.find("old")


async def test_an_issuer_down_at_the_start_is_asked_again() -> None:
    clock = Clock()
    async with serve_issuer(make_key("k1")) as issuer:
        issuer.status = 503
        jwks = Jwks(issuer.url, clock=clock)
        for _ in range(5):
            with pytest.raises(IssuerUnavailable) as caught:
                await jwks.find("k1")
        assert (caught.value.retry_after, issuer.fetches) == (RETRY_SECONDS, 1)
        issuer.status = 200
        clock.pass_by(RETRY_SECONDS)
        assert (await jwks.find("k1")).key_id == "k1"


async def test_an_unreachable_issuer_is_a_fault_of_the_issuer_not_the_caller() -> None:
    async with serve_issuer() as issuer:
        url = issuer.url
    with pytest.raises(IssuerUnavailable):
        await Jwks(url).find("k1")


@pytest.mark.parametrize("status", [500, 302])
async def test_the_old_set_is_kept_while_the_issuer_fails(status: int) -> None:
    clock = Clock()
    async with serve_issuer(make_key("k1")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        await jwks.find("k1")
        issuer.status = status
        for _ in range(3):
            clock.pass_by(FRESH_SECONDS)
            assert (await jwks.find("k1")).key_id == "k1"
        assert issuer.fetches == 4


async def test_a_set_without_a_usable_key_does_not_replace_the_old_one() -> None:
    clock = Clock()
    async with serve_issuer(make_key("k1")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        await jwks.find("k1")
        issuer.keys = []
        clock.pass_by(FRESH_SECONDS)
        assert (await jwks.find("k1")).key_id == "k1"


async def test_a_slow_issuer_delays_one_caller_while_the_others_use_the_old_set() -> None:
    clock = Clock()
    async with serve_issuer(make_key("k1")) as issuer:
        jwks = Jwks(issuer.url, clock=clock)
        await jwks.find("k1")
        clock.pass_by(FRESH_SECONDS)
        issuer.answering.clear()
        issuer.asked.clear()
        first = asyncio.create_task(jwks.find("k1"))
        await issuer.asked.wait()
        assert (await asyncio.wait_for(jwks.find("k1"), 1)).key_id == "k1"
        assert not first.done()
        issuer.answering.set()
        assert (await first).key_id == "k1"


async def test_a_session_of_the_caller_is_used_and_left_open() -> None:
    async with serve_issuer(make_key("k1")) as issuer, aiohttp.ClientSession() as session:
        assert (await Jwks(issuer.url, session).find("k1")).key_id == "k1"
        assert not session.closed


def test_keys_for_other_uses_and_broken_keys_are_skipped() -> None:
    good = make_key("k1").public_jwk
    others: list[Any] = [
        {**good, "kid": "encryption", "use": "enc"},
        {**good, "kid": "other algorithm", "alg": "ES384"},
        {**good, "kid": "no point", "x": "AA"},
        {"kty": "RSA", "kid": "no modulus"},
        {"kty": ["RSA"], "crv": {}},
        "text",
    ]
    assert [key.key_id for key in usable_keys({"keys": [*others, good]})] == ["k1"]


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(["keys", "kty", "crv", "x", "n", "e"]), inner),
    max_leaves=8,
)
ENTRY = st.fixed_dictionaries(
    {"kty": st.sampled_from(["RSA", "EC", "OKP"])},
    optional={"crv": st.sampled_from(["P-256", "Ed25519"]), "x": JSON, "y": JSON, "n": JSON, "e": JSON, "d": JSON, "oth": JSON},
)


@given(JSON | st.fixed_dictionaries({"keys": st.lists(ENTRY, max_size=3)}))
def test_any_document_gives_keys_or_a_value_error(document: Any) -> None:
    with suppress(ValueError):
        assert usable_keys(document)
