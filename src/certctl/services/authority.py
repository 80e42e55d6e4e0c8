"""Our own CAs: create them, open them to sign, and keep the platform's own certificates fresh.

Every signature, also of a CA, a responder or the server, is written down as an intent first.
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import Any, Final

from pydantic import ValidationError

from certctl.connectors import catalog
from certctl.connectors.issuer import Draft, Issued, Issuer, Order, Purpose
from certctl.connectors.issuers.local import Authority, LocalCA
from certctl.domain.access import EVERYTHING, Actor, system
from certctl.domain.audit import Category
from certctl.domain.errors import Conflict, NotFound, Unavailable
from certctl.domain.ids import new_id
from certctl.domain.names import parse_names
from certctl.pki import keys, x509
from certctl.pki.name_constraints import NONE, NameConstraints
from certctl.pki.policies import ANY_POLICY
from certctl.pki.sealing import Place
from certctl.services import audit, ca_keys, intents, plain
from certctl.services.platform import Platform
from certctl.store import authorities, rows
from certctl.store.db import Row, Session, Tx

log = logging.getLogger("certctl.authority")
ROOT_LIFETIME: Final = timedelta(days=3650)
ISSUING_LIFETIME: Final = timedelta(days=1825)
SIGNATURES: Final = 100  # in one go, by keys that we hold ourselves


@dataclass(frozen=True)
class Held:
    """A certificate of the platform's own, with the signer of its key."""

    cert_der: bytes
    chain: tuple[bytes, ...]
    signer: keys.Signer
    facts: x509.CertificateFacts
    sealed_key: bytes
    key_place: Place


async def open_authority(on: Platform, session: Session, row: Row) -> Authority:
    """A CA of ours, ready to sign. Raises Conflict when its key is not here."""
    if row["key_home"] == ca_keys.NONE:
        raise Conflict(f"the key of CA {row['id']} is not held here: it signs nothing")
    above = await authorities.chain(session, row["id"])
    signer, run = ca_keys.opened(on, row)
    return Authority(
        id=row["id"],
        cert_der=row["cert_der"],
        signer=signer,
        run=run,
        chain=tuple(bytes(ca["cert_der"]) for ca in above if ca["cert_der"] and ca["parent_id"]),
        base_url=on.terms.public_url,
        clock=on.clock,
        name_constraints=constraints_of(row),
        at_once=SIGNATURES if row["key_home"] == ca_keys.SEALED else 1,
    )


@dataclass(frozen=True)
class Opened:
    """An issuer ready for use; `authority_id` when it is a CA of ours."""

    issuer: Issuer
    config: Any
    authority_id: str | None


async def open_issuer(on: Platform, session: Session, issuer_id: str) -> Opened:
    """The connector of an issuer.

    Raises:
        Conflict: when the issuer is disabled or has no CA that can sign.
    """
    row = await rows.get(session, rows.ISSUERS, issuer_id, within=EVERYTHING)
    if not row["enabled"]:
        raise Conflict(f"issuer {issuer_id} is disabled", field="issuer_id")
    kind = catalog.issuer_class(row["type"])
    config = await _issuer_config(on, session, row, kind=kind)
    if not issubclass(kind, LocalCA):
        return Opened(kind(config), config, None)
    ca = await authorities.signing_for(session, issuer_id)
    if ca is None:
        raise Conflict(f"issuer {issuer_id} has no active CA", field="issuer_id")
    return Opened(kind(await open_authority(on, session, ca)), config, ca["id"])


async def _issuer_config(on: Platform, session: Session, row: Row, *, kind: Any) -> Any:
    """The whole configuration, secrets included. Raises Conflict when it does not parse."""
    try:
        return kind.Config.model_validate(
            await plain.whole_config(on, session, plain.ISSUERS, row["id"])
        )
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        place = ".".join(map(str, first["loc"]))
        raise Conflict(
            f"issuer {row['id']} is configured wrongly: {place}: {first['msg']}", field="issuer_id"
        ) from None


@dataclass(frozen=True)
class NewAuthority:
    """A CA to be made: a root when there is no parent, beside that which it `replaces` where there
    is one. `path_length` is how many CAs may stand in a row below it (RFC 5280 §4.2.1.9)."""

    issuer_id: str
    parent_id: str | None
    name: str
    path_length: int
    algorithm: keys.KeyAlgorithm = keys.KeyAlgorithm.ECDSA_P256
    lifetime: timedelta | None = None
    name_constraints: NameConstraints = NONE
    key_home: str = ca_keys.SEALED
    replaces: str | None = None


async def create(on: Platform, actor: Actor, wish: NewAuthority) -> str:
    """Create a CA, or finish one of this name that was interrupted; its id."""
    key = await new_key(wish)
    async with on.db.transaction() as tx:
        existing = await authorities.by_name(tx, wish.issuer_id, wish.name)
        authority_id = str(existing["id"]) if existing else await prepare(on, tx, wish, key)
    await complete(on, actor, authority_id, wish=wish)
    return authority_id


async def new_key(wish: NewAuthority) -> keys.PrivateKey | None:
    """Apart from the event loop and from transactions: RSA takes seconds. None where the key is to
    be made outside."""
    if wish.key_home != ca_keys.SEALED:
        return None
    return await asyncio.to_thread(keys.generate, wish.algorithm)


async def prepare(
    on: Platform,
    tx: Tx,
    wish: NewAuthority,
    key: keys.PrivateKey | None,
    *,
    csr_pem: str | None = None,
) -> str:
    """A CA with its sealed key, the reference of one that is still to be made, or the CSR of
    somebody else's, committed before anything is signed for it."""
    authority_id = new_id("ica", tx.now)
    to_be_made = key is None and csr_pem is None
    await authorities.insert(
        tx,
        {
            "id": authority_id,
            "issuer_id": wish.issuer_id,
            "parent_id": wish.parent_id,
            "name": wish.name,
            "path_length": wish.path_length,
            "permitted_names": list(wish.name_constraints.permitted),
            "excluded_names": list(wish.name_constraints.excluded),
            "key_home": wish.key_home,
            "key_reference": authority_id if to_be_made else None,
            "sealed_key": key and on.data_key.seal(keys.to_der(key), ca_keys.place(authority_id)),
            "csr_pem": csr_pem,
        },
    )
    return authority_id


async def complete(on: Platform, actor: Actor, authority_id: str, *, wish: NewAuthority) -> None:
    """Sign the certificate of a prepared CA, by itself for a root and by its parent otherwise. Of
    the wish, lifetime and algorithm count, as far as they were not settled before."""
    async with on.db.read() as session:
        row = await authorities.get(session, authority_id)
        if row["state"] != "preparing":
            return
    row = await ca_keys.made(on, row, wish.algorithm)
    async with on.db.read() as session:
        parent_id = row["parent_id"]
        signing = await authorities.get(session, parent_id) if parent_id else row
        if parent_id and signing["state"] != "active":
            words = f"CA {parent_id} is {signing['state']} and signs nothing new"
            raise Conflict(words, field="parent_ca_id")
        parent = await open_authority(on, session, signing)
    order = order_for(
        on, row, lifetime=wish.lifetime or (ISSUING_LIFETIME if parent_id else ROOT_LIFETIME)
    )
    ca = LocalCA(parent)
    draft = await intents.intended(on, ca, signing["id"], order=order, job_id=authority_id)
    issued = await ca.complete(draft)
    facts = x509.facts(issued.cert_der)
    async with on.db.transaction() as tx:
        if (await authorities.lock(tx, authority_id))["state"] != "preparing":
            note = "another run was there first"
            await authorities.settle_intent(
                tx, signing["id"], draft.serial, state="closed", note=note
            )
            return
        await authorities.settle_intent(tx, signing["id"], draft.serial, state="issued")
        await authorities.activate(
            tx,
            authority_id,
            cert_der=issued.cert_der,
            not_before=facts.not_before,
            not_after=facts.not_after,
        )
        await audit.record(
            tx,
            actor,
            "ca_created",
            on=("ca", authority_id),
            category=Category.CONFIG,
            name=row["name"],
            fingerprint_sha256=facts.fingerprint_sha256,
            key_home=row["key_home"],
        )


def order_for(on: Platform, row: Row, *, lifetime: timedelta) -> Order:
    """The certificate of a CA as its row describes it: always the same subject and key."""
    return Order(
        names=(),
        common_name=row["name"],
        public_key=ca_keys.public_key(on, row),
        lifetime=lifetime,
        ekus=(),
        purpose="ca",
        path_length=row["path_length"],
        name_constraints=constraints_of(row),
        # Without it no policy is valid below. A CA whose key is somebody else's asserts none, nor
        # does a root: paths begin below it (RFC 5280 §6.1).
        certificate_policies=(ANY_POLICY,) if row["parent_id"] and row["csr_pem"] is None else (),
    )


def constraints_of(row: Row) -> NameConstraints:
    return NameConstraints(tuple(row["permitted_names"]), tuple(row["excluded_names"]))


async def service_certificate(
    on: Platform, authority_id: str, purpose: Purpose, *, grace: timedelta
) -> Held:
    """The platform's own certificate for a purpose; a new one when less than `grace` is left. While
    the CA's key is away the old one serves to its end."""
    async with on.db.read() as session:
        row = await authorities.service_certificate(session, purpose, authority_id)
    if row is None or row["not_after"] - on.clock() <= grace or _other_names(on, row):
        try:
            row = await _issue_service_certificate(on, authority_id, purpose, replaces=row)
        except Unavailable as error:
            if row is None or row["not_after"] <= on.clock():
                raise
            log.warning("CA %s: its %s is not renewed: %s", authority_id, purpose, error.message)
    async with on.db.read() as session:
        ca = await open_authority(on, session, await authorities.get(session, authority_id))
    place = Place("service_certificates", "sealed_key", row["id"])
    der = bytes(row["cert_der"])
    return Held(
        der,
        ca.chain,
        on.signer(place, row["sealed_key"]),
        x509.facts(der),
        bytes(row["sealed_key"]),
        place,
    )


def _other_names(on: Platform, row: Row) -> bool:
    """Whether the server is to answer to other names than its certificate holds."""
    wanted = set(parse_names(on.terms.server_names, field="CERTCTL_SERVER_NAMES"))
    return row["purpose"] == "server" and set(x509.facts(bytes(row["cert_der"])).names) != wanted


async def _issue_service_certificate(
    on: Platform, authority_id: str, purpose: Purpose, *, replaces: Row | None
) -> Row:
    key = keys.generate(keys.KeyAlgorithm.ECDSA_P256)
    async with on.db.read() as session:
        authority = await open_authority(on, session, await authorities.get(session, authority_id))
    if authority.cert_der is None:
        raise Unavailable(f"CA {authority_id} has no certificate yet")
    ca = LocalCA(authority)
    row_id = new_id("svc", on.clock())
    order = _service_order(on, purpose, key.public_key(), x509.facts(authority.cert_der))
    # The key lives only in this process until the certificate is stored: an interrupted intent
    # is of no use to anybody and the sweep closes it.
    draft = await ca.prepare(order)
    async with on.db.transaction() as tx:
        await intents.record(tx, authority_id, {row_id: draft}, purpose=purpose)
    issued = await ca.complete(draft)
    place = Place("service_certificates", "sealed_key", row_id)
    return await _store_service_certificate(
        on, authority_id, issued=issued, draft=draft, purpose=purpose, replaces=replaces,
        row_id=row_id, sealed_key=on.data_key.seal(keys.to_der(key), place),
    )  # fmt: skip


def _service_order(
    on: Platform, purpose: Purpose, public_key: keys.PublicKey, ca: x509.CertificateFacts
) -> Order:
    if purpose == "ocsp_responder":
        return Order(
            names=(),
            common_name=f"OCSP responder for {ca.subject_cn}"[:64],
            public_key=public_key,
            lifetime=on.terms.responder_validity,
            ekus=("OCSPSigning",),
            purpose=purpose,
        )
    names = parse_names(on.terms.server_names, field="CERTCTL_SERVER_NAMES")
    return Order(
        names=names,
        common_name=names[0].value,
        public_key=public_key,
        lifetime=on.terms.server_certificate_validity,
        purpose=purpose,
    )


async def _store_service_certificate(
    on: Platform,
    authority_id: str,
    *,
    issued: Issued,
    draft: Draft,
    purpose: Purpose,
    replaces: Row | None,
    row_id: str,
    sealed_key: bytes,
) -> Row:
    """Keep it, unless another replica was first: then that one's serves both."""
    facts = x509.facts(issued.cert_der)
    row: Row = {
        "id": row_id,
        "authority_id": authority_id,
        "purpose": purpose,
        "serial_number": draft.serial,
        "cert_der": issued.cert_der,
        "sealed_key": sealed_key,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
    }
    async with on.db.transaction() as tx:
        newest = await authorities.lock_service_certificate(tx, purpose, authority_id)
        if newest is not None and (replaces is None or newest["id"] != replaces["id"]):
            note = f"{newest['id']} was there first"
            await authorities.settle_intent(
                tx, authority_id, draft.serial, state="closed", note=note
            )
            return newest
        await authorities.settle_intent(tx, authority_id, draft.serial, state="issued")
        await authorities.insert_service_certificate(tx, row)
        await audit.record(
            tx,
            system("own-certificates"),
            "service_certificate_issued",
            on=("service_certificate", row_id),
            purpose=purpose,
            ca_id=authority_id,
            serial_number=draft.serial,
            not_after=facts.not_after,
        )
    return row


async def signing_authority_id(on: Platform, issuer_id: str) -> str:
    """The CA that signs for an issuer. Raises NotFound when there is none."""
    async with on.db.read() as session:
        row = await authorities.signing_for(session, issuer_id)
    if row is None:
        raise NotFound(f"issuer {issuer_id} has no active CA")
    return str(row["id"])


async def trust_anchor(on: Platform, issuer_id: str) -> bytes:
    """The root above the CA that signs for an issuer, DER."""
    authority_id = await signing_authority_id(on, issuer_id)
    async with on.db.read() as session:
        return bytes((await authorities.chain(session, authority_id))[-1]["cert_der"])


async def trust_anchors(on: Platform, issuer_id: str) -> tuple[bytes, ...]:
    """That of `trust_anchor` first, then the issuer's other roots that are not retired, DER: both
    are trusted while one follows the other."""
    first = await trust_anchor(on, issuer_id)
    async with on.db.read() as session:
        found = [bytes(row["cert_der"]) for row in await authorities.anchors(session, issuer_id)]
    return first, *(der for der in found if der != first)


async def certificate(on: Platform, authority_id: str) -> bytes:
    """A CA's certificate, DER. Raises NotFound."""
    async with on.db.read() as session:
        row = await authorities.get(session, authority_id)
    if row["cert_der"] is None:
        raise NotFound(f"CA {authority_id} does not exist")
    return bytes(row["cert_der"])
