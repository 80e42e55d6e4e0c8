"""Back-channel logout: which tokens end which sessions."""

from __future__ import annotations

from typing import Any

import httpx
import pytest

from tests import kit
from tests.oidc import flow
from tests.oidc.conftest import configured
from tests.oidc.fake import SECRET, Ago, FakeProvider, under_a_shared_secret, unsigned
from tests.people import PASSWORD, Browser, a_person
from tests.web.kit import Site

PATH = "/auth/oidc/back-channel-logout"


async def came_in(site: Site, fake: FakeProvider, provider_id: str, name: str = "ada") -> Browser:
    fake.person = name
    browser = Browser(site)
    answer = fake.authorize(await flow.began(browser, provider_id))
    assert await flow.came_back(browser, answer) == "in"
    return browser


async def told(site: Site, token: str) -> httpx.Response:
    return await site.client.post(PATH, data={"logout_token": token})


@pytest.mark.parametrize(
    "whom",
    [
        {"sub": "ada"},
        {"sub": None, "sid": "sid-of-ada"},
        {"sub": "ada", "sid": "sid-of-ada"},
    ],
)
async def test_it_ends_the_sessions_of_the_subject_or_of_the_sid(
    site: Site, lying: FakeProvider, whom: dict[str, Any]
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    ada = await came_in(site, lying, provider["id"])
    eve = await came_in(site, lying, provider["id"], "eve")
    answer = await told(site, lying.honest(lying.logout_claims(**whom), typ="logout+jwt"))
    assert (answer.status_code, answer.headers["cache-control"]) == (200, "no-store")
    assert not await ada.is_in()
    assert await eve.is_in()


async def test_who_has_no_session_is_logged_out_already(site: Site, lying: FakeProvider) -> None:
    await configured(site, lying.issuer, SECRET)
    answer = await told(site, lying.honest(lying.logout_claims(sub="nobody")))
    assert answer.status_code == 200


async def test_a_session_by_password_is_nothing_to_the_provider(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    await came_in(site, lying, provider["id"])
    (user,) = (await site.get("/auth/users"))["users"]
    await site.post("/auth/breakglass/credentials", {"actor_id": user["id"], "password": PASSWORD})
    by_password = Browser(site)
    await by_password.log_in(user["id"])
    assert (await told(site, lying.honest(lying.logout_claims()))).status_code == 200
    assert await by_password.is_in()


FORGED: dict[str, dict[str, Any]] = {
    "iss another": {"iss": "https://evil.example.test"},
    "iss missing": {"iss": None},
    "aud another": {"aud": "other"},
    "iat old": {"iat": Ago(600)},
    "iat missing": {"iat": None},
    "iat to come": {"iat": Ago(-600)},
    "exp past": {"exp": Ago(600)},
    "events missing": {"events": None},
    "events another": {"events": {"http://example.test/other": {}}},
    "events a text": {"events": "logout"},
    "nonce": {"nonce": "x"},
    "jti missing": {"jti": None},
    "jti empty": {"jti": ""},
    "nobody": {"sub": None},
    "sub a number": {"sub": 7},
    "sid a list": {"sid": ["x"]},
}


@pytest.mark.parametrize("attack", FORGED)
async def test_a_token_that_is_wrong_ends_nothing(
    site: Site, lying: FakeProvider, attack: str
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    ada = await came_in(site, lying, provider["id"])
    answer = await told(site, lying.honest(lying.logout_claims(**FORGED[attack])))
    assert answer.status_code == 400
    assert answer.json()["field"] == "logout_token"
    assert await ada.is_in()


async def test_a_token_that_is_not_signed_by_the_provider_ends_nothing(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    ada = await came_in(site, lying, provider["id"])
    claims = lying.logout_claims()
    for token in (
        unsigned(claims),
        under_a_shared_secret(claims, SECRET, lying.kid),
        lying.honest(claims)[:-3] + "AAA",
        "",
        "x",
        "ü.ü.ü",
        unsigned({**claims, "aud": "\ud800"}),
        unsigned({**claims, "iss": "a\x00b"}),
    ):
        assert (await told(site, token)).status_code == 400
    assert await ada.is_in()


async def test_a_token_counts_once(site: Site, lying: FakeProvider) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    await came_in(site, lying, provider["id"])
    token = lying.honest(lying.logout_claims())
    assert (await told(site, token)).status_code == 200
    ada = await came_in(site, lying, provider["id"])
    assert (await told(site, token)).status_code == 400
    assert await ada.is_in()


async def test_an_id_token_is_no_logout_token(site: Site, lying: FakeProvider) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    ada = await came_in(site, lying, provider["id"])
    token = lying.honest(lying.sign_in_claims("a nonce"))
    assert (await told(site, token)).status_code == 400
    assert await ada.is_in()


async def test_another_provider_ends_nothing_here(site: Site, lying: FakeProvider) -> None:
    """Its subject may well be the same."""
    await a_person(site.world, "ada")
    provider = await configured(site, lying.issuer, SECRET)
    ada = await came_in(site, lying, provider["id"])
    await kit.change(
        site.world,
        "UPDATE users SET oidc_provider_id = 'op-test', oidc_subject = 'other' "
        "WHERE oidc_provider_id <> 'op-test'",
    )
    assert (await told(site, lying.honest(lying.logout_claims(sub="other")))).status_code == 200
    assert await ada.is_in()


async def test_a_form_of_many_fields_is_refused(site: Site) -> None:
    answer = await site.client.post(PATH, data={f"n{n}": "x" for n in range(50)})
    assert answer.status_code == 400
    assert (await site.client.post(PATH, content=b"x" * 200_000)).status_code == 413


async def test_without_a_token_the_field_is_named(site: Site) -> None:
    answer = await site.client.post(PATH, data={"other": "x"})
    assert (answer.status_code, answer.json()["field"]) == (400, "logout_token")
