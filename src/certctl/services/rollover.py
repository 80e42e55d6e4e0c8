"""A new CA above one of ours, while the old one is still trusted: the same subject and key has a
certificate from each, and chains go by one of them until the operator cuts over to the other."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

from certctl.connectors.issuers.local import LocalCA
from certctl.domain.access import EVERYTHING, Actor
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.ids import new_id
from certctl.pki import x509
from certctl.services import audit, authority, hierarchy, intents
from certctl.services.authority import NewAuthority
from certctl.services.platform import Platform
from certctl.store import authorities, authority_certificates, rows
from certctl.store.db import Row, Tx

PARENT = "parent_ca_id"


async def recertify(
    on: Platform, actor: Actor, authority_id: str, parent_id: str, *, lifetime: timedelta | None
) -> dict[str, Any]:
    """Another certificate for a CA, by another CA above. What is served stays as it is until
    `cutover`. One that was interrupted is finished.

    Raises:
        Invalid: naming `parent_ca_id`, when path length or name constraints of the CA above do not
            allow it. Conflict: for a root, a CA that is not active or was signed outside, one that
            has such a certificate, or a CA above that cannot sign.
    """
    actor.everywhere(hierarchy.MANAGE)
    async with on.db.transaction() as tx:
        row = await _locked(tx, authority_id)
        await _check_above(tx, row, parent_id)
        kept = await authority_certificates.find(tx, authority_id, parent_id)
        if kept is not None and kept["cert_der"] and kept["not_after"] > tx.now:
            words = f"CA {authority_id} has a certificate by {parent_id}: cut over to it"
            raise Conflict(words, field=PARENT)
        await authority_certificates.prepare(tx, new_id("acr", tx.now), authority_id, parent_id)
    await _sign(on, actor, authority_id, parent_id, lifetime=lifetime)
    return await hierarchy.get(on, actor, authority_id)


async def _locked(tx: Tx, authority_id: str) -> Row:
    row = await authorities.get(tx, authority_id)
    await rows.lock(tx, rows.ISSUERS, row["issuer_id"], within=EVERYTHING)
    row = await authorities.lock(tx, authority_id)
    if row["state"] != "active":
        raise Conflict(f"CA {authority_id} is {row['state']}")
    if row["parent_id"] is None:
        raise Conflict(f"CA {authority_id} is a root: create another one that replaces it")
    if row["signed_outside"]:
        raise Conflict(f"CA {authority_id} was signed outside: import what was signed there anew")
    return row


async def _check_above(tx: Tx, row: Row, parent_id: str) -> None:
    """As for a new CA in that place."""
    if parent_id == row["parent_id"]:
        words = f"CA {row['id']} stands below {parent_id}: create its successor instead"
        raise Conflict(words, field=PARENT)
    wish = NewAuthority(
        row["issuer_id"], parent_id, row["name"], row["path_length"],
        name_constraints=authority.constraints_of(row),
    )  # fmt: skip
    try:
        await hierarchy.check_place(tx, wish)
    except Invalid as error:
        raise Invalid(error.message, field=PARENT) from None
    if row["id"] in [each["id"] for each in await authorities.chain(tx, parent_id)]:
        raise Conflict(f"CA {parent_id} stands below {row['id']}", field=PARENT)


async def _sign(
    on: Platform, actor: Actor, authority_id: str, parent_id: str, *, lifetime: timedelta | None
) -> None:
    """The certificate for which there is room, with the serial of an interrupted run."""
    async with on.db.read() as session:
        row = await authorities.get(session, authority_id)
        kept = await authority_certificates.find(session, authority_id, parent_id)
        above = await authorities.get(session, parent_id)
        ca = LocalCA(await authority.open_authority(on, session, above))
    if kept is None or kept["cert_der"]:
        return
    order = authority.order_for(on, row, lifetime=lifetime or authority.ISSUING_LIFETIME)
    draft = await intents.intended(on, ca, parent_id, order=order, job_id=kept["id"])
    issued = await ca.complete(draft)
    facts = x509.facts(issued.cert_der)
    async with on.db.transaction() as tx:
        await authorities.lock(tx, authority_id)
        found = await authority_certificates.find(tx, authority_id, parent_id)
        if found is None or found["id"] != kept["id"] or found["cert_der"]:
            note = "another run was there first"
            await authorities.settle_intent(tx, parent_id, draft.serial, state="closed", note=note)
            return
        await authorities.settle_intent(tx, parent_id, draft.serial, state="issued")
        await authority_certificates.put(
            tx,
            {"id": kept["id"], "cert_der": issued.cert_der, "not_before": facts.not_before,
             "not_after": facts.not_after},
        )  # fmt: skip
        await _record(tx, actor, "ca_recertified", authority_id, parent_id, issued.cert_der)


async def cutover(on: Platform, actor: Actor, authority_id: str, parent_id: str) -> dict[str, Any]:
    """Chains go by the certificate that `parent_id` has signed, from now on; the one they went by
    is kept. The same the other way round undoes it.

    Raises:
        Conflict: when there is no such certificate, it is over, or the CA above may not sign.
        Invalid: naming `parent_ca_id`, as `recertify`.
    """
    actor.everywhere(hierarchy.MANAGE)
    async with on.db.transaction() as tx:
        row = await _locked(tx, authority_id)
        await _check_above(tx, row, parent_id)
        chosen = await authority_certificates.find(tx, authority_id, parent_id)
        if chosen is None or not chosen["cert_der"]:
            words = f"CA {authority_id} has no certificate by {parent_id}: recertify it first"
            raise Conflict(words, field=PARENT)
        if chosen["not_after"] <= tx.now:
            words = f"the certificate of CA {authority_id} by {parent_id} is over: recertify it"
            raise Conflict(words, field=PARENT)
        await authority_certificates.swap(tx, row, chosen)
        await _record(tx, actor, "ca_cut_over", authority_id, parent_id, bytes(chosen["cert_der"]))
    return await hierarchy.get(on, actor, authority_id)


async def _record(
    tx: Tx, actor: Actor, action: str, authority_id: str, parent_id: str, cert_der: bytes
) -> None:
    await audit.record(
        tx, actor, action, on=("ca", authority_id), category=Category.CONFIG,
        parent_ca_id=parent_id, fingerprint_sha256=x509.facts(cert_der).fingerprint_sha256,
    )  # fmt: skip
