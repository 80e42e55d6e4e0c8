"""The address that a request comes from: the peer's, or what proxies that are trusted say of it."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import lru_cache
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address

Networks = tuple[IPv4Network | IPv6Network, ...]


def client_address(
    peer: str | None, headers: Iterable[tuple[bytes, bytes]], trusted: Networks
) -> str | None:
    """The client's address, or the peer's when nobody trustworthy names another.

    Only a peer among `trusted` is believed. X-Forwarded-For is read from the right, where the
    nearest proxy wrote, and the first address that is no trusted proxy is the client; a part
    that is no address ends the search at the peer. `Forwarded` (RFC 7239) is not read.
    """
    if not trusted or not is_trusted(peer, trusted):
        return peer
    told = b",".join(value for name, value in headers if name == b"x-forwarded-for")
    return _named(told.decode("latin-1").split(","), peer, trusted)


def _named(hops: Sequence[str], peer: str | None, trusted: Networks) -> str | None:
    nearest = peer
    for hop in reversed(hops):
        address = _parsed(hop.strip())
        if address is None:
            return peer
        nearest = str(address)
        if not is_trusted(nearest, trusted):
            break
    return nearest


@lru_cache(maxsize=4096)
def is_trusted(address: str | None, trusted: Networks) -> bool:
    """Whether the address is one of these; an IPv4 address in IPv6 clothes counts as IPv4."""
    parsed = _parsed(address or "")
    return parsed is not None and any(parsed in network for network in trusted)


def _parsed(text: str) -> IPv4Address | IPv6Address | None:
    try:
        address = ip_address(text)
    except ValueError:
        return None
    if isinstance(address, IPv6Address):
        return address.ipv4_mapped or address
    return address
