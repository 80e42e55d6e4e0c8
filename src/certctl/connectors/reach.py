"""Where certctl's own calls may go: a name is resolved once, every address of it is checked, and
the addresses that were checked are the only ones to connect to."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field
from ipaddress import (
    IPv4Address,
    IPv4Network,
    IPv6Address,
    IPv6Network,
    ip_address,
    ip_network,
)
from typing import Final

from certctl.domain.errors import Refused, Unavailable

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Awaitable[Sequence[str]]]

TIMEOUT: Final = 5.0  # seconds for the resolver

PRIVATE: Final = "a private address (CERTCTL_BLOCK_RFC1918_OUTBOUND)"
RESERVED: Final = "a reserved address"
# The first that fits tells what an address is. Metadata services hand credentials to whoever asks;
# some of them have addresses outside the link-local networks: 168.63.129.16 and 100.100.100.200
# are those of Azure and Alibaba, fd00:ec2::/32, fd20:ce::254 and fd00:c1:: of AWS, Google, Oracle.
KINDS: Final[dict[str, tuple[Network, ...]]] = {
    kind: tuple(map(ip_network, networks.split()))
    for kind, networks in {
        "a metadata address": "169.254.169.254 168.63.129.16 100.100.100.200 192.0.0.192 "
        "fd00:ec2::/32 fd20:ce::254 fd00:c1::a9fe:a9fe",
        "an unspecified address": "0.0.0.0/8 ::",
        "a loopback address": "127.0.0.0/8 ::1",
        "a link-local address": "169.254.0.0/16 fe80::/10",
        "a multicast address": "224.0.0.0/4 ff00::/8",
        PRIVATE: "10.0.0.0/8 172.16.0.0/12 192.168.0.0/16 100.64.0.0/10 fc00::/7",
        RESERVED: "192.0.0.0/24 192.0.2.0/24 192.88.99.0/24 198.18.0.0/15 198.51.100.0/24 "
        "203.0.113.0/24 240.0.0.0/4 2001::/23 2001:db8::/32 3fff::/20",
    }.items()
}
UNICAST: Final = IPv6Network("2000::/3")  # all that IPv6 has for use in public (RFC 4291 §2.4)
NAT64: Final = IPv6Network("64:ff9b::/96")


async def system_resolver(host: str, port: int) -> list[str]:
    """The addresses of a name, in the order in which the system would try them."""
    loop = asyncio.get_running_loop()
    found = await loop.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return [str(where[0]) for *_, where in found]


@dataclass(frozen=True)
class Reach:
    """What the operator allows in addition, and whether private networks are refused too.

    Private are RFC 1918, the shared space of RFC 6598, and the unique local addresses of RFC 4193.
    """

    allowed: tuple[Network, ...] = ()
    block_private: bool = False
    resolve: Resolve = field(default=system_resolver, kw_only=True)

    async def addresses(self, host: str, port: int) -> tuple[Address, ...]:
        """The addresses of `host`, each checked: to be connected to without resolving it again.

        One bad address refuses the name. Nobody means a server to be at a public address and at a
        loopback one; who answers so is trying which of them we take.

        Raises:
            Unavailable: when the name does not resolve in 5 s.
            Refused: naming the address and the setting that would allow it.
        """
        try:
            async with asyncio.timeout(TIMEOUT):
                found = await self.resolve(host, port)
            addresses = tuple(dict.fromkeys(map(ip_address, found)))
        except TimeoutError:
            raise Unavailable(f"{host} was not resolved within {TIMEOUT:g} s") from None
        except (OSError, ValueError) as error:
            why = (isinstance(error, OSError) and error.strerror) or "it is not a host name"
            raise Unavailable(f"{host} cannot be resolved ({why})") from None
        if not addresses:
            raise Unavailable(f"{host} has no address")
        for address in addresses:
            self._check(host, address)
        return addresses

    def _check(self, host: str, address: Address) -> None:
        for end in carried(address):
            kind = what_is(end)
            if kind is None or any(end in network for network in self.allowed):
                continue
            if kind == PRIVATE and not self.block_private:
                continue
            who = host if str(address) == host else f"{host} leads to {address}, which"
            does = "is" if end == address else f"carries {end},"
            raise Refused(
                f"{who} {does} {kind}: certctl does not call it unless CERTCTL_OUTBOUND_ALLOW "
                "names it"
            )


def what_is(address: Address) -> str | None:
    """What makes an address special, in words; None for one in public use."""
    for kind, networks in KINDS.items():
        if any(address in network for network in networks):
            return kind
    return None if address.version == 4 or address in UNICAST else RESERVED


def carried(address: Address) -> tuple[Address, ...]:
    """Where a packet for `address` may come out: at the IPv4 addresses that it carries (mapped,
    NAT64 by RFC 6052, 6to4, Teredo), or at itself."""
    if isinstance(address, IPv4Address):
        return (address,)
    if address.ipv4_mapped is not None:
        return (address.ipv4_mapped,)
    if address in NAT64:
        return (IPv4Address(int(address) & 0xFFFF_FFFF),)
    if address.sixtofour is not None:
        return (address.sixtofour,)
    return address.teredo or (address,)
