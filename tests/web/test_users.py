"""People: their roles, and how they are shut out."""

from __future__ import annotations

from certctl.services import keys, sweep
from tests import kit
from tests.people import Browser, a_person, a_provider, signed_in
from tests.web.kit import Site, json_of, open_site

PASSWORD = "a password for tests, only"


async def test_the_list_shows_people_with_their_roles(site: Site) -> None:
    await a_person(site.world, "ada", "r-viewer", "r-auditor")
    await a_person(site.world, "eve")
    rows = (await site.get("/auth/users"))["users"]
    assert [(row["id"], row["role_ids"]) for row in rows] == [
        ("u-ada", ["r-auditor", "r-viewer"]),
        ("u-eve", []),
    ]
    assert rows[0]["email"] == "ada@example.test"
    await a_provider(site.world, "op-other")
    assert (await site.get("/auth/users?oidc_provider_id=op-other"))["users"] == []


async def test_a_deactivated_person_is_out_at_once_and_may_return(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-viewer")
    await site.call("DELETE", "/auth/users/u-ada")
    assert not await ada.is_in()
    assert (await Browser(site).log_in("u-ada")).status_code == 401
    (row,) = (await site.get("/auth/users"))["users"]
    assert row["deactivated_at"]
    await site.post("/auth/users/u-ada/reactivate", None, status=204)
    assert not await ada.is_in()
    assert (await ada.log_in("u-ada")).status_code == 204
    assert (await ada.call("GET", "/teams")).status_code == 200
    done = await kit.actions(site.world)
    assert {"user_deactivated", "user_reactivated"} <= set(done)


async def test_who_has_long_been_out_is_forgotten_but_for_the_subject(site: Site) -> None:
    await a_person(site.world, "ada", password=PASSWORD)
    await a_person(site.world, "eve")
    await site.call("DELETE", "/auth/users/u-ada")
    await sweep.prune(site.world.platform)
    assert (await site.get("/auth/users"))["users"][0]["email"] == "ada@example.test"
    await kit.change(
        site.world,
        "UPDATE users SET deactivated_at = now() - interval '31 days' WHERE id = 'u-ada'",
    )
    await sweep.prune(site.world.platform)
    await sweep.prune(site.world.platform)
    ada, eve = (await site.get("/auth/users"))["users"]
    assert (ada["email"], ada["display_name"], ada["oidc_subject"]) == ("", "", "ada")
    assert eve["email"] == "eve@example.test"
    assert (await kit.actions(site.world)).count("user_forgotten") == 1


async def test_whoever_gives_roles_sees_the_settings_of_signing_in(site: Site) -> None:
    told = await site.get("/auth/runtime-config")
    assert told == {"settings": {"CERTCTL_AUTH_TYPE": "api-key"}}
    ada = await signed_in(site, "ada", "r-viewer")
    assert (await ada.call("GET", "/auth/runtime-config")).status_code == 403


async def test_nobody_shuts_themselves_out(site: Site) -> None:
    ada = await signed_in(site, "ada", "r-admin")
    answer = await ada.call("DELETE", "/auth/users/u-ada")
    assert answer.status_code == 409
    assert await ada.is_in()


async def test_a_person_who_is_not_is_not_found(site: Site) -> None:
    await site.refused(404, "DELETE", "/auth/users/u-nobody")
    await site.refused(404, "POST", "/auth/users/u-nobody/reactivate")


async def test_a_person_is_given_roles_as_a_key_is(site: Site) -> None:
    await site.post("/auth/keys", {"name": "ci"})
    ada = await signed_in(site)
    issuer = {"scope_type": "issuer", "scope_id": "iss-local"}
    path = "/auth/keys/u-ada/roles"
    await site.post(path, {"role_id": "r-viewer", **issuer}, status=204)
    me = json_of(await ada.call("GET", "/auth/me"), 200)
    assert {each["scope_id"] for each in me["effective_permissions"]} == {"iss-local"}
    await site.call("DELETE", f"{path}/r-viewer?scope_type=issuer&scope_id=iss-local")
    assert json_of(await ada.call("GET", "/auth/me"), 200)["roles"] == []
    given = await kit.rows(
        site.world, "SELECT resource_type FROM audit_events WHERE action = 'role_assigned'"
    )
    assert [row["resource_type"] for row in given] == ["user"]


async def test_no_key_takes_the_name_of_a_person(site: Site) -> None:
    await a_person(site.world, "ada")
    body = {"name": "u-ada"}
    assert (await site.refused(409, "POST", "/auth/keys", json=body))["field"] == "name"


async def test_the_last_administrator_may_be_a_person_and_stays(site: Site) -> None:
    """No key of the environment, and the only administrator's key goes."""
    await keys.create(site.world.platform, kit.ADMIN, "boss", role_ids=["r-admin"], expires_at=None)
    alone = open_site(site.world, environment_keys=())
    async with alone.client:
        ada = await signed_in(alone, "ada", "r-admin")
        eve = await signed_in(alone, "eve", "r-admin")
        assert (await ada.call("DELETE", "/auth/keys/boss")).status_code == 204
        assert (await ada.call("DELETE", "/auth/users/u-eve")).status_code == 204
        assert not await eve.is_in()
        answer = await ada.call("DELETE", "/auth/keys/u-ada/roles/r-admin")
        assert answer.status_code == 409
        assert "last administrator" in answer.json()["message"]


async def test_who_has_no_way_in_is_no_administrator(site: Site) -> None:
    """The provider is off, and there is no break-glass password."""
    await keys.create(site.world.platform, kit.ADMIN, "boss", role_ids=["r-admin"], expires_at=None)
    await a_person(site.world, "ada", "r-admin")
    await kit.change(site.world, "UPDATE oidc_providers SET enabled = false")
    alone = open_site(site.world, environment_keys=())
    async with alone.client:
        made = await site.post("/auth/keys", {"name": "second", "role_ids": ["r-admin"]})
        key = made["key_value"]
        await alone.call("DELETE", "/auth/keys/boss", key=key)
        await alone.refused(409, "DELETE", "/auth/keys/second", key=key)
