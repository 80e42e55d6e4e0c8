"""Which addresses certctl's own calls may go to: every one that a name resolves to is judged."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from ipaddress import IPv4Address, IPv6Address, ip_address, ip_network
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from certctl.connectors.reach import PRIVATE, Reach, what_is
from certctl.domain.errors import Refused, Unavailable
from tests.connectors.resolving import reach

PRIVATE_NETWORKS = [
    ip_network(text)
    for text in ("10.0.0.0/8", "172.16.0.0/12", "192.168.0.0/16", "100.64.0.0/10", "fc00::/7")
]
METADATA = [
    "169.254.169.254",
    "168.63.129.16",
    "100.100.100.200",
    "192.0.0.192",
    "fd00:ec2::254",
    "fd00:ec2::23",
    "fd20:ce::254",
    "fd00:c1::a9fe:a9fe",
]
REFUSED = [
    *METADATA,
    *("0.0.0.0", "0.1.2.3", "127.0.0.1", "127.255.255.254", "169.254.0.1", "169.254.170.2"),
    *("192.0.0.8", "192.0.2.1", "192.88.99.1", "198.18.0.1", "198.19.255.255", "198.51.100.9"),
    *("203.0.113.7", "224.0.0.1", "239.255.255.255", "240.0.0.1", "255.255.255.255"),
    *("::", "::1", "::2", "::127.0.0.1", "fe80::1", "febf::1", "fec0::1", "ff02::1", "100::1"),
    *("64:ff9b:1::1", "2001:2::1", "2001:20::1", "2001:db8::1", "3fff::1", "5f00::1", "4000::1"),
    *("::ffff:127.0.0.1", "::ffff:169.254.169.254", "::ffff:0:127.0.0.1", "64:ff9b::7f00:1"),
    *("64:ff9b::a9fe:a9fe", "2002:7f00:1::1", "2002:a9fe:a9fe::", "2002:e000:1::"),
    *("2001:0:7f00:1::f7f7:f7f7", "2001:0:808:808::8000:fffe"),
]
CALLED = [
    *("1.1.1.1", "8.8.8.8", "126.255.255.255", "128.0.0.1", "169.253.1.1", "223.255.255.255"),
    *("10.0.0.1", "172.16.0.1", "172.31.255.255", "192.168.1.1", "100.64.0.1", "fd00::1"),
    *("fdff:ffff::1", "2606:4700::1111", "2a00::1", "::ffff:8.8.8.8", "::ffff:10.0.0.1"),
    *("64:ff9b::808:808", "2002:808:808::1", "2001:0:808:808::f7f7:f7f7"),
]
PRIVATELY = ["10.0.0.1", "172.31.0.1", "192.168.0.9", "100.64.0.1", "fd00::1", "::ffff:10.0.0.1"]


async def goes(where: Reach) -> tuple[str, ...]:
    return tuple(map(str, await where.addresses("hooks.test", 443)))


def is_called(address: str, **settings: Any) -> bool:
    try:
        asyncio.run(goes(reach(address, **settings)))
    except Refused:
        return False
    return True


@pytest.mark.parametrize("address", REFUSED)
async def test_a_special_address_is_refused_with_the_setting_that_would_allow_it(
    address: str,
) -> None:
    with pytest.raises(Refused) as refusal:
        await goes(reach(address))
    told = refusal.value.message
    assert told.startswith(f"hooks.test leads to {ip_address(address)}, which ")
    assert "CERTCTL_OUTBOUND_ALLOW" in told


@pytest.mark.parametrize("address", CALLED)
async def test_public_and_private_addresses_are_called(address: str) -> None:
    assert await goes(reach(address)) == (str(ip_address(address)),)


@pytest.mark.parametrize("address", PRIVATELY)
async def test_private_addresses_are_refused_where_the_operator_says_so(address: str) -> None:
    with pytest.raises(Refused, match="CERTCTL_BLOCK_RFC1918_OUTBOUND"):
        await goes(reach(address, block_private=True))


@pytest.mark.parametrize("address", METADATA)
async def test_a_metadata_address_is_told_as_one(address: str) -> None:
    with pytest.raises(Refused, match="a metadata address"):
        await goes(reach(address))


@pytest.mark.parametrize(
    ("address", "allowed"),
    [
        ("127.0.0.1", "127.0.0.0/8"),
        ("::1", "::1"),
        ("169.254.169.254", "169.254.169.254"),
        ("fe80::1", "fe80::/10"),
        ("10.1.2.3", "10.1.0.0/16"),
        ("::ffff:127.0.0.1", "127.0.0.1"),
        ("64:ff9b::7f00:1", "127.0.0.1"),
    ],
)
async def test_what_the_operator_allows_is_called_whatever_else_is_set(
    address: str, allowed: str
) -> None:
    assert await goes(reach(address, allowed=[allowed], block_private=True))


async def test_an_allowance_is_for_its_network_alone() -> None:
    with pytest.raises(Refused):
        await goes(reach("127.0.0.2", allowed=["127.0.0.1", "10.0.0.0/8"]))


@pytest.mark.parametrize("answer", [("8.8.8.8", "127.0.0.1"), ("fe80::1", "8.8.8.8")])
async def test_one_bad_address_among_good_ones_refuses_the_name(answer: tuple[str, ...]) -> None:
    with pytest.raises(Refused):
        await goes(reach(*answer))


async def test_an_address_that_a_resolver_repeats_is_one() -> None:
    assert await goes(reach("8.8.8.8", "8.8.4.4", "8.8.8.8")) == ("8.8.8.8", "8.8.4.4")


async def test_a_name_without_an_address_is_unavailable() -> None:
    with pytest.raises(Unavailable, match="no address"):
        await goes(reach())


@pytest.mark.parametrize("host", ["x" * 64, "a..b", "no-such-name.invalid"])
async def test_a_name_that_cannot_be_resolved_is_unavailable(host: str) -> None:
    with pytest.raises(Unavailable, match=f"{host} cannot be resolved"):
        await Reach().addresses(host, 443)


async def test_a_resolver_that_does_not_answer_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    async def silent(host: str, port: int) -> Sequence[str]:
        await asyncio.Event().wait()
        return ()

    monkeypatch.setattr("certctl.connectors.reach.TIMEOUT", 0.05)
    with pytest.raises(Unavailable, match=r"hooks.test was not resolved within 0\.05 s"):
        await Reach(resolve=silent).addresses("hooks.test", 443)


@pytest.mark.parametrize("host", ["127.1", "2130706433", "0x7f.0.0.1", "0177.0.0.1", "localhost"])
async def test_every_spelling_of_the_loopback_is_seen_through(host: str) -> None:
    with pytest.raises(Refused, match="a loopback address"):
        await Reach().addresses(host, 443)


def embeddings(inside: IPv4Address) -> list[IPv6Address]:
    """The IPv6 addresses that carry an IPv4 address."""
    bits, all_ones = int(inside), 0xFFFF_FFFF
    return [
        IPv6Address(f"::ffff:{inside}"),
        IPv6Address(int(IPv6Address("64:ff9b::")) | bits),
        IPv6Address(0x2002 << 112 | bits << 80 | 1),
        IPv6Address(0x2001_0000 << 96 | 0x0808_0808 << 64 | (bits ^ all_ones)),
    ]


def special(address: IPv4Address | IPv6Address) -> bool:
    """What Python knows to be for no use in public, private networks apart."""
    return (not address.is_global or address.is_multicast or address.is_reserved) and not any(
        address in network for network in PRIVATE_NETWORKS
    )


special_networks = [
    network
    for constants in (
        *(IPv4Address("0.0.0.0")._constants, IPv6Address("::")._constants),  # type: ignore[attr-defined]
    )
    for value in vars(constants).values()
    for network in (value if isinstance(value, list) else [value])
    if hasattr(network, "num_addresses")
]
somewhere_special = st.sampled_from(special_networks).flatmap(
    lambda network: st.integers(0, network.num_addresses - 1).map(lambda n: network[n])
)
anywhere = st.one_of(st.ip_addresses(v=4), st.ip_addresses(v=6), somewhere_special)


def test_python_tells_of_special_networks() -> None:
    assert ip_network("169.254.0.0/16") in special_networks
    assert ip_network("fe80::/10") in special_networks


@given(anywhere)
def test_whatever_python_takes_for_special_is_refused(address: IPv4Address | IPv6Address) -> None:
    if special(address) and not (address.version == 6 and carries(address)):
        assert what_is(address) not in {None, PRIVATE}
        assert not is_called(str(address))


def carries(address: IPv6Address) -> bool:
    found = (address.ipv4_mapped, address.sixtofour, address.teredo)
    return any(found) or address in ip_network("64:ff9b::/96")


@given(st.one_of(st.ip_addresses(v=4), somewhere_special.filter(lambda a: a.version == 4)))
def test_an_address_is_judged_by_the_ipv4_address_that_it_carries(inside: IPv4Address) -> None:
    judged = is_called(str(inside))
    assert [is_called(str(outside)) for outside in embeddings(inside)] == [judged] * 4
    strictly = is_called(str(inside), block_private=True)
    assert {is_called(str(o), block_private=True) for o in embeddings(inside)} == {strictly}


@given(st.sampled_from(PRIVATE_NETWORKS).flatmap(lambda n: st.ip_addresses(network=n)))
def test_an_address_of_a_private_network_is_called_by_default_alone(
    address: IPv4Address | IPv6Address,
) -> None:
    assert is_called(str(address)) is (what_is(address) == PRIVATE)
    assert not is_called(str(address), block_private=True)


@given(anywhere)
def test_what_is_blocked_more_strictly_is_never_called_more(
    address: IPv4Address | IPv6Address,
) -> None:
    assert is_called(str(address)) or not is_called(str(address), block_private=True)
    assert is_called(str(address), allowed=["0.0.0.0/0", "::/0"], block_private=True)
