"""One certificate that was issued elsewhere becomes a row of the inventory, or a newer version."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, Literal

from certctl.domain import certificate, profile
from certctl.domain.access import EVERYTHING, Actor
from certctl.domain.audit import Category
from certctl.domain.certificate import Status
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.ids import new_id
from certctl.pki.bundle import issued_by
from certctl.pki.leaf import Leaf
from certctl.pki.x509 import chain_pem
from certctl.services import audit, csrs, jobs, policy
from certctl.store import authorities, certificates, importing, rows, versions
from certctl.store.db import Row, Tx

EXTERNAL: Final = "iss-external"
WATCHED: Final = "rp-watched"
OURS: Final = "GenericCA"
MADE: Final[dict[str, tuple[rows.Table, dict[str, Any]]]] = {
    EXTERNAL: (rows.ISSUERS, {"name": "External CA", "type": "External", "config": {}}),
    WATCHED: (rows.RENEWAL_POLICIES, {"name": "Watched only", "auto_renew": False}),
}


@dataclass(frozen=True)
class Wanted:
    """A certificate to adopt: `name` in the inventory, and `source` the tool that kept it.
    `terms` holds owner_id, team_id, certificate_profile_id, environment, tags, and issuer_id and
    renewal_policy_id, which may be None."""

    leaf: Leaf
    name: str
    source: str
    watched: bool
    terms: Mapping[str, Any]


@dataclass(frozen=True)
class Adopted:
    certificate_id: str
    name: str
    outcome: Literal["imported", "updated", "unchanged"]


@dataclass(frozen=True)
class Issuers:
    """Whose the certificate is, who issued the version, and our own CA when it was one."""

    of_certificate: str
    of_version: str
    authority_id: str | None


async def adopt(tx: Tx, actor: Actor, wanted: Wanted, *, block_from: str) -> Adopted:
    """Add the certificate, or a newer version of the one of that name. Policy rules judge it; they
    block by themselves, or from the severity `block_from` on.

    Raises:
        Conflict: when the name belongs to a certificate that this is no version of.
        Invalid: when it is not merely watched and the profile does not allow its names, or it
            breaks a rule that blocks.
    """
    known = await importing.by_fingerprint(tx, wanted.leaf.facts.fingerprint_sha256)
    if known is not None:
        if known["status"] == Status.ARCHIVED:
            raise Conflict(f"it belongs to the archived certificate {known['id']}")
        return Adopted(known["id"], known["name"], "unchanged")
    present = await importing.lock_by_name(tx, wanted.name)
    if present is None:
        adopted = await _new(tx, actor, wanted)
    else:
        adopted = await _newer(tx, actor, wanted, present)
    if adopted.outcome != "unchanged":
        await policy.on_import(
            tx, adopted.certificate_id, block_from=block_from, watched=wanted.watched
        )
    return adopted


async def _new(tx: Tx, actor: Actor, wanted: Wanted) -> Adopted:
    leaf, certificate_id = wanted.leaf, new_id("mc", tx.now)
    policy_id = wanted.terms["renewal_policy_id"] or await _made(tx, actor, WATCHED)
    issuers = await _issuers(tx, actor, leaf, wanted.terms["issuer_id"])
    values = {
        **wanted.terms,
        "name": wanted.name,
        "common_name": leaf.common_name,
        "sans": [name.value for name in leaf.names],
        "issuer_id": issuers.of_certificate,
        "renewal_policy_id": policy_id,
        "source": f"import:{wanted.source}",
        "watched": wanted.watched,
    }
    begun = {"id": certificate_id, "status": str(Status.RENEWAL_IN_PROGRESS)}
    await certificates.insert(tx, {**begun, **values})
    if not wanted.watched:
        await _check_profile(tx, certificate_id, leaf)
    await _add_version(tx, certificate_id, leaf, issuers)
    await jobs.settle_certificate(tx, certificate_id, error=None)
    await _record(tx, actor, "certificate_imported", certificate_id, leaf, after=values)
    return Adopted(certificate_id, wanted.name, "imported")


async def _newer(tx: Tx, actor: Actor, wanted: Wanted, present: Row) -> Adopted:
    leaf, certificate_id = wanted.leaf, present["id"]
    newest = await importing.newest(tx, certificate_id)
    _check_same(wanted, present, newest)
    if newest["not_before"] is not None and leaf.facts.not_before <= newest["not_before"]:
        return Adopted(certificate_id, wanted.name, "unchanged")
    issuers = await _issuers(tx, actor, leaf, present["issuer_id"])
    await _add_version(tx, certificate_id, leaf, issuers)
    await certificates.update(
        tx,
        certificate_id,
        common_name=leaf.common_name,
        sans=[name.value for name in leaf.names],
        status=str(_renewed(present)),
        last_error=None,
    )
    if not wanted.watched:
        await _check_profile(tx, certificate_id, leaf)
    await jobs.settle_certificate(tx, certificate_id, error=None)
    await _record(tx, actor, "certificate_version_imported", certificate_id, leaf)
    return Adopted(certificate_id, wanted.name, "updated")


def _check_same(wanted: Wanted, present: Row, newest: Row) -> None:
    """Whether a newer certificate of this name may take the place of what is live."""
    name = f"{wanted.name!r} is the name of certificate {present['id']}, which"
    if not present["source"].startswith("import:"):
        raise Conflict(f"{name} was not imported; give another name", field="name")
    if present["watched"] != wanted.watched:
        how = "merely watched" if present["watched"] else "under management"
        raise Conflict(f"{name} is {how}", field="watched")
    if present["status"] == Status.REVOKED:
        raise Conflict(f"{name} is revoked", field="name")
    if newest["held_by_agent"]:
        raise Conflict(f"{name} certctl has renewed itself since", field="name")


def _renewed(present: Row) -> Status:
    """Somebody has renewed it: the status from which it may settle anew."""
    status = Status(present["status"])
    return certificate.move(present["id"], status, Status.RENEWAL_IN_PROGRESS)


async def _issuers(tx: Tx, actor: Actor, leaf: Leaf, issuer_id: str | None) -> Issuers:
    ca = await _own_ca(tx, leaf)
    if ca is not None:
        return Issuers(issuer_id or ca["issuer_id"], ca["issuer_id"], ca["id"])
    chosen = issuer_id or await _made(tx, actor, EXTERNAL)
    found = await rows.get(tx, rows.ISSUERS, chosen, within=EVERYTHING)
    # Our own CAs answer for what they signed and for nothing else.
    signer = await _made(tx, actor, EXTERNAL) if found["type"] == OURS else chosen
    return Issuers(chosen, signer, None)


async def _own_ca(tx: Tx, leaf: Leaf) -> Row | None:
    """The CA of ours that signed the certificate and knows of it.

    Raises:
        Conflict: when it has revoked the certificate.
    """
    for ca in await importing.own_cas(tx):
        if issued_by(leaf.chain[0], bytes(ca["cert_der"])):
            serial = leaf.facts.serial
            known = (await authorities.serial_states(tx, ca["id"], [serial])).get(serial)
            if known is not None and known["revoked_at"] is not None:
                raise Conflict("it has been revoked")
            return None if known is None else ca
    return None


async def _made(tx: Tx, actor: Actor, row_id: str) -> str:
    """The id of a row that imports need, made when it is not there."""
    table, values = MADE[row_id]
    if not await rows.missing(tx, table, [row_id], within=EVERYTHING):
        return row_id
    if await rows.insert(tx, table, row_id, values=values) is not None:
        noun = table.noun.replace(" ", "_")
        await audit.record(
            tx,
            actor,
            f"{noun}_created",
            on=(noun, row_id),
            category=Category.CONFIG,
            after=values,
        )
    return row_id


async def _check_profile(tx: Tx, certificate_id: str, leaf: Leaf) -> None:
    rules = csrs.profile_of(await certificates.terms(tx, certificate_id))
    broken = profile.name_violations(rules, leaf.names)
    if broken:
        raise Invalid("sans: " + "; ".join(broken), field="sans")


async def _add_version(tx: Tx, certificate_id: str, leaf: Leaf, issuers: Issuers) -> None:
    facts = leaf.facts
    version = {
        "id": new_id("cv", tx.now),
        "certificate_id": certificate_id,
        "agent_id": None,
        "issuer_id": issuers.of_version,
        "authority_id": issuers.authority_id,
        "serial_number": facts.serial,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "fingerprint_sha256": facts.fingerprint_sha256,
        "spki_sha256": facts.spki_sha256,
        "sans": [name.value for name in leaf.names],
        "pem_chain": chain_pem(leaf.chain),
        "key_algorithm": facts.key.algorithm,
        "key_size": facts.key.size,
    }
    await versions.insert_live(tx, [version])


async def _record(
    tx: Tx, actor: Actor, action: str, certificate_id: str, leaf: Leaf, **details: Any
) -> None:
    await audit.record(
        tx,
        actor,
        action,
        on=("certificate", certificate_id),
        serial_number=leaf.facts.serial,
        fingerprint_sha256=leaf.facts.fingerprint_sha256,
        not_after=leaf.facts.not_after,
        issued_by=leaf.facts.issuer,
        **details,
    )
