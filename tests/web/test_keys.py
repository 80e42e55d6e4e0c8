"""API keys as their owners and administrators meet them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from certctl.services.access import API_KEY, secret_hash
from tests import kit
from tests.web.kit import ADMIN, Json, Site, json_of, open_site


async def made(site: Site, name: str = "ci", *roles: str, key: str = ADMIN, **more: Any) -> Json:
    return await site.post("/auth/keys", {"name": name, "role_ids": list(roles), **more}, key=key)


async def holder(site: Site, *permissions: str) -> str:
    """The key of somebody with these permissions and no others."""
    role = await site.post("/auth/roles", {"name": "of the holder"})
    for permission in permissions:
        body = {"permission": permission}
        await site.post(f"/auth/roles/{role['id']}/permissions", body, status=204)
    return str((await made(site, "holder", role["id"]))["key_value"])


async def listed(site: Site, name: str) -> Json:
    (one,) = [each for each in (await site.get("/auth/keys"))["keys"] if each["actor_id"] == name]
    return dict(one)


async def works(site: Site, secret: str) -> bool:
    return (await site.call("GET", "/auth/me", key=secret)).status_code == 200


async def test_a_key_is_shown_once_and_kept_as_a_hash_of_256_bits(site: Site) -> None:
    key = await made(site, "ci", "r-operator")
    secret = key["key_value"].removeprefix(API_KEY)
    assert len(secret) == 43  # base64url of 32 octets
    assert await works(site, key["key_value"])
    (stored,) = await kit.rows(site.world, "SELECT key_hash FROM api_keys WHERE name = 'ci'")
    assert bytes(stored["key_hash"]) == secret_hash(key["key_value"])
    for path in ("/auth/keys", "/audit?per_page=200"):
        assert secret not in (await site.call("GET", path)).text


async def test_the_list_shows_names_roles_and_lives(site: Site) -> None:
    ends = (datetime.now(UTC) + timedelta(days=7)).isoformat()
    await made(site, "ci", "r-operator", expires_at=ends)
    shown = await listed(site, "ci")
    assert (shown["source"], shown["role_ids"]) == ("database", ["r-operator"])
    (key,) = shown["keys"]
    assert datetime.fromisoformat(key["expires_at"]) == datetime.fromisoformat(ends)
    assert (key["created_by"], key["last_used_at"]) == ("admin", None)
    boss = await listed(site, "admin")
    assert (boss["source"], boss["role_ids"], boss["keys"]) == ("environment", ["r-admin"], [])


@pytest.mark.parametrize("name", ["", "-ci", "a b", "a/b", "x" * 65, "ö"])
async def test_a_name_is_plain(site: Site, name: str) -> None:
    body = {"name": name}
    assert (await site.refused(400, "POST", "/auth/keys", json=body))["field"] == "name"


@pytest.mark.parametrize("name", ["ci", "admin"])
async def test_a_name_is_taken_once_be_it_by_the_environment(site: Site, name: str) -> None:
    await made(site, "ci")
    body = {"name": name}
    assert (await site.refused(409, "POST", "/auth/keys", json=body))["field"] == "name"


async def test_a_key_cannot_end_before_it_begins(site: Site) -> None:
    body = {"name": "ci", "expires_at": "2020-01-01T00:00:00Z"}
    assert (await site.refused(400, "POST", "/auth/keys", json=body))["field"] == "expires_at"


async def test_a_rotated_key_goes_on_for_the_overlap(site: Site) -> None:
    first = await made(site, "ci", "r-viewer")
    second = await site.post("/auth/keys/ci/rotate", {"overlap_seconds": 3600})
    assert second["name"] == "ci"
    assert second["key_value"] != first["key_value"]
    assert await works(site, first["key_value"])
    assert await works(site, second["key_value"])
    newer, older = sorted(
        (await listed(site, "ci"))["keys"], key=lambda each: each["created_at"], reverse=True
    )
    assert newer["expires_at"] is None
    left = datetime.fromisoformat(older["expires_at"]) - datetime.now(UTC)
    assert timedelta(minutes=59) < left <= timedelta(hours=1)
    await site.post("/auth/keys/ci/rotate", {"overlap_seconds": 0})
    assert not await works(site, first["key_value"])
    assert not await works(site, second["key_value"])


async def test_a_rotation_gives_no_earlier_key_a_longer_life(site: Site) -> None:
    soon = datetime.now(UTC) + timedelta(minutes=5)
    await made(site, "ci", expires_at=soon.isoformat())
    await site.post("/auth/keys/ci/rotate", {"overlap_seconds": 86400})
    ends = [each["expires_at"] for each in (await listed(site, "ci"))["keys"]]
    assert datetime.fromisoformat(next(filter(None, ends))) == soon


async def test_everybody_rotates_their_own_key_with_the_permission(site: Site) -> None:
    key = await made(site, "ci", "r-cli")
    again = await site.post("/auth/keys/ci/rotate", {}, key=key["key_value"])
    assert await works(site, again["key_value"])


async def test_nobody_rotates_a_key_that_may_do_more_than_they(site: Site) -> None:
    """Whoever rotates it has its secret."""
    await made(site, "boss", "r-admin")
    await made(site, "reader", "r-viewer")
    key = (await made(site, "ci", "r-cli"))["key_value"]
    problem = await site.refused(403, "POST", "/auth/keys/boss/rotate", json={}, key=key)
    assert "do not hold" in problem["message"]
    await site.post("/auth/keys/reader/rotate", {}, key=key)


async def test_a_revoked_key_is_over_with_all_its_secrets_and_roles(site: Site) -> None:
    first = await made(site, "ci", "r-operator")
    second = await site.post("/auth/keys/ci/rotate", {})
    json_status = await site.call("DELETE", "/auth/keys/ci")
    assert json_status.status_code == 204
    assert not await works(site, first["key_value"])
    assert not await works(site, second["key_value"])
    await site.refused(404, "DELETE", "/auth/keys/ci")
    again = await made(site, "ci")
    me = await site.get("/auth/me", key=again["key_value"])
    assert (me["roles"], me["effective_permissions"]) == ([], [])


@pytest.mark.parametrize(
    ("method", "path"), [("DELETE", "/auth/keys/admin"), ("POST", "/auth/keys/admin/rotate")]
)
async def test_a_key_of_the_environment_changes_there(site: Site, method: str, path: str) -> None:
    body = {} if method == "POST" else None
    problem = await site.refused(409, method, path, json=body)
    assert "CERTCTL_API_KEYS_NAMED" in problem["message"]


async def test_nobody_gives_a_key_what_they_do_not_hold(site: Site) -> None:
    key = await holder(site, "auth.key.create", "cert.read")
    for role in ("r-admin", "r-auditor", "r-viewer"):
        body = {"name": "more", "role_ids": [role]}
        problem = await site.refused(403, "POST", "/auth/keys", json=body, key=key)
        assert f"role {role} permits" in problem["message"]
    own = next(iter((await listed(site, "holder"))["role_ids"]))
    await made(site, "same", own, key=key)


async def test_nobody_assigns_what_they_do_not_hold_be_it_to_themselves(site: Site) -> None:
    key = await holder(site, "auth.role.assign", "cert.read")
    for role in ("r-admin", "r-viewer"):
        body = {"role_id": role}
        await site.refused(403, "POST", "/auth/keys/holder/roles", json=body, key=key)
    assert len((await listed(site, "holder"))["roles"]) == 1


async def test_a_role_is_assigned_for_a_time_and_a_place_and_taken_away(site: Site) -> None:
    key = (await made(site, "ci"))["key_value"]
    ends = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    place = {"scope_type": "issuer", "scope_id": "iss-local"}
    body = {"role_id": "r-viewer", **place, "expires_at": ends}
    await site.post("/auth/keys/ci/roles", body, status=204)
    (role,) = (await listed(site, "ci"))["roles"]
    assert {**place, "granted_by": "admin"}.items() <= role.items()
    may = (await site.get("/auth/me", key=key))["effective_permissions"]
    assert {"permission": "cert.read", **place} in may
    gone = "/auth/keys/ci/roles/r-viewer"
    await site.refused(404, "DELETE", gone)
    away = await site.call("DELETE", f"{gone}?scope_type=issuer&scope_id=iss-local")
    assert away.status_code == 204
    assert (await site.get("/auth/me", key=key))["effective_permissions"] == []


@pytest.mark.parametrize(
    "place", [{"scope_type": "issuer"}, {"scope_id": "iss-local"}, {"scope_type": "profile"}]
)
async def test_a_place_has_both_its_type_and_its_id(site: Site, place: Json) -> None:
    await made(site, "ci")
    body = {"role_id": "r-viewer", **place}
    problem = await site.refused(400, "POST", "/auth/keys/ci/roles", json=body)
    assert problem["field"] == "scope_id"


async def alone(site: Site) -> tuple[Site, str]:
    """The site without a key of the environment, and its one administrator's."""
    secret = (await made(site, "boss", "r-admin"))["key_value"]
    return open_site(site.world, environment_keys=()), secret


@pytest.mark.parametrize("path", ["/auth/keys/boss", "/auth/keys/boss/roles/r-admin"])
async def test_the_last_administrator_stays(site: Site, path: str) -> None:
    other, boss = await alone(site)
    async with other.client:
        problem = await other.refused(409, "DELETE", path, key=boss)
        assert "last administrator" in problem["message"]
        assert (await other.get("/auth/me", key=boss))["admin"] is True
        await made(other, "second", "r-admin", key=boss)
        assert (await other.call("DELETE", path, key=boss)).status_code == 204


async def test_an_administrator_of_one_issuer_is_not_the_other_one(site: Site) -> None:
    other, boss = await alone(site)
    async with other.client:
        await made(other, "part", key=boss)
        body = {"role_id": "r-admin", "scope_type": "issuer", "scope_id": "iss-local"}
        await other.post("/auth/keys/part/roles", body, status=204, key=boss)
        await other.refused(409, "DELETE", "/auth/keys/boss", key=boss)


async def test_an_administrator_for_a_time_does_not_count_when_it_is_over(site: Site) -> None:
    other, boss = await alone(site)
    async with other.client:
        await made(other, "second", "r-admin", key=boss)
        await kit.change(site.world, "UPDATE api_keys SET expires_at = now() WHERE name = 'second'")
        await other.refused(409, "DELETE", "/auth/keys/boss", key=boss)


@pytest.mark.parametrize(
    ("path", "body"),
    [
        ("/auth/keys/boss/rotate", {}),
        ("/auth/keys/boss/roles", {"role_id": "r-admin"}),
    ],
)
async def test_the_last_administrator_is_one_for_good(site: Site, path: str, body: Json) -> None:
    other, boss = await alone(site)
    ends = {"expires_at": (datetime.now(UTC) + timedelta(days=1)).isoformat()}
    async with other.client:
        problem = await other.refused(409, "POST", path, key=boss, json={**body, **ends})
        assert "last administrator" in problem["message"]
        await made(other, "second", "r-admin", key=boss)
        assert (await other.call("POST", path, key=boss, json={**body, **ends})).is_success


async def test_that_somebody_is_an_administrator_opens_nothing_by_itself(site: Site) -> None:
    """A role with every permission but one is refused there, whatever it is called."""
    every = [each["name"] for each in (await site.get("/auth/permissions"))["permissions"]]
    key = await holder(site, *(name for name in every if name != "team.read"))
    assert (await site.get("/auth/me", key=key))["admin"] is False
    await site.refused(403, "GET", "/teams", key=key)
    await site.get("/owners", key=key)


async def test_each_change_is_in_the_trail(site: Site) -> None:
    await made(site, "ci", "r-viewer")
    await site.post("/auth/keys/ci/rotate", {})
    await site.post("/auth/keys/ci/roles", {"role_id": "r-auditor"}, status=204)
    await site.call("DELETE", "/auth/keys/ci/roles/r-auditor")
    await site.call("DELETE", "/auth/keys/ci")
    rows = (await site.get("/audit?resource_type=api_key&per_page=50"))["data"]
    mine = [row["action"] for row in rows if row["resource_id"] == "ci"]
    assert sorted(mine) == sorted(
        ["api_key_created", "api_key_rotated", "role_assigned", "role_unassigned",
         "api_key_revoked"]
    )  # fmt: skip
    assert {row["event_category"] for row in rows} == {"auth"}


async def test_what_cannot_be_read_is_refused_by_its_field(site: Site) -> None:
    body = {"overlap_seconds": 31 * 86400}
    await made(site, "ci")
    problem = await site.refused(400, "POST", "/auth/keys/ci/rotate", json=body)
    assert problem["field"] == "overlap_seconds"
    answer = await site.call("POST", "/auth/keys", json={"name": "x", "role_ids": ["r-none"]})
    assert json_of(answer, 400)["field"] == "role_ids"
