"""CAs below ours whose keys are elsewhere, and the revocation of CAs; openssl judges."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from certctl.pki import keys, x509
from certctl.pki.keys import KeyAlgorithm
from certctl.services import authority, crls, outside
from tests import kit
from tests.enterprise import a_key
from tests.pki.made import CA, a_template, openssl
from tests.web.kit import Json, Site
from tests.web.test_ca_tree import cas, leaf, make, root_of, successor, verify

KEY = keys.generate(KeyAlgorithm.ECDSA_P256)


def csr(key: keys.PrivateKey = KEY, name: str = "Outside CA") -> str:
    return x509.make_ca_csr(key, name, 0)


async def signed(site: Site, **more: object) -> Json:
    path = f"/intermediates/{await root_of(site)}/sign"
    return await site.post(path, {"csr_pem": csr(), **more})


async def test_an_outside_ca_is_certified_and_openssl_takes_its_leaves(
    site: Site, tmp_path: Path
) -> None:
    made = await signed(site, ttl_days=100)
    assert (made["name"], made["key_held"], made["signed_outside"]) == ("Outside CA", False, False)
    own, root = x509.ders_of_pem(made["chain_pem"])
    facts = x509.facts(own)
    assert facts.spki_sha256 == keys.spki_sha256(KEY.public_key())
    assert facts.not_after - facts.not_before < timedelta(days=100)
    assert facts.crl_urls[0].endswith(made["parent_ca_id"])
    below = CA(KEY, own).issue(a_template(not_after=facts.not_after))
    assert "leaf.pem: OK" in verify(tmp_path, [below, own], root)
    assert (await leaf(site))[1] != own
    assert (await said_of(site, made)).certificate_status is OCSPCertStatus.GOOD
    assert (await site.client.get(f"/.well-known/pki/crl/{made['id']}")).status_code == 404


async def said_of(site: Site, ca: Json) -> cx509.ocsp.OCSPResponse:
    path = f"/.well-known/pki/ocsp/{ca['parent_ca_id']}/{ca['serial_number']}"
    return load_der_ocsp_response((await site.client.get(path)).content)


async def test_what_may_not_stand_below_is_refused_before_anything_is_signed(site: Site) -> None:
    known = await cas(site)
    root, issuing = known["certctl root CA"]["id"], known["certctl issuing CA"]["id"]
    weak = rsa.generate_private_key(65537, 1024)
    forged = csr().replace("MI", "MJ", 1)
    blocked = a_key()
    spki = keys.spki_sha256(blocked.public_key())
    await site.post("/blocked-keys", {"spki_sha256": spki, "reason": "lost"})
    cases: list[tuple[int, str, str, Json]] = [
        (400, root, "csr_pem", {"csr_pem": forged}),
        (400, root, "csr_pem", {"csr_pem": csr(weak)}),
        (400, root, "csr_pem", {"csr_pem": csr(blocked)}),
        (400, root, "path_len_constraint", {"csr_pem": csr(), "path_len_constraint": 1}),
        (400, root, "name", {"csr_pem": csr(name="")}),
        (400, root, "name_constraints",
         {"csr_pem": csr(), "name_constraints": [{"permitted": ["*.a.test"]}]}),
        (409, root, "name", {"csr_pem": csr(), "name": "certctl issuing CA"}),
        (409, issuing, "parent_ca_id", {"csr_pem": csr()}),
    ]  # fmt: skip
    for code, at, field, body in cases:
        refused = await site.refused(code, "POST", f"/intermediates/{at}/sign", json=body)
        assert refused["field"] == field, (body, refused)
    assert await cas(site) == known


async def test_constraints_are_written_into_an_outside_ca(site: Site, tmp_path: Path) -> None:
    within = [{"permitted": ["a.test"], "excluded": []}]
    made = await signed(site, name_constraints=within)
    assert made["name_constraints"] == within
    own = x509.ders_of_pem(made["chain_pem"])[0]
    (tmp_path / "ca.pem").write_text(x509.pem(own))
    said = openssl("x509", "-in", tmp_path / "ca.pem", "-noout", "-ext", "nameConstraints").stdout
    assert "DNS:a.test" in said


async def test_a_request_that_was_cut_off_is_finished_by_sending_it_again(site: Site) -> None:
    wish = outside.Request(csr(), 0)
    with pytest.raises(kit.Killed):
        await outside.sign(
            kit.with_signer(site.world, kit.killed), kit.ADMIN, await root_of(site), wish
        )
    begun = (await cas(site))["Outside CA"]
    assert begun["state"] == "preparing"
    other = {"csr_pem": csr(a_key())}
    path = f"/intermediates/{await root_of(site)}/sign"
    assert (await site.refused(409, "POST", path, json=other))["field"] == "name"
    assert (await signed(site))["id"] == begun["id"]


async def test_a_revoked_outside_ca_is_told_by_ocsp_and_crl_at_once(
    site: Site, tmp_path: Path
) -> None:
    made = await signed(site)
    gone = await site.post(
        f"/intermediates/{made['id']}/revoke", {"reason": "keyCompromise"}, status=200
    )
    assert (gone["state"], gone["revocation_reason"]) == ("retiring", "keyCompromise")
    assert (await said_of(site, made)).certificate_status is OCSPCertStatus.REVOKED
    assert "certificate revoked" in await crl_check(site, tmp_path, made["chain_pem"])
    again = await site.refused(409, "POST", f"/intermediates/{made['id']}/revoke", json={})
    assert "already" in again["message"]
    path = f"/intermediates/{await root_of(site)}/sign"
    body = {"csr_pem": csr(), "name": "anew"}
    assert "compromised" in (await site.refused(400, "POST", path, json=body))["message"]


async def crl_check(site: Site, folder: Path, chain_pem: str, leaf_der: bytes = b"") -> str:
    """What openssl says of a leaf or, without one, of the CA, with the CRLs of all above it."""
    *between, root = x509.ders_of_pem(chain_pem)
    if leaf_der:
        between.insert(0, leaf_der)
    lists = ""
    for der in (*between[1:], root):
        (row,) = [
            each for each in await kit.rows(site.world, "SELECT id, cert_der FROM authorities")
            if each["cert_der"] == der
        ]  # fmt: skip
        crl = (await crls.present(site.world.platform, row["id"])).der
        lists += openssl_pem(crl, folder)
    (folder / "crls.pem").write_text(lists)
    verify(folder, [*between, root], root)
    return openssl(
        "verify", "-x509_strict", "-crl_check_all", "-CRLfile", folder / "crls.pem",
        "-CAfile", folder / "root.pem", "-untrusted", folder / "between.pem", folder / "leaf.pem",
    ).stdout  # fmt: skip


def openssl_pem(crl: bytes, folder: Path) -> str:
    (folder / "one.crl").write_bytes(crl)
    return openssl("crl", "-inform", "DER", "-in", folder / "one.crl").stdout


async def test_a_revoked_ca_of_ours_signs_no_more_and_its_leaves_fall(
    site: Site, tmp_path: Path
) -> None:
    old = (await cas(site))["certctl issuing CA"]
    before = (await leaf(site, "old"))[0]
    assert "OK" in await crl_check(site, tmp_path, old["chain_pem"], before)
    path = f"/intermediates/{old['id']}/revoke"
    refused = await site.refused(409, "POST", path, json={"reason": "superseded"})
    assert (refused["field"], "successor" in refused["message"]) == ("force", True)
    assert "OK" in await crl_check(site, tmp_path, old["chain_pem"], before)
    made = await successor(site)
    await site.post(path, {"reason": "superseded"}, status=200)
    assert "certificate revoked" in await crl_check(site, tmp_path, old["chain_pem"], before)
    assert x509.facts((await leaf(site, "new"))[1]).subject_cn == made["name"]
    assert "ca_revoked" in await kit.actions(site.world)


async def test_force_revokes_a_ca_with_all_that_stands_below_it(site: Site) -> None:
    issuer = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    top = await make(site, "Shop root", issuer, path_len_constraint=2)
    policy = await make(site, "policy", issuer, parent_ca_id=top["id"], path_len_constraint=1)
    await make(site, "issuing", issuer, parent_ca_id=policy["id"])
    path = f"/intermediates/{policy['id']}/revoke"
    assert (await site.refused(409, "POST", path, json={}))["counts"] == {"children": 1}
    await site.post(path, {"force": True}, status=200)
    known = await cas(site, issuer)
    assert {known[name]["state"] for name in ("policy", "issuing")} == {"retiring"}
    assert await authority.signing_authority_id(site.world.platform, issuer) == top["id"]


async def test_a_root_cannot_be_revoked(site: Site) -> None:
    path = f"/intermediates/{await root_of(site)}/revoke"
    refused = await site.refused(409, "POST", path, json={"force": True})
    assert "trust stores" in refused["message"]


async def test_what_was_cut_off_is_not_finished_by_a_ca_that_is_revoked_since(site: Site) -> None:
    issuer = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    top = await make(site, "Shop root", issuer, path_len_constraint=2)
    policy = await make(site, "policy", issuer, parent_ca_id=top["id"], path_len_constraint=1)
    wish = outside.Request(csr(), 0)
    with pytest.raises(kit.Killed):
        await outside.sign(kit.with_signer(site.world, kit.killed), kit.ADMIN, policy["id"], wish)
    await site.post(f"/intermediates/{policy['id']}/revoke", {"force": True}, status=200)
    path = f"/intermediates/{policy['id']}/sign"
    refused = await site.refused(409, "POST", path, json={"csr_pem": csr()})
    assert "signs nothing new" in refused["message"]
    assert (await cas(site, issuer))["Outside CA"]["state"] == "preparing"
