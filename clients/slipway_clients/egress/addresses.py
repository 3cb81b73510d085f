"""Which addresses the operator never connects to, however they are written."""

from collections.abc import Iterator
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network

REFUSED = {
    "loopback": ("127.0.0.0/8", "::1/128"),
    "link-local": ("169.254.0.0/16", "fe80::/10"),
    # Of clouds, beside 169.254.169.254: AWS by IPv6, Google by IPv6, Alibaba, Azure, Oracle.
    "metadata": ("fd00:ec2::/32", "fd20:ce::254/128", "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32"),
    "unspecified": ("0.0.0.0/8", "::/128"),  # Linux takes 0.0.0.0 for itself
    "multicast or reserved": ("224.0.0.0/4", "240.0.0.0/4", "ff00::/8", "fec0::/10"),
}
NETWORKS = [(why, ip_network(each)) for why, networks in REFUSED.items() for each in networks]

EMBEDDING = [ip_network(network) for network in ("64:ff9b::/96", "64:ff9b:1::/48", "::/96", "::ffff:0:0:0/96")]
"""IPv6 networks whose last 32 bits are an IPv4 address that a gateway connects to (RFC 6052, RFC 8215, RFC 4291, RFC 7915)."""


def refusal(address: str) -> str | None:
    """Why this address is not connected to; None for one that may be. Anything but an IP address is refused."""
    try:
        given = ip_address(address)
    except ValueError:
        return "no IP address"
    return next((why for form in _forms(given) for why, network in NETWORKS if form in network), None)


def is_loopback(host: str) -> bool:
    """Whether a host is this machine by its own words: `localhost`, or a loopback address in its usual form."""
    try:
        return host == "localhost" or ip_address(host).is_loopback
    except ValueError:
        return False


def _forms(address: IPv4Address | IPv6Address) -> Iterator[IPv4Address | IPv6Address]:
    """The address, and every IPv4 address that is wrapped in it."""
    yield address
    if isinstance(address, IPv4Address):
        return
    teredo = address.teredo
    yield from filter(None, (address.ipv4_mapped, address.sixtofour, *(teredo or ())))
    if any(address in network for network in EMBEDDING):
        yield IPv4Address(int(address) & 0xFFFFFFFF)
    if address.scope_id:
        yield IPv6Address(int(address))
