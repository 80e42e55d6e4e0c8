"""Providers and mappings as administrators set them up."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from certctl.connectors.reach import Reach
from tests import kit
from tests.oidc.conftest import configured
from tests.oidc.fake import SECRET, FakeProvider
from tests.people import a_person, a_provider, signed_in
from tests.web.kit import Json, Site, json_of, open_site

PROVIDERS = "/auth/oidc/providers"
BODY: Json = {
    "name": "Keycloak",
    "issuer_url": "https://sso.example.test/realms/main",
    "client_id": "certctl",
    "client_secret": "a secret that nobody sees",
    "redirect_uri": "https://certctl.test/auth/oidc/callback",
}


async def test_a_provider_is_made_changed_listed_and_removed(site: Site) -> None:
    made = await site.post(PROVIDERS, BODY)
    assert made["scopes"] == ["openid", "profile", "email"]
    path = f"{PROVIDERS}/{made['id']}"
    changed = json_of(await site.call("PUT", path, json={"name": "SSO"}), 200)
    assert (changed["name"], changed["client_id"]) == ("SSO", "certctl")
    assert (await site.get(PROVIDERS))["providers"] == [changed]
    info = await site.get("/auth/info", key=None)
    assert info["oidc_providers"] == [
        {
            "id": made["id"],
            "display_name": "SSO",
            "login_url": f"/auth/oidc/login?provider={made['id']}",
        }
    ]
    await site.call("DELETE", path)
    assert (await site.get(PROVIDERS))["providers"] == []
    done = set(await kit.actions(site.world))
    assert {f"oidc_provider_{verb}" for verb in ("created", "updated", "deleted")} <= done


async def test_the_secret_is_sealed_and_shown_by_nothing(site: Site) -> None:
    made = await site.post(PROVIDERS, BODY)
    await site.call("PUT", f"{PROVIDERS}/{made['id']}", json={"client_secret": "another one"})
    for table in ("oidc_providers", "audit_events"):
        stored = str(await kit.rows(site.world, f"SELECT * FROM {table}"))
        assert BODY["client_secret"] not in stored
        assert "another one" not in stored
    assert "secret" not in str(await site.get(PROVIDERS))


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("issuer_url", "http://sso.example.test"),
        ("issuer_url", "http://127.0.0.1.example.test"),
        ("issuer_url", "ftp://sso.example.test"),
        ("issuer_url", "https://user@sso.example.test"),
        ("issuer_url", "https://sso.example.test#x"),
        ("issuer_url", "https://sso.example.test?x"),
        ("issuer_url", "https://"),
        ("issuer_url", "https://sso.example.test:x"),
        ("issuer_url", "https://[x"),
        ("redirect_uri", "http://127.0.0.1/auth/oidc/callback"),
        ("redirect_uri", "certctl.test"),
        ("scopes", ["profile"]),
        ("scopes", ["openid", "two words"]),
        ("iat_window_seconds", 601),
        ("jwks_cache_ttl_seconds", 59),
        ("groups_claim_format", "xml"),
        ("client_secret", ""),
        ("name", None),
    ],
)
async def test_a_field_that_does_not_suit_is_named(site: Site, field: str, value: Any) -> None:
    problem = await site.refused(400, "POST", PROVIDERS, json={**BODY, field: value})
    assert problem["field"].split(".")[0] == field
    made = await site.post(PROVIDERS, BODY)
    problem = await site.refused(400, "PUT", f"{PROVIDERS}/{made['id']}", json={field: value})
    assert problem["field"].split(".")[0] == field


@pytest.mark.parametrize("changes", [{}, {"issuer_url": "https://other.example.test"}])
async def test_a_name_and_a_client_are_taken_once(site: Site, changes: Json) -> None:
    await site.post(PROVIDERS, BODY)
    await site.refused(409, "POST", PROVIDERS, json={**BODY, **changes})


async def test_while_people_come_in_by_it_it_stays_and_keeps_its_issuer(site: Site) -> None:
    """The same subject elsewhere is somebody else."""
    await a_person(site.world, "ada")
    problem = await site.refused(409, "DELETE", f"{PROVIDERS}/op-test")
    assert problem["counts"] == {"users": 1}
    body = {"issuer_url": "https://evil.example.test"}
    assert (await site.refused(409, "PUT", f"{PROVIDERS}/op-test", json=body))["field"] == (
        "issuer_url"
    )


async def test_loopback_is_called_only_where_the_operator_allows_it(
    site: Site, lying: FakeProvider
) -> None:
    strict = replace(site.world, platform=replace(site.world.platform, reach=Reach()))
    other = open_site(strict)
    async with other.client:
        tried = await other.post("/auth/oidc/test", {"issuer_url": lying.issuer}, status=200)
        assert "CERTCTL_OUTBOUND_ALLOW" in tried["errors"][0]
    assert lying.asked == []


async def test_refreshing_asks_the_provider_and_tells_why_it_failed(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    path = f"{PROVIDERS}/{provider['id']}"
    empty = await site.get(f"{path}/jwks-status")
    assert (empty["last_refresh_at"], empty["current_kids"]) == (None, [])
    assert await site.post(f"{path}/refresh", None, status=200) == {"refreshed": True}
    fetched = await site.get(f"{path}/jwks-status")
    assert (fetched["current_kids"], fetched["last_error"]) == (["one"], "")
    lying.metadata = {"issuer": "https://evil.example.test"}
    await site.refused(502, "POST", f"{path}/refresh")
    failed = await site.get(f"{path}/jwks-status")
    assert "another issuer" in failed["last_error"]
    assert failed["current_kids"] == ["one"]


async def test_a_group_is_mapped_once_to_a_role_that_is_there(site: Site) -> None:
    await a_provider(site.world)
    body = {"provider_id": "op-test", "group_name": "ops", "role_id": "r-viewer"}
    made = await site.post("/auth/oidc/group-mappings", body)
    path = "/auth/oidc/group-mappings?provider_id=op-test"
    assert (await site.get(path))["mappings"] == [made]
    await site.refused(409, "POST", "/auth/oidc/group-mappings", json=body)
    await site.refused(400, "POST", "/auth/oidc/group-mappings", json={**body, "role_id": "r-none"})
    await site.refused(
        400, "POST", "/auth/oidc/group-mappings", json={**body, "provider_id": "op-none"}
    )
    await site.call("DELETE", f"/auth/oidc/group-mappings/{made['id']}")
    assert (await site.get(path))["mappings"] == []
    await site.refused(404, "DELETE", f"/auth/oidc/group-mappings/{made['id']}")


async def test_nobody_gives_by_a_group_or_a_provider_what_they_do_not_hold(site: Site) -> None:
    role = await site.post("/auth/roles", {"name": "oidc"})
    for permission in ("auth.oidc.edit", "auth.oidc.create"):
        path = f"/auth/roles/{role['id']}/permissions"
        await site.post(path, {"permission": permission}, status=204)
    eve = await signed_in(site, "eve", role["id"])
    body = {"provider_id": "op-test", "group_name": "ops", "role_id": "r-admin"}
    assert (await eve.call("POST", "/auth/oidc/group-mappings", json=body)).status_code == 403
    change = {"json": {"name": "mine"}}
    assert (await eve.call("PUT", f"{PROVIDERS}/op-test", **change)).status_code == 200
    await site.post("/auth/oidc/group-mappings", body)
    assert (await eve.call("PUT", f"{PROVIDERS}/op-test", **change)).status_code == 403


async def test_the_provider_of_the_last_administrator_is_not_turned_off(site: Site) -> None:
    made = await site.post("/auth/keys", {"name": "last", "role_ids": ["r-admin"]})
    alone = open_site(site.world, environment_keys=())
    async with alone.client:
        await a_person(site.world, "ada", "r-admin")
        ada = await signed_in(alone, "eve", "r-admin")
        await ada.call("DELETE", "/auth/keys/last")
        await kit.change(site.world, "DELETE FROM breakglass_credentials")
        answer = await ada.call("PUT", f"{PROVIDERS}/op-test", json={"enabled": False})
        assert answer.status_code == 409
        assert "last administrator" in answer.json()["message"]
    assert made["key_value"]
