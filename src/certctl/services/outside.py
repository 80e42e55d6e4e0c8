"""CAs below one of ours: the CSR of one whose key is elsewhere, signed, and their revocation."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from certctl.domain.access import EVERYTHING, Actor
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.revocation import Reason
from certctl.pki import x509
from certctl.pki.name_constraints import NONE, NameConstraints
from certctl.services import audit, authority, blocked, ca_keys, hierarchy, revoke
from certctl.services.authority import NewAuthority
from certctl.services.platform import Platform
from certctl.store import authorities, authority_certificates, rows
from certctl.store.db import Row, Tx

MAX_NAME = 64


@dataclass(frozen=True)
class Request:
    """The CSR of a CA to be, and what its certificate is to say; nothing but the key, and without
    a `name` the common name, is taken from the CSR."""

    csr_pem: str
    path_length: int
    name: str | None = None
    lifetime: timedelta | None = None
    name_constraints: NameConstraints = NONE


async def sign(on: Platform, actor: Actor, parent_id: str, request: Request) -> dict[str, Any]:
    """Certify a CA whose key is held elsewhere. The same request again finishes one that was
    interrupted.

    Raises:
        Invalid: naming the field. Conflict: when the name is taken, the parent is not active or its
            key is not here, or no CA may stand below it.
    """
    actor.everywhere(hierarchy.MANAGE)
    csr = x509.read_csr(request.csr_pem)
    name = request.name or csr.common_name
    if not name or len(name) > MAX_NAME:
        words = f"name: give one of 1 to {MAX_NAME} characters; the CSR has none"
        raise Invalid(words, field="name")
    async with on.db.transaction() as tx:
        parent = await authorities.get(tx, parent_id)
        await rows.lock(tx, rows.ISSUERS, parent["issuer_id"], within=EVERYTHING)
        await blocked.check(tx, csr.spki_sha256)
        existing = await authorities.by_name(tx, parent["issuer_id"], name)
        wish = NewAuthority(
            parent["issuer_id"], parent_id, name, request.path_length, lifetime=request.lifetime,
            name_constraints=request.name_constraints, key_home=ca_keys.NONE,
        )  # fmt: skip
        if existing is None:
            authority_id = await _prepare(on, tx, wish, request.csr_pem)
        elif _is_cut_off(existing, parent_id, csr):
            authority_id = str(existing["id"])
        else:
            raise Conflict(f"name {name!r} is already in use", field="name")
    await authority.complete(on, actor, authority_id, wish=wish)
    return await hierarchy.get(on, actor, authority_id)


def _is_cut_off(row: Row, parent_id: str, csr: x509.CsrFacts) -> bool:
    """Whether it is this request that was interrupted: requests for one key may differ in bytes."""
    if row["state"] != "preparing" or ca_keys.is_held(row) or row["parent_id"] != parent_id:
        return False
    return x509.read_csr(row["csr_pem"]).spki_sha256 == csr.spki_sha256


async def _prepare(on: Platform, tx: Tx, wish: NewAuthority, csr_pem: str) -> str:
    wish = await hierarchy.inherited(tx, wish)
    await hierarchy.check_place(tx, wish)
    return await authority.prepare(on, tx, wish, None, csr_pem=csr_pem)


async def end(
    on: Platform, actor: Actor, authority_id: str, *, reason: Reason, force: bool, note: str
) -> dict[str, Any]:
    """Revoke the certificate of a CA: OCSP and the CRL of the CA above it say so at once, and it
    and all below it sign nothing new.

    Raises:
        Conflict: for a root, one that a CA outside has signed, or one that is revoked already; and
            without `force`, with `counts`, while active CAs stand below it or it signs its
            issuer's leaves.
    """
    actor.everywhere(hierarchy.MANAGE)
    async with on.db.transaction() as tx:
        row = await authorities.get(tx, authority_id)
        await rows.lock(tx, rows.ISSUERS, row["issuer_id"], within=EVERYTHING)
        row = await authorities.lock(tx, authority_id)
        await _check_revocable(tx, row)
        below = await authorities.below(tx, authority_id)
        if not force:
            await _check_spare(tx, row, below)
        await authorities.mark_revoked(tx, authority_id, reason=str(reason), below=below)
        await _revoke_certificates(on, tx, actor, row, reason)
        await audit.record(
            tx, actor, "ca_revoked", on=("ca", authority_id), category=Category.CONFIG,
            reason=str(reason), note=note, below=below,
        )  # fmt: skip
    return await hierarchy.get(on, actor, authority_id)


async def _revoke_certificates(
    on: Platform, tx: Tx, actor: Actor, row: Row, reason: Reason
) -> None:
    """The one that it serves, and the others of its key."""
    others = (await authority_certificates.of(tx, [row["id"]]))[row["id"]]
    for each in (row, *others):
        certificate = {**row, "parent_id": each["parent_id"], "cert_der": each["cert_der"],
                       "not_after": each["not_after"]}  # fmt: skip
        await revoke.authority_certificate(on, tx, actor, certificate, reason=reason)


async def _check_revocable(tx: Tx, row: Row) -> None:
    if row["revoked_at"] is not None:
        raise Conflict(f"CA {row['id']} is revoked already")
    if row["cert_der"] is None:
        raise Conflict(f"CA {row['id']} has no certificate yet")
    if row["parent_id"] is None:
        raise Conflict(f"CA {row['id']} is a root: take it out of the trust stores instead")
    parent = await authorities.get(tx, row["parent_id"])
    if row["signed_outside"] or not ca_keys.is_held(parent):
        raise Conflict(f"CA {row['id']} was signed outside: have it revoked there, and retire it")


async def _check_spare(tx: Tx, row: Row, below: list[str]) -> None:
    if below:
        words = f"active CAs stand below {row['id']}; force revokes it and lets them sign no more"
        raise Conflict(words, field="force", counts={"children": len(below)})
    signing = await authorities.signing_for(tx, row["issuer_id"])
    if signing is not None and signing["id"] == row["id"]:
        words = f"CA {row['id']} signs for issuer {row['issuer_id']}: create its successor first"
        raise Conflict(f"{words}, or send force", field="force")
