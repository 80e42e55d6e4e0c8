"""CAs and leaves with ML-DSA keys through the API, judged by Node."""

from __future__ import annotations

from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.x509.ocsp import OCSPCertStatus, load_der_ocsp_response

from certctl.domain.errors import Invalid, Unavailable
from certctl.domain.names import parse_names
from certctl.pki import x509
from certctl.pki.keys import KeyAlgorithm, PrivateKey, Signer, generate
from certctl.services import crls, issue, status
from tests import kit
from tests.pki.test_ml_dsa import judged
from tests.web.kit import Site
from tests.web.test_ca_tree import leaf, make, root_of

SET = "ML-DSA-65"


async def a_profile(site: Site) -> str:
    rules = [{"algorithm": "ML-DSA", "min_size": 65}]
    body = {
        "name": "Post-quantum",
        "allowed_key_algorithms": rules,
        "allowed_ekus": ["codeSigning"],
    }
    return str((await site.post("/profiles", body))["id"])


@pytest.mark.parametrize("algorithm", ["ML-DSA-44", "ML-DSA-65", "ML-DSA-87"])
async def test_a_leaf_of_such_a_tree_and_its_status(
    site: Site, tmp_path: Path, algorithm: str
) -> None:
    issuer = await site.post("/issuers", {"name": "Shop", "type": "GenericCA"})
    root = await make(site, "Shop root", issuer["id"], algorithm=algorithm)
    made = await make(
        site, "Shop issuing", issuer["id"], parent_ca_id=root["id"], algorithm=algorithm
    )
    assert (made["key_algorithm"], made["key_size"]) == ("ML-DSA", int(algorithm[-2:]))
    chain = await leaf(site, issuer_id=issuer["id"])
    top = x509.ders_of_pem(root["chain_pem"])[0]
    assert '"chain":true' in judged(tmp_path, top, chain[1], chain[0])
    platform = site.world.platform
    told = await status.Responder(platform).answer_serial(made["id"], x509.facts(chain[0]).serial)
    answer = load_der_ocsp_response(told.der)
    assert answer.certificate_status is OCSPCertStatus.GOOD
    # The responder has a P-256 key, certified by the CA: answers stay short.
    assert answer.signature_algorithm_oid == cx509.SignatureAlgorithmOID.ECDSA_WITH_SHA256
    crl = cx509.load_der_x509_crl((await crls.present(platform, made["id"])).der)
    key = cx509.load_der_x509_certificate(chain[1]).public_key()
    assert crl.is_signature_valid(key)  # type: ignore[arg-type]


async def test_a_profile_says_which_parameter_set_is_the_least(site: Site) -> None:
    profile = await a_profile(site)
    weak, strong = generate(KeyAlgorithm.ML_DSA_44), generate(KeyAlgorithm.ML_DSA_87)
    with pytest.raises(Invalid, match="an ML-DSA-44 key is not among: ML-DSA-65 or higher"):
        await leaf_of(site, weak, profile)
    chain = await leaf_of(site, strong, profile)
    found = x509.facts(chain[0])
    assert (found.key.algorithm, found.key.size, found.ekus) == ("ML-DSA", 87, ("codeSigning",))


async def leaf_of(site: Site, key: PrivateKey, profile: str) -> list[bytes]:
    csr = x509.make_csr(key, parse_names(["a.example.test"]), "")
    row = await kit.order(site.world, name="pq", csr_pem=csr, certificate_profile_id=profile)
    assert await issue.run(site.world.platform, await kit.job_of(site.world, row["id"]))
    (version,) = await kit.versions_of(site.world, row["id"])
    return x509.ders_of_pem(version["pem_chain"])


@pytest.mark.parametrize("size", [0, 43, 66, 256])
async def test_a_size_that_is_no_parameter_set_is_refused(site: Site, size: int) -> None:
    rules = [{"algorithm": "ML-DSA", "min_size": size}]
    body = {"name": "odd", "allowed_key_algorithms": rules}
    problem = await site.refused(400, "POST", "/profiles", json=body)
    assert "44, 65 or 87" in problem["message"]


async def test_a_signature_that_was_lost_is_not_made_again(site: Site) -> None:
    """ML-DSA signs differently each time: a new serial is drawn."""
    await make(site, "Issuing", parent_ca_id=await root_of(site), algorithm=SET)
    row = await kit.order(site.world, csr_pem=kit.a_csr("a.example.test"))
    job_id = await kit.job_of(site.world, row["id"])

    def lost(signer: Signer, data: bytes) -> bytes:
        signer.sign(data)
        raise Unavailable("the signature was lost")

    assert not await issue.run(kit.with_signer(site.world, lost), job_id)
    await kit.change(site.world, "UPDATE jobs SET scheduled_at = now()")
    assert await issue.run(site.world.platform, job_id)
    intents = await kit.rows(
        site.world, "SELECT * FROM issuances WHERE job_id = %(id)s ORDER BY created_at", id=job_id
    )
    assert [each["state"] for each in intents] == ["closed", "issued"]
