"""Pages of other origins: denied unless listed, and never with a browser's own credentials."""

from __future__ import annotations

import httpx
import pytest

from certctl.web.app import Budgets
from certctl.web.limits import Limiter
from tests.conftest import World
from tests.web.kit import ADMIN, Site, open_site

CONSOLE = "https://console.example"
BEARER = {"Authorization": f"Bearer {ADMIN}"}


def allowing(world: World, *origins: str) -> Site:
    return open_site(world, origins=frozenset(origins))


async def preflight(site: Site, origin: str, path: str = "/api/v1/teams") -> httpx.Response:
    headers = {"Origin": origin, "Access-Control-Request-Method": "PUT"}
    return await site.client.options(path, headers=headers)


def named(answer: httpx.Response) -> dict[str, str]:
    return {k: v for k, v in answer.headers.items() if k.startswith("access-control")}


async def test_without_a_list_no_origin_is_told_anything(site: Site) -> None:
    answers = [
        await preflight(site, CONSOLE),
        await site.client.get("/api/v1/teams", headers={"Origin": CONSOLE, **BEARER}),
        await site.client.get("/health", headers={"Origin": CONSOLE}),
    ]
    assert [each.status_code for each in answers] == [401, 200, 200]
    for each in answers:
        assert named(each) == {}
        assert "Vary" not in each.headers


async def test_a_listed_origin_may_ask(world: World) -> None:
    site = allowing(world, CONSOLE, "http://localhost:5173")
    async with site.client:
        asked = await preflight(site, CONSOLE)
        got = await site.client.get("/api/v1/teams", headers={"Origin": CONSOLE, **BEARER})
        refused = await site.client.get("/api/v1/teams", headers={"Origin": CONSOLE})
    assert asked.status_code == 204
    assert asked.headers["Access-Control-Allow-Methods"] == "GET, POST, PUT, DELETE, PATCH, OPTIONS"
    assert {"content-type", "authorization", "x-request-id"} <= {
        name.strip().lower() for name in asked.headers["Access-Control-Allow-Headers"].split(",")
    }
    assert asked.headers["Access-Control-Max-Age"] == "86400"
    assert (got.status_code, refused.status_code) == (200, 401)
    for answer in (asked, got, refused):
        assert answer.headers["Access-Control-Allow-Origin"] == CONSOLE
        assert answer.headers["Vary"] == "Origin"
        assert "Access-Control-Allow-Credentials" not in answer.headers
        assert answer.headers["X-Request-ID"]


@pytest.mark.parametrize(
    "origin",
    [
        "https://console.example.evil.test", "https://console.example:8443", "null", "*",
        "http://console.example", "https://CONSOLE.example", "https://console.example/",
    ],
)  # fmt: skip
async def test_another_origin_may_not(world: World, origin: str) -> None:
    site = allowing(world, CONSOLE)
    async with site.client:
        asked = await preflight(site, origin)
        got = await site.client.get("/api/v1/teams", headers={"Origin": origin, **BEARER})
    assert (asked.status_code, got.status_code) == (401, 200)
    for answer in (asked, got):
        assert named(answer) == {}
        assert answer.headers["Vary"] == "Origin"


async def test_a_star_is_told_as_a_star(world: World) -> None:
    site = allowing(world, "*")
    async with site.client:
        answer = await preflight(site, "https://anything.example")
    assert (answer.status_code, answer.headers["Access-Control-Allow-Origin"]) == (204, "*")


async def test_options_that_is_no_preflight_is_asked_for_a_key(world: World) -> None:
    site = allowing(world, CONSOLE)
    async with site.client:
        answer = await site.client.options("/api/v1/teams", headers={"Origin": CONSOLE})
    assert answer.status_code == 401


async def test_preflights_are_counted_by_address(world: World) -> None:
    budgets = Budgets(None, Limiter(rate=0.1, burst=2), None, 1024)
    site = open_site(world, budgets=budgets, origins=frozenset({CONSOLE}))
    async with site.client:
        statuses = [(await preflight(site, CONSOLE)).status_code for _ in range(3)]
    assert statuses == [204, 204, 429]


async def test_revocation_status_is_no_business_of_pages(world: World) -> None:
    site = allowing(world, CONSOLE)
    async with site.client:
        path = "/.well-known/pki/crl/iss-local"
        answer = await site.client.get(path, headers={"Origin": CONSOLE})
        assert (answer.status_code, named(answer)) == (200, {})
