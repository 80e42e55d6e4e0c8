"""Record certificates that were issued: versions, jobs, deployments and the trail, together."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from certctl.connectors.issuer import Draft, Issued, Order
from certctl.domain.access import Actor, system
from certctl.domain.errors import CertctlError, Conflict
from certctl.domain.ids import new_id
from certctl.domain.notification import Kind, Severity
from certctl.pki import x509
from certctl.pki.sealing import Place
from certctl.services import audit, deploy, jobs, notify
from certctl.services.platform import Platform
from certctl.store import issuing, versions
from certctl.store.db import Row, Tx

ACTOR: Final[Actor] = system("issuance")


@dataclass
class Work:
    """One issuance as far as it has come: its job as it was claimed, the certificate with its
    profile, and what each step adds. `waivers` in force are by lint code. With an error it goes no
    further."""

    job: Row
    subject: Row
    waivers: Mapping[str, str] = field(default_factory=dict)
    order: Order | None = None
    spki_sha256: str = ""
    draft: Draft | None = None
    issued: Issued | None = None
    error: CertctlError | None = None

    @property
    def ordered(self) -> Order:
        assert self.order is not None
        return self.order


@dataclass(frozen=True)
class Made:
    """A certificate with what it says, about to be recorded."""

    work: Work
    facts: x509.CertificateFacts
    pem_chain: str
    passed_over: tuple[str, ...]


async def record(on: Platform, works: Sequence[Work], *, authority_id: str | None) -> None:
    """The versions, the ends of the jobs, their deployments and the audit rows: all or nothing. Of
    works whose jobs went on without this run nothing is recorded; they get the error."""
    made = await asyncio.to_thread(lambda: [_made(work) for work in works if work.issued])
    async with on.db.transaction() as tx:
        going = await _still_ours(tx, made, authority_id)
        if not going:
            return
        rows = [_version(on, tx, each, authority_id) for each in going]
        await versions.insert_live(tx, rows)
        by_job = {each.work.job["id"]: row["id"] for each, row in zip(going, rows, strict=True)}
        await issuing.complete(tx, by_job)
        ids = sorted({each.work.subject["id"] for each in going})
        await jobs.settle_certificates(tx, ids, renewed=True)
        await deploy.plan(tx, rows)
        await audit.record_many(tx, ACTOR, [_event(each) for each in going])
        await notify.tell_many(tx, [_news(each) for each in going])


def _made(work: Work) -> Made:
    assert work.issued is not None
    chain = x509.chain_pem([work.issued.cert_der, *work.issued.chain])
    return Made(work, x509.facts(work.issued.cert_der), chain, work.issued.passed_over)


async def _still_ours(tx: Tx, made: Sequence[Made], authority_id: str | None) -> list[Made]:
    """Those whose jobs still are this run's, and whose intents nobody else has settled."""
    attempts = {each.work.job["id"]: each.work.job["attempts"] for each in made}
    running = await issuing.lock_running(tx, attempts)
    ours = [each for each in made if each.work.job["id"] in running]
    if authority_id is not None:
        drafted = [each.work.draft.serial for each in ours if each.work.draft]
        settled = await issuing.settle_intents(tx, authority_id, drafted)
        ours = [each for each in ours if each.work.draft and each.work.draft.serial in settled]
    kept = {each.work.job["id"] for each in ours}
    for each in made:
        if each.work.job["id"] not in kept:
            each.work.error = Conflict(f"job {each.work.job['id']} went on without this run")
    return ours


def _version(on: Platform, tx: Tx, made: Made, authority_id: str | None) -> dict[str, Any]:
    job, facts, version_id = made.work.job, made.facts, new_id("cv", tx.now)
    sealed = None
    if job["sealed_key"] is not None:
        key = on.data_key.unseal(bytes(job["sealed_key"]), Place("jobs", "sealed_key", job["id"]))
        sealed = on.data_key.seal(key, Place("certificate_versions", "sealed_key", version_id))
    return {
        "id": version_id,
        "certificate_id": made.work.subject["id"],
        "agent_id": job["agent_id"],
        "issuer_id": made.work.subject["issuer_id"],
        "authority_id": authority_id,
        "serial_number": facts.serial,
        "not_before": facts.not_before,
        "not_after": facts.not_after,
        "fingerprint_sha256": facts.fingerprint_sha256,
        "spki_sha256": facts.spki_sha256,
        "sans": [name.value for name in facts.names],
        "pem_chain": made.pem_chain,
        "csr_pem": job["csr_pem"],
        "key_algorithm": facts.key.algorithm,
        "key_size": facts.key.size,
        "sealed_key": sealed,
        "no_revocation": facts.no_revocation,
        "lint_waived": list(made.passed_over),
    }


def _event(made: Made) -> audit.Event:
    job, facts = made.work.job, made.facts
    details: dict[str, Any] = {
        "job_id": job["id"],
        "serial_number": facts.serial,
        "fingerprint_sha256": facts.fingerprint_sha256,
        "not_after": facts.not_after,
        "requested_by": job["requested_by"],
        "approval_id": job["approval_id"],
    }
    if made.passed_over:
        # What lint found and did not block, with the waiver that let it through.
        details["lint_waived"] = {code: made.work.waivers[code] for code in made.passed_over}
    return audit.Event("certificate_issued", ("certificate", job["certificate_id"]), details)


def _news(made: Made) -> notify.News:
    subject, not_after = made.work.subject, made.facts.not_after
    return notify.News(
        Kind.RENEWAL_SUCCESS,
        subject["id"],
        made.work.job["id"],
        Severity.INFORMATIONAL,
        f"{subject['name']} has a new certificate, valid until {not_after:%Y-%m-%d %H:%M} UTC",
    )
