"""CAs whose keys live in a PKCS#11 token: issued from, interrupted, and away for a while."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from certctl.boot.platform import Built
from certctl.boot.serve import readiness
from certctl.connectors.key_home import KeyHome
from certctl.domain.errors import Unavailable
from certctl.pki import x509
from certctl.pki.keys import Signer
from certctl.services import authority, crls, hierarchy, issue, status
from certctl.services.authority import NewAuthority
from certctl.settings import load
from tests import kit
from tests.conftest import World
from tests.pki.made import openssl
from tests.softhsm import Soft, WatchedHome
from tests.web.kit import Json, Site, open_site
from tests.web.test_ca_tree import leaf, make, root_of, verify


def with_home(world: World, home: KeyHome | None) -> World:
    homes = {"pkcs11": home} if home else {}
    return replace(world, platform=replace(world.platform, key_homes=homes))


@pytest.fixture
def site(world: World, soft: Soft) -> Site:
    return open_site(with_home(world, soft.open()))


async def in_token(site: Site, issuer: str = "iss-local", **more: object) -> Json:
    parent = await root_of(site) if issuer == "iss-local" else None
    return await make(
        site, "Issuing in a token", issuer, parent_ca_id=parent, key_home="pkcs11", **more
    )


async def an_order(site: Site, issuer_id: str = "iss-local", name: str = "api") -> tuple[str, str]:
    csr = kit.a_csr("a.example.test")
    row = await kit.order(site.world, csr_pem=csr, issuer_id=issuer_id, name=name)
    return row["id"], await kit.job_of(site.world, row["id"])


@pytest.mark.parametrize("algorithm", ["ECDSA-P256", "ECDSA-P384", "RSA-2048", "Ed25519"])
async def test_openssl_takes_a_leaf_of_a_ca_whose_key_never_left_its_token(
    site: Site, soft: Soft, tmp_path: Path, algorithm: str
) -> None:
    made = await in_token(site, algorithm=algorithm)
    assert (made["state"], made["key_home"], made["key_reference"]) == (
        "active", "pkcs11", made["id"],
    )  # fmt: skip
    chain = await leaf(site)
    assert x509.facts(chain[1]).fingerprint_sha256 == made["fingerprint_sha256"]
    *_, root = x509.ders_of_pem(made["chain_pem"])
    assert "leaf.pem: OK" in verify(tmp_path, chain, root)
    assert (await crls.present(site.world.platform, made["id"])).der
    listed = soft.listed()
    assert listed.count(f"label:      {made['id']}") == 2
    assert "never extractable" in listed


async def test_a_root_in_a_token_signs_itself(site: Site, tmp_path: Path) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    made = await in_token(site, issuer["id"], path_len_constraint=0)
    chain = await leaf(site, issuer_id=issuer["id"])
    for name, text in (("root", made["chain_pem"]), ("leaf", x509.pem(chain[0]))):
        (tmp_path / f"{name}.pem").write_text(text)
    said = openssl("verify", "-CAfile", tmp_path / "root.pem", tmp_path / "leaf.pem")
    assert "leaf.pem: OK" in said.stdout


async def test_a_ca_cut_off_after_its_key_was_made_is_finished_with_that_key(
    site: Site, soft: Soft
) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    wish = NewAuthority(issuer["id"], None, "Issuing in a token", 0, key_home="pkcs11")
    killing = with_home(site.world, WatchedHome(soft.open(), kit.killed))
    with pytest.raises(kit.Killed):
        await hierarchy.create(killing.platform, kit.ADMIN, wish)
    made = await in_token(site, issuer["id"], path_len_constraint=0)
    assert made["state"] == "active"
    assert soft.listed().count("Private Key Object") == 1


async def test_no_serial_is_ever_on_two_certificates(site: Site, soft: Soft) -> None:
    """An ECDSA signature of a token is another each time, so a lost one is not made again."""
    await in_token(site)
    certificate_id, job_id = await an_order(site)
    signed: list[bytes] = []

    def lost(signer: Signer, data: bytes) -> bytes:
        signed.append(data)
        signer.sign(data)
        raise Unavailable("the answer of the token was lost")

    losing = with_home(site.world, WatchedHome(soft.open(), lost))
    assert not await issue.run(losing.platform, job_id)
    await kit.change(site.world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(site.world.platform, job_id)
    (version,) = await kit.versions_of(site.world, certificate_id)
    intents = await kit.rows(
        site.world, "SELECT * FROM issuances WHERE job_id = %(id)s ORDER BY created_at", id=job_id
    )
    assert [row["state"] for row in intents] == ["closed", "issued"]
    assert bytes(intents[0]["tbs_der"]) == signed[0]
    assert intents[0]["serial_number"] != intents[1]["serial_number"] == version["serial_number"]


async def test_while_a_token_is_away_only_its_own_ca_waits(site: Site, soft: Soft) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    made = await in_token(site, issuer["id"], path_len_constraint=0)
    chain = await leaf(site, issuer_id=issuer["id"])
    platform = site.world.platform
    await kit.change(site.world, "UPDATE crls SET changes = changes + 1")
    other_id, waiting = await an_order(site, issuer["id"])
    with soft.away():
        assert not await issue.run(platform, waiting)
        job = await kit.job(site.world, waiting)
        assert (job["status"], "cannot be used" in job["last_error"]) == ("Pending", True)
        assert await leaf(site, name="of another CA")
        # Relying parties hear on: of the responder, whose key is not there, and by the last CRL.
        await good(site, made["id"], chain[0])
        assert (await crls.present(platform, made["id"])).der
        assert await status.keep_fresh(platform) >= 1
    await kit.change(site.world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(platform, waiting)
    assert len(await kit.versions_of(site.world, other_id)) == 1


async def good(site: Site, ca_id: str, leaf_der: bytes) -> None:
    answer = await status.Responder(site.world.platform).answer_serial(
        ca_id, x509.facts(leaf_der).serial
    )
    assert load_der_ocsp_response(answer.der).certificate_status is OCSPCertStatus.GOOD


async def test_a_responder_serves_to_its_end_when_it_cannot_be_renewed(
    site: Site, soft: Soft
) -> None:
    made = await in_token(site)
    chain = await leaf(site)
    terms = replace(site.world.platform.terms, responder_grace=timedelta(days=29, hours=23))
    world = replace(site.world, platform=replace(site.world.platform, terms=terms))
    ahead = replace(
        world.platform, clock=lambda: site.world.platform.clock() + timedelta(days=29, minutes=1)
    )
    before = (await status.responder(site.world.platform, made["id"])).facts.serial
    with soft.away():
        assert (await status.responder(ahead, made["id"])).facts.serial == before
        await good(replace(site, world=replace(world, platform=ahead)), made["id"], chain[0])
    assert (await status.responder(ahead, made["id"])).facts.serial != before


async def test_a_token_that_hangs_holds_up_no_other_ca(site: Site, soft: Soft) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    await in_token(site, issuer["id"], path_len_constraint=0)
    leave = threading.Event()

    def hang(signer: Signer, data: bytes) -> bytes:
        leave.wait(60)
        return signer.sign(data)

    home = WatchedHome(soft.open(timeout=timedelta(seconds=1)), hang)
    hanging = replace(site, world=with_home(site.world, home))
    try:
        stuck = [await an_order(site, issuer["id"], f"n{n}") for n in range(12)]
        for _, job_id in stuck:
            assert not await issue.run(hanging.world.platform, job_id)
        began = time.monotonic()
        assert await leaf(hanging, name="of another CA")
        assert time.monotonic() - began < 5
        states = Counter([(await kit.job(site.world, job_id))["status"] for _, job_id in stuck])
        assert states == {"Pending": 12}
    finally:
        leave.set()


async def told(world: World, home: Callable[[], KeyHome] | None) -> dict[str, str]:
    on = with_home(world, home() if home else None).platform
    return await readiness(Built(load({}), on, on, world.queue_app, world.conninfo), None)()


async def test_ready_names_the_ca_whose_key_is_away_and_the_log_says_why(
    site: Site, soft: Soft, caplog: pytest.LogCaptureFixture
) -> None:
    made = await in_token(site)
    assert (await told(site.world, soft.open))["signer"] == "ok"
    with soft.away():
        signer = (await told(site.world, soft.open))["signer"]
    assert signer == f"partly: CA {made['id']}: its key cannot be used"
    assert f"CA {made['id']} cannot sign: the PKCS#11 token {soft.label}" in caplog.text
    assert (await told(site.world, None))["signer"] == signer
    assert f"CA {made['id']} cannot sign: this server is not told" in caplog.text
    await kit.change(site.world, "UPDATE authorities SET state = 'retired' WHERE key_home='sealed'")
    signer = (await told(site.world, None))["signer"]
    assert signer.startswith(f"CA {made['id']}: ")


async def test_relying_parties_hear_on_from_a_server_that_is_not_told_of_the_token(
    site: Site,
) -> None:
    made = await in_token(site)
    chain = await leaf(site)
    without = with_home(site.world, None)
    await good(replace(site, world=without), made["id"], chain[0])
    _, job_id = await an_order(site)
    assert not await issue.run(without.platform, job_id)
    assert "CERTCTL_PKCS11_" in (await kit.job(site.world, job_id))["last_error"]


async def test_a_key_that_cannot_be_made_is_refused_by_its_field(world: World, soft: Soft) -> None:
    untold, site = open_site(world), open_site(with_home(world, soft.open()))
    before = await kit.rows(world, "SELECT id FROM authorities")
    body: Json = {"name": "odd", "parent_ca_id": await root_of(site), "key_home": "pkcs11"}
    for asked, field, more in (
        (untold, "key_home", {}),
        (site, "key_home", {"key_home": "shelf"}),
        (site, "algorithm", {"algorithm": "ML-DSA-65"}),
    ):
        path = "/issuers/iss-local/intermediates"
        assert (await asked.refused(400, "POST", path, json={**body, **more}))["field"] == field
    assert await kit.rows(world, "SELECT id FROM authorities") == before


async def test_what_a_ca_answers_with_is_there_from_the_beginning(site: Site, soft: Soft) -> None:
    made, platform = await in_token(site), site.world.platform
    with soft.away():
        assert (await status.responder(platform, made["id"])).facts.ekus == ("OCSPSigning",)
        assert (await crls.present(platform, made["id"])).der
        held = await authority.service_certificate(
            platform, made["id"], "server", grace=timedelta(days=20)
        )
    assert "serverAuth" in held.facts.ekus


async def test_a_ca_asked_for_while_the_token_is_away_is_finished_when_it_is_back(
    site: Site, soft: Soft
) -> None:
    body: Json = {"name": "Late", "parent_ca_id": await root_of(site), "key_home": "pkcs11"}
    with soft.away():
        problem = await site.refused(503, "POST", "/issuers/iss-local/intermediates", json=body)
        assert soft.label in problem["message"]
    made = await site.post("/issuers/iss-local/intermediates", body)
    assert (made["state"], made["key_home"]) == ("active", "pkcs11")
    assert soft.listed().count("Private Key Object") == 1
