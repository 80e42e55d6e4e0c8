"""What becomes of who is vouched for: users, roles by mapping, the first administrator."""

from __future__ import annotations

from typing import Any

import pytest

from certctl.services import sweep
from tests import kit
from tests.oidc import flow
from tests.oidc.conftest import configured
from tests.oidc.fake import SECRET, FakeProvider
from tests.people import Browser, with_people
from tests.web.kit import Json, Site, json_of, open_site


async def signs_in(site: Site, fake: FakeProvider, provider_id: str) -> tuple[str, Browser]:
    browser = Browser(site)
    answer = fake.authorize(await flow.began(browser, provider_id))
    return await flow.came_back(browser, answer), browser


async def roles_of(browser: Browser) -> list[str]:
    return sorted(json_of(await browser.call("GET", "/auth/me"), 200)["roles"])


async def test_a_login_replaces_the_roles_by_mapping_and_leaves_those_by_hand(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    lying.groups = ["ops", "watch"]
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-operator", "r-viewer"]
    (user,) = (await site.get("/auth/users"))["users"]
    await site.post(f"/auth/keys/{user['id']}/roles", {"role_id": "r-auditor"}, status=204)
    lying.groups = "watch"
    _, again = await signs_in(site, lying, provider["id"])
    assert await roles_of(again) == ["r-auditor", "r-viewer"]
    assert await roles_of(ada) == ["r-auditor", "r-viewer"]
    assert len((await site.get("/auth/users"))["users"]) == 1


async def test_who_left_every_mapped_group_has_no_mapped_role_left(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    _, ada = await signs_in(site, lying, provider["id"])
    lying.groups = ["others"]
    assert (await signs_in(site, lying, provider["id"]))[0] == "unmapped_groups"
    assert await roles_of(ada) == []


async def test_a_role_by_hand_that_has_ended_comes_back_by_mapping(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    await signs_in(site, lying, provider["id"])
    await kit.change(site.world, "UPDATE actor_roles SET granted_by = 'admin', expires_at = now()")
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-operator"]


async def test_a_deactivated_person_is_refused_and_nothing_of_them_changes(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    _, ada = await signs_in(site, lying, provider["id"])
    (user,) = (await site.get("/auth/users"))["users"]
    await site.call("DELETE", f"/auth/users/{user['id']}")
    lying.claims = {"email": "new@example.test"}
    assert (await signs_in(site, lying, provider["id"]))[0] == "user_deactivated"
    assert not await ada.is_in()
    (row,) = (await site.get("/auth/users"))["users"]
    assert row["email"] == "ada@example.test"


async def test_who_has_come_in_before_is_shown_as_the_provider_now_says(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    await signs_in(site, lying, provider["id"])
    lying.claims = {"email": "new@example.test", "name": "Ada\nLovelace" + "x" * 300}
    assert (await signs_in(site, lying, provider["id"]))[0] == "in"
    (row,) = (await site.get("/auth/users"))["users"]
    assert row["email"] == "new@example.test"
    assert row["display_name"].startswith("AdaLovelace")


@pytest.mark.parametrize(
    ("claims", "outcome"),
    [
        ({"email": "ada@example.test"}, "in"),
        ({"email": "ada@EXAMPLE.test", "email_verified": True}, "in"),
        ({"email": "ada@evil.example.test"}, "email_domain"),
        ({"email": "ada@example.test.evil.test"}, "email_domain"),
        ({"email": "example.test"}, "email_domain"),
        ({"email": "ada@example.test", "email_verified": False}, "email_domain"),
        ({"email": None}, "email_domain"),
    ],
)
async def test_the_domains_that_are_allowed_are_the_only_ones(
    site: Site, lying: FakeProvider, claims: Json, outcome: str
) -> None:
    domains = {"allowed_email_domains": ["example.test"]}
    provider = await configured(site, lying.issuer, SECRET, **domains)
    lying.claims = claims
    assert (await signs_in(site, lying, provider["id"]))[0] == outcome


PATHS: list[tuple[str, Json]] = [
    ("realm_access.roles", {"realm_access": {"roles": ["ops"]}}),
    ("$.realm_access.roles", {"realm_access": {"roles": ["ops"]}}),
    ("https://example.test/groups", {"https://example.test/groups": ["ops"]}),
    ("roles", {"roles": "ops"}),
]


@pytest.mark.parametrize(("path", "said"), PATHS)
async def test_groups_are_found_where_the_provider_keeps_them(
    site: Site, lying: FakeProvider, path: str, said: Json
) -> None:
    how = {"groups_claim_path": path, "groups_claim_format": "json-path"}
    provider = await configured(site, lying.issuer, SECRET, **how)
    lying.claims = {"groups": None, **said}
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-operator"]


@pytest.mark.parametrize(
    ("wanted", "userinfo", "outcome"),
    [
        (True, {"groups": ["ops"]}, "in"),
        (False, {"groups": ["ops"]}, "unmapped_groups"),
        (True, {"groups": ["ops"], "sub": "eve"}, "userinfo_mismatch"),
    ],
)
async def test_userinfo_is_asked_where_it_is_wanted_and_must_be_of_the_same_person(
    site: Site, lying: FakeProvider, wanted: bool, userinfo: Json, outcome: str
) -> None:
    provider = await configured(site, lying.issuer, SECRET, fetch_userinfo=wanted)
    lying.claims, lying.userinfo = {"groups": None}, userinfo
    assert (await signs_in(site, lying, provider["id"]))[0] == outcome
    assert ("/me" in lying.asked) is wanted


async def test_the_tokens_own_claims_come_before_those_of_userinfo(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET, fetch_userinfo=True)
    lying.groups, lying.userinfo = ["watch"], {"groups": ["ops"]}
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-viewer"]


async def test_the_first_of_the_operators_group_becomes_an_administrator(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    first = {"first_admin_groups": ("bosses",), "first_admin_provider_id": provider["id"]}
    site = open_site(with_people(site.world, **first))
    lying.groups = ["bosses"]
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-admin"]
    assert "bootstrap.oidc_first_admin" in await kit.actions(site.world)
    lying.person = "eve"
    assert (await signs_in(site, lying, provider["id"]))[0] == "unmapped_groups"
    lying.person, lying.groups = "ada", ["watch"]
    _, ada = await signs_in(site, lying, provider["id"])
    assert await roles_of(ada) == ["r-admin", "r-viewer"]


async def test_the_group_of_another_provider_makes_no_administrator(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    first = {"first_admin_groups": ("bosses",), "first_admin_provider_id": "op-other"}
    site = open_site(with_people(site.world, **first))
    lying.groups = ["bosses"]
    assert (await signs_in(site, lying, provider["id"]))[0] == "unmapped_groups"


@pytest.mark.parametrize("sid", ["", 7, "a\x00b", "\ud800", "x" * 300])
async def test_a_session_of_the_provider_without_a_usable_name_is_left_out(
    site: Site, lying: FakeProvider, sid: Any
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    lying.claims = {"sid": sid, "email": "\ud800@\x00", "name": "\ud800"}
    assert (await signs_in(site, lying, provider["id"]))[0] == "in"
    assert await kit.value(site.world, "SELECT oidc_sid FROM sessions") is None


async def test_a_provider_that_was_turned_off_lets_nobody_in(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    browser = Browser(site)
    answer = lying.authorize(await flow.began(browser, provider["id"]))
    path = f"/auth/oidc/providers/{provider['id']}"
    assert json_of(await site.call("PUT", path, json={"enabled": False}), 200)["enabled"] is False
    assert await flow.came_back(browser, answer) == "provider_disabled"
    begun = await browser.http.get(f"/auth/oidc/login?provider={provider['id']}")
    assert begun.status_code == 404


async def test_logins_and_ids_of_logout_tokens_are_forgotten_in_time(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    await flow.began(Browser(site), provider["id"])
    await kit.change(site.world, "UPDATE oidc_pre_login_sessions SET expires_at = now()")
    await kit.change(
        site.world,
        "INSERT INTO oidc_bcl_consumed_jtis VALUES (%(id)s, 'x', now() - interval '2 days')",
        id=provider["id"],
    )
    await sweep.prune(site.world.platform)
    for table in ("oidc_pre_login_sessions", "oidc_bcl_consumed_jtis"):
        assert await kit.value(site.world, f"SELECT count(*) FROM {table}") == 0


@pytest.mark.parametrize("provider", ["", "x" * 200, "op-none"])
async def test_a_provider_that_is_not_is_not_found(site: Site, provider: str) -> None:
    answer: Any = await site.client.get("/auth/oidc/login", params={"provider": provider})
    assert answer.status_code == (404 if provider == "op-none" else 400)
