"""People who have signed in, and their browsers."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import httpx

from certctl.domain.access import ActorType
from certctl.services import breakglass
from certctl.store import oidc, roles, users
from tests import kit
from tests.conftest import World, people
from tests.web.kit import Site, check_declared, client, open_site

PASSWORD = "a password for tests, only"
PROVIDER = "op-test"
AGENT = "a browser"


async def a_provider(world: World, provider_id: str = PROVIDER, **changes: Any) -> None:
    values = {
        "name": provider_id,
        "issuer_url": f"https://{provider_id}.example.test",
        "client_id": "certctl",
        "sealed_client_secret": b"",
        "redirect_uri": "https://certctl.test/auth/oidc/callback",
    }
    async with world.platform.db.transaction() as tx:
        await oidc.insert(tx, provider_id, {**values, **changes})


async def a_person(world: World, name: str = "ada", *role_ids: str, password: str = "") -> str:
    """The id of somebody who has signed in by the provider of the tests."""
    async with world.platform.db.read() as session:
        known = {row["id"] for row in await oidc.providers(session)}
    if PROVIDER not in known:
        await a_provider(world)
    user_id = f"u-{name}"
    async with world.platform.db.transaction() as tx:
        values = {"email": f"{name}@example.test", "display_name": name.title()}
        await users.provision(tx, user_id, {"provider": PROVIDER, "subject": name, **values})
        for role_id in role_ids:
            await roles.assign(tx, ActorType.USER, user_id, role_id=role_id, granted_by="test")
    if password:
        await breakglass.set_password(world.platform, kit.ADMIN, user_id, password)
    return user_id


def with_people(world: World, **changes: Any) -> World:
    """The world under other settings of signing in."""
    terms = replace(world.platform.terms, people=people(**changes))
    return replace(world, platform=replace(world.platform, terms=terms))


class Browser:
    """Somebody's browser: it keeps the cookies of the site, and sends the CSRF token by itself."""

    def __init__(self, site: Site, *, address: str = "192.0.2.50", agent: str = AGENT) -> None:
        door = site.client._transport.app  # type: ignore[attr-defined]
        self.http = client(door, address=address)
        self.http.headers["User-Agent"] = agent

    async def log_in(self, user_id: str, password: str = PASSWORD) -> httpx.Response:
        body = {"actor_id": user_id, "password": password}
        return await self.http.post("/auth/breakglass/login", json=body)

    @property
    def csrf(self) -> str:
        return self.http.cookies.get("__Host-certctl_csrf") or ""

    @property
    def session(self) -> str:
        return self.http.cookies.get("__Host-certctl_session") or ""

    async def call(self, method: str, path: str, **how: Any) -> httpx.Response:
        """Ask below /api/v1, a change with the CSRF token."""
        headers = {"X-CSRF-Token": self.csrf} if method != "GET" else {}
        headers |= how.pop("headers", {})
        answer = await self.http.request(method, f"/api/v1{path}", headers=headers, **how)
        check_declared(answer)
        return answer

    async def is_in(self) -> bool:
        return (await self.call("GET", "/auth/me")).status_code == 200


async def signed_in(site: Site, name: str = "ada", *role_ids: str, **how: Any) -> Browser:
    """The browser of a person with these roles who has just signed in."""
    user_id = await a_person(site.world, name, *role_ids, password=PASSWORD)
    browser = Browser(site, **how)
    assert (await browser.log_in(user_id)).status_code == 204
    return browser


__all__ = ["Browser", "a_person", "a_provider", "open_site", "signed_in", "with_people"]
