"""How other agents reach the agent: what the values say, and nothing where the service's defaults hold."""

from tests.charts.slipway import environment
from tests.support.charts import values_of

NAMES = {"MCP", "A2A", "PUBLIC_AGENT_CARD", "AGENT_DESCRIPTION", "PUBLIC_URL"}


def set_by(*values: str) -> dict[str, str]:
    return {name: value for name, value in environment(values_of(*values)).items() if name in NAMES}


def test_by_default_the_services_own_defaults_hold() -> None:
    assert set_by() == {}


def test_each_value_has_its_setting() -> None:
    assert set_by(
        "protocols.mcp=false",
        "protocols.a2a=false",
        "protocols.publicAgentCard=true",
        "protocols.description=Books trains.",
        "protocols.publicUrl=https://agents.example.com/trains",
    ) == {
        "MCP": "off",
        "A2A": "off",
        "PUBLIC_AGENT_CARD": "true",
        "AGENT_DESCRIPTION": "Books trains.",
        "PUBLIC_URL": "https://agents.example.com/trains",
    }


def test_an_ingress_with_a_certificate_is_the_address() -> None:
    ingress = ("ingress.enabled=true", "ingress.host=chat.example.com")
    assert set_by(*ingress) == {}  # who ends TLS is not known, and a card with http:// would have clients send keys in the clear
    assert set_by(*ingress, "ingress.tlsSecret=cert") == {"PUBLIC_URL": "https://chat.example.com"}
    assert set_by(*ingress, "ingress.tlsSecret=cert", "protocols.publicUrl=https://other.example") == {
        "PUBLIC_URL": "https://other.example"
    }
