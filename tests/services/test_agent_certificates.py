"""Client certificates of agents: made by the built-in CA, and over when the agent is."""

from __future__ import annotations

import subprocess
from pathlib import Path

import pytest
from cryptography import x509 as cx509
from cryptography.hazmat.primitives.asymmetric import rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from certctl import wire
from certctl.domain.errors import Gone, Invalid, NotAllowed
from certctl.pki import x509
from certctl.services import agent_certificate, authority, enrolment, fleet
from certctl.services.access import Authenticator
from tests import kit
from tests.conftest import World
from tests.tools import need


async def issued(world: World, agent: kit.Actor, csr_pem: str = "") -> list[bytes]:
    """The chain, DER, of a new certificate of the agent's."""
    wish = wire.ClientCertificateWish(csr_pem=csr_pem or kit.a_csr("other.example.test"))
    assert agent.agent_id
    made = await agent_certificate.issue(world.platform, agent, agent.agent_id, wish)
    return x509.ders_of_pem(made.certificate_pem)


async def test_openssl_takes_it_as_a_clients_and_nothing_of_the_csr_but_the_key_is_in_it(
    world: World, tmp_path: Path
) -> None:
    agent = await kit.an_agent(world)
    leaf, issuing = await issued(world, agent)
    (tmp_path / "root.pem").write_text(
        x509.pem(await authority.trust_anchor(world.platform, "iss-local"))
    )
    (tmp_path / "issuing.pem").write_text(x509.pem(issuing))
    (tmp_path / "leaf.pem").write_text(x509.pem(leaf))
    verify = [need("openssl"), "verify", "-CAfile", "root.pem", "-untrusted", "issuing.pem"]
    for purpose, good in (("sslclient", True), ("sslserver", False)):
        done = subprocess.run(
            [*verify, "-purpose", purpose, "leaf.pem"],
            cwd=tmp_path, capture_output=True, text=True, timeout=30,
        )  # fmt: skip
        assert (done.returncode == 0) is good, done.stderr
    read = cx509.load_der_x509_certificate(leaf)
    names = read.extensions.get_extension_for_class(cx509.SubjectAlternativeName).value
    assert [each.value for each in names] == [f"spiffe://certctl/agent/{agent.agent_id}"]
    usage = read.extensions.get_extension_for_class(cx509.ExtendedKeyUsage).value
    assert list(usage) == [ExtendedKeyUsageOID.CLIENT_AUTH]


async def test_it_is_the_agent_and_no_more(world: World) -> None:
    agent = await kit.an_agent(world)
    leaf, issuing = await issued(world, agent)
    ask = Authenticator(world.platform)
    assert await ask.by_certificate(leaf) == agent
    assert await ask.by_certificate(issuing) is None


async def test_a_certificate_of_the_inventory_is_nobodys(world: World) -> None:
    """Issued by the same CA, to somebody who asked for a web server."""
    row = await kit.an_issued_certificate(world)
    pem = await kit.value(
        world,
        "SELECT pem_chain FROM certificate_versions WHERE certificate_id = %(id)s",
        id=row["id"],
    )
    assert await Authenticator(world.platform).by_certificate(x509.ders_of_pem(pem)[0]) is None


async def revocations(world: World) -> list[str]:
    found = await kit.rows(world, "SELECT serial_number FROM certificate_revocations")
    return [row["serial_number"] for row in found]


async def test_with_the_credential_every_certificate_is_revoked(world: World) -> None:
    agent = await kit.an_agent(world)
    leaves = [(await issued(world, agent))[0] for _ in range(2)]
    assert agent.agent_id
    await enrolment.revoke_credential(world.platform, kit.ADMIN, agent.agent_id)
    for leaf in leaves:
        assert await Authenticator(world.platform).by_certificate(leaf) is None
    serials = {x509.facts(leaf).serial for leaf in leaves}
    assert set(await revocations(world)) == serials
    stale = await kit.rows(world, "SELECT authority_id FROM crls WHERE changes > covers")
    assert len(stale) == 1


async def test_a_retired_agent_has_no_certificate(world: World) -> None:
    agent = await kit.an_agent(world)
    leaf, _ = await issued(world, agent)
    assert agent.agent_id
    await fleet.retire(world.platform, kit.ADMIN, agent.agent_id, force=False, reason="")
    assert await Authenticator(world.platform).by_certificate(leaf) is None
    assert len(await revocations(world)) == 1
    with pytest.raises(Gone):
        await issued(world, agent)


async def test_nobody_gets_one_for_another_agent(world: World) -> None:
    one, two = await kit.an_agent(world, "one"), await kit.an_agent(world, "two")
    wish = wire.ClientCertificateWish(csr_pem=kit.a_csr("a.example.test"))
    assert one.agent_id
    for actor in (two, kit.ADMIN):
        with pytest.raises(NotAllowed):
            await agent_certificate.issue(world.platform, actor, one.agent_id, wish)


async def test_a_weak_key_and_a_broken_csr_are_refused(world: World) -> None:
    agent = await kit.an_agent(world)
    weak = rsa.generate_private_key(65537, 1024)
    for csr_pem in (kit.a_csr("a.example.test", key=weak), "no request"):
        with pytest.raises(Invalid):
            await issued(world, agent, csr_pem)
    assert await kit.rows(world, "SELECT 1 FROM agent_certificates") == []
