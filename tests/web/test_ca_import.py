"""CAs that an enterprise root has signed: brought with a key or by CSR, judged by openssl."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.serialization import PrivateFormat

from certctl.pki import keys, x509
from certctl.services import crls, issue, status
from tests import kit
from tests.enterprise import CA, a_ca, a_key, signed
from tests.pki.made import openssl
from tests.web.kit import Json, Site
from tests.web.test_ca_tree import cas, leaf, make, root_of, verify

ROOT = a_ca("Corp root")
POLICY = a_ca("Corp policy", ROOT, path_length=1)
ISSUING = a_ca("Corp issuing", POLICY, path_length=0)
ABOVE = POLICY.pem + ROOT.pem


async def shop(site: Site) -> str:
    return str((await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"])


def files(ca: CA = ISSUING, chain: str = ABOVE, **more: Any) -> Json:
    return {"certificate_pem": ca.pem, "chain_pem": chain, "key_pem": ca.key_pem(), **more}


async def test_an_imported_ca_signs_under_the_enterprise_root(site: Site, tmp_path: Path) -> None:
    issuer = await shop(site)
    made = await site.post(f"/issuers/{issuer}/intermediates/import", files())
    assert (made["name"], made["state"], made["key_held"]) == ("Corp issuing", "active", True)
    assert made["path_len_constraint"] == 0
    assert x509.ders_of_pem(made["chain_pem"]) == [ISSUING.der, POLICY.der, ROOT.der]
    chain = await leaf(site, issuer_id=issuer)
    assert chain[1:] == [ISSUING.der, POLICY.der]
    assert "leaf.pem: OK" in verify(tmp_path, chain, ROOT.der)
    (tmp_path / "crl.pem").write_bytes((await crls.present(site.world.platform, issuer)).der)
    said = openssl("crl", "-inform", "DER", "-in", tmp_path / "crl.pem", "-noout",
                   "-CAfile", _pem(tmp_path, ISSUING)).stdout  # fmt: skip
    assert "verify OK" in said
    assert "ca_imported" in await kit.actions(site.world)


def _pem(folder: Path, ca: CA) -> Path:
    path = folder / "issuing.pem"
    path.write_text(ca.pem)
    return path


async def test_cas_without_a_key_are_shown_and_do_nothing(site: Site) -> None:
    issuer = await shop(site)
    await site.post(f"/issuers/{issuer}/intermediates/import", files())
    known = await cas(site, issuer)
    for name in ("Corp root", "Corp policy"):
        assert (known[name]["key_held"], known[name]["signed_outside"]) == (False, True)
        ca_id = known[name]["id"]
        assert (await site.client.get(f"/.well-known/pki/crl/{ca_id}")).status_code == 404
        body = {"name": "below", "parent_ca_id": ca_id}
        path = f"/issuers/{issuer}/intermediates"
        refused = await site.refused(409, "POST", path, json=body)
        assert "not held here" in refused["message"]
    assert await status.keep_fresh(site.world.platform) >= 1
    held = await kit.rows(site.world, "SELECT DISTINCT authority_id AS id FROM crls")
    assert known["Corp issuing"]["id"] in {row["id"] for row in held}
    assert not {known["Corp root"]["id"], known["Corp policy"]["id"]} & {r["id"] for r in held}


@pytest.mark.parametrize(
    ("kind", "form", "passphrase"),
    [
        ("EC", PrivateFormat.PKCS8, ""),
        ("EC", PrivateFormat.TraditionalOpenSSL, ""),
        ("EC", PrivateFormat.PKCS8, "open sesame"),
        ("RSA", PrivateFormat.TraditionalOpenSSL, ""),
        ("RSA", PrivateFormat.TraditionalOpenSSL, "open sesame"),
    ],
)
async def test_each_form_of_key_is_taken(
    site: Site, kind: str, form: PrivateFormat, passphrase: str
) -> None:
    ca = a_ca("Corp issuing", ROOT, key=a_key(kind), path_length=0)
    body = files(ca, ROOT.pem, key_pem=ca.key_pem(form, passphrase), passphrase=passphrase)
    issuer = await shop(site)
    made = await site.post(f"/issuers/{issuer}/intermediates/import", body)
    chain = await leaf(site, issuer_id=issuer)
    assert x509.facts(chain[1]).fingerprint_sha256 == made["fingerprint_sha256"]


async def test_what_does_not_fit_is_refused_and_nothing_is_kept(site: Site) -> None:
    issuer = await shop(site)
    sealed = ISSUING.key_pem(passphrase="right")
    cases: list[tuple[int, str, str, Json]] = [
        (400, issuer, "key_pem", files(key_pem=POLICY.key_pem())),
        (400, issuer, "key_pem", files(key_pem=sealed)),
        (400, issuer, "key_pem", files(key_pem=sealed, passphrase="wrong")),
        (400, issuer, "key_pem", files(key_pem="none")),
        (400, issuer, "chain_pem", files(chain=ROOT.pem)),
        (400, issuer, "certificate_pem", files(POLICY, certificate_pem="none")),
        (409, "iss-local", "id", files()),
    ]
    for code, at, field, body in cases:
        path = f"/issuers/{at}/intermediates/import"
        refused = await site.refused(code, "POST", path, json=body)
        assert refused["field"] == field, refused
        assert "PRIVATE KEY" not in str(refused)
    assert await cas(site, issuer) == {}


async def test_a_blocked_key_signs_nothing_here(site: Site) -> None:
    issuer = await shop(site)
    spki = keys.spki_sha256(ISSUING.key.public_key())
    await site.post("/blocked-keys", {"spki_sha256": spki, "reason": "lost"})
    path = f"/issuers/{issuer}/intermediates/import"
    refused = await site.refused(400, "POST", path, json=files())
    assert (refused["field"], "blocked" in refused["message"]) == ("certificate_pem", True)


async def test_a_second_ca_of_the_same_root_shares_what_stands_above(site: Site) -> None:
    issuer = await shop(site)
    path = f"/issuers/{issuer}/intermediates/import"
    first = await site.post(path, files())
    assert (await site.refused(409, "POST", path, json=files(name="again")))["field"] == (
        "certificate_pem"
    )
    renewed = a_ca("Corp issuing", POLICY, path_length=0)
    assert (await site.refused(409, "POST", path, json=files(renewed)))["field"] == "name"
    second = await site.post(path, files(renewed, name="Corp issuing 2"))
    assert second["parent_ca_id"] == first["parent_ca_id"]
    assert len(await cas(site, issuer)) == 4
    assert (await leaf(site, issuer_id=issuer))[1] == renewed.der
    await site.post(f"/intermediates/{first['id']}/retire", {}, status=200)


async def test_constraints_above_an_imported_ca_bind_its_leaves(site: Site) -> None:
    top = a_ca("Corp root", permitted=("corp.test",))
    ca = a_ca("Corp issuing", top, path_length=0)
    issuer = await shop(site)
    made = await site.post(f"/issuers/{issuer}/intermediates/import", files(ca, top.pem))
    assert made["name_constraints"] == [{"permitted": ["corp.test"], "excluded": []}]
    row = await kit.order(
        site.world, name="foreign", csr_pem=kit.a_csr("a.example.test"), issuer_id=issuer
    )
    job_id = await kit.job_of(site.world, row["id"])
    assert not await issue.run(site.world.platform, job_id)
    assert "a.example.test" in (await site.get(f"/jobs/{job_id}"))["last_error"]


async def test_a_ca_of_ours_below_an_imported_one(site: Site, tmp_path: Path) -> None:
    issuer = await shop(site)
    path = f"/issuers/{issuer}/intermediates/import"
    above = await site.post(path, files(POLICY, ROOT.pem))
    made = await make(site, "Shop issuing", issuer, parent_ca_id=above["id"])
    chain = await leaf(site, issuer_id=issuer)
    assert [x509.facts(der).subject_cn for der in chain[1:]] == ["Shop issuing", "Corp policy"]
    assert "leaf.pem: OK" in verify(tmp_path, chain, ROOT.der)
    assert x509.ders_of_pem(made["chain_pem"])[-1] == ROOT.der


async def test_a_ca_by_csr_never_shows_its_key(site: Site, tmp_path: Path) -> None:
    issuer = await shop(site)
    path = f"/issuers/{issuer}/intermediates/csr"
    asked = await site.post(path, {"name": "Shop issuing"})
    (tmp_path / "ca.csr").write_text(asked["csr_pem"])
    said = openssl("req", "-in", tmp_path / "ca.csr", "-noout", "-text", "-verify")
    assert "verify OK" in said.stdout
    assert "CA:TRUE, pathlen:0" in said.stdout
    assert await site.post(path, {"name": "Shop issuing"}) == asked
    assert await site.get(f"/intermediates/{asked['id']}/csr") == asked
    assert (await cas(site, issuer))["Shop issuing"]["state"] == "preparing"
    signs = f"/issuers/{issuer}/intermediates"
    assert (await site.refused(409, "POST", signs, json={"name": "Shop issuing"}))["field"] == (
        "name"
    )
    ca = signed(asked["csr_pem"], POLICY)
    install = f"/intermediates/{asked['id']}/install"
    stranger = a_ca("Shop issuing", POLICY)
    for wrong, field in (
        ({"certificate_pem": stranger.pem, "chain_pem": ABOVE}, "certificate_pem"),
        ({"certificate_pem": ca.pem, "chain_pem": ROOT.pem}, "chain_pem"),
    ):
        assert (await site.refused(400, "POST", install, json=wrong))["field"] == field
    made = await site.post(install, {"certificate_pem": ca.pem + ABOVE}, status=200)
    assert (made["state"], made["id"]) == ("active", asked["id"])
    again = {"certificate_pem": ca.pem, "chain_pem": ABOVE}
    await site.refused(409, "POST", install, json=again)
    chain = await leaf(site, issuer_id=issuer)
    assert "leaf.pem: OK" in verify(tmp_path, chain, ROOT.der)


async def test_a_certificate_that_allows_fewer_cas_than_asked_for_is_not_installed(
    site: Site,
) -> None:
    issuer = await shop(site)
    body = {"name": "Shop policy", "path_len_constraint": 1}
    asked = await site.post(f"/issuers/{issuer}/intermediates/csr", body)
    ca = signed(asked["csr_pem"], POLICY)
    sent = {"certificate_pem": ca.pem, "chain_pem": ABOVE}
    refused = await site.refused(400, "POST", f"/intermediates/{asked['id']}/install", json=sent)
    assert refused["field"] == "certificate_pem"


async def test_a_ca_made_here_has_no_csr(site: Site) -> None:
    await site.refused(409, "GET", f"/intermediates/{await root_of(site)}/csr")
