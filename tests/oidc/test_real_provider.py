"""Signing in and out by a real provider: the code flow, its keys' rotation, its logout."""

from __future__ import annotations

import pytest

from tests import kit
from tests.oidc import flow
from tests.oidc.conftest import configured
from tests.oidc.real import SECRET, Person, RealProvider, back_from
from tests.oidc.served import served
from tests.people import Browser
from tests.web.kit import Site, json_of

pytestmark = pytest.mark.timeout(360)


@pytest.mark.parametrize("alg", ["RS256", "RS512", "ES256", "ES384", "EdDSA"])
async def test_a_person_signs_in_and_has_the_roles_of_their_groups(
    site: Site, real_provider: RealProvider, alg: str
) -> None:
    real_provider.start(ALG=alg, KID="one")
    provider = await configured(site, real_provider.issuer, SECRET)
    browser = Browser(site)
    where = await flow.began(browser, provider["id"])
    assert await flow.came_back(browser, await back_from(where, "ada-ops-other")) == "in"
    me = json_of(await browser.call("GET", "/auth/me"), 200)
    assert (me["actor_type"], me["roles"]) == ("User", ["r-operator"])
    (user,) = (await site.get("/auth/users"))["users"]
    assert user["id"] == me["actor_id"]
    assert (user["oidc_subject"], user["email"]) == ("ada-ops-other", "ada-ops-other@example.test")
    assert user["display_name"] == "The person ada-ops-other"
    assert "oidc_login" in await kit.actions(site.world)


async def test_a_code_and_a_state_count_once(site: Site, real_provider: RealProvider) -> None:
    real_provider.start(ALG="ES256", KID="one")
    provider = await configured(site, real_provider.issuer, SECRET)
    browser = Browser(site)
    back = await back_from(await flow.began(browser, provider["id"]), "ada-ops")
    kept = dict(browser.http.cookies)
    assert await flow.came_back(browser, back) == "in"
    thief = Browser(site)
    thief.http.cookies.update(kept)
    assert await flow.came_back(thief, back) == "login_not_begun"
    assert await kit.value(site.world, "SELECT count(*) FROM sessions") == 1


async def test_somebody_elses_code_does_not_sign_in(
    site: Site, real_provider: RealProvider
) -> None:
    """PKCE: the code is bound to the browser in which the login began (RFC 7636)."""
    real_provider.start(ALG="ES256", KID="one")
    provider = await configured(site, real_provider.issuer, SECRET)
    victim, thief = Browser(site), Browser(site)
    back = await back_from(await flow.began(victim, provider["id"]), "ada-ops")
    own = await back_from(await flow.began(thief, provider["id"]), "eve-watch")
    stolen = own.replace(code_of(own), code_of(back))
    assert await flow.came_back(thief, stolen) == "code_exchange_failed"
    assert await flow.nobody_is_in(site)


def code_of(url: str) -> str:
    return url.partition("code=")[2].partition("&")[0]


async def test_other_keys_are_fetched_when_a_token_names_one(
    site: Site, real_provider: RealProvider
) -> None:
    real_provider.start(ALG="ES256", KID="one")
    provider = await configured(site, real_provider.issuer, SECRET)
    for kid in ("one", "two"):
        if kid == "two":
            real_provider.stop()
            real_provider.start(KID="two")
        browser = Browser(site)
        back = await back_from(await flow.began(browser, provider["id"]), "ada-ops")
        assert await flow.came_back(browser, back) == "in"
        status = await site.get(f"/auth/oidc/providers/{provider['id']}/jwks-status")
        assert status["current_kids"] == [kid]
    assert (status["refresh_count"], status["iss_param_supported"]) == (2, True)


async def test_what_the_provider_ends_is_over(site: Site, real_provider: RealProvider) -> None:
    async with served(site.client._transport.app) as port:  # type: ignore[attr-defined]
        logout = f"http://127.0.0.1:{port}/auth/oidc/back-channel-logout"
        real_provider.start(ALG="RS256", KID="one", LOGOUT_URI=logout)
        provider = await configured(site, real_provider.issuer, SECRET)
        ada, eve = Browser(site), Browser(site)
        back = await back_from(await flow.began(eve, provider["id"]), "eve-ops")
        assert await flow.came_back(eve, back) == "in"
        async with Person() as person:
            back = await person.sign_in(await flow.began(ada, provider["id"]), "ada-ops")
            assert await flow.came_back(ada, back) == "in"
            await person.sign_out(real_provider.issuer)
        answer = await ada.call("GET", "/auth/me")
        assert answer.status_code == 401, (real_provider.folder / "provider.log").read_text()
        assert "back_channel_revoked" in answer.headers["WWW-Authenticate"]
        assert await eve.is_in()
    assert "oidc_back_channel_logout" in await kit.actions(site.world)


async def test_the_dry_run_shows_what_the_provider_is(
    site: Site, real_provider: RealProvider
) -> None:
    real_provider.start(ALG="RS256", KID="one")
    body = {"issuer_url": real_provider.issuer}
    found = await site.post("/auth/oidc/test", body, status=200)
    assert found["discovery_succeeded"] is found["jwks_reachable"] is True
    assert (found["issuer_echo"], found["current_kids"]) == (real_provider.issuer, ["one"])
    assert found["supported_alg_values"] == ["RS256"]
    assert found["errors"] == []
    real_provider.stop()
    found = await site.post("/auth/oidc/test", body, status=200)
    assert found["discovery_succeeded"] is False
    assert "cannot be reached" in found["errors"][0]
