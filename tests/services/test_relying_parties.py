"""GnuTLS and pyhanko-certvalidator as relying parties: neither shares code with OpenSSL, and the
second not with us either. OpenSSL judges the same in test_status.py."""

from __future__ import annotations

import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import pytest
from asn1crypto import crl as asn1_crl
from asn1crypto import ocsp as asn1_ocsp
from asn1crypto import x509 as asn1_x509
from cryptography import x509 as x509_
from cryptography.hazmat.primitives.serialization import Encoding
from pyhanko_certvalidator import CertificateValidator, ValidationContext
from pyhanko_certvalidator.errors import (
    InsufficientRevinfoError,
    PathValidationError,
    RevokedError,
)
from pyhanko_certvalidator.policy_decl import PKIXValidationParams

from certctl.domain.revocation import Reason
from certctl.pki import x509
from certctl.services import authority, crls, revoke
from certctl.services.status import Responder
from tests import kit
from tests.conftest import World
from tests.tools import need

By = Literal["crl", "ocsp"]
SERVER = "1.3.6.1.5.5.7.3.1"


@dataclass(frozen=True)
class Party:
    """Somebody who trusts the root, meets a leaf with its chain, and asks about it."""

    world: World
    folder: Path
    leaf: bytes
    issuing: bytes
    root: bytes
    certificate_id: str
    ca_id: str

    def write(self, name: str, *ders: bytes) -> Path:
        path = self.folder / name
        path.write_text("".join(map(x509.pem, ders)))
        return path

    async def revoke(self) -> None:
        on = self.world.platform
        await revoke.one(on, kit.ADMIN, self.certificate_id, reason=Reason.KEY_COMPROMISE)
        await self.world.run_tasks()

    async def crl(self, ca: str, shard: int = 0) -> bytes:
        return (await crls.present(self.world.platform, ca, shard)).der

    async def ocsp(self, cert: str, issuer: str, *, ca: str) -> bytes:
        """Our answer to a question that ocsptool wrote."""
        asked = self.folder / "request.der"
        ran("ocsptool", "-q", "--load-cert", cert, "--load-issuer", issuer,
            "--outfile", asked, folder=self.folder)  # fmt: skip
        return (await Responder(self.world.platform).answer(ca, asked.read_bytes())).der


def ran(program: str, *arguments: str | Path, folder: Path, ok: bool = True) -> str:
    """Both streams of a program that must succeed, or, with `ok` False, must fail."""
    command = [need(program), *map(str, arguments)]
    done = subprocess.run(
        command,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        timeout=30,
    )
    assert (done.returncode == 0) is ok, done.stdout
    return done.stdout


async def a_party(world: World, folder: Path, **rules: object) -> Party:
    profile = await kit.a_profile(world, **rules)
    row = await kit.an_issued_certificate(world, certificate_profile_id=profile)
    (version,) = await kit.versions_of(world, row["id"])
    leaf, issuing = x509.ders_of_pem(version["pem_chain"])[:2]
    root = await authority.trust_anchor(world.platform, "iss-local")
    party = Party(world, folder, leaf, issuing, root, row["id"], version["authority_id"])
    party.write("leaf.pem", leaf)
    party.write("issuing.pem", issuing)
    party.write("root.pem", root)
    party.write("chain.pem", leaf, issuing)
    return party


@pytest.fixture
async def party(world: World, tmp_path: Path) -> Party:
    return await a_party(world, tmp_path)


async def certtool_verifies(party: Party, *, ok: bool, shard: int = 0) -> str:
    crl = x509_.load_der_x509_crl(await party.crl(party.ca_id, shard))
    (party.folder / "crl.pem").write_bytes(crl.public_bytes(Encoding.PEM))
    return ran("certtool", "--verify", "--load-ca-certificate", "root.pem", "--load-crl", "crl.pem",
               "--verify-profile", "medium", "--verify-purpose", SERVER, "--infile", "chain.pem",
               folder=party.folder, ok=ok)  # fmt: skip


async def test_certtool_takes_our_chain_until_our_crl_says_otherwise(party: Party) -> None:
    assert "Chain verification output: Verified." in await certtool_verifies(party, ok=True)
    await party.revoke()
    assert "The certificate chain is revoked" in await certtool_verifies(party, ok=False)
    said = ran("certtool", "--verify-crl", "--load-ca-certificate", "issuing.pem", "--infile",
               "crl.pem", folder=party.folder)  # fmt: skip
    assert "Revoked certificates (1):" in said
    assert "Verification output: Verified." in said


async def test_certtool_goes_by_the_shard_of_the_leaf(world: World, tmp_path: Path) -> None:
    party = await a_party(world, tmp_path, crl_shards=1)
    assert "Verified." in await certtool_verifies(party, ok=True, shard=1)
    await party.revoke()
    assert "revoked" in await certtool_verifies(party, ok=False, shard=1)


async def ocsptool_hears(party: Party) -> str:
    """Over the network it asks in tests/flows."""
    answer = await party.ocsp("leaf.pem", "issuing.pem", ca=party.ca_id)
    (party.folder / "response.der").write_bytes(answer)
    return ran("ocsptool", "-e", "--load-response", "response.der", "--load-trust", "issuing.pem",
               folder=party.folder)  # fmt: skip


async def test_ocsptool_hears_good_and_after_the_revocation_revoked(party: Party) -> None:
    for status in ("good", "revoked"):
        said = await ocsptool_hears(party)
        assert f"Certificate Status: {status}" in said
        assert "Verifying OCSP Response: Success." in said
        if status == "good":
            await party.revoke()


async def revocation(party: Party, by: By | None) -> dict[str, Any]:
    """What we say of the leaf and of the CA above it, in one of both ways; of the CA alone."""
    root = str(await kit.value(party.world, "SELECT id FROM authorities WHERE parent_id IS NULL"))
    if by == "crl":
        lists = [await party.crl(party.ca_id), await party.crl(root)]
        return {"crls": [asn1_crl.CertificateList.load(der) for der in lists]}
    if by == "ocsp":
        answers = [
            await party.ocsp("leaf.pem", "issuing.pem", ca=party.ca_id),
            await party.ocsp("issuing.pem", "root.pem", ca=root),
        ]
        return {"ocsps": [asn1_ocsp.OCSPResponse.load(der) for der in answers]}
    return {"crls": [asn1_crl.CertificateList.load(await party.crl(root))]}


async def validate(party: Party, by: By | None, *, policy: str | None = None) -> None:
    """By pyhanko-certvalidator, in hard-fail mode: of each certificate there must be word, and it
    must be good."""
    root, issuing, leaf = map(asn1_x509.Certificate.load, (party.root, party.issuing, party.leaf))
    context = ValidationContext(
        trust_roots=[root], revocation_mode="hard-fail", **await revocation(party, by)
    )
    params = policy and PKIXValidationParams(
        user_initial_policy_set=frozenset({policy}), initial_explicit_policy=True
    )
    validator = CertificateValidator(leaf, [issuing], context, params or None)
    await validator.async_validate_usage({"digital_signature"}, {"server_auth"})


@pytest.mark.parametrize("by", ["crl", "ocsp"])
async def test_certvalidator_takes_a_good_leaf_and_refuses_a_revoked_one(
    party: Party, by: By
) -> None:
    await validate(party, by)
    await party.revoke()
    with pytest.raises(RevokedError, match="revoked"):
        await validate(party, by)


async def test_certvalidator_does_not_take_a_leaf_without_word_of_it(party: Party) -> None:
    with pytest.raises(InsufficientRevinfoError, match="end-entity"):
        await validate(party, None)


async def test_certvalidator_finds_the_policy_of_a_profile_and_no_other(
    world: World, tmp_path: Path
) -> None:
    party = await a_party(world, tmp_path, certificate_policies=["1.3.6.1.4.1.99999.1.2"])
    await validate(party, "crl", policy="1.3.6.1.4.1.99999.1.2")
    with pytest.raises(PathValidationError, match="policies"):
        await validate(party, "crl", policy="1.3.6.1.4.1.99999.1.3")
