"""Browser sessions: their cookies, their ends, and the token that each change needs."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from typing import Any

import pytest

from certctl.services import sessions, sweep
from certctl.services.access import secret_hash
from certctl.store.db import Database
from tests import kit
from tests.conftest import World
from tests.people import Browser, a_person, signed_in, with_people
from tests.web.kit import ADMIN, Site, json_of, open_site

CHANGES = ["POST", "PUT", "PATCH", "DELETE"]


async def listed(site: Site) -> list[Any]:
    return list((await site.get("/auth/sessions"))["sessions"])


async def test_a_person_is_known_by_the_cookie(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-operator")
    me = json_of(await ada.call("GET", "/auth/me"), 200)
    assert (me["actor_id"], me["actor_type"], me["roles"]) == ("u-ada", "User", ["r-operator"])
    made = json_of(await ada.call("POST", "/teams", json={"name": "red"}), 201)
    trail = (await site.get(f"/audit?resource_id={made['id']}"))["data"]
    assert {(row["actor"], row["actor_type"], row["address"]) for row in trail} == {
        ("u-ada", "User", "192.0.2.50")
    }


async def test_the_cookies_are_bound_to_host_path_and_https(site: Site) -> None:
    user_id = await a_person(site.world, password="a password for tests, only")
    answer = await Browser(site).log_in(user_id)
    session, csrf = answer.headers.get_list("set-cookie")
    for cookie in (session, csrf):
        parts = {part.strip() for part in cookie.split(";")[1:]}
        assert {"Path=/", "Secure", "SameSite=Lax", "Max-Age=28800"} <= parts
        assert not any(part.startswith("Domain") for part in parts)
    assert session.startswith("__Host-certctl_session=")
    assert "HttpOnly" in session
    assert csrf.startswith("__Host-certctl_csrf=")
    assert "HttpOnly" not in csrf


async def test_same_site_is_the_operators_choice(world: World) -> None:
    site = open_site(with_people(world, session_same_site="Strict"))
    user_id = await a_person(world, password="a password for tests, only")
    answer = await Browser(site).log_in(user_id)
    assert all("SameSite=Strict" in each for each in answer.headers.get_list("set-cookie"))


async def test_only_hashes_of_256_random_bits_are_kept(site: Site) -> None:
    ada = await signed_in(site)
    assert len(ada.session) == len(ada.csrf) == 43  # base64url of 32 octets
    (row,) = await kit.rows(site.world, "SELECT * FROM sessions")
    assert bytes(row["token_hash"]) == secret_hash(ada.session)
    assert bytes(row["csrf_hash"]) == secret_hash(ada.csrf)
    stored = str(row)
    assert ada.session not in stored
    assert ada.csrf not in stored


@pytest.mark.parametrize("method", CHANGES)
@pytest.mark.parametrize("token", ["", "wrong", "x" * 5000])
async def test_a_change_without_the_csrf_token_is_refused(
    site: Site, method: str, token: str
) -> None:
    ada = await signed_in(site, "ada", "r-admin")
    headers = {"X-CSRF-Token": token}
    answer = await ada.call(method, "/teams/t-default", json={"name": "red"}, headers=headers)
    assert answer.status_code == 403
    assert "X-CSRF-Token" in answer.json()["message"]
    assert (await site.get("/teams/t-default"))["name"] != "red"


async def test_the_csrf_token_of_another_session_does_not_count(site: Site) -> None:
    ada, eve = await signed_in(site, "ada", "r-admin"), await signed_in(site, "eve", "r-admin")
    headers = {"X-CSRF-Token": eve.csrf}
    assert (
        await ada.call("POST", "/teams", json={"name": "x"}, headers=headers)
    ).status_code == 403


async def test_a_read_needs_no_csrf_token_and_a_bearer_never_does(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-viewer")
    assert (await ada.http.get("/api/v1/teams")).status_code == 200
    assert (await site.call("POST", "/teams", json={"name": "red"})).status_code == 201


async def test_a_valid_session_comes_before_a_bearer_and_a_dead_one_after(site: Site) -> None:
    ada = await signed_in(site)
    bearer = {"Authorization": f"Bearer {ADMIN}"}
    assert (await ada.call("GET", "/auth/me", headers=bearer)).json()["actor_id"] == "u-ada"
    await kit.change(site.world, "UPDATE sessions SET revoked_at = now()")
    assert (await ada.call("GET", "/auth/me", headers=bearer)).json()["actor_id"] == "admin"
    assert (await ada.call("POST", "/teams", json={"name": "r"}, headers=bearer)).status_code == 201


ENDS = {
    "UPDATE sessions SET last_seen_at = now() - interval '61 minutes'": "idle_timeout",
    "UPDATE sessions SET created_at = now() - interval '9 hours', "
    "absolute_expires_at = now() - interval '1 second'": "absolute_timeout",
    "UPDATE sessions SET revoked_at = now(), revoked_because = 'back_channel'": (
        "back_channel_revoked"
    ),
    "UPDATE sessions SET revoked_at = now(), revoked_because = 'logout'": "invalid_token",
    "UPDATE users SET deactivated_at = now()": "invalid_token",
    "DELETE FROM sessions": "invalid_token",
}


@pytest.mark.parametrize("change", ENDS)
async def test_a_dead_session_is_told_why(site: Site, change: str) -> None:
    ada = await signed_in(site)
    assert await ada.is_in()
    await kit.change(site.world, change)
    answer = await ada.call("GET", "/auth/me")
    assert answer.status_code == 401
    assert f'error_description="{ENDS[change]}"' in answer.headers["WWW-Authenticate"]


@pytest.mark.parametrize("cookie", ["", "x", "x" * 43, "x" * 5000, "ü"])
async def test_a_forged_cookie_is_a_stranger(site: Site, cookie: str) -> None:
    headers = {b"cookie": f"__Host-certctl_session={cookie}".encode()}
    answer = await site.client.get("/api/v1/auth/me", headers=headers)
    assert answer.status_code == 401


async def test_use_keeps_a_session_alive_and_is_written_down_once_a_minute(site: Site) -> None:
    ada = await signed_in(site)
    seen = "SELECT last_seen_at FROM sessions"
    first = await kit.value(site.world, seen)
    assert await ada.is_in()
    assert await kit.value(site.world, seen) == first
    await kit.change(site.world, "UPDATE sessions SET last_seen_at = now() - interval '59 minutes'")
    assert await ada.is_in()
    assert await kit.value(site.world, seen) > first


async def test_a_longer_use_does_not_outlive_the_absolute_end(world: World) -> None:
    site = open_site(world)
    await signed_in(site)
    (row,) = await listed(site)
    assert row["idle_expires_at"] < row["absolute_expires_at"]
    await kit.change(
        world, "UPDATE sessions SET absolute_expires_at = now() + interval '10 minutes'"
    )
    (row,) = await listed(site)
    assert row["idle_expires_at"] == row["absolute_expires_at"]


@pytest.mark.parametrize(
    ("setting", "moved"),
    [("session_bind_ip", {"address": "192.0.2.99"}), ("session_bind_user_agent", {"agent": "y"})],
)
async def test_a_bound_session_counts_where_it_began_only(
    world: World, setting: str, moved: dict[str, str]
) -> None:
    for bound in (False, True):
        site = open_site(with_people(world, **{setting: bound}))
        ada = await signed_in(site, f"ada{bound}")
        thief = Browser(site, **moved)
        thief.http.cookies.update(ada.http.cookies)
        assert await ada.is_in()
        assert await thief.is_in() is not bound


async def test_logging_out_ends_the_session_and_clears_the_cookies(site: Site) -> None:
    ada = await signed_in(site)
    kept = ada.session
    answer = await ada.http.post("/auth/logout", headers={"X-CSRF-Token": ada.csrf})
    assert answer.status_code == 204
    assert not ada.session
    ada.http.cookies.set("__Host-certctl_session", kept)
    assert not await ada.is_in()
    assert "logout" in await kit.actions(site.world)
    assert (await Browser(site).http.post("/auth/logout")).status_code == 204


async def test_nobody_else_logs_a_person_out(site: Site) -> None:
    ada = await signed_in(site)
    assert (await ada.http.post("/auth/logout")).status_code == 403
    assert await ada.is_in()


async def test_a_person_sees_and_ends_their_own_sessions(site: Site) -> None:
    ada, other = await signed_in(site, "ada", "r-admin"), Browser(site)
    await other.log_in("u-ada")
    await signed_in(site, "eve")
    rows = json_of(await ada.call("GET", "/auth/sessions"), 200)["sessions"]
    assert {row["actor_id"] for row in rows} == {"u-ada"}
    answer = await ada.call("DELETE", "/auth/sessions?except=current")
    assert answer.json() == {"revoked_count": 1}
    assert await ada.is_in()
    assert not await other.is_in()
    assert (await ada.call("DELETE", "/auth/sessions")).status_code == 400
    (own,) = json_of(await ada.call("GET", "/auth/sessions"), 200)["sessions"]
    assert (await ada.call("DELETE", f"/auth/sessions/{own['id']}")).status_code == 204
    assert not await ada.is_in()


async def a_role(site: Site, *permissions: str) -> str:
    role = await site.post("/auth/roles", {"name": "-".join(permissions)})
    for permission in permissions:
        body = {"permission": permission}
        await site.post(f"/auth/roles/{role['id']}/permissions", body, status=204)
    return str(role["id"])


async def test_others_sessions_need_the_permission_for_all(site: Site) -> None:
    role = await a_role(site, "auth.session.list", "auth.session.revoke")
    ada, eve = await signed_in(site, "ada", role), await signed_in(site, "eve")
    (of_eve,) = (await site.get("/auth/sessions?actor_id=u-eve"))["sessions"]
    assert (await ada.call("GET", "/auth/sessions?actor_id=u-eve")).status_code == 403
    assert (await ada.call("DELETE", f"/auth/sessions/{of_eve['id']}")).status_code == 404
    assert await eve.is_in()
    assert {row["actor_id"] for row in await listed(site)} == {"u-ada", "u-eve"}
    await site.call("DELETE", f"/auth/sessions/{of_eve['id']}")
    assert not await eve.is_in()
    assert (await site.get("/auth/sessions?actor_type=APIKey"))["sessions"] == []


async def test_a_role_that_is_taken_away_counts_at_once(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-viewer")
    assert (await ada.call("GET", "/teams")).status_code == 200
    await site.call("DELETE", "/auth/keys/u-ada/roles/r-viewer")
    assert (await ada.call("GET", "/teams")).status_code == 403


async def test_old_sessions_are_forgotten(site: Site) -> None:
    ada = await signed_in(site)
    await sweep.prune(site.world.platform)
    assert await ada.is_in()
    await kit.change(
        site.world,
        """UPDATE sessions SET created_at = now() - interval '3 days',
               absolute_expires_at = now() - interval '2 days'""",
    )
    await sweep.prune(site.world.platform)
    assert await kit.value(site.world, "SELECT count(*) FROM sessions") == 0


async def test_while_the_store_is_away_a_session_is_neither_good_nor_bad(world: World) -> None:
    away = Database(world.conninfo, max_size=4)
    await away.open()
    await away.close()
    site = open_site(replace(world, platform=replace(world.platform, db=away)))
    browser = Browser(site)
    browser.http.cookies.set("__Host-certctl_session", "x" * 43)
    answer = await browser.call("GET", "/auth/me")
    assert (answer.status_code, answer.headers["Retry-After"]) == (503, "1")


async def test_many_requests_at_once_of_one_session_all_count(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-viewer")
    answers = await asyncio.gather(*(ada.call("GET", "/auth/me") for _ in range(10)))
    assert {answer.status_code for answer in answers} == {200}


def test_the_secrets_of_a_session_are_in_no_representation() -> None:
    opened = sessions.Opened("the token", "the csrf", 1)
    assert "the token" not in repr(opened)
