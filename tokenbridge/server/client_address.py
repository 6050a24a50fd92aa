"""Where a request comes from: the one place that reads it. Whoever is no trusted proxy is taken for the client."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from typing import Final

from starlette.requests import Request

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network

HEADER: Final = "x-forwarded-for"
MOST_HOPS: Final = 16
LONGEST: Final = 64
"""Characters of one entry: an IPv6 address with brackets, zone and port has fewer."""


class ClientAddresses:
    """Finds the client behind the proxies that the operator trusts.

    Each proxy adds the address that it saw to the end of X-Forwarded-For. What stands there is read from the end, for
    as long as a trusted proxy has written it: everything before may be the client's own invention. RFC 7239's
    `Forwarded` is not read, since most proxies pass on what a client puts there.
    """

    def __init__(self, trusted: Iterable[str]) -> None:
        self._trusted = tuple(ip_network(text) for text in trusted)

    def of(self, peer: str, forwarded: Sequence[str]) -> Address | None:
        """`peer` is the other end of the connection, `forwarded` the header's values in their order.

        None: the connection has no network address.
        """
        found = _parsed(peer)
        # The rightmost are kept: a header that is longer than any chain of proxies hides nothing behind its length.
        entries = ",".join(forwarded).split(",")[-MOST_HOPS:] if found is not None and forwarded else []
        while found is not None and entries and self._trusts(found):
            entry = _parsed(entries.pop())
            if entry is None:
                break
            found = entry
        return found

    def _trusts(self, address: Address) -> bool:
        return any(address in network for network in self._trusted)


def client_address(request: Request) -> str:
    """The client's network address as text, empty when there is none; what rules by network and notices go by."""
    addresses: ClientAddresses = request.app.state.client_addresses
    peer = request.client.host if request.client is not None else ""
    found = addresses.of(peer, request.headers.getlist(HEADER))
    return str(found) if found is not None else ""


def _parsed(text: str) -> Address | None:
    """An address, without the port, brackets and zone that some proxies write; None when it is none."""
    text = text.strip()
    if len(text) > LONGEST:
        return None
    if text.startswith("["):
        text = text[1:].partition("]")[0]
    elif text.count(":") == 1:
        text = text.partition(":")[0]
    try:
        found = ip_address(text.partition("%")[0])
    except ValueError:
        return None
    # A client that reaches a dual-stack socket by IPv4 is in its IPv4 network (RFC 4291 section 2.5.5.2).
    return found.ipv4_mapped or found if isinstance(found, IPv6Address) else found
