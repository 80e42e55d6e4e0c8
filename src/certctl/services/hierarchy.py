"""Our own CAs as a tree that operators shape: new ones, and those that retire in stages.

An active CA signs, a retiring one signs nothing new and goes on answering for what it has signed,
a retired one has nothing left to answer for.
"""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta
from typing import Any, Final

from certctl.connectors import catalog
from certctl.connectors.issuers.local import LocalCA
from certctl.domain.access import EVERYTHING, Actor, Permission
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid, NotFound, Unavailable
from certctl.domain.listing import PageRequest
from certctl.domain.names import parse_names
from certctl.pki import x509
from certctl.services import audit, authority, ca_keys, crls, status
from certctl.services.authority import NewAuthority
from certctl.services.firststart import ISSUER_ID
from certctl.services.platform import Platform
from certctl.store import authorities, authority_certificates, rows
from certctl.store.db import Row, Session, Tx

log = logging.getLogger("certctl.hierarchy")
MANAGE: Final = Permission.CA_HIERARCHY_MANAGE


async def page(on: Platform, actor: Actor, issuer_id: str, request: PageRequest) -> dict[str, Any]:
    """The CAs of an issuer, oldest first."""
    actor.everywhere(MANAGE)
    async with on.db.read() as session:
        await rows.get(session, rows.ISSUERS, issuer_id, within=EVERYTHING)
        found = await authorities.page(session, issuer_id, request)
        ids = [row["id"] for row in found["data"]]
        chains = await authorities.chains(session, ids)
        others = await authority_certificates.of(session, ids)
    data = [shown(row, chains[row["id"]], others[row["id"]]) for row in found["data"]]
    return {**found, "data": data}


async def get(on: Platform, actor: Actor, authority_id: str) -> dict[str, Any]:
    actor.everywhere(MANAGE)
    async with on.db.read() as session:
        row = await authorities.get(session, authority_id)
        chains = await authorities.chains(session, [authority_id])
        others = await authority_certificates.of(session, [authority_id])
    return shown(row, chains[authority_id], others[authority_id])


async def create(on: Platform, actor: Actor, wish: NewAuthority) -> dict[str, Any]:
    """A new CA. When it can have none below it, it signs the issuer's leaves from now on.

    One of this name that was interrupted while it was made is finished.

    Raises:
        Invalid: naming the field. Conflict: when the name or the issuer's root is taken, the parent
            is not active, or no CA may stand below it.
    """
    actor.everywhere(MANAGE)
    if wish.replaces is not None and wish.parent_id is not None:
        raise Invalid("replaces: a root has no CA above it", field="replaces")
    ca_keys.check(on, wish.key_home, wish.algorithm)
    key = await authority.new_key(wish)
    async with on.db.transaction() as tx:
        # Of two requests for the same issuer the second sees what the first has made.
        issuer = await rows.lock(tx, rows.ISSUERS, wish.issuer_id, within=EVERYTHING)
        if not issubclass(catalog.issuer_class(issuer["type"]), LocalCA):
            raise Conflict(f"issuer {wish.issuer_id} is not a CA of this server", field="id")
        existing = await authorities.by_name(tx, wish.issuer_id, wish.name)
        if existing is not None and (
            existing["state"] != "preparing" or existing["csr_pem"] is not None
        ):
            raise Conflict("name is already in use", field="name")
        if existing is None:
            wish = await inherited(tx, wish)
            _check_own_names(on, wish)
            await check_place(tx, wish)
        authority_id = (
            str(existing["id"]) if existing else await authority.prepare(on, tx, wish, key)
        )
    await authority.complete(on, actor, authority_id, wish=wish)
    await _provide(on, wish, authority_id)
    return await get(on, actor, authority_id)


async def _provide(on: Platform, wish: NewAuthority, authority_id: str) -> None:
    """What the CA answers with, made while its key is there; upkeep would do it later."""
    try:
        await status.responder(on, authority_id)
        await crls.present(on, authority_id)
        if wish.issuer_id == ISSUER_ID and wish.path_length == 0:
            await authority.service_certificate(on, authority_id, "server", grace=timedelta(0))
    except Unavailable as error:
        log.warning("CA %s: what it answers with is not made yet: %s", authority_id, error.message)


async def inherited(tx: Tx, wish: NewAuthority) -> NewAuthority:
    """With the name constraints of the CA above, where it names none of its own."""
    if wish.name_constraints or wish.parent_id is None:
        return wish
    return replace(wish, name_constraints=authority.constraints_of(await _parent(tx, wish)))


def _check_own_names(on: Platform, wish: NewAuthority) -> None:
    """The built-in CA signs the server's own certificate."""
    if wish.issuer_id != ISSUER_ID or wish.path_length > 0:
        return
    names = parse_names(on.terms.server_names, field="CERTCTL_SERVER_NAMES")
    if why := wish.name_constraints.why_not(names):
        words = f"the server's own certificate could not be issued: {why}"
        raise Conflict(words, field="name_constraints")


async def check_place(tx: Tx, wish: NewAuthority) -> None:
    """Raises Invalid or Conflict, naming the field, when the CA cannot stand where it is to."""
    if wish.parent_id is None:
        await _check_root(tx, wish)
        return
    parent = await _parent(tx, wish)
    if parent["state"] != "active":
        words = f"CA {wish.parent_id} is {parent['state']} and signs nothing new"
        raise Conflict(words, field="parent_ca_id")
    if not ca_keys.is_held(parent):
        words = f"the key of CA {wish.parent_id} is not held here: it signs nothing"
        raise Conflict(words, field="parent_ca_id")
    limit = parent["path_length"] - 1
    if limit < 0:
        words = f"no CA may stand below {wish.parent_id}: its path length is 0"
        raise Conflict(words, field="parent_ca_id")
    if wish.path_length > limit:
        words = f"path_len_constraint: at most {limit} below {wish.parent_id}"
        raise Invalid(words, field="path_len_constraint")
    if not wish.name_constraints.within(authority.constraints_of(parent)):
        words = f"name_constraints: they permit names that CA {wish.parent_id} does not"
        raise Invalid(words, field="name_constraints")


async def _check_root(tx: Tx, wish: NewAuthority) -> None:
    """A root stands alone, or beside the one that it replaces."""
    others = await authorities.roots(tx, wish.issuer_id)
    if wish.replaces is not None:
        await _check_successor(tx, wish, await _replaced(tx, wish), others)
    elif others:
        words = f"issuer {wish.issuer_id} has a root; name the CA above the new one"
        raise Conflict(f"{words}, or the root that it replaces", field="parent_ca_id")


async def _replaced(tx: Tx, wish: NewAuthority) -> Row:
    try:
        old = await authorities.lock(tx, str(wish.replaces))
    except NotFound as error:
        raise Invalid(f"replaces: {error.message}", field="replaces") from None
    if old["issuer_id"] != wish.issuer_id or old["parent_id"] is not None:
        words = f"replaces: CA {old['id']} is no root of issuer {wish.issuer_id}"
        raise Invalid(words, field="replaces")
    return old


async def _check_successor(tx: Tx, wish: NewAuthority, old: Row, roots: int) -> None:
    """Two roots stand beside each other at most, and whatever stands below the old one may come to
    stand below the new."""
    if old["state"] != "active" or not ca_keys.is_held(old):
        words = f"CA {old['id']} is {old['state']}, or its key is not held here"
        raise Conflict(words, field="replaces")
    if roots > 1:
        words = f"issuer {wish.issuer_id} has two roots: retire the one before {old['id']} first"
        raise Conflict(words, field="replaces")
    signing = await authorities.signing_for(tx, wish.issuer_id)
    if signing is None or signing["id"] == old["id"]:
        words = f"CA {old['id']} signs leaves itself: create an issuing CA below it first"
        raise Conflict(words, field="replaces")
    if wish.path_length < old["path_length"]:
        words = f"path_len_constraint: at least {old['path_length']}, as in {old['id']}"
        raise Invalid(words, field="path_len_constraint")


async def _parent(tx: Tx, wish: NewAuthority) -> Row:
    try:
        parent = await authorities.lock(tx, str(wish.parent_id))
    except NotFound as error:
        raise Invalid(f"parent_ca_id: {error.message}", field="parent_ca_id") from None
    if parent["issuer_id"] != wish.issuer_id:
        words = f"parent_ca_id: CA {wish.parent_id} belongs to another issuer"
        raise Invalid(words, field="parent_ca_id")
    return parent


async def retire(
    on: Platform, actor: Actor, authority_id: str, *, confirm: bool, note: str
) -> dict[str, Any]:
    """The next stage: an active CA retires, and with `confirm` a retiring one is retired.

    Raises:
        Conflict: with `counts`, while active CAs stand below it, or certificates of it are still
            accepted; when it signs its issuer's leaves; when `confirm` does not fit its state.
    """
    actor.everywhere(MANAGE)
    async with on.db.transaction() as tx:
        row = await authorities.lock(tx, authority_id)
        if confirm:
            await _check_over(tx, row)
            state = "retired"
        else:
            await _check_spare(tx, row)
            state = "retiring"
        await authorities.move(tx, authority_id, state)
        await audit.record(
            tx, actor, f"ca_{state}", on=("ca", authority_id), category=Category.CONFIG, note=note
        )
    return {"id": authority_id, "state": state, "decided_by": actor.id, "confirmed": confirm}


async def _check_spare(session: Session, row: Row) -> None:
    if row["state"] != "active":
        hint = "; send confirm" if row["state"] == "retiring" else ""
        raise Conflict(f"CA {row['id']} is {row['state']} already{hint}", field="confirm")
    used = await authorities.in_use(session, row["id"])
    if used["active_children"]:
        words = f"active CAs stand below {row['id']}: retire them first"
        raise Conflict(words, counts={"children": used["active_children"]})
    signing = await authorities.signing_for(session, row["issuer_id"])
    if signing is not None and signing["id"] == row["id"]:
        words = f"CA {row['id']} signs for issuer {row['issuer_id']}: create its successor first"
        raise Conflict(words)


async def _check_over(session: Session, row: Row) -> None:
    if row["state"] != "retiring":
        hint = ": retire it without confirm first" if row["state"] == "active" else ""
        raise Conflict(f"CA {row['id']} is {row['state']}{hint}", field="confirm")
    used = await authorities.in_use(session, row["id"])
    counts = {name: used[name] for name in ("children", "certificates") if used[name]}
    if counts:
        words = f"relying parties still ask about what CA {row['id']} has signed"
        raise Conflict(words, counts=counts)


def shown(row: Row, chain: Sequence[bytes], others: Sequence[Row]) -> dict[str, Any]:
    """A CA as the API shows it, with the chain from its own certificate to the root, and the other
    certificates of its key; what the certificate says is null until there is one."""
    facts = x509.facts(bytes(row["cert_der"])) if row["cert_der"] else None
    return {
        "id": row["id"],
        "issuer_id": row["issuer_id"],
        "parent_ca_id": row["parent_id"],
        "name": row["name"],
        "state": row["state"],
        "key_held": ca_keys.is_held(row),
        "signed_outside": row["signed_outside"],
        "revoked_at": row["revoked_at"],
        "revocation_reason": row["revocation_reason"],
        "path_len_constraint": row["path_length"],
        "name_constraints": [
            {"permitted": row["permitted_names"], "excluded": row["excluded_names"]}
        ]
        if authority.constraints_of(row)
        else [],
        "key_home": row["key_home"],
        "key_reference": row["key_reference"],
        "subject": facts and facts.subject,
        "certificate_policies": list(facts.policies) if facts else [],
        "key_algorithm": facts and facts.key.algorithm,
        "key_size": facts and facts.key.size,
        "serial_number": facts and facts.serial,
        "fingerprint_sha256": facts and facts.fingerprint_sha256,
        "not_before": row["not_before"],
        "not_after": row["not_after"],
        "created_at": row["created_at"],
        "chain_pem": x509.chain_pem(chain),
        "other_certificates": [_shown_other(each) for each in others],
    }


def _shown_other(row: Row) -> dict[str, Any]:
    der = bytes(row["cert_der"])
    facts = x509.facts(der)
    return {
        "parent_ca_id": row["parent_id"],
        "serial_number": facts.serial,
        "fingerprint_sha256": facts.fingerprint_sha256,
        "not_before": row["not_before"],
        "not_after": row["not_after"],
        "served_until": row["served_until"],
        "certificate_pem": x509.pem(der),
    }
