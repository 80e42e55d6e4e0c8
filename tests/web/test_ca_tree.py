"""The tree of our own CAs: made, used, judged by openssl, and retired in stages."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from certctl.pki import x509
from certctl.services import authority, crls, hierarchy, issue, status
from tests import kit
from tests.pki.made import openssl
from tests.web.kit import Json, Site

LIST = "/issuers/iss-local/intermediates"


async def cas(site: Site, issuer: str = "iss-local") -> dict[str, Json]:
    rows = (await site.get(f"/issuers/{issuer}/intermediates?per_page=100"))["data"]
    return {row["name"]: row for row in rows}


async def make(site: Site, name: str, issuer: str = "iss-local", **more: Any) -> Json:
    return await site.post(f"/issuers/{issuer}/intermediates", {"name": name, **more})


async def root_of(site: Site) -> str:
    return str((await cas(site))["certctl root CA"]["id"])


async def successor(site: Site, **more: Any) -> Json:
    return await make(site, "Issuing 2027", parent_ca_id=await root_of(site), **more)


async def leaf(site: Site, name: str = "www", **more: Any) -> list[bytes]:
    """The chain of a leaf that is ordered and issued now, DER, leaf first."""
    row = await kit.order(site.world, name=name, csr_pem=kit.a_csr("a.example.test"), **more)
    assert await issue.run(site.world.platform, await kit.job_of(site.world, row["id"]))
    (version,) = await kit.versions_of(site.world, row["id"])
    return x509.ders_of_pem(version["pem_chain"])


def verify(tmp_path: Path, chain: list[bytes], root: bytes) -> str:
    for name, ders in (("leaf", chain[:1]), ("between", chain[1:]), ("root", [root])):
        (tmp_path / f"{name}.pem").write_text(x509.chain_pem(ders))
    return openssl(
        "verify", "-x509_strict", "-CAfile", tmp_path / "root.pem",
        "-untrusted", tmp_path / "between.pem", tmp_path / "leaf.pem",
    ).stdout  # fmt: skip


@pytest.mark.parametrize(
    "algorithm", ["ECDSA-P256", "ECDSA-P384", "RSA-2048", "RSA-3072", "Ed25519"]
)
async def test_a_new_ca_signs_from_now_on_and_openssl_takes_its_leaves(
    site: Site, tmp_path: Path, algorithm: str
) -> None:
    made = await successor(site, algorithm=algorithm)
    assert made["state"] == "active"
    assert made["path_len_constraint"] == 0
    *_, root = x509.ders_of_pem(made["chain_pem"])
    chain = await leaf(site)
    assert x509.facts(chain[1]).fingerprint_sha256 == made["fingerprint_sha256"]
    assert "leaf.pem: OK" in verify(tmp_path, chain, root)
    assert (await crls.present(site.world.platform, made["id"])).der


async def test_three_tiers_are_assembled_leaf_first(site: Site, tmp_path: Path) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    top = await make(site, "Shop root", issuer["id"], path_len_constraint=2)
    policy = await make(
        site, "Shop policy", issuer["id"], parent_ca_id=top["id"], path_len_constraint=1
    )
    below = await make(site, "Shop issuing", issuer["id"], parent_ca_id=policy["id"])
    later = await make(
        site, "Shop policy 2", issuer["id"], parent_ca_id=top["id"], path_len_constraint=1
    )
    chain = await leaf(site, issuer_id=issuer["id"])
    names = [x509.facts(der).subject_cn for der in chain[1:]]
    assert names == ["Shop issuing", "Shop policy"]
    assert later["state"] == "active"
    root = x509.ders_of_pem(below["chain_pem"])[-1]
    assert x509.facts(root).subject_cn == "Shop root"
    assert "leaf.pem: OK" in verify(tmp_path, chain, root)


async def test_a_ca_never_outlives_the_one_above_it(site: Site) -> None:
    made = await successor(site, ttl_days=9125)
    root = await site.get(f"/intermediates/{await root_of(site)}")
    assert made["not_after"] == root["not_after"]


async def test_a_place_that_cannot_be_is_refused_by_its_field(site: Site) -> None:
    known = await cas(site)
    root, issuing = known["certctl root CA"]["id"], known["certctl issuing CA"]["id"]
    other = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    cases: list[tuple[int, str, str, Json]] = [
        (409, "iss-local", "parent_ca_id", {"name": "second root"}),
        (409, "iss-local", "parent_ca_id", {"name": "too low", "parent_ca_id": issuing}),
        (400, "iss-local", "path_len_constraint",
         {"name": "too long", "parent_ca_id": root, "path_len_constraint": 1}),
        (400, "iss-local", "parent_ca_id", {"name": "lost", "parent_ca_id": "ica-none"}),
        (400, other["id"], "parent_ca_id", {"name": "foreign", "parent_ca_id": root}),
        (409, "iss-local", "name", {"name": "certctl issuing CA", "parent_ca_id": root}),
        (400, "iss-local", "algorithm",
         {"name": "odd", "parent_ca_id": root, "algorithm": "RSA-1024"}),
        (400, "iss-local", "ttl_days", {"name": "short", "parent_ca_id": root, "ttl_days": 0}),
    ]  # fmt: skip
    for code, issuer, field, body in cases:
        path = f"/issuers/{issuer}/intermediates"
        refused = await site.refused(code, "POST", path, json=body)
        assert refused["field"] == field, body
    assert await cas(site) == known
    assert await cas(site, other["id"]) == {}


async def test_a_ca_retires_in_stages(site: Site) -> None:
    old = (await cas(site))["certctl issuing CA"]["id"]
    await leaf(site, "old")
    signs = await site.refused(409, "POST", f"/intermediates/{old}/retire", json={})
    assert "successor" in signs["message"]
    await successor(site)
    early = await site.refused(409, "POST", f"/intermediates/{old}/retire", json={"confirm": True})
    assert early["field"] == "confirm"
    first = await site.post(f"/intermediates/{old}/retire", {"note": "rollover"}, status=200)
    assert (first["state"], first["confirmed"]) == ("retiring", False)
    used = await site.refused(409, "POST", f"/intermediates/{old}/retire", json={"confirm": True})
    assert used["counts"] == {"certificates": 1}
    row = (await site.get("/certificates?search=old"))["data"][0]
    await site.post(f"/certificates/{row['id']}/revoke", {"reason": "superseded"}, status=200)
    last = await site.post(f"/intermediates/{old}/retire", {"confirm": True}, status=200)
    assert (last["state"], last["confirmed"]) == ("retired", True)
    await site.refused(409, "POST", f"/intermediates/{old}/retire", json={"confirm": True})
    assert {"ca_retiring", "ca_retired"} <= set(await kit.actions(site.world))


async def test_a_ca_with_active_cas_below_it_does_not_retire(site: Site) -> None:
    root = await root_of(site)
    refused = await site.refused(409, "POST", f"/intermediates/{root}/retire", json={})
    assert refused["counts"] == {"children": 1}


async def test_a_retiring_ca_signs_nothing_new_and_goes_on_answering(site: Site) -> None:
    old = (await cas(site))["certctl issuing CA"]["id"]
    before = await leaf(site, "old")
    made = await successor(site)
    await site.post(f"/intermediates/{old}/retire", {}, status=200)
    body = {"name": "below", "parent_ca_id": old}
    assert (await site.refused(409, "POST", LIST, json=body))["field"] == "parent_ca_id"
    assert x509.facts((await leaf(site, "new"))[1]).subject_cn == made["name"]
    answer = await site.client.get(f"/.well-known/pki/ocsp/{old}/{x509.facts(before[0]).serial}")
    said = load_der_ocsp_response(answer.content)
    assert said.certificate_status is OCSPCertStatus.GOOD
    assert await status.keep_fresh(site.world.platform) >= 0
    assert (await site.client.get(f"/.well-known/pki/crl/{old}")).status_code == 200


async def test_only_whoever_manages_the_hierarchy_sees_and_shapes_it(site: Site) -> None:
    key = await site.key("r-operator")
    await site.refused(403, "GET", LIST, key=key)
    await site.refused(403, "POST", LIST, json={"name": "x"}, key=key)


async def test_a_ca_that_was_cut_off_while_it_was_made_is_finished_by_asking_again(
    site: Site,
) -> None:
    root = await root_of(site)
    wish = authority.NewAuthority("iss-local", root, "Issuing 2027", path_length=0)
    with pytest.raises(kit.Killed):
        await hierarchy.create(kit.with_signer(site.world, kit.killed), kit.ADMIN, wish)
    begun = (await cas(site))["Issuing 2027"]
    assert (begun["state"], begun["not_after"]) == ("preparing", None)
    finished = await successor(site)
    assert (finished["id"], finished["state"]) == (begun["id"], "active")


async def test_two_who_ask_for_the_same_ca_at_once_make_one(site: Site) -> None:
    root = await root_of(site)
    body = {"name": "Issuing 2027", "parent_ca_id": root}
    answers = await asyncio.gather(*(site.call("POST", LIST, json=body) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert 201 in {answer.status_code for answer in answers}
    assert list(await cas(site)).count("Issuing 2027") == 1
    signed = await kit.rows(
        site.world, "SELECT * FROM issuances WHERE purpose='ca' AND state='issued'"
    )
    assert len(signed) == 3


WITHIN = [{"permitted": ["example.test", "10.0.0.0/8"], "excluded": ["dev.example.test"]}]


async def test_a_ca_certifies_no_name_outside_its_constraints(site: Site, tmp_path: Path) -> None:
    made = await successor_of_a_tree(site, name_constraints=WITHIN)
    assert made["name_constraints"] == WITHIN
    chain = x509.ders_of_pem(made["chain_pem"])
    (tmp_path / "ca.pem").write_text(x509.chain_pem(chain[:1]))
    said = openssl("x509", "-in", tmp_path / "ca.pem", "-noout", "-ext", "nameConstraints").stdout
    assert "X509v3 Name Constraints: critical" in said
    for words in ("DNS:example.test", "IP:10.0.0.0/255.0.0.0", "DNS:dev.example.test"):
        assert words in said
    fits = await leaf(site, issuer_id=made["issuer_id"])
    assert "leaf.pem: OK" in verify(tmp_path, fits, chain[-1])
    for name in ("a.example.net", "x.dev.example.test", "*.example.test", "192.0.2.1"):
        row = await kit.order(
            site.world,
            name=f"not {name.replace('*', 'any')}",
            csr_pem=kit.a_csr("a.example.test"),
            sans=[name],
            issuer_id=made["issuer_id"],
        )
        job_id = await kit.job_of(site.world, row["id"])
        assert not await issue.run(site.world.platform, job_id)
        assert name in (await site.get(f"/jobs/{job_id}"))["last_error"]
        assert await kit.versions_of(site.world, row["id"]) == []


async def successor_of_a_tree(site: Site, **more: Any) -> Json:
    """An issuing CA below a root of their own issuer, the root without constraints."""
    issuer = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    top = await make(site, "Shop root", issuer, path_len_constraint=2)
    return await make(site, "Shop CA", issuer, parent_ca_id=top["id"], **more)


async def test_a_ca_inherits_constraints_and_may_only_narrow_them(site: Site) -> None:
    above = await successor_of_a_tree(site, name_constraints=WITHIN, path_len_constraint=1)
    below = {"issuer": above["issuer_id"], "parent_ca_id": above["id"]}
    heir = await make(site, "heir", **below)
    assert heir["name_constraints"] == WITHIN
    narrow = [{"permitted": ["shop.example.test"], "excluded": ["dev.example.test"]}]
    path = f"/issuers/{above['issuer_id']}/intermediates"
    for wide in (
        [{"permitted": ["example.net"]}],
        [{"permitted": ["example.test", "10.0.0.0/8"]}],
        narrow,
    ):
        body = {"name": "wide", "parent_ca_id": above["id"], "name_constraints": wide}
        refused = await site.refused(400, "POST", path, json=body)
        assert refused["field"] == "name_constraints"
    narrow[0]["permitted"].append("10.1.0.0/16")
    made = await make(site, "narrow", **below, name_constraints=narrow)
    assert made["name_constraints"] == narrow


async def test_the_built_in_ca_cannot_be_shut_out_from_the_servers_own_names(site: Site) -> None:
    body = {"name": "mine", "parent_ca_id": await root_of(site)}
    only = {**body, "name_constraints": [{"permitted": ["example.test"]}]}
    refused = await site.refused(409, "POST", LIST, json=only)
    assert refused["field"] == "name_constraints"
    odd = {**body, "name_constraints": [{"permitted": ["*.example.test"]}]}
    assert (await site.refused(400, "POST", LIST, json=odd))["field"] == "name_constraints"
