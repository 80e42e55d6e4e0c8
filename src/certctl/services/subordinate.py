"""CAs of ours that an enterprise root has signed: brought with their keys, or signed outside from a
CSR. The CAs above them are kept without a key: they complete chains and sign nothing."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from certctl.connectors import catalog
from certctl.connectors.issuers.local import LocalCA
from certctl.domain.access import EVERYTHING, Actor
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.ids import new_id
from certctl.domain.names import parse_names
from certctl.pki import keys, x509
from certctl.pki.subordinate import CERTIFICATE, Link, read_chain
from certctl.services import audit, blocked, ca_keys, hierarchy
from certctl.services.firststart import ISSUER_ID
from certctl.services.platform import Platform
from certctl.store import authorities, rows
from certctl.store.db import Row, Tx

KEY, NAME, MAX_NAME = "key_pem", "name", 64


@dataclass(frozen=True)
class Import:
    """A CA as its files hold it: certificate, private key, and the chain above it to the root.
    Without a `name` it is called by its common name."""

    issuer_id: str
    certificate_pem: str
    chain_pem: str
    key_pem: str = field(repr=False)
    passphrase: str = field(default="", repr=False)
    name: str | None = None


@dataclass(frozen=True)
class Wanted:
    """A CA whose certificate somebody outside is to sign."""

    issuer_id: str
    name: str
    path_length: int
    algorithm: keys.KeyAlgorithm = keys.KeyAlgorithm.ECDSA_P256


async def load(on: Platform, actor: Actor, wish: Import) -> dict[str, Any]:
    """Take over a CA with its key; it signs for its issuer from now on, by the rule for all CAs.

    Raises:
        Invalid: naming the field, when a check fails. Conflict: for a CA that is here already, a
            name that is taken, or an issuer that has another root.
    """
    actor.everywhere(hierarchy.MANAGE)
    links = await asyncio.to_thread(_links, on, wish.certificate_pem, wish.chain_pem)
    key = await asyncio.to_thread(_key, wish, links[0])
    async with on.db.transaction() as tx:
        await _lock_issuer(tx, wish.issuer_id)
        known = await authorities.of_certificate(tx, wish.issuer_id, links[0].der)
        if known is not None:
            raise Conflict(f"the certificate is that of CA {known['id']}", field=CERTIFICATE)
        name = wish.name or links[0].name[:MAX_NAME]
        await _check_name(tx, wish.issuer_id, name)
        parent_id = await _place(on, tx, wish.issuer_id, links)
        authority_id = new_id("ica", tx.now)
        sealed = on.data_key.seal(keys.to_der(key), ca_keys.place(authority_id))
        values = _values(links[0], parent_id)
        await authorities.insert_signed_outside(
            tx,
            {**values, "id": authority_id, "issuer_id": wish.issuer_id, "name": name,
             "sealed_key": sealed},
        )  # fmt: skip
        await _record(tx, actor, "ca_imported", authority_id, name=name, link=links[0])
    return await hierarchy.get(on, actor, authority_id)


async def request(on: Platform, actor: Actor, wish: Wanted) -> dict[str, Any]:
    """Make the key of a CA and the CSR that its future issuer signs; the key never leaves here.
    Asking again for a name that still waits gives the same CSR.

    Raises:
        Conflict: when the name is taken.
    """
    actor.everywhere(hierarchy.MANAGE)
    key = await asyncio.to_thread(keys.generate, wish.algorithm)
    csr_pem = x509.make_ca_csr(key, wish.name, wish.path_length)
    async with on.db.transaction() as tx:
        await _lock_issuer(tx, wish.issuer_id)
        row = await authorities.by_name(tx, wish.issuer_id, wish.name)
        if row is not None and _waits(row):
            return {"id": row["id"], "name": row["name"], "csr_pem": row["csr_pem"]}
        await _check_name(tx, wish.issuer_id, wish.name)
        authority_id = new_id("ica", tx.now)
        await authorities.insert_waiting(
            tx,
            {
                "id": authority_id,
                "issuer_id": wish.issuer_id,
                "name": wish.name,
                "path_length": wish.path_length,
                "sealed_key": on.data_key.seal(keys.to_der(key), ca_keys.place(authority_id)),
                "csr_pem": csr_pem,
            },
        )
        await audit.record(
            tx, actor, "ca_requested", on=("ca", authority_id), category=Category.CONFIG,
            name=wish.name,
        )  # fmt: skip
    return {"id": authority_id, "name": wish.name, "csr_pem": csr_pem}


async def csr(on: Platform, actor: Actor, authority_id: str) -> dict[str, Any]:
    """The CSR of a CA that was signed outside, or waits to be. Raises Conflict for others."""
    actor.everywhere(hierarchy.MANAGE)
    async with on.db.read() as session:
        row = await authorities.get(session, authority_id)
    if row["csr_pem"] is None:
        raise Conflict(f"CA {authority_id} was not made from a CSR")
    return {"id": row["id"], "name": row["name"], "csr_pem": row["csr_pem"]}


async def install(
    on: Platform, actor: Actor, authority_id: str, *, certificate_pem: str, chain_pem: str
) -> dict[str, Any]:
    """Give a waiting CA the certificate that was signed outside; it signs from now on.

    Raises:
        Invalid: naming the field, when a check fails. Conflict: when it does not wait for one, or
            its issuer has another root.
    """
    actor.everywhere(hierarchy.MANAGE)
    links = await asyncio.to_thread(_links, on, certificate_pem, chain_pem)
    async with on.db.transaction() as tx:
        row = await authorities.get(tx, authority_id)
        await _lock_issuer(tx, row["issuer_id"])
        row = await authorities.lock(tx, authority_id)
        if not _waits(row):
            raise Conflict(f"CA {authority_id} is {row['state']} and waits for no certificate")
        own = keys.spki_sha256(x509.read_csr(row["csr_pem"]).public_key)
        if own != links[0].spki_sha256:
            words = f"{CERTIFICATE}: it is for another key than that of CA {authority_id}"
            raise Invalid(words, field=CERTIFICATE)
        if links[0].path_length < row["path_length"]:
            words = (
                f"{CERTIFICATE}: {links[0].path_length} CAs may stand below it in its chain, "
                f"and {row['path_length']} were asked for"
            )
            raise Invalid(words, field=CERTIFICATE)
        parent_id = await _place(on, tx, row["issuer_id"], links)
        values = {**_values(links[0], parent_id), "path_length": row["path_length"]}
        await authorities.install(tx, authority_id, values)
        await _record(tx, actor, "ca_installed", authority_id, name=row["name"], link=links[0])
    return await hierarchy.get(on, actor, authority_id)


def _waits(row: Row) -> bool:
    return bool(row["signed_outside"]) and row["state"] == "preparing"


def _links(on: Platform, certificate_pem: str, chain_pem: str) -> list[Link]:
    return read_chain(certificate_pem, chain_pem, on.clock())


def _key(wish: Import, link: Link) -> keys.PrivateKey:
    try:
        if wish.passphrase:
            key = keys.load_encrypted_pem(wish.key_pem, wish.passphrase)
        else:
            key = keys.load_pem(wish.key_pem)
    except Invalid as error:
        hint = "" if wish.passphrase else "; an encrypted one needs its passphrase"
        raise Invalid(f"{KEY}: {error.message}{hint}", field=KEY) from error
    if keys.spki_sha256(key.public_key()) != link.spki_sha256:
        raise Invalid(f"{KEY}: it is not the key of the certificate", field=KEY)
    return key


async def _lock_issuer(tx: Tx, issuer_id: str) -> None:
    issuer = await rows.lock(tx, rows.ISSUERS, issuer_id, within=EVERYTHING)
    if not issubclass(catalog.issuer_class(issuer["type"]), LocalCA):
        raise Conflict(f"issuer {issuer_id} is not a CA of this server", field="id")


async def _check_name(tx: Tx, issuer_id: str, name: str) -> None:
    if await authorities.by_name(tx, issuer_id, name) is not None:
        raise Conflict(f"{NAME} {name!r} is already in use", field=NAME)


async def _place(on: Platform, tx: Tx, issuer_id: str, links: Sequence[Link]) -> str:
    """The id of the CA directly above, after those that are not here yet have been added."""
    own, *above = links
    await blocked.check(tx, own.spki_sha256, field=CERTIFICATE)
    _check_own_names(on, issuer_id, own)
    parent_id: str | None = None
    for link in reversed(above):
        known = await authorities.of_certificate(tx, issuer_id, link.der)
        if known is None:
            if parent_id is None and await authorities.roots(tx, issuer_id):
                words = f"issuer {issuer_id} has another root; import into an issuer of its own"
                raise Conflict(words, field="id")
            parent_id = await _add_above(tx, issuer_id, link, parent_id)
        else:
            if known["state"] not in ("active", "retiring"):
                raise Conflict(f"CA {known['id']} above it is {known['state']}", field="chain_pem")
            parent_id = str(known["id"])
    return str(parent_id)


def _check_own_names(on: Platform, issuer_id: str, own: Link) -> None:
    """The built-in CA signs the server's own certificate."""
    if issuer_id != ISSUER_ID:
        return
    names = parse_names(on.terms.server_names, field="CERTCTL_SERVER_NAMES")
    if why := own.constraints.why_not(names):
        words = f"the server's own certificate could not be issued: {why}"
        raise Conflict(words, field=CERTIFICATE)


async def _add_above(tx: Tx, issuer_id: str, link: Link, parent_id: str | None) -> str:
    authority_id = new_id("ica", tx.now)
    name = link.name[:MAX_NAME]
    if await authorities.by_name(tx, issuer_id, name) is not None:
        name = f"{name[: MAX_NAME - 9]} {link.spki_sha256[:8]}"
    await authorities.insert_signed_outside(
        tx,
        {**_values(link, parent_id), "id": authority_id, "issuer_id": issuer_id, "name": name,
         "sealed_key": None},
    )  # fmt: skip
    return authority_id


def _values(link: Link, parent_id: str | None) -> dict[str, Any]:
    return {
        "parent_id": parent_id,
        "path_length": link.path_length,
        "permitted_names": list(link.constraints.permitted),
        "excluded_names": list(link.constraints.excluded),
        "cert_der": link.der,
        "not_before": link.not_before,
        "not_after": link.not_after,
    }


async def _record(
    tx: Tx, actor: Actor, action: str, authority_id: str, *, name: str, link: Link
) -> None:
    await audit.record(
        tx,
        actor,
        action,
        on=("ca", authority_id),
        category=Category.CONFIG,
        name=name,
        fingerprint_sha256=x509.facts(link.der).fingerprint_sha256,
    )
