"""Revoke certificates: true in our database first, so that OCSP tells it from that commit on."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from certctl.domain import certificate
from certctl.domain.access import EVERYTHING, Actor, Permission, Scope
from certctl.domain.certificate import Status
from certctl.domain.errors import CertctlError, Conflict, Invalid, NotFound
from certctl.domain.ids import new_id
from certctl.domain.notification import Kind, Severity
from certctl.domain.revocation import Reason
from certctl.pki import x509
from certctl.services import audit, blocked, crls, notify
from certctl.services.platform import Platform
from certctl.store import (
    agent_certificates,
    authorities,
    certificates,
    jobs,
    renewals,
    versions,
)
from certctl.store.db import Row, Tx


def parse_reason(text: str) -> Reason:
    """Raises Invalid listing the reasons there are."""
    try:
        return Reason(text)
    except ValueError:
        raise Invalid(f"reason: one of {', '.join(Reason)}", field="reason") from None


async def one(on: Platform, actor: Actor, certificate_id: str, *, reason: Reason) -> int:
    """Revoke every unexpired version of a certificate; how many there were.

    Raises:
        Conflict: when it is revoked already, or has no version that is accepted still.
    """
    within = actor.scope(Permission.CERT_REVOKE)
    async with on.db.transaction() as tx:
        done = await many(on, tx, actor, [certificate_id], reason=reason, within=within)
        if certificate_id in done.errors:
            raise done.errors[certificate_id]
        return done.versions[certificate_id]


@dataclass
class Revoked:
    """How many versions of each certificate, and what could not be revoked; `already` are those
    that had been before."""

    versions: dict[str, int] = field(default_factory=dict)
    errors: dict[str, CertctlError] = field(default_factory=dict)
    already: set[str] = field(default_factory=set)


async def many(
    on: Platform,
    tx: Tx,
    actor: Actor,
    certificate_ids: Sequence[str],
    *,
    reason: Reason,
    within: Scope = EVERYTHING,
) -> Revoked:
    """Within the caller's transaction; one that cannot be revoked keeps no other from it."""
    done = Revoked()
    rows = {row["id"]: row for row in await renewals.lock(tx, certificate_ids, within=within)}
    for missing in set(certificate_ids) - set(rows):
        done.errors[missing] = NotFound(f"certificate {missing} does not exist")
    wanted = [row for row in rows.values() if _may(row, done)]
    gone = await versions.revoke_unexpired(tx, [row["id"] for row in wanted])
    counts = {row["id"]: 0 for row in wanted}
    for version in gone:
        counts[version["certificate_id"]] += 1
    left = [certificate_id for certificate_id, count in counts.items() if not count]
    silent = await versions.without_revocation(tx, left)
    for row in wanted:
        if row["id"] in silent:
            done.errors[row["id"]] = Conflict(
                f"certificate {row['id']} is short-lived and nobody asks whether it is revoked "
                "(RFC 9608): archive it, so that it ends, and block its key if that is lost"
            )
        elif counts[row["id"]] or row["status"] in certificate.REVOCABLE - UNISSUED:
            done.versions[row["id"]] = counts[row["id"]]
        else:
            done.errors[row["id"]] = Conflict(f"certificate {row['id']} has no version to revoke")
    await _end(on, tx, actor, list(done.versions), gone=gone, reason=reason)
    return done


UNISSUED = frozenset({Status.PENDING, Status.FAILED, Status.RENEWAL_IN_PROGRESS, Status.ARCHIVED})


def _may(row: Row, done: Revoked) -> bool:
    """An archived certificate may be out of management and yet be accepted by relying parties."""
    if row["revoked_at"] is not None or row["status"] == Status.REVOKED:
        done.errors[row["id"]] = Conflict(f"certificate {row['id']} is revoked already")
        done.already.add(row["id"])
        return False
    if row["watched"]:
        done.errors[row["id"]] = Conflict(
            f"certificate {row['id']} is watched only: revoke it where it was issued"
        )
        return False
    return True


async def _end(
    on: Platform, tx: Tx, actor: Actor, ids: list[str], *, gone: list[Row], reason: Reason
) -> None:
    await certificates.mark_revoked(tx, ids, reason=str(reason))
    await jobs.cancel_open(tx, ids, why="the certificate was revoked")
    await authorities.close_intents_of(tx, ids, note="certificate revoked")
    if reason is Reason.KEY_COMPROMISE:
        await blocked.compromised(tx, actor, gone)
    serials: dict[str, list[str]] = {one: [] for one in ids}
    for version in gone:
        serials[version["certificate_id"]].append(version["serial_number"])
    events = [
        audit.Event(
            "certificate_revoked",
            ("certificate", one),
            {"reason": reason, "serial_numbers": numbers},
        )
        for one, numbers in serials.items()
    ]
    await audit.record_many(tx, actor, events)
    await notify.tell_many(
        tx,
        [
            notify.News(Kind.REVOCATION, one, tx.now.isoformat(), Severity.CRITICAL, words)
            for one in ids
            for words in [f"certificate {one} was revoked by {actor.id}: {reason}"]
        ],
    )
    # Last, because another revocation of the same CA waits from here on.
    await crls.record(on, tx, [_row(tx, actor, version, reason) for version in gone])


def _row(tx: Tx, actor: Actor, version: Row, reason: Reason) -> dict[str, Any]:
    ours = version["authority_id"] is not None
    entry = crls.entry_of(version["serial_number"], tx.now, reason) if ours else None
    return {
        "id": new_id("rev", tx.now),
        "certificate_id": version["certificate_id"],
        "issuer_id": version["issuer_id"],
        "authority_id": version["authority_id"],
        "serial_number": version["serial_number"],
        "reason": str(reason),
        "revoked_by": actor.id,
        "revoked_at": tx.now,
        "not_after": version["not_after"],
        "issuer_notified": ours,
        "entry_der": entry,
    }


async def certificates_of_agent(on: Platform, tx: Tx, actor: Actor, agent_id: str) -> int:
    """Revoke the client certificates of an agent, in OCSP and the CRL as well; how many."""
    gone = await agent_certificates.revoke_all(tx, agent_id)
    reason = Reason.CESSATION_OF_OPERATION
    revocations = [_row(tx, actor, {"certificate_id": None, **each}, reason) for each in gone]
    await crls.record(on, tx, revocations)
    return len(gone)


async def authority_certificate(
    on: Platform, tx: Tx, actor: Actor, authority: Row, *, reason: Reason
) -> None:
    """Revoke the certificate of a CA, in OCSP and the CRL of the CA above it."""
    facts = x509.facts(bytes(authority["cert_der"]))
    if reason is Reason.KEY_COMPROMISE:
        key = {"spki_sha256": facts.spki_sha256, "certificate_id": authority["id"]}
        await blocked.compromised(tx, actor, [key])
    version = {
        "certificate_id": None,
        "issuer_id": authority["issuer_id"],
        "authority_id": authority["parent_id"],
        "serial_number": facts.serial,
        "not_after": authority["not_after"],
    }
    await crls.record(on, tx, [_row(tx, actor, version, reason)])
