"""Roles of one's own, and what a role for one issuer or profile leaves of the estate."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.domain.access import ANY_ACTOR, Permission
from tests import kit
from tests.web.kit import ADMIN, ORDER, ROWS, Json, Site, filled, json_of


async def a_role(site: Site, *permissions: str, name: str = "mine", **place: str) -> str:
    role_id = str((await site.post("/auth/roles", {"name": name}))["id"])
    for permission in permissions:
        body = {"permission": permission, **place}
        await site.post(f"/auth/roles/{role_id}/permissions", body, status=204)
    return role_id


async def a_key(site: Site, *role_ids: str, name: str = "somebody") -> str:
    made = await site.post("/auth/keys", {"name": name, "role_ids": list(role_ids)})
    return str(made["key_value"])


async def test_the_built_in_roles_are_there_and_stay_as_they_are(site: Site) -> None:
    roles = (await site.get("/auth/roles"))["roles"]
    assert [role["id"] for role in roles if role["built_in"]] == [
        "r-admin", "r-agent", "r-auditor", "r-cli", "r-mcp", "r-operator", "r-viewer",
    ]  # fmt: skip
    shown = await site.get("/auth/roles/r-auditor")
    assert [each["permission"] for each in shown["permissions"]] == [
        "audit.export", "audit.read", "auth.user.read",
    ]  # fmt: skip
    path = "/auth/roles/r-viewer"
    await site.refused(409, "PUT", path, json={"name": "other"})
    await site.refused(409, "DELETE", path)
    await site.refused(409, "POST", f"{path}/permissions", json={"permission": "cert.edit"})
    await site.refused(409, "DELETE", f"{path}/permissions/cert.read")


async def test_a_role_of_ones_own_is_made_used_changed_and_deleted(site: Site) -> None:
    role_id = await a_role(site, "cert.read", "team.read")
    key = await a_key(site, role_id)
    await site.get("/teams", key=key)
    await site.refused(403, "GET", "/owners", key=key)
    gone = await site.call("DELETE", f"/auth/roles/{role_id}/permissions/team.read")
    assert gone.status_code == 204
    await site.refused(403, "GET", "/teams", key=key)
    changed = await site.call("PUT", f"/auth/roles/{role_id}", json={"name": "renamed"})
    assert json_of(changed, 200)["name"] == "renamed"
    problem = await site.refused(409, "DELETE", f"/auth/roles/{role_id}")
    assert problem["counts"] == {"actors": 1}
    await site.call("DELETE", "/auth/keys/somebody")
    assert (await site.call("DELETE", f"/auth/roles/{role_id}")).status_code == 204


async def test_a_role_permits_no_more_than_whoever_made_it_may(site: Site) -> None:
    editor = await a_role(site, "auth.role.create", "auth.role.edit", "cert.read", name="editor")
    key = await a_key(site, editor)
    made = await site.post("/auth/roles", {"name": "theirs"}, key=key)
    path = f"/auth/roles/{made['id']}/permissions"
    await site.post(path, {"permission": "cert.read"}, status=204, key=key)
    problem = await site.refused(403, "POST", path, json={"permission": "cert.edit"}, key=key)
    assert "cert.edit" in problem["message"]


async def test_what_one_may_for_an_issuer_one_gives_for_that_issuer_only(site: Site) -> None:
    place = {"scope_type": "issuer", "scope_id": "iss-local"}
    of_one = await a_role(site, "cert.read", name="part", **place)
    editor = await a_role(site, "auth.role.create", "auth.role.edit", name="editor")
    key = await a_key(site, of_one, editor)
    made = await site.post("/auth/roles", {"name": "theirs"}, key=key)
    path = f"/auth/roles/{made['id']}/permissions"
    await site.post(path, {"permission": "cert.read", **place}, status=204, key=key)
    elsewhere = {"scope_type": "profile", "scope_id": "prof-default"}
    for wider in ({}, elsewhere):
        body = {"permission": "cert.read", **wider}
        await site.refused(403, "POST", path, json=body, key=key)


@pytest.mark.parametrize("permission", ["cert.fly", "", "CERT.READ"])
async def test_a_permission_that_is_none_is_refused_by_name(site: Site, permission: str) -> None:
    role_id = await a_role(site)
    body = {"permission": permission}
    problem = await site.refused(400, "POST", f"/auth/roles/{role_id}/permissions", json=body)
    assert problem["field"] == "permission"


async def test_a_role_name_is_taken_once(site: Site) -> None:
    for name in ("Operator", "mine"):
        if name == "mine":
            await a_role(site)
        body = {"name": name}
        assert (await site.refused(409, "POST", "/auth/roles", json=body))["field"] == "name"


class Estate:
    """Two issuers, each with a certificate, and a key that may do everything for one of them."""

    def __init__(self, site: Site, key: str, mine: Json, other: Json) -> None:
        self.site, self.key, self.mine, self.other = site, key, mine, other


@pytest.fixture(params=["issuer", "profile"])
async def estate(site: Site, request: Any) -> Estate:
    kind = request.param
    field = {"issuer": "issuer_id", "profile": "certificate_profile_id"}[kind]
    body: Json = {"id": "other", "name": "other"}
    if kind == "issuer":
        body["type"] = "GenericCA"
    await site.post({"issuer": "/issuers", "profile": "/profiles"}[kind], body)
    csr = {"csr_pem": kit.a_csr("a.example.test")}
    mine = await site.order(name="mine")
    other = await site.order(name="other", **{field: "other"}, **(csr if kind == "profile" else {}))
    key = await a_key(site)
    place = {"scope_type": kind, "scope_id": "iss-local" if kind == "issuer" else "prof-default"}
    body = {"role_id": "r-admin", **place}
    await site.post("/auth/keys/somebody/roles", body, status=204)
    return Estate(site, key, mine, other)


async def test_what_is_out_of_scope_is_not_found(estate: Estate) -> None:
    site, key = estate.site, estate.key
    listed = await site.get("/certificates?per_page=50", key=key)
    assert [row["id"] for row in listed["data"]] == [estate.mine["id"]]
    assert listed["total"] == 1
    for row in ROWS:
        if not row.path.startswith("/certificates/{id}"):
            continue
        body = {"reason": "superseded"} if row.path.endswith("/revoke") else {}
        how: Json = {"json": body} if row.method in {"POST", "PUT"} else {}
        path = filled(row.path, estate.other["id"])
        await site.refused(404, row.method, path, key=key, **how)
    assert (await site.get(f"/certificates/{estate.mine['id']}", key=key))["name"] == "mine"


async def test_out_of_scope_is_out_of_bulk_operations(estate: Estate) -> None:
    ids = [estate.mine["id"], estate.other["id"]]
    body = {"certificate_ids": ids, "owner_id": "o-default"}
    told = await estate.site.post("/certificates/bulk-reassign", body, status=200, key=estate.key)
    assert (told["total_skipped"], told["total_failed"]) == (1, 1)
    assert told["errors"][0]["error"] == f"certificate {ids[1]} does not exist"


async def test_nothing_is_ordered_out_of_scope(estate: Estate) -> None:
    site, other = estate.site, estate.other
    body = {
        **ORDER,
        "name": "new",
        "issuer_id": other["issuer_id"],
        "certificate_profile_id": other["certificate_profile_id"],
    }
    await site.refused(403, "POST", "/certificates", json=body, key=estate.key)
    inside = await site.post("/certificates", {**ORDER, "name": "inside"}, key=estate.key)
    assert inside["issuer_id"] == estate.mine["issuer_id"]


async def test_nothing_is_moved_out_of_scope(estate: Estate) -> None:
    site, other = estate.site, estate.other
    body = {name: other[name] for name in ("issuer_id", "certificate_profile_id")}
    path = f"/certificates/{estate.mine['id']}"
    await site.refused(403, "PUT", path, json=body, key=estate.key)


async def test_what_belongs_to_no_issuer_takes_a_permission_for_everything(
    estate: Estate,
) -> None:
    """Neither made nor seen by whoever is an administrator for a part only."""
    site, key = estate.site, estate.key
    for path, body in (
        ("/teams", {"name": "x"}),
        ("/owners", {"name": "x"}),
        ("/issuers", {"name": "x", "type": "GenericCA"}),
        ("/profiles", {"name": "x"}),
        ("/renewal-policies", {"name": "x"}),
        ("/agents/enrolment-tokens", {}),
        ("/auth/keys", {"name": "x"}),
        ("/auth/roles", {"name": "x"}),
    ):
        await site.refused(403, "POST", path, json=body, key=key)
    for path in ("/teams", "/owners", "/targets", "/agents", "/agent-groups", "/policies"):
        assert (await site.get(path, key=key))["total"] == 0
    for path in ("/audit", "/auth/keys", "/auth/roles", "/stats/summary", "/metrics"):
        await site.refused(403, "GET", path, key=key)


async def test_a_target_that_one_does_not_see_cannot_be_bound(estate: Estate) -> None:
    site = estate.site
    target = await site.target(await site.enrol())
    body = {**ORDER, "name": "bound", "target_ids": [target["id"]]}
    problem = await site.refused(400, "POST", "/certificates", json=body, key=estate.key)
    assert problem["field"] == "target_ids"


async def test_every_answer_of_a_part_is_one_of_the_part(estate: Estate) -> None:
    """Whatever a list or a record shows, the other certificate is not in it."""
    for row in ROWS:
        if row.method != "GET" or row.path.startswith("/agents/{id}/"):
            continue
        answer = await estate.site.call("GET", filled(row.path, estate.other["id"]), key=estate.key)
        if answer.status_code == 200 and row.needs is not ANY_ACTOR:
            assert estate.other["id"] not in answer.text, row.path


async def test_the_catalogue_is_for_everybody(site: Site) -> None:
    told = await site.get("/auth/permissions", key=await a_key(site))
    assert {each["name"] for each in told["permissions"]} == set(Permission)
    assert {"id": "p-cert-bulk-revoke", "name": "cert.bulk_revoke", "namespace": "cert"} in told[
        "permissions"
    ]


async def test_check_and_me_tell_what_the_caller_may_do(site: Site) -> None:
    for path in ("/auth/check", "/auth/me"):
        told = await site.get(path, key=ADMIN)
        assert (told["actor_id"], told["actor_type"], told["admin"]) == ("admin", "APIKey", True)
        assert len(told["effective_permissions"]) == len(Permission)
