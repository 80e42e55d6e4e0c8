"""The browser's way through a login at certctl."""

from __future__ import annotations

from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlsplit

from tests import kit
from tests.people import Browser
from tests.web.kit import Site


async def began(browser: Browser, provider_id: str) -> str:
    """The provider's URL that the browser is sent to."""
    answer = await browser.http.get("/auth/oidc/login", params={"provider": provider_id})
    assert answer.status_code == 302, answer.text
    assert answer.headers["cache-control"] == "no-store"
    return str(answer.headers["location"])


async def came_back(browser: Browser, answer: dict[str, Any] | str) -> str:
    """`in`, or the category of the refusal."""
    if isinstance(answer, str):
        answer = dict(parse_qsl(urlsplit(answer).query))
    ended = await browser.http.get("/auth/oidc/callback", params=answer)
    assert ended.status_code == 302, ended.text
    where = ended.headers["location"]
    if where == "/":
        assert browser.session
        return "in"
    assert where.startswith("/login?error=oidc_failed&reason=")
    assert not browser.session
    return parse_qs(urlsplit(where).query)["reason"][0]


async def nobody_is_in(site: Site) -> bool:
    """No session, no person and no role by mapping has come of it."""
    counts = [
        await kit.value(site.world, f"SELECT count(*) FROM {table}")
        for table in ("sessions", "users", "actor_roles WHERE actor_type = 'User'")
    ]
    return counts == [0, 0, 0]
