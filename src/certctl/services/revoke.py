"""Revoke a certificate: true in our database first, so that OCSP tells it from that commit on."""

from __future__ import annotations

from certctl.domain import certificate
from certctl.domain.access import Actor, Permission
from certctl.domain.certificate import Status
from certctl.domain.errors import Conflict, Invalid
from certctl.domain.ids import new_id
from certctl.domain.revocation import Reason
from certctl.services import audit
from certctl.services.platform import Platform
from certctl.store import authorities, certificates, jobs, queue, versions
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
        Conflict: when it is revoked already, archived, or never was issued.
    """
    async with on.db.transaction() as tx:
        row = await certificates.lock(
            tx, certificate_id, within=actor.scope(Permission.CERT_REVOKE)
        )
        present = Status(row["status"])
        if present is Status.REVOKED:
            raise Conflict(f"certificate {certificate_id} is revoked already")
        gone = await versions.revoke_unexpired(tx, certificate_id)
        if not gone and present in {Status.PENDING, Status.FAILED, Status.RENEWAL_IN_PROGRESS}:
            raise Conflict(f"certificate {certificate_id} has no version to revoke")
        certificate.move(certificate_id, _revocable(present, gone), Status.REVOKED)
        await certificates.update(
            tx,
            certificate_id,
            status="Revoked",
            revoked_at=tx.now,
            revocation_reason=str(reason),
        )
        await jobs.cancel_open(
            tx,
            certificate_id,
            types=["Issuance", "Renewal", "Deployment"],
            why="the certificate was revoked",
        )
        await authorities.close_intents_of(tx, certificate_id, note="certificate revoked")
        await _tell(on, tx, actor, gone=gone, reason=reason)
        await audit.record(
            tx,
            actor,
            "certificate_revoked",
            on=("certificate", certificate_id),
            reason=reason,
            serial_numbers=[version["serial_number"] for version in gone],
        )
        return len(gone)


def _revocable(present: Status, gone: list[Row]) -> Status:
    """A renewal of a certificate that failed or waits may still leave versions to revoke."""
    return Status.ACTIVE if present is Status.PENDING and gone else present


async def _tell(on: Platform, tx: Tx, actor: Actor, *, gone: list[Row], reason: Reason) -> None:
    for version in gone:
        await versions.insert_revocation(
            tx,
            {
                "id": new_id("rev", tx.now),
                "certificate_id": version["certificate_id"],
                "issuer_id": version["issuer_id"],
                "authority_id": version["authority_id"],
                "serial_number": version["serial_number"],
                "reason": str(reason),
                "revoked_by": actor.id,
                "revoked_at": tx.now,
                "not_after": version["not_after"],
                "issuer_notified": version["authority_id"] is not None,
            },
        )
    for authority_id in sorted({v["authority_id"] for v in gone if v["authority_id"]}):
        await authorities.mark_crl_stale(tx, authority_id)
        await on.queue.defer(
            tx, queue.REFRESH_CRL, once_per=authority_id, authority_id=authority_id
        )
