"""Everything that a provider, a network or a browser may forge in a login: what is changed, the
category of the refusal, and that nobody has signed in."""

from __future__ import annotations

import json
import warnings
from collections.abc import Callable
from typing import Any

import pytest
from joserfc.jwk import ECKey, OctKey, RSAKey

from tests import kit
from tests.oidc import flow
from tests.oidc.conftest import configured
from tests.oidc.fake import (
    SECRET,
    Ago,
    FakeProvider,
    Json,
    b64,
    signed,
    under_a_shared_secret,
    unsigned,
)
from tests.people import Browser, with_people
from tests.web.kit import Site, open_site

Change = Callable[[FakeProvider], None]


def claims(**changes: Any) -> Change:
    return lambda fake: fake.claims.update(changes)


def token(make: Callable[[FakeProvider, Json], str]) -> Change:
    def change(fake: FakeProvider) -> None:
        fake.sign = lambda said: make(fake, said)

    return change


def tokens(**changes: Any) -> Change:
    return lambda fake: fake.tokens.update(changes)


def with_public_key(fake: FakeProvider, said: Json) -> str:
    return under_a_shared_secret(said, fake.key.as_pem(private=False).decode(), fake.kid)


def with_client_secret(fake: FakeProvider, said: Json) -> str:
    return under_a_shared_secret(said, SECRET, fake.kid)


def under_another_key(fake: FakeProvider, said: Json) -> str:
    return signed(said, ECKey.generate_key("P-256"), header={"alg": "ES256", "kid": fake.kid})


def under_an_unknown_key(fake: FakeProvider, said: Json) -> str:
    return signed(said, ECKey.generate_key("P-256"), header={"alg": "ES256", "kid": "forged"})


def with_its_own_key(fake: FakeProvider, said: Json) -> str:
    key = ECKey.generate_key("P-256")
    header = {"alg": "ES256", "kid": fake.kid, "jwk": key.as_dict(private=False)}
    return signed(said, key, header=header)


def altered(fake: FakeProvider, said: Json) -> str:
    head, _, signature = fake.honest(said).split(".")
    other = fake.honest({**said, "sub": "root"}).split(".")[1]
    return f"{head}.{other}.{signature}"


def with_crit(fake: FakeProvider, said: Json) -> str:
    header = {"alg": "ES256", "kid": fake.kid, "crit": ["b64"], "b64": False}
    return f"{b64(json.dumps(header))}.{b64(json.dumps(said))}.eA"


def small_rsa(fake: FakeProvider) -> None:
    with warnings.catch_warnings(action="ignore"):
        fake.key, fake.alg = RSAKey.generate_key(1024), "RS256"
    fake.claims["at_hash"] = None


def a_shared_key_in_the_set(fake: FakeProvider) -> None:
    shared = OctKey.import_key("a shared secret of the set, thirty-two")
    fake.jwks = {"keys": [{**shared.as_dict(), "kid": fake.kid}]}
    fake.sign = lambda said: under_a_shared_secret(
        said, "a shared secret of the set, thirty-two", fake.kid
    )


def two_keys_and_no_name(fake: FakeProvider) -> None:
    other = ECKey.generate_key("P-256").as_dict(private=False)
    fake.jwks = {"keys": [fake.key.as_dict(private=False), other]}
    fake.sign = lambda said: signed(said, fake.key, header={"alg": "ES256"})


def for_encryption(fake: FakeProvider) -> None:
    public = {**fake.key.as_dict(private=False), "kid": fake.kid, "use": "enc"}
    fake.jwks = {"keys": [public]}


TOKENS: dict[str, tuple[Change, str]] = {
    "alg none": (token(lambda _, said: unsigned(said)), "algorithm_refused"),
    "alg None": (token(lambda _, said: unsigned(said, "None")), "algorithm_refused"),
    "alg HS256, public key": (token(with_public_key), "algorithm_refused"),
    "alg HS256, client secret": (token(with_client_secret), "algorithm_refused"),
    "alg HS256, key of the set": (a_shared_key_in_the_set, "algorithm_refused"),
    "alg PS256": (token(lambda _, said: unsigned(said, "PS256") + "eA"), "algorithm_refused"),
    "alg missing": (tokens(id_token="e30.e30.eA"), "algorithm_refused"),
    "alg for another kind of key": (
        token(lambda _, said: unsigned(said, "RS256") + "eA"),
        "key_unknown",
    ),
    "signature of another key": (token(under_another_key), "signature_invalid"),
    "signature of an unknown key": (token(under_an_unknown_key), "key_unknown"),
    "key in the header": (token(with_its_own_key), "signature_invalid"),
    "claims altered": (token(altered), "signature_invalid"),
    "signature left out": (
        token(lambda f, said: f.honest(said).rpartition(".")[0] + "."),
        "signature_invalid",
    ),
    "header that must be understood": (token(with_crit), "token_malformed"),
    "RSA of 1024 bits": (small_rsa, "key_unknown"),
    "key for encryption": (for_encryption, "key_unknown"),
    "two keys, none named": (two_keys_and_no_name, "key_unknown"),
    "keys that are no list": (lambda f: setattr(f, "jwks", {"keys": 7}), "key_unknown"),
    "not a token": (tokens(id_token="x"), "token_malformed"),
    "five parts": (tokens(id_token="a.b.c.d.e"), "token_malformed"),
    "no base64": (tokens(id_token="?.?.?"), "token_malformed"),
    "no ID token": (tokens(id_token=None), "token_malformed"),
    "ID token a number": (tokens(id_token=7), "token_malformed"),
    "claims a list": (token(lambda f, said: f.honest([said])), "token_malformed"),  # type: ignore[arg-type]
    "iss another": (claims(iss="https://evil.example.test"), "issuer_mismatch"),
    "iss missing": (claims(iss=None), "issuer_mismatch"),
    "iss with a slash": (
        lambda f: f.claims.update(iss=f.issuer + "/"),
        "issuer_mismatch",
    ),
    "aud another": (claims(aud="other"), "audience_mismatch"),
    "aud missing": (claims(aud=None), "audience_mismatch"),
    "aud several, azp missing": (claims(aud=["certctl", "other"]), "audience_mismatch"),
    "azp another": (claims(azp="other"), "audience_mismatch"),
    "exp past": (claims(exp=Ago(3600)), "token_expired"),
    "exp missing": (claims(exp=None), "token_expired"),
    "exp a text": (claims(exp="tomorrow"), "token_expired"),
    "exp beyond numbers": (claims(exp=float("1e400")), "token_expired"),
    "iat old": (claims(iat=Ago(3600)), "token_age"),
    "iat to come": (claims(iat=Ago(-3600)), "token_age"),
    "iat missing": (claims(iat=None), "token_age"),
    "iat true": (claims(iat=True), "token_age"),
    "nonce another": (claims(nonce="x" * 43), "nonce_mismatch"),
    "nonce missing": (claims(nonce=None), "nonce_mismatch"),
    "nonce a list": (claims(nonce=[]), "nonce_mismatch"),
    "at_hash another": (claims(at_hash="x" * 22), "access_token_mismatch"),
    "access token another": (tokens(access_token="another"), "access_token_mismatch"),
    "access token missing": (tokens(access_token=None), "access_token_mismatch"),
    "sub missing": (claims(sub=None), "subject_invalid"),
    "sub empty": (claims(sub=""), "subject_invalid"),
    "sub a number": (claims(sub=7), "subject_invalid"),
    "sub with NUL": (claims(sub="a\x00b"), "subject_invalid"),
    "sub too long": (claims(sub="x" * 256), "subject_invalid"),
    "groups none": (claims(groups=None), "unmapped_groups"),
    "groups unmapped": (claims(groups=["others"]), "unmapped_groups"),
    "groups in another case": (claims(groups=["OPS"]), "unmapped_groups"),
    "nonce half a pair": (claims(nonce="\ud800"), "nonce_mismatch"),
    "sub half a pair": (claims(sub="\ud800"), "subject_invalid"),
    "access token half a pair": (tokens(access_token="\ud800"), "token_malformed"),
    "access token two lines": (tokens(access_token="a\nb"), "token_malformed"),
    "access token a number": (tokens(access_token=7), "token_malformed"),
    "groups half a pair": (claims(groups=["ops", "\ud800"]), "groups_invalid"),
    "groups an object": (claims(groups={"ops": True}), "groups_invalid"),
    "groups of numbers": (claims(groups=[7]), "groups_invalid"),
    "token endpoint says no": (lambda f: setattr(f, "token_status", 400), "code_exchange_failed"),
    "token endpoint is broken": (lambda f: setattr(f, "token_status", 500), "code_exchange_failed"),
    "token endpoint redirects": (lambda f: setattr(f, "token_status", 302), "code_exchange_failed"),
}


@pytest.mark.parametrize("attack", TOKENS)
async def test_a_forged_token_signs_nobody_in(site: Site, lying: FakeProvider, attack: str) -> None:
    change, category = TOKENS[attack]
    provider = await configured(site, lying.issuer, SECRET)
    change(lying)
    browser = Browser(site)
    answer = lying.authorize(await flow.began(browser, provider["id"]))
    assert await flow.came_back(browser, answer) == category
    assert await flow.nobody_is_in(site)
    trail = await kit.rows(
        site.world, "SELECT details FROM audit_events WHERE action = 'oidc_login_failed'"
    )
    assert [row["details"]["reason"] for row in trail] == [category]


async def test_an_honest_provider_signs_in(site: Site, lying: FakeProvider) -> None:
    """Without this, the table above would prove nothing."""
    provider = await configured(site, lying.issuer, SECRET)
    browser = Browser(site)
    answer = lying.authorize(await flow.began(browser, provider["id"]))
    assert await flow.came_back(browser, answer) == "in"


ANSWERS: dict[str, tuple[Json, str]] = {
    "state another": ({"state": "x" * 43}, "state_mismatch"),
    "state missing": ({"state": None}, "state_mismatch"),
    "state not ASCII": ({"state": "ü"}, "state_mismatch"),
    "iss another": ({"iss": "https://evil.example.test"}, "issuer_mismatch"),
    "iss missing": ({"iss": None}, "issuer_mismatch"),
    "iss empty": ({"iss": ""}, "issuer_mismatch"),
    "code missing": ({"code": None}, "provider_error"),
    "code another": ({"code": "guessed"}, "code_exchange_failed"),
    "error": ({"code": None, "error": "access_denied"}, "provider_error"),
    "error beside a code": ({"error": "access_denied"}, "provider_error"),
}


@pytest.mark.parametrize("attack", ANSWERS)
async def test_a_forged_answer_signs_nobody_in(
    site: Site, lying: FakeProvider, attack: str
) -> None:
    changes, category = ANSWERS[attack]
    provider = await configured(site, lying.issuer, SECRET)
    browser = Browser(site)
    honest = lying.authorize(await flow.began(browser, provider["id"]))
    forged = {k: v for k, v in {**honest, **changes}.items() if v is not None}
    assert await flow.came_back(browser, forged) == category
    assert await flow.came_back(browser, honest) == "login_not_begun"
    assert await flow.nobody_is_in(site)


@pytest.mark.parametrize("cookie", [None, "", "x" * 43, "x" * 5000])
async def test_a_login_that_did_not_begin_in_this_browser_does_not_end_here(
    site: Site, lying: FakeProvider, cookie: str | None
) -> None:
    """Login CSRF: the attacker's own answer is slipped to the victim."""
    provider = await configured(site, lying.issuer, SECRET)
    attacker, victim = Browser(site), Browser(site)
    answer = lying.authorize(await flow.began(attacker, provider["id"]))
    if cookie is not None:
        victim.http.cookies.set(PENDING, cookie)
    assert await flow.came_back(victim, answer) == "login_not_begun"
    assert await flow.nobody_is_in(site)


@pytest.mark.parametrize(
    ("setting", "moved"),
    [
        ("login_binds_ip", {"address": "192.0.2.99"}),
        ("login_binds_user_agent", {"agent": "another browser"}),
    ],
)
async def test_a_login_ends_where_it_began(
    site: Site, lying: FakeProvider, setting: str, moved: dict[str, str]
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    for bound in (True, False):
        other = open_site(with_people(site.world, **{setting: bound}))
        first, second = Browser(other), Browser(other, **moved)
        answer = lying.authorize(await flow.began(first, provider["id"]))
        second.http.cookies.update(first.http.cookies)
        assert await flow.came_back(second, answer) == ("login_elsewhere" if bound else "in")


async def test_a_login_ends_in_ten_minutes(site: Site, lying: FakeProvider) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    browser = Browser(site)
    answer = lying.authorize(await flow.began(browser, provider["id"]))
    await kit.change(site.world, "UPDATE oidc_pre_login_sessions SET expires_at = now()")
    assert await flow.came_back(browser, answer) == "login_expired"
    assert await flow.nobody_is_in(site)


async def test_nothing_of_a_login_under_way_is_in_the_database(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    browser = Browser(site)
    answer = lying.authorize(await flow.began(browser, provider["id"]))
    (row,) = await kit.rows(site.world, "SELECT * FROM oidc_pre_login_sessions")
    begun = lying.codes[answer["code"]]
    for secret in (begun["state"], begun["nonce"], browser.http.cookies.get(PENDING)):
        assert len(secret) == 43
        assert secret not in str(row)
    assert begun["code_challenge_method"] == "S256"


PENDING = "__Host-certctl_oidc_pending"
METADATA: dict[str, Json] = {
    "another issuer": {"issuer": "https://evil.example.test"},
    "no issuer": {"issuer": None},
    "no token endpoint": {"token_endpoint": None},
    "plain http beyond loopback": {"token_endpoint": "http://evil.example.test/token"},
    "authorization by script": {"authorization_endpoint": "javascript:alert(1)"},
    "keys in a file": {"jwks_uri": "file:///etc/passwd"},
    "keys at a metadata service": {"jwks_uri": "https://169.254.169.254/jwks"},
    "only shared-secret algorithms": {"id_token_signing_alg_values_supported": ["HS256"]},
}


@pytest.mark.parametrize("attack", METADATA)
async def test_a_provider_that_describes_itself_wrongly_is_not_used(
    site: Site, lying: FakeProvider, attack: str
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    lying.metadata = METADATA[attack]
    answer = await site.client.get(f"/auth/oidc/login?provider={provider['id']}")
    assert answer.status_code == 502
    status = await site.get(f"/auth/oidc/providers/{provider['id']}/jwks-status")
    assert status["last_error"]
    tried = await site.post("/auth/oidc/test", {"issuer_url": lying.issuer}, status=200)
    assert (tried["discovery_succeeded"], len(tried["errors"])) == (False, 1)


async def test_unknown_keys_make_certctl_ask_once_a_minute_at_most(
    site: Site, lying: FakeProvider
) -> None:
    provider = await configured(site, lying.issuer, SECRET)
    token(under_an_unknown_key)(lying)
    for _ in range(4):
        browser = Browser(site)
        answer = lying.authorize(await flow.began(browser, provider["id"]))
        assert await flow.came_back(browser, answer) == "key_unknown"
    assert lying.asked.count("/jwks") == 2
    status = await site.get(f"/auth/oidc/providers/{provider['id']}/jwks-status")
    assert status["rejected_jws_count"] == 4
