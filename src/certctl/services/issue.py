"""The one path from an accepted CSR to a recorded certificate version.

Gather, write down the intent, sign, record. Each step is its own transaction, so that a kill at
any moment leaves either a job that goes on where it was, or an intent that is closed.
"""

from __future__ import annotations

import time
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from certctl.connectors.issuer import Draft, Issued, Order, Prepares
from certctl.domain import job, profile
from certctl.domain.access import EVERYTHING, Actor, system
from certctl.domain.errors import CertctlError, Conflict, Invalid, NotFound
from certctl.domain.ids import new_id
from certctl.domain.job import JobStatus
from certctl.domain.names import Name, parse_names
from certctl.domain.notification import Kind, Severity
from certctl.pki import keys, x509
from certctl.pki.sealing import Place
from certctl.services import (
    approve,
    audit,
    authority,
    blocked,
    counters,
    deploy,
    jobs,
    notify,
    policy,
)
from certctl.services.platform import Platform
from certctl.store import authorities, certificates, lint_waivers, versions
from certctl.store import jobs as job_rows
from certctl.store.db import Row, Session, Tx


@dataclass(frozen=True)
class Work:
    """Everything one run needs; `attempt` fences it against a later run of the same job. Waivers in
    force are by lint code."""

    job_id: str
    attempt: int
    certificate: Row
    agent_id: str | None
    order: Order
    opened: authority.Opened
    sealed_key: bytes | None
    waivers: Mapping[str, str]


def profile_of(terms: Row) -> profile.Profile:
    """The profile as the domain sees it."""
    return profile.Profile(
        id=terms["profile_id"],
        version=terms["profile_version"],
        keys=tuple(
            profile.KeyRule(rule["algorithm"], rule["min_size"])
            for rule in terms["allowed_key_algorithms"]
        ),
        max_lifetime=timedelta(seconds=terms["max_ttl_seconds"]),
        ekus=tuple(terms["allowed_ekus"]),
        san_patterns=tuple(terms["required_san_patterns"]),
        must_staple=terms["must_staple"],
        must_staple_critical=terms["must_staple_critical"],
        certificate_policies=tuple(terms["certificate_policies"]),
        cps_uri=terms["cps_uri"],
        crl_shards=terms["crl_shards"],
        allow_single_labels=terms["allow_single_labels"],
        spiffe_pattern=terms["spiffe_uri_pattern"],
        allow_short_lived=terms["allow_short_lived"],
        enabled=terms["enabled"],
    )


def server_key(on: Platform, row: Row, job_id: str) -> tuple[str, bytes]:
    """A CSR and its key, made here and sealed for the job: for certificates without an agent,
    where the settings say that the server makes keys."""
    key = keys.generate(keys.KeyAlgorithm(profile.preferred_key(row["allowed_key_algorithms"])))
    sealed = on.data_key.seal(keys.to_pem(key).encode(), Place("jobs", "sealed_key", job_id))
    return x509.make_csr(key, approved_names(row), row["common_name"]), sealed


async def checked_csr(session: Session, row: Row, csr_pem: str) -> x509.CsrFacts:
    """A CSR that the certificate's names and profile allow.

    Raises:
        Invalid: naming `csr_pem` and the rule that it breaks.
    """
    csr = x509.read_csr(csr_pem)
    await blocked.check(session, csr.spki_sha256)
    names = approved_names(row)
    x509.check_csr_names(csr, names, row["common_name"])
    rules = profile_of(await certificates.terms(session, row["id"]))
    broken = profile.violations(rules, profile.Order(names, csr.key.algorithm, csr.key.size))
    if broken:
        raise Invalid("csr_pem: " + "; ".join(broken), field="csr_pem")
    return csr


def approved_names(row: Row) -> tuple[Name, ...]:
    return parse_names(row["sans"])


async def run(on: Platform, job_id: str) -> bool:
    """Carry out an issuance that is due; whether a certificate was recorded.

    Does nothing when the job is not due, is gone, or somebody else has it.
    """
    found = await _claim(on, job_id)
    if found is None:
        return False
    began, kind = time.monotonic(), "unknown"
    try:
        async with on.db.read() as session:
            work = await _gather(on, session, found)
        kind = work.opened.issuer.kind
        await policy.before_issuance(on, work.certificate["id"], work.order.lifetime)
        draft = await _intended(on, work)
        issued = await _completed(work, draft)
        await _record(on, work, draft, issued=issued)
    except CertctlError as error:
        counters.ISSUANCE.labels(kind, "failure").inc()
        counters.ISSUANCE_FAILURES.labels(kind, type(error).__name__).inc()
        await _failed(on, found, error)
        return False
    counters.ISSUANCE.labels(kind, "success").inc()
    counters.ISSUANCE_SECONDS.labels(kind).observe(time.monotonic() - began)
    return True


async def _claim(on: Platform, job_id: str) -> Row | None:
    """The job as this run has it: `attempts` fences it against a later run."""
    async with on.db.transaction() as tx:
        try:
            found = await job_rows.lock(tx, job_id, within=EVERYTHING)
        except NotFound:
            return None
        if found["status"] != "Pending" or found["scheduled_at"] > tx.now or not found["csr_pem"]:
            return None
        if await approve.asked_instead(tx, found):
            return None
        found["attempts"] += 1
        await job_rows.update(
            tx,
            job_id,
            status=str(job.move(job_id, JobStatus.PENDING, JobStatus.RUNNING)),
            attempts=found["attempts"],
            leased_until=tx.now + on.terms.job_lease,
            started_at=found["started_at"] or tx.now,
        )
    return found


async def _gather(on: Platform, session: Session, found: Row) -> Work:
    row = await certificates.get(session, found["certificate_id"], within=EVERYTHING)
    csr = await checked_csr(session, row, found["csr_pem"])
    opened = await authority.open_issuer(on, session, row["issuer_id"])
    rules = profile_of(await certificates.terms(session, row["id"]))
    longest = getattr(opened.config, "validity_days", None)
    lifetime = min(rules.max_lifetime, timedelta(days=longest) if longest else rules.max_lifetime)
    waivers = await lint_waivers.in_force(session, rules.id)
    order = Order(
        names=approved_names(row),
        common_name=row["common_name"],
        public_key=csr.public_key,
        lifetime=lifetime,
        ekus=rules.ekus,
        csr_pem=found["csr_pem"],
        must_staple=rules.must_staple,
        must_staple_critical=rules.must_staple_critical,
        certificate_policies=rules.certificate_policies,
        cps_uri=rules.cps_uri,
        short_lived=rules.is_short_lived,
        crl_shards=rules.crl_shards,
        waived=tuple(waivers),
    )
    sealed = found["sealed_key"] and bytes(found["sealed_key"])
    return Work(
        found["id"], found["attempts"], row, found["agent_id"], order, opened, sealed, waivers
    )


async def _intended(on: Platform, work: Work) -> Draft | None:
    """The committed draft, where the CA can write one."""
    if not isinstance(work.opened.issuer, Prepares) or work.opened.authority_id is None:
        return None
    return await authority.intended(
        on, work.opened.issuer, work.opened.authority_id, order=work.order, job_id=work.job_id
    )


async def _completed(work: Work, draft: Draft | None) -> Issued:
    if draft is not None and isinstance(work.opened.issuer, Prepares):
        return await work.opened.issuer.complete(draft)
    return await work.opened.issuer.issue(work.order)


async def _record(on: Platform, work: Work, draft: Draft | None, *, issued: Issued) -> None:
    """The version, the job's end, its deployments and the audit row: all or nothing."""
    facts = x509.facts(issued.cert_der)
    async with on.db.transaction() as tx:
        found = await job_rows.lock(tx, work.job_id, within=EVERYTHING)
        if found["status"] != "Running" or found["attempts"] != work.attempt:
            raise Conflict(f"job {work.job_id} went on without this run")
        if draft is not None and work.opened.authority_id is not None:
            await authorities.settle_intent(
                tx, work.opened.authority_id, draft.serial, state="issued"
            )
        version_id = await _insert_version(on, tx, work, facts=facts, issued=issued)
        await job_rows.update(
            tx,
            work.job_id,
            status="Completed",
            completed_at=tx.now,
            leased_until=None,
            last_error=None,
            version_id=version_id,
            sealed_key=None,
        )
        certificate_id = work.certificate["id"]
        await certificates.update(tx, certificate_id, last_renewal_at=tx.now)
        await jobs.settle_certificate(tx, certificate_id, error=None)
        if work.agent_id is not None:
            await deploy.plan(tx, certificate_id, version_id, agent_id=work.agent_id)
        await audit.record(
            tx,
            system("issuance"),
            "certificate_issued",
            on=("certificate", certificate_id),
            job_id=work.job_id,
            serial_number=facts.serial,
            fingerprint_sha256=facts.fingerprint_sha256,
            not_after=facts.not_after,
            requested_by=found["requested_by"],
            approval_id=found["approval_id"],
            **_passed_over(work, issued),
        )
        await notify.tell(
            tx,
            kind=Kind.RENEWAL_SUCCESS,
            certificate_id=certificate_id,
            occasion=work.job_id,
            severity=Severity.INFORMATIONAL,
            message=f"{work.certificate['name']} has a new certificate, "
            f"valid until {facts.not_after:%Y-%m-%d %H:%M} UTC",
        )


def _passed_over(work: Work, issued: Issued) -> dict[str, Any]:
    """For the audit row: what lint found and did not block, with the waiver that let it through."""
    waived = {code: work.waivers[code] for code in issued.passed_over}
    return {"lint_waived": waived} if waived else {}


async def _insert_version(
    on: Platform, tx: Tx, work: Work, *, facts: x509.CertificateFacts, issued: Issued
) -> str:
    version_id = new_id("cv", tx.now)
    sealed = None
    if work.sealed_key is not None:
        key = on.data_key.unseal(work.sealed_key, Place("jobs", "sealed_key", work.job_id))
        sealed = on.data_key.seal(key, Place("certificate_versions", "sealed_key", version_id))
    await versions.insert_live(
        tx,
        {
            "id": version_id,
            "certificate_id": work.certificate["id"],
            "agent_id": work.agent_id,
            "issuer_id": work.certificate["issuer_id"],
            "authority_id": work.opened.authority_id,
            "serial_number": facts.serial,
            "not_before": facts.not_before,
            "not_after": facts.not_after,
            "fingerprint_sha256": facts.fingerprint_sha256,
            "spki_sha256": facts.spki_sha256,
            "sans": [name.value for name in facts.names],
            "pem_chain": x509.chain_pem([issued.cert_der, *issued.chain]),
            "csr_pem": work.order.csr_pem,
            "key_algorithm": facts.key.algorithm,
            "key_size": facts.key.size,
            "sealed_key": sealed,
            "no_revocation": facts.no_revocation,
            "lint_waived": list(issued.passed_over),
        },
    )
    return version_id


async def _failed(on: Platform, claimed: Row, error: CertctlError) -> None:
    """A run whose job went on without it has nothing to say about the job any more."""
    actor: Actor = system("issuance")
    async with on.db.transaction() as tx:
        present = await job_rows.lock(tx, claimed["id"], within=EVERYTHING)
        if present["status"] == "Running" and present["attempts"] == claimed["attempts"]:
            await jobs.fail(
                on,
                tx,
                actor,
                found=present,
                error=error.message,
                retryable=jobs.is_retryable(error),
            )
