"""Where a request comes from: proxies that are trusted are believed, and nobody else."""

from __future__ import annotations

from ipaddress import ip_network

import pytest

from certctl.web.app import Budgets
from certctl.web.forwarded import client_address
from certctl.web.front import Rules
from certctl.web.limits import Limiter
from tests.conftest import World
from tests.web.kit import ADDRESS, ADMIN, client, open_site

PROXIES = (ip_network("192.0.2.0/24"), ip_network("2001:db8:f::/48"))
PEER = "192.0.2.1"


def seen(peer: str | None, *forwarded: str) -> str | None:
    headers = [(b"x-forwarded-for", text.encode("latin-1")) for text in forwarded]
    return client_address(peer, [(b"host", b"x"), *headers], PROXIES)


@pytest.mark.parametrize(
    ("forwarded", "client"),
    [
        (["203.0.113.5"], "203.0.113.5"),
        (["6.6.6.6, 203.0.113.5"], "203.0.113.5"),
        (["6.6.6.6", "203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5, 192.0.2.9,192.0.2.8"], "203.0.113.5"),
        (["2001:db8:1::5, 2001:db8:f::1"], "2001:db8:1::5"),
        (["::ffff:203.0.113.5"], "203.0.113.5"),
        (["192.0.2.7, 192.0.2.8"], "192.0.2.7"),
        ([], PEER),
        ([""], PEER),
        (["203.0.113.5, unknown"], PEER),
        (["203.0.113.5:4711"], PEER),
        (["unknown, 203.0.113.5"], "203.0.113.5"),
        (["203.0.113.5,"], PEER),
        (["\xff, \xfe"], PEER),
    ],
)
def test_the_nearest_address_that_is_no_proxy_of_ours_is_the_client(
    forwarded: list[str], client: str
) -> None:
    assert seen(PEER, *forwarded) == client
    assert seen(f"::ffff:{PEER}", *forwarded) in {client, f"::ffff:{PEER}"}


@pytest.mark.parametrize("peer", ["198.51.100.1", "2001:db8:e::1", "a unix socket", None])
def test_nobody_else_is_believed(peer: str | None) -> None:
    assert seen(peer, "203.0.113.5") == peer
    assert client_address(PEER, [(b"x-forwarded-for", b"203.0.113.5")], ()) == PEER


async def test_limits_and_the_audit_trail_see_the_same_client(world: World) -> None:
    limiter = Limiter(rate=1, burst=1)
    site = open_site(
        world,
        budgets=Budgets(None, limiter, limiter, 1024),
        rules=Rules(trusted=(ip_network(ADDRESS),)),
    )
    one, two, other = ({"X-Forwarded-For": f"203.0.113.{number}"} for number in (1, 2, 3))
    async with site.client:
        statuses = [
            (await site.client.get("/health", headers=each)).status_code for each in (one, one, two)
        ]
        assert statuses == [200, 429, 200]
        await site.post("/teams", {"name": "red"}, headers=other)
        (event, *_) = (await site.get("/audit?resource_type=team"))["data"]
        assert event["address"] == "203.0.113.3"
        door = site.client._transport.app  # type: ignore[attr-defined]
        async with client(door, address="198.51.100.4") as liar:
            headers = {"Authorization": f"Bearer {ADMIN}", **one}
            await liar.post("/api/v1/teams", json={"name": "blue"}, headers=headers)
        (event, *_) = (await site.get("/audit?resource_type=team"))["data"]
        assert event["address"] == "198.51.100.4"
