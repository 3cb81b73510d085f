"""Which revision of MCP a message speaks. Up to 2025-11-25 a client shakes hands first; since 2026-07-28 each call says all.

https://modelcontextprotocol.io, "Streamable HTTP" of both
"""

from collections.abc import Mapping

from agent_service.api.rpc import INVALID_PARAMS, Message, RpcError

STATELESS = "2026-07-28"
WITH_HANDSHAKE = ("2024-11-05", "2025-03-26", "2025-06-18", "2025-11-25")
NEWEST_WITH_HANDSHAKE = WITH_HANDSHAKE[-1]
PRIMING_FROM = "2025-11-25"
"""From here on clients know an event without data, which tells an id to come back with; those before fail at it."""

VERSIONS = (*WITH_HANDSHAKE, STATELESS)

UNSAID = "2025-03-26"
"""What a client speaks that does not say it in a header, by the specification."""

HEADER_MISMATCH, UNSUPPORTED_VERSION = -32020, -32022

META_VERSION = "io.modelcontextprotocol/protocolVersion"
META_CAPABILITIES = "io.modelcontextprotocol/clientCapabilities"
META_SERVER = "io.modelcontextprotocol/serverInfo"


def version_of(headers: Mapping[str, str], message: Message) -> str:
    """The revision, of those that are known here. Raises RpcError, too, where headers and body tell two stories."""
    version = headers.get("mcp-protocol-version", UNSAID)
    if version not in VERSIONS:
        raise RpcError(
            UNSUPPORTED_VERSION,
            f"MCP-Protocol-Version: expected one of {', '.join(VERSIONS)}",
            field="MCP-Protocol-Version",
            supported=list(VERSIONS),
            requested=version,
        )
    said = meta(message).get(META_VERSION)
    if version == STATELESS and message.id is not None:
        _check_envelope(headers, message)
    elif said is not None and said != version:
        raise _mismatch("MCP-Protocol-Version", f"params._meta[{META_VERSION!r}]")
    return version


def meta(message: Message) -> Mapping[str, object]:
    """What the call says about itself; empty if it says nothing."""
    found = message.params.get("_meta")
    return found if isinstance(found, dict) else {}


def _check_envelope(headers: Mapping[str, str], message: Message) -> None:
    said = meta(message)
    for key in (META_VERSION, META_CAPABILITIES):
        if key not in said:
            raise RpcError(INVALID_PARAMS, f"params._meta: expected {key!r}", field="params._meta")
    if said[META_VERSION] != STATELESS:
        raise _mismatch("MCP-Protocol-Version", f"params._meta[{META_VERSION!r}]")
    if headers.get("mcp-method") != message.method:
        raise _mismatch("Mcp-Method", "method")
    if message.method == "tools/call" and headers.get("mcp-name") != message.params.get("name"):
        raise _mismatch("Mcp-Name", "params.name")


def _mismatch(header: str, field: str) -> RpcError:
    return RpcError(HEADER_MISMATCH, f"{header}: expected the same as {field}", field=header)
