"""agent_operator.settings and what kopf is told of them."""

import kopf
import pytest

from agent_operator.handlers import engine
from agent_operator.settings import OperatorSettings


def test_without_variables_it_stands_alone() -> None:
    assert OperatorSettings.load({}).standalone is True


def test_a_flag_is_read_in_any_case() -> None:
    assert OperatorSettings.load({"OPERATOR_STANDALONE": "False"}).standalone is False


def test_a_wrong_flag_is_named() -> None:
    with pytest.raises(ValueError, match="OPERATOR_STANDALONE: expected true or false, got 'maybe'"):
        OperatorSettings.load({"OPERATOR_STANDALONE": "maybe"})


def test_namespaces_are_a_list_and_none_means_all() -> None:
    assert OperatorSettings.load({}).namespaces == ()
    assert OperatorSettings.load({"WATCH_NAMESPACES": "a, b,"}).namespaces == ("a", "b")


@pytest.mark.parametrize(
    ("name", "value"), [("RESYNC_SECONDS", "soon"), ("WORKERS", "0"), ("PROBE_PORT", "99999"), ("WORKERS", "nan")]
)
def test_a_wrong_number_is_named_with_its_range(name: str, value: str) -> None:
    with pytest.raises(ValueError, match=rf"{name}: expected a number from \d+ to \d+, got '{value}'"):
        OperatorSettings.load({name: value})


def test_a_link_for_people_is_taken_as_it_is_and_a_path_is_refused() -> None:
    """A wiki's address has a query or a fragment: no reason for the operator not to start."""
    for link in ("https://docs.test/#/runbooks", "https://wiki.test/page?id=1,2"):
        assert OperatorSettings.load({"RUNBOOKS_URL": link}).runbooks_url == link
    assert OperatorSettings.load({"RUNBOOKS_URL": "https://docs.test/runbooks/"}).runbooks_url == "https://docs.test/runbooks"
    assert OperatorSettings.load({}).runbooks_url == ""
    with pytest.raises(ValueError, match="RUNBOOKS_URL: expected an address that begins with https://"):
        OperatorSettings.load({"RUNBOOKS_URL": "docs/runbooks"})


def test_everything_written_on_objects_carries_our_domain() -> None:
    settings = kopf.OperatorSettings()

    engine.configure(OperatorSettings(), settings)

    assert settings.persistence.finalizer == "slipway.dev/finalizer"
    patch = kopf.Patch()
    settings.persistence.diffbase_storage.store(body=kopf.Body({}), patch=patch, essence={"spec": {}})
    assert {name.partition("/")[0] for name in patch.metadata.annotations} == {"slipway.dev"}


def test_alone_it_asks_for_no_peers() -> None:
    settings = kopf.OperatorSettings()

    engine.configure(OperatorSettings(), settings)

    assert (settings.peering.standalone, settings.peering.mandatory) == (True, False)


def test_with_peers_it_joins_its_own_and_nobody_elses() -> None:
    settings = kopf.OperatorSettings()

    engine.configure(OperatorSettings(standalone=False), settings)

    assert (settings.peering.standalone, settings.peering.mandatory, settings.peering.name) == (False, True, "slipway-operator")
