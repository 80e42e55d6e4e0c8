"""A new root beside the old: one key with a certificate from each; openssl judges every chain."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from certctl.pki import x509
from certctl.services import authority, crls, rollover
from tests import kit
from tests.enterprise import a_ca
from tests.pki.made import openssl
from tests.services.test_plane import open_plane
from tests.web.kit import Json, Site
from tests.web.test_ca_tree import cas, leaf, make, successor, verify
from tests.web.test_outside_cas import csr, openssl_pem


async def three(site: Site, **more: object) -> tuple[Json, Json, Json]:
    """The old root, a new one beside it, and the issuing CA below the old."""
    old = (await cas(site))["certctl root CA"]
    new = await make(site, "New root", replaces=old["id"], **more)
    return old, new, (await cas(site))["certctl issuing CA"]


async def recertified(site: Site, ca: Json, above: Json, **more: object) -> Json:
    body = {"parent_ca_id": above["id"], **more}
    return await site.post(f"/intermediates/{ca['id']}/recertify", body)


async def cut_over(site: Site, ca: Json, above: Json) -> Json:
    body = {"parent_ca_id": above["id"]}
    return await site.post(f"/intermediates/{ca['id']}/cutover", body, status=200)


def der_of(ca: Json) -> bytes:
    return x509.ders_of_pem(ca["chain_pem"])[0]


def other_of(ca: Json) -> bytes:
    (other,) = ca["other_certificates"]
    return x509.ders_of_pem(other["certificate_pem"])[0]


async def judged(site: Site, folder: Path, chain: list[bytes], root: Json, ca: Json) -> str:
    """What openssl says of a chain when this root alone is trusted, with the CRLs of the two."""
    lists = [(await crls.present(site.world.platform, each["id"])).der for each in (ca, root)]
    (folder / "crls.pem").write_text("".join(openssl_pem(each, folder) for each in lists))
    assert "leaf.pem: OK" in verify(folder, chain, der_of(root))
    return openssl(
        "verify", "-x509_strict", "-crl_check_all", "-CRLfile", folder / "crls.pem",
        "-CAfile", folder / "root.pem", "-untrusted", folder / "between.pem", folder / "leaf.pem",
    ).stdout  # fmt: skip


async def test_leaves_from_before_and_after_the_cutover_verify_under_either_root(
    site: Site, tmp_path: Path
) -> None:
    old, new, issuing = await three(site)
    before = await leaf(site, "before")
    both = await recertified(site, issuing, new)
    assert await leaf(site, "between") != before
    assert (await leaf(site, "between too"))[1:] == before[1:] == [der_of(issuing)]
    after_cutover = await cut_over(site, issuing, new)
    after = await leaf(site, "after")
    assert after[1:] == [other_of(both)] == [der_of(after_cutover)]
    assert x509.ders_of_pem(after_cutover["chain_pem"])[1] == der_of(new)
    assert other_of(after_cutover) == der_of(issuing)
    for mine in (before[0], after[0]):
        for between, root in ((der_of(issuing), old), (other_of(both), new)):
            chain = [mine, between]
            assert "leaf.pem: OK" in await judged(site, tmp_path, chain, root, issuing)
    swapped = [after[0], other_of(both)]
    assert "leaf.pem: OK" not in verify(tmp_path, swapped, der_of(old))


async def test_the_other_certificate_is_for_the_same_subject_and_key_and_answers_for_itself(
    site: Site,
) -> None:
    old, new, issuing = await three(site)
    both = await recertified(site, issuing, new, ttl_days=100)
    first, second = (cx509.load_der_x509_certificate(der) for der in (der_of(both), other_of(both)))
    assert first.subject == second.subject
    assert first.public_key() == second.public_key()
    for kind in (cx509.SubjectKeyIdentifier, cx509.BasicConstraints, cx509.KeyUsage):
        one, two = (each.extensions.get_extension_for_class(kind) for each in (first, second))
        assert one == two
    assert first.serial_number != second.serial_number
    facts = x509.facts(other_of(both))
    assert facts.crl_urls[0].endswith(new["id"])
    aia = second.extensions.get_extension_for_class(cx509.AuthorityInformationAccess).value
    places = {each.access_location.value for each in aia}
    assert len(places) == 2
    assert all(new["id"] in place for place in places)
    assert (facts.not_after - facts.not_before).days in (99, 100)
    for root, der in ((old, der_of(both)), (new, other_of(both))):
        path = f"/.well-known/pki/ocsp/{root['id']}/{x509.facts(der).serial}"
        said = load_der_ocsp_response((await site.client.get(path)).content)
        assert said.certificate_status is OCSPCertStatus.GOOD


async def test_ocsp_answers_of_the_issuing_ca_verify_under_either_root(
    site: Site, tmp_path: Path
) -> None:
    old, new, issuing = await three(site)
    mine, *_ = await leaf(site, "before")
    both = await recertified(site, issuing, new)
    (tmp_path / "leaf.pem").write_text(x509.pem(mine))
    for now, (root, between) in enumerate(((old, der_of(issuing)), (new, other_of(both)))):
        if now:
            await cut_over(site, issuing, new)
        path = f"/.well-known/pki/ocsp/{issuing['id']}/{x509.facts(mine).serial}"
        (tmp_path / "said.der").write_bytes((await site.client.get(path)).content)
        (tmp_path / "issuing.pem").write_text(x509.pem(between))
        (tmp_path / "root.pem").write_text(x509.pem(der_of(root)))
        said = openssl(
            "ocsp", "-respin", tmp_path / "said.der", "-no_nonce",
            "-issuer", tmp_path / "issuing.pem", "-verify_other", tmp_path / "issuing.pem",
            "-CAfile", tmp_path / "root.pem", "-cert", tmp_path / "leaf.pem",
        ).stdout  # fmt: skip
        assert "Response verify OK" in said
        assert "leaf.pem: good" in said
    cer = await site.client.get(f"/.well-known/pki/ca/{issuing['id']}.cer")
    assert cer.content == other_of(both)


async def test_a_plane_gives_the_present_certificate_and_goes_on_answering(site: Site) -> None:
    _old, new, issuing = await three(site)
    mine, *_ = await leaf(site, "before")
    asking = await open_plane(site.world, site.world.platform)
    await recertified(site, issuing, new)
    asking.issuer = der_of(await cut_over(site, issuing, new))
    await asking.plane.refresh()
    assert (await asking.plane.documents.certificate(issuing["id"])).der == asking.issuer
    said = await asking.about(x509.facts(mine).serial)
    assert said.certificate_status is OCSPCertStatus.GOOD


async def test_a_cutover_is_undone_by_another_and_both_are_told(site: Site) -> None:
    old, new, issuing = await three(site)
    both = await recertified(site, issuing, new)
    await cut_over(site, issuing, new)
    assert await anchors(site) == [der_of(new), der_of(old)]
    back = await cut_over(site, issuing, old)
    assert (der_of(back), other_of(back)) == (der_of(issuing), other_of(both))
    assert await anchors(site) == [der_of(old), der_of(new)]
    assert (await leaf(site, "undone"))[1] == der_of(issuing)
    told = await kit.actions(site.world)
    assert (told.count("ca_recertified"), told.count("ca_cut_over")) == (1, 2)


async def anchors(site: Site) -> list[bytes]:
    """What newcomers are shown; an agent that enrols now pins the first and keeps them all."""
    shown = x509.ders_of_pem((await site.client.get("/api/v1/ca")).text)
    token = (await site.post("/agents/enrolment-tokens", {}))["token"]
    assert token.endswith(f".{x509.facts(shown[0]).fingerprint_sha256}")
    body = {"token": token, "name": f"agent {token[:30]}"}
    made = await site.post("/agents/enrol", body, key=None)
    assert x509.ders_of_pem(made["ca_pem"]) == shown
    return shown


async def test_the_servers_own_certificate_follows_the_cutover(site: Site) -> None:
    _old, new, issuing = await three(site)
    both = await recertified(site, issuing, new)
    await cut_over(site, issuing, new)
    held = await authority.service_certificate(
        site.world.platform, issuing["id"], "server", grace=site.world.platform.terms.ocsp_validity
    )
    assert held.chain == (other_of(both),)


async def test_the_old_root_retires_once_nothing_goes_by_it(site: Site) -> None:
    old, new, issuing = await three(site)
    await leaf(site, "before")
    await recertified(site, issuing, new)
    path = f"/intermediates/{old['id']}/retire"
    assert (await site.refused(409, "POST", path, json={}))["counts"] == {"children": 1}
    await cut_over(site, issuing, new)
    await leaf(site, "after")
    await site.post(path, {}, status=200)
    body = {"parent_ca_id": old["id"]}
    back = await site.refused(409, "POST", f"/intermediates/{issuing['id']}/cutover", json=body)
    assert "retiring" in back["message"]
    asked = {"confirm": True}
    assert (await site.refused(409, "POST", path, json=asked))["counts"] == {"certificates": 1}
    assert await anchors(site) == [der_of(new), der_of(old)]
    row = (await site.get("/certificates?search=before"))["data"][0]
    await site.post(f"/certificates/{row['id']}/revoke", {"reason": "superseded"}, status=200)
    await site.post(path, asked, status=200)
    assert await anchors(site) == [der_of(new)]


async def test_below_a_policy_ca_nothing_need_be_certified_anew(site: Site, tmp_path: Path) -> None:
    issuer = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    top = await make(site, "Shop root", issuer, path_len_constraint=2)
    policy = await make(
        site, "policy", issuer, parent_ca_id=top["id"], path_len_constraint=1,
        name_constraints=[{"permitted": ["example.test"]}],
    )  # fmt: skip
    below = await make(site, "issuing", issuer, parent_ca_id=policy["id"])
    new = await make(site, "Shop root 2", issuer, replaces=top["id"], path_len_constraint=2)
    before = await leaf(site, "before", issuer_id=issuer)
    await recertified(site, policy, new)
    cut = await cut_over(site, policy, new)
    after = await leaf(site, "after", issuer_id=issuer)
    assert after[1:] == [der_of(below), der_of(cut)]
    for mine in (before[0], after[0]):
        for between, root in ((der_of(policy), top), (der_of(cut), new)):
            chain = [mine, der_of(below), between]
            assert "leaf.pem: OK" in verify(tmp_path, chain, der_of(root))
    path = f"/intermediates/{top['id']}/retire"
    await site.post(path, {}, status=200)
    refused = await site.refused(409, "POST", path, json={"confirm": True})
    assert refused["counts"] == {"certificates": 1}


async def test_what_the_new_root_does_not_allow_is_refused_before_anything_is_signed(
    site: Site,
) -> None:
    narrow = [{"permitted": ["example.test"]}]
    old, new, issuing = await three(site, name_constraints=narrow)
    elsewhere = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    foreign = await make(site, "Shop root", elsewhere)
    again = {"name": "third root"}
    body = {"parent_ca_id": new["id"]}
    tree, mine = "/issuers/iss-local/intermediates", f"/intermediates/{issuing['id']}"
    shop = f"/issuers/{elsewhere}/intermediates"
    cases: list[tuple[int, str, str | None, Json]] = [
        (400, f"{mine}/recertify", "parent_ca_id", body),
        (400, f"{mine}/recertify", "parent_ca_id", {"parent_ca_id": "ica-none"}),
        (400, f"{mine}/recertify", "parent_ca_id", {"parent_ca_id": foreign["id"]}),
        (400, f"{mine}/recertify", "ttl_days", {"parent_ca_id": new["id"], "ttl_days": 0}),
        (409, f"{mine}/recertify", "parent_ca_id", {"parent_ca_id": old["id"]}),
        (409, f"{mine}/recertify", "parent_ca_id", {"parent_ca_id": issuing["id"]}),
        (409, f"/intermediates/{old['id']}/recertify", None, body),
        (400, f"{mine}/cutover", "parent_ca_id", body),
        (409, tree, "replaces", {**again, "replaces": old["id"]}),
        (400, tree, "replaces", {**again, "replaces": issuing["id"]}),
        (400, tree, "replaces", {**again, "replaces": "ica-none"}),
        (400, tree, "replaces", {**again, "replaces": foreign["id"]}),
        (400, tree, "replaces", {**again, "replaces": old["id"], "parent_ca_id": new["id"]}),
        (409, tree, "parent_ca_id", again),
        (409, shop, "replaces", {**again, "replaces": foreign["id"]}),
    ]  # fmt: skip
    known, signed = await cas(site), await signatures(site)
    for code, path, field, sent in cases:
        refused = await site.refused(code, "POST", path, json=sent)
        assert refused.get("field") == field, (path, sent, refused)
    assert (await cas(site), await signatures(site)) == (known, signed)


async def signatures(site: Site) -> int:
    return int(await kit.value(site.world, "SELECT count(*) FROM issuances"))


async def test_path_lengths_hold_below_a_new_root(site: Site) -> None:
    issuer = (await site.post("/issuers", {"name": "Shop", "type": "GenericCA"}))["id"]
    top = await make(site, "Shop root", issuer, path_len_constraint=2)
    policy = await make(site, "policy", issuer, parent_ca_id=top["id"], path_len_constraint=1)
    beside = await make(site, "beside", issuer, parent_ca_id=top["id"], path_len_constraint=1)
    await make(site, "issuing", issuer, parent_ca_id=policy["id"])
    body = {"name": "short", "replaces": top["id"]}
    path = f"/issuers/{issuer}/intermediates"
    short = await site.refused(400, "POST", path, json=body)
    assert short["field"] == "path_len_constraint"
    path = f"/intermediates/{policy['id']}/recertify"
    long = await site.refused(400, "POST", path, json={"parent_ca_id": beside["id"]})
    assert (long["field"], "at most 0" in long["message"]) == ("parent_ca_id", True)


async def test_there_is_no_cutover_to_what_is_not_there(site: Site) -> None:
    _old, new, issuing = await three(site)
    path, body = f"/intermediates/{issuing['id']}", {"parent_ca_id": new["id"]}
    refused = await site.refused(409, "POST", f"{path}/cutover", json=body)
    assert "recertify it first" in refused["message"]
    await recertified(site, issuing, new)
    twice = await site.refused(409, "POST", f"{path}/recertify", json=body)
    assert "cut over" in twice["message"]
    over = """UPDATE authority_certificates SET not_before = now() - interval '2 days',
                  not_after = now() - interval '1 day'"""
    await kit.change(site.world, over)
    refused = await site.refused(409, "POST", f"{path}/cutover", json=body)
    assert "is over" in refused["message"]
    anew = await recertified(site, issuing, new)
    assert der_of(await cut_over(site, issuing, new)) == other_of(anew)


async def test_what_was_cut_off_is_finished_with_the_same_serial(site: Site) -> None:
    _old, new, issuing = await three(site)
    with pytest.raises(kit.Killed):
        await rollover.recertify(
            kit.with_signer(site.world, kit.killed), kit.ADMIN, issuing["id"], new["id"],
            lifetime=None,
        )  # fmt: skip
    assert (await cas(site))["certctl issuing CA"]["other_certificates"] == []
    body = {"parent_ca_id": new["id"]}
    path = f"/intermediates/{issuing['id']}/cutover"
    await site.refused(409, "POST", path, json=body)
    intended = "SELECT serial_number FROM issuances WHERE state = 'intended'"
    serial = await kit.value(site.world, intended)
    made = await recertified(site, issuing, new)
    assert made["other_certificates"][0]["serial_number"] == serial
    assert await kit.value(site.world, f"SELECT count(*) FROM ({intended}) AS open") == 0


async def test_two_who_ask_at_once_make_one(site: Site) -> None:
    _old, new, issuing = await three(site)
    path, body = f"/intermediates/{issuing['id']}/recertify", {"parent_ca_id": new["id"]}
    answers = await asyncio.gather(*(site.call("POST", path, json=body) for _ in range(4)))
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert 201 in {answer.status_code for answer in answers}
    issued = "SELECT count(*) FROM issuances WHERE purpose = 'ca' AND state = 'issued'"
    assert await kit.value(site.world, issued) == 4


async def test_a_revoked_ca_is_revoked_under_both_roots(site: Site, tmp_path: Path) -> None:
    old, new, issuing = await three(site)
    before = await leaf(site, "before")
    both = await recertified(site, issuing, new)
    await successor(site)
    body = {"reason": "keyCompromise"}
    await site.post(f"/intermediates/{issuing['id']}/revoke", body, status=200)
    for between, root in ((der_of(issuing), old), (other_of(both), new)):
        chain = [before[0], between]
        said = await judged(site, tmp_path, chain, root, issuing)
        assert "certificate revoked" in said


async def test_a_ca_with_a_key_elsewhere_gets_its_other_certificate_too(site: Site) -> None:
    old, new, _issuing = await three(site)
    path = f"/intermediates/{old['id']}/sign"
    outside = await site.post(path, {"csr_pem": csr()})
    both = await recertified(site, outside, new)
    facts = [x509.facts(der) for der in (der_of(both), other_of(both))]
    assert facts[0].spki_sha256 == facts[1].spki_sha256
    assert (await cut_over(site, outside, new))["parent_ca_id"] == new["id"]


async def test_a_ca_that_an_enterprise_has_signed_is_not_certified_here(site: Site) -> None:
    issuer = (await site.post("/issuers", {"name": "Corp", "type": "GenericCA"}))["id"]
    root = a_ca("Corp root")
    ca = a_ca("Corp issuing", root, path_length=0)
    files = {"certificate_pem": ca.pem, "chain_pem": root.pem, "key_pem": ca.key_pem()}
    made = await site.post(f"/issuers/{issuer}/intermediates/import", files)
    body = {"name": "mine", "replaces": made["parent_ca_id"]}
    path = f"/issuers/{issuer}/intermediates"
    refused = await site.refused(409, "POST", path, json=body)
    assert refused["field"] == "replaces"
    body = {"parent_ca_id": made["parent_ca_id"]}
    await site.refused(409, "POST", f"/intermediates/{made['id']}/recertify", json=body)
