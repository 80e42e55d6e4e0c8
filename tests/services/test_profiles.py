"""What a profile says holds wherever a CSR or an order is taken, and in what is issued."""

from __future__ import annotations

import subprocess
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl.domain.errors import Conflict, Invalid
from certctl.domain.revocation import Reason
from certctl.pki.x509 import chain_pem, ders_of_pem
from certctl.services import authority, certificates, issue, plain, renew, revoke
from tests import kit
from tests.conftest import World
from tests.tools import need

SHORT = {"max_ttl_seconds": 1800, "allow_short_lived": True}


async def issued(world: World, **rules: Any) -> x509.Certificate:
    profile = await kit.a_profile(world, **rules)
    row = await kit.an_issued_certificate(world, certificate_profile_id=profile)
    (version,) = await kit.versions_of(world, row["id"])
    return x509.load_der_x509_certificate(ders_of_pem(version["pem_chain"])[0])


async def test_a_short_lived_certificate_offers_no_revocation_information(world: World) -> None:
    """RFC 9608 §2: noRevAvail, and neither CRL nor OCSP."""
    leaf = await issued(world, **SHORT)
    oids = {extension.oid.dotted_string for extension in leaf.extensions}
    assert "2.5.29.56" in oids
    assert "2.5.29.31" not in oids
    access = leaf.extensions.get_extension_for_class(x509.AuthorityInformationAccess).value
    assert [each.access_method.dotted_string for each in access] == ["1.3.6.1.5.5.7.48.2"]
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(hours=1)


async def test_a_short_lived_certificate_is_not_revoked_and_the_refusal_says_what_to_do(
    world: World,
) -> None:
    """RFC 9608 §4: nobody would hear of it."""
    profile = await kit.a_profile(world, **SHORT)
    row = await kit.an_issued_certificate(world, certificate_profile_id=profile)
    with pytest.raises(Conflict, match="archive it"):
        await revoke.one(world.platform, kit.ADMIN, row["id"], reason=Reason.KEY_COMPROMISE)
    assert (await kit.certificate(world, row["id"]))["status"] == "Active"
    assert await kit.rows(world, "SELECT * FROM certificate_revocations") == []


async def test_other_certificates_say_where_to_ask(world: World) -> None:
    oids = {extension.oid.dotted_string for extension in (await issued(world)).extensions}
    assert "2.5.29.31" in oids
    assert "2.5.29.56" not in oids


async def test_must_staple_and_usages_stand_in_what_is_issued(world: World) -> None:
    leaf = await issued(world, must_staple=True, allowed_ekus=["serverAuth", "clientAuth"])
    feature = leaf.extensions.get_extension_for_class(x509.TLSFeature).value
    assert list(feature) == [x509.TLSFeatureType.status_request]
    usages = leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    assert set(usages) == {ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH}


@pytest.mark.parametrize("critical", [False, True])
async def test_must_staple_is_critical_only_where_the_profile_asks_and_then_openssl_refuses_it(
    world: World, tmp_path: Path, critical: bool
) -> None:
    """Which is what the profile's answer warns of."""
    rules = {"must_staple": True, "must_staple_critical": critical}
    leaf = await issued(world, **rules)
    assert leaf.extensions.get_extension_for_class(x509.TLSFeature).critical is critical
    said = await openssl_verify(world, tmp_path)
    assert ("unhandled critical extension" in said) is critical, said


POLICY, OTHER = "1.3.6.1.4.1.99999.1.2", "1.3.6.1.4.1.99999.1.3"


async def test_openssl_finds_the_policies_of_a_profile_valid_and_no_others(
    world: World, tmp_path: Path
) -> None:
    cps = "https://pki.example.test/cps"
    leaf = await issued(world, certificate_policies=[POLICY, OTHER], cps_uri=cps)
    held = leaf.extensions.get_extension_for_class(x509.CertificatePolicies)
    assert not held.critical
    assert [each.policy_identifier.dotted_string for each in held.value] == [POLICY, OTHER]
    assert {word for each in held.value for word in each.policy_qualifiers or ()} == {cps}
    for oid in (POLICY, OTHER):
        said = await openssl_verify(world, tmp_path, "-policy", oid, "-explicit_policy")
        assert said.endswith("OK\n")
    said = await openssl_verify(world, tmp_path, "-policy", "1.2.3.4", "-explicit_policy")
    assert "no explicit policy" in said


async def openssl_verify(world: World, folder: Path, *options: str) -> str:
    """What `openssl verify` says of the only certificate there is."""
    chain = str(await kit.value(world, "SELECT pem_chain FROM certificate_versions"))
    root = await authority.trust_anchor(world.platform, "iss-local")
    (folder / "root.pem").write_text(chain_pem([root]))
    (folder / "chain.pem").write_text(chain)
    command = [need("openssl"), "verify", "-x509_strict", *options, "-CAfile", folder / "root.pem",
               "-untrusted", folder / "chain.pem", folder / "chain.pem"]  # fmt: skip
    done = subprocess.run(command, capture_output=True, text=True, timeout=30)
    return done.stdout + done.stderr


async def test_the_longest_life_is_that_of_the_profile(world: World) -> None:
    leaf = await issued(world, max_ttl_seconds=7 * 86400)
    assert leaf.not_valid_after_utc - leaf.not_valid_before_utc < timedelta(days=7)


@pytest.mark.parametrize(
    ("rules", "field"),
    [
        ({"max_ttl_seconds": 1800}, "max_ttl_seconds"),
        ({"allow_short_lived": True}, "allow_short_lived"),
        ({**SHORT, "must_staple": True}, "must_staple"),
        ({"must_staple_critical": True}, "must_staple_critical"),
        ({"certificate_policies": ["1.2.3", "1.2.3"]}, "certificate_policies"),
        ({"certificate_policies": ["2.5.29.32.0"]}, "certificate_policies"),
        ({"certificate_policies": ["1.02.3"]}, "certificate_policies"),
        ({"certificate_policies": ["3.1"]}, "certificate_policies"),
        ({"certificate_policies": ["1." + "9" * 120]}, "certificate_policies"),
        ({"cps_uri": "https://pki.example.test"}, "cps_uri"),
        ({"cps_uri": "ftp://x", "certificate_policies": ["1.2.3"]}, "cps_uri"),
        ({"cps_uri": "http://[", "certificate_policies": ["1.2.3"]}, "cps_uri"),
        ({"cps_uri": "http://ü/", "certificate_policies": ["1.2.3"]}, "cps_uri"),
        ({"spiffe_uri_pattern": "("}, "spiffe_uri_pattern"),
        ({"spiffe_uri_pattern": "(a+)+"}, "spiffe_uri_pattern"),
    ],
)
async def test_rules_that_do_not_fit_together_are_refused(
    world: World, rules: dict[str, Any], field: str
) -> None:
    with pytest.raises(Invalid) as refused:
        await kit.a_profile(world, **rules)
    assert refused.value.field == field
    assert await kit.value(world, "SELECT count(*) FROM certificate_profiles") == 1


async def test_a_change_that_breaks_the_rules_of_the_whole_is_refused(world: World) -> None:
    profile = await kit.a_profile(world, **SHORT)
    with pytest.raises(Invalid, match="go together"):
        await plain.update(
            world.platform, kit.ADMIN, plain.PROFILES, profile, changes={"max_ttl_seconds": 86400}
        )


@pytest.mark.parametrize(
    ("rules", "changes", "rule"),
    [
        ({"allowed_key_algorithms": [{"algorithm": "ECDSA", "min_size": 384}]}, {},
         "allowed_key_algorithms"),
        ({"allowed_key_algorithms": [{"algorithm": "RSA", "min_size": 2048}]}, {},
         "allowed_key_algorithms"),
        ({"required_san_patterns": [r"[a-z]+\.internal"]}, {}, "required_san_patterns"),
        ({"spiffe_uri_pattern": r"spiffe://corp/.*"}, {"sans": ["spiffe://other/x"]},
         "spiffe_uri_pattern"),
        ({"enabled": False}, {}, "enabled"),
    ],
)  # fmt: skip
async def test_an_order_or_a_csr_that_breaks_a_rule_is_refused_by_its_name(
    world: World, rules: dict[str, Any], changes: dict[str, Any], rule: str
) -> None:
    profile = await kit.a_profile(world, **rules)
    before = await kit.everything(world)
    with pytest.raises(Invalid, match=f"{rule}: "):
        await kit.order(
            world,
            certificate_profile_id=profile,
            csr_pem=kit.a_csr("a.example.test"),
            **changes,
        )
    assert await kit.everything(world) == before


async def test_a_rule_that_came_after_the_csr_holds_too(world: World) -> None:
    profile = await kit.a_profile(world)
    row = await kit.order(
        world, certificate_profile_id=profile, csr_pem=kit.a_csr("a.example.test")
    )
    rules = [{"algorithm": "RSA", "min_size": 2048}]
    await plain.update(
        world.platform,
        kit.ADMIN,
        plain.PROFILES,
        profile,
        changes={"allowed_key_algorithms": rules},
    )
    assert not await issue.run(world.platform, await kit.job_of(world, row["id"]))
    assert "allowed_key_algorithms: " in (await kit.certificate(world, row["id"]))["last_error"]


async def test_a_certificate_takes_the_profile_of_its_policy(world: World) -> None:
    profile = await kit.a_profile(world)
    policy = await kit.a_policy(world, certificate_profile_id=profile)
    row = await kit.order(world, renewal_policy_id=policy)
    assert row["certificate_profile_id"] == profile
    with pytest.raises(Invalid, match=f"for certificates of profile {profile} only"):
        await kit.order(
            world,
            name="other",
            renewal_policy_id=policy,
            certificate_profile_id="prof-default",
        )
    with pytest.raises(Invalid) as refused:
        await certificates.update(
            world.platform,
            kit.ADMIN,
            row["id"],
            changes={"certificate_profile_id": "prof-default"},
        )
    assert refused.value.field == "renewal_policy_id"


async def test_a_policy_is_bound_to_a_profile_only_while_all_of_its_certificates_fit(
    world: World,
) -> None:
    policy, profile = await kit.a_policy(world), await kit.a_profile(world)
    await kit.order(world, renewal_policy_id=policy)
    change = {"certificate_profile_id": profile}
    with pytest.raises(Conflict, match="1 certificates of this policy have another") as refused:
        await plain.update(
            world.platform, kit.ADMIN, plain.RENEWAL_POLICIES, policy, changes=change
        )
    assert refused.value.counts == {"managed_certificates": 1}


async def test_what_is_in_use_is_not_deleted_and_the_counts_are_told(world: World) -> None:
    profile = await kit.a_profile(world)
    await kit.a_policy(world, certificate_profile_id=profile)
    await kit.order(world, certificate_profile_id=profile)
    with pytest.raises(Conflict) as refused:
        await plain.delete(world.platform, kit.ADMIN, plain.PROFILES, profile)
    assert refused.value.counts == {"managed_certificates": 1, "renewal_policies": 1}


def server_side(world: World) -> World:
    """The platform where the server makes the keys of certificates without an agent."""
    terms = replace(world.platform.terms, server_makes_keys=True)
    return replace(world, platform=replace(world.platform, terms=terms))


@pytest.mark.parametrize(
    ("algorithm", "kind"), [("ECDSA", ec.EllipticCurvePublicKey), ("RSA", rsa.RSAPublicKey)]
)
async def test_a_key_made_by_the_server_is_of_the_profiles_kind_and_sealed(
    world: World, algorithm: str, kind: type
) -> None:
    there = server_side(world)
    size = {"ECDSA": 256, "RSA": 2048}[algorithm]
    profile = await kit.a_profile(
        there, allowed_key_algorithms=[{"algorithm": algorithm, "min_size": size}]
    )
    row = await kit.order(there, certificate_profile_id=profile)
    assert await issue.run(there.platform, await kit.job_of(there, row["id"]))
    (version,) = await kit.versions_of(there, row["id"])
    leaf = x509.load_der_x509_certificate(ders_of_pem(version["pem_chain"])[0])
    assert isinstance(leaf.public_key(), kind)
    assert b"PRIVATE KEY" not in bytes(version["sealed_key"])
    assert (await kit.jobs_of(there, row["id"]))[0]["sealed_key"] is None


async def test_an_agent_makes_its_own_key_in_either_mode(world: World) -> None:
    there = server_side(world)
    agent = await kit.an_agent(there)
    await kit.order(there, target_ids=[await kit.a_target(there, agent)])
    (item,) = await kit.offered(there, agent)
    assert item.status == "AwaitingCSR"


async def test_without_a_version_a_certificate_is_never_expired(world: World) -> None:
    row = await kit.order(world)
    await renew.find_due(world.platform)
    assert (await kit.certificate(world, row["id"]))["status"] == "Pending"
    assert (await kit.certificate(world, row["id"]))["expires_at"] is None
