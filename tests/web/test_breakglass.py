"""The break-glass password: invisible when off; costly, locked and audited when on."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from certctl.services import breakglass
from tests import kit
from tests.conftest import World
from tests.people import PASSWORD, Browser, a_person, signed_in, with_people
from tests.web.kit import ADMIN, Site, json_of, open_site

CREDENTIALS = "/auth/breakglass/credentials"
ROUTES = [
    ("POST", "/auth/breakglass/login"),
    ("GET", f"/api/v1{CREDENTIALS}"),
    ("POST", f"/api/v1{CREDENTIALS}"),
    ("POST", f"/api/v1{CREDENTIALS}/u-ada/unlock"),
    ("DELETE", f"/api/v1{CREDENTIALS}/u-ada"),
]


def told(answer: Any) -> tuple[int, dict[str, Any], set[str]]:
    body = {name: value for name, value in answer.json().items() if name != "request_id"}
    return answer.status_code, body, set(answer.headers)


@pytest.mark.parametrize(("method", "path"), ROUTES)
async def test_turned_off_it_answers_as_an_unknown_path_does(
    world: World, method: str, path: str
) -> None:
    await a_person(world, "ada", "r-admin", password=PASSWORD)
    site = open_site(with_people(world, breakglass=False))
    body = {"actor_id": "u-ada", "password": PASSWORD}
    async with site.client:
        for headers in ({}, {"Authorization": f"Bearer {ADMIN}"}):
            unknown = await site.client.request(method, "/nothing", json=body, headers=headers)
            answer = await site.client.request(method, path, json=body, headers=headers)
            assert told(answer) == told(unknown)
    assert "breakglass_login" not in await kit.actions(world)


async def test_the_password_opens_a_session_and_is_kept_as_argon2id(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-viewer")
    assert await ada.is_in()
    stored = await kit.value(site.world, "SELECT password_hash FROM breakglass_credentials")
    assert stored.startswith("$argon2id$v=19$m=65536,t=3,p=4$")
    assert PASSWORD not in str(await kit.rows(site.world, "SELECT * FROM audit_events"))
    (row,) = (await site.get(CREDENTIALS))["credentials"]
    assert (row["actor_id"], row["failure_count"], row["locked_until"]) == ("u-ada", 0, None)
    assert "breakglass_login" in await kit.actions(site.world)


def test_nobodys_hash_costs_what_a_real_one_does() -> None:
    assert not breakglass.ARGON2.check_needs_rehash(breakglass.NOBODYS)


@pytest.mark.parametrize("kind", ["text/plain", "application/x-www-form-urlencoded", ""])
async def test_a_form_of_another_site_signs_nobody_in(site: Site, kind: str) -> None:
    await a_person(site.world, "ada", password=PASSWORD)
    browser = Browser(site)
    body = f'{{"actor_id": "u-ada", "password": "{PASSWORD}"}}'
    headers = {"Content-Type": kind}
    answer = await browser.http.post("/auth/breakglass/login", content=body, headers=headers)
    assert (answer.status_code, answer.json()["field"]) == (400, "Content-Type")
    assert not browser.session


async def failures(site: Site) -> list[dict[str, Any]]:
    rows = await kit.rows(
        site.world,
        """SELECT details, resource_id, address FROM audit_events
           WHERE action = %(a)s ORDER BY sequence""",
        a="breakglass_login_failed",
    )
    return [{**row["details"], "of": row["resource_id"], "from": row["address"]} for row in rows]


WRONG = [
    ("u-ada", "another password", "wrong_password"),
    ("u-ada", "short", "wrong_password"),
    ("u-ada", "x" * 300, "wrong_password"),
    ("u-ada", "", "wrong_password"),
    ("u-eve", PASSWORD, "unknown_or_locked"),
    ("u-nobody", PASSWORD, "unknown_or_locked"),
]


@pytest.mark.parametrize(("user_id", "password", "reason"), WRONG)
async def test_a_wrong_attempt_is_told_in_the_same_words_whoever_it_names(
    site: Site, user_id: str, password: str, reason: str
) -> None:
    await a_person(site.world, "ada", password=PASSWORD)
    await a_person(site.world, "eve")
    browser = Browser(site)
    answer = await browser.log_in(user_id, password)
    assert answer.status_code == 401
    assert answer.json()["message"] == (
        "the user or the password is wrong, or the account is locked"
    )
    assert not browser.session
    (failure,) = await failures(site)
    assert (failure["of"], failure["reason"], failure["from"]) == (user_id, reason, "192.0.2.50")


@pytest.mark.parametrize(
    "body", [{}, {"actor_id": "u-ada"}, {"actor_id": "a b", "password": "x"}, []]
)
async def test_a_malformed_attempt_names_the_field(site: Site, body: Any) -> None:
    answer = await Browser(site).http.post("/auth/breakglass/login", json=body)
    assert answer.status_code == 400
    assert answer.json()["field"]


async def test_failures_lock_the_right_password_out_until_the_lock_ends(world: World) -> None:
    site = open_site(with_people(world, breakglass_threshold=3))
    await a_person(world, "ada", password=PASSWORD)
    for n in range(3):
        await Browser(site).log_in("u-ada", f"wrong password {n}")
    assert (await Browser(site).log_in("u-ada")).status_code == 401
    assert [each["reason"] for each in await failures(site)][-1] == "unknown_or_locked"
    (row,) = (await site.get(CREDENTIALS))["credentials"]
    assert (row["failure_count"], row["locked_until"] is None) == (3, False)
    await kit.change(world, "UPDATE breakglass_credentials SET locked_until = now()")
    other = Browser(site, address="192.0.2.51")
    assert (await other.log_in("u-ada")).status_code == 204
    (row,) = (await site.get(CREDENTIALS))["credentials"]
    assert (row["failure_count"], row["locked_until"]) == (0, None)


async def test_attempts_at_once_are_no_more_than_one_after_the_other(world: World) -> None:
    site = open_site(with_people(world, breakglass_threshold=2))
    await a_person(world, "ada", password=PASSWORD)
    await asyncio.gather(
        *(
            Browser(site, address=f"192.0.2.{n}").log_in("u-ada", f"wrong password {n}")
            for n in range(6)
        )
    )
    reasons = [each["reason"] for each in await failures(site)]
    assert sorted(reasons) == ["unknown_or_locked"] * 4 + ["wrong_password"] * 2


async def test_failures_are_forgotten_after_a_quiet_time_and_at_a_success(world: World) -> None:
    site = open_site(with_people(world, breakglass_threshold=2))
    await a_person(world, "ada", password=PASSWORD)
    await Browser(site).log_in("u-ada", "wrong password")
    await kit.change(
        world, "UPDATE breakglass_credentials SET last_failure_at = now() - interval '2 hours'"
    )
    await Browser(site).log_in("u-ada", "wrong password")
    assert (await Browser(site).log_in("u-ada")).status_code == 204
    await Browser(site, address="192.0.2.51").log_in("u-ada", "wrong password")
    assert (await Browser(site, address="192.0.2.51").log_in("u-ada")).status_code == 204


async def test_an_administrator_unlocks(world: World) -> None:
    site = open_site(with_people(world, breakglass_threshold=1))
    await a_person(world, "ada", password=PASSWORD)
    await Browser(site).log_in("u-ada", "wrong password")
    assert (await Browser(site).log_in("u-ada")).status_code == 401
    await site.post(f"{CREDENTIALS}/u-ada/unlock", None, status=204)
    assert (await Browser(site).log_in("u-ada")).status_code == 204
    await site.refused(404, "POST", f"{CREDENTIALS}/u-eve/unlock")


async def test_an_address_has_five_attempts_a_minute_whoever_it_names(site: Site) -> None:
    browser = Browser(site)
    statuses = [(await browser.log_in(f"u-{n}", "")).status_code for n in range(6)]
    assert statuses == [401] * 5 + [429]
    assert (await Browser(site, address="192.0.2.51").log_in("u-0")).status_code == 401


@pytest.mark.parametrize("password", ["x" * 11, "x" * 257, "ü" * 129])
async def test_a_password_of_another_length_is_not_set(site: Site, password: str) -> None:
    await a_person(site.world, "ada")
    body = {"actor_id": "u-ada", "password": password}
    assert (await site.refused(400, "POST", CREDENTIALS, json=body))["field"] == "password"


@pytest.mark.parametrize("password", ["x" * 12, "x" * 256, "ü" * 6])
async def test_the_lengths_that_are_allowed_work(site: Site, password: str) -> None:
    await a_person(site.world, "ada")
    await site.post(CREDENTIALS, {"actor_id": "u-ada", "password": password})
    assert (await Browser(site).log_in("u-ada", password)).status_code == 204


async def test_only_somebody_who_is_there_has_a_password(site: Site) -> None:
    body = {"actor_id": "u-nobody", "password": PASSWORD}
    assert (await site.refused(400, "POST", CREDENTIALS, json=body))["field"] == "actor_id"
    await a_person(site.world, "ada")
    await site.call("DELETE", "/auth/users/u-ada")
    await site.refused(409, "POST", CREDENTIALS, json={**body, "actor_id": "u-ada"})


async def test_nobody_sets_the_password_of_who_may_do_more(site: Site) -> None:
    role = await site.post("/auth/roles", {"name": "breakglass"})
    for permission in ("auth.breakglass.admin",):
        path = f"/auth/roles/{role['id']}/permissions"
        await site.post(path, {"permission": permission}, status=204)
    eve = await signed_in(site, "eve", role["id"])
    await a_person(site.world, "ada", "r-admin")
    body = {"actor_id": "u-ada", "password": PASSWORD}
    answer = await eve.call("POST", CREDENTIALS, json=body)
    assert answer.status_code == 403
    mine = {"actor_id": "u-eve", "password": PASSWORD + "!"}
    assert json_of(await eve.call("POST", CREDENTIALS, json=mine), 201)["actor_id"] == "u-eve"
    assert await eve.is_in()


async def test_another_password_and_none_end_the_sessions_that_the_first_began(site: Site) -> None:
    ada = await signed_in(site)
    await site.post(CREDENTIALS, {"actor_id": "u-ada", "password": PASSWORD + "!"})
    assert not await ada.is_in()
    await ada.log_in("u-ada", PASSWORD + "!")
    assert await ada.is_in()
    await site.call("DELETE", f"{CREDENTIALS}/u-ada")
    assert not await ada.is_in()
    assert (await ada.log_in("u-ada", PASSWORD + "!")).status_code == 401
    await site.refused(404, "DELETE", f"{CREDENTIALS}/u-ada")
