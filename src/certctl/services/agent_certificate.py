"""Client certificates of agents, from the built-in CA: an agent may use one instead of its bearer
credential (RFC 8446 §4.4.2 at the management listener)."""

from __future__ import annotations

from datetime import timedelta
from typing import Any, Final

from certctl import wire
from certctl.connectors.issuer import Draft, Issued, Order
from certctl.connectors.issuers.local import LocalCA
from certctl.domain.access import Actor
from certctl.domain.audit import Category
from certctl.domain.ids import new_id
from certctl.domain.names import parse_name
from certctl.pki import x509
from certctl.services import audit, authority, blocked, fleet, intents
from certctl.services.platform import Platform
from certctl.store import agent_certificates, authorities

ISSUER: Final = "iss-local"
LIFETIME: Final = timedelta(days=30)


async def issue(
    on: Platform, actor: Actor, agent_id: str, wish: wire.ClientCertificateWish
) -> wire.ClientCertificate:
    """A certificate for the key of the CSR; of the CSR nothing but the key counts.

    Raises:
        Invalid: naming `csr_pem`, when it cannot be read, or its key is weak or blocked.
    """
    await fleet.own(on, actor, agent_id)
    csr = x509.read_csr(wish.csr_pem)
    authority_id = await authority.signing_authority_id(on, ISSUER)
    async with on.db.read() as session:
        await blocked.check(session, csr.spki_sha256)
        row = await authorities.get(session, authority_id)
        ca = LocalCA(await authority.open_authority(on, session, row))
    order = Order(
        names=(parse_name(f"spiffe://certctl/agent/{agent_id}"),),
        common_name=None,
        public_key=csr.public_key,
        lifetime=LIFETIME,
        ekus=("clientAuth",),
        purpose="agent",
    )
    # An interrupted intent is of no use to anybody: the agent asks again, and the sweep closes it.
    draft = await ca.prepare(order)
    async with on.db.transaction() as tx:
        await intents.record(tx, authority_id, {new_id("agc", tx.now): draft}, purpose="agent")
    issued = await ca.complete(draft)
    await _store(on, actor, agent_id, authority_id=authority_id, draft=draft, issued=issued)
    return wire.ClientCertificate(
        certificate_pem=x509.chain_pem([issued.cert_der, *issued.chain]),
        not_after=draft.not_after,
    )


async def _store(
    on: Platform, actor: Actor, agent_id: str, *, authority_id: str, draft: Draft, issued: Issued
) -> None:
    facts = x509.facts(issued.cert_der)
    row: dict[str, Any] = {
        "fingerprint_sha256": facts.fingerprint_sha256,
        "agent_id": agent_id,
        "issuer_id": ISSUER,
        "authority_id": authority_id,
        "serial_number": draft.serial,
        "not_after": facts.not_after,
    }
    async with on.db.transaction() as tx:
        await authorities.settle_intent(tx, authority_id, draft.serial, state="issued")
        await agent_certificates.insert(tx, row)
        await audit.record(
            tx,
            actor,
            "agent_certificate_issued",
            on=("agent", agent_id),
            category=Category.AUTH,
            serial_number=draft.serial,
            fingerprint_sha256=facts.fingerprint_sha256,
            not_after=facts.not_after,
        )
