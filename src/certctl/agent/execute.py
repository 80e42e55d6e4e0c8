"""One work item from start to outcome: a key and its request, or a deployment.

Private keys are read and written here and go no further than the target on this host.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

from certctl.agent.csr import request_pem
from certctl.agent.keystore import KeyStore
from certctl.agent.link import Link
from certctl.agent.staple import Staples, TargetLocks
from certctl.agent.state import KeptStaple, State
from certctl.agent.threads import in_thread
from certctl.connectors.catalog import open_target
from certctl.connectors.target import Bundle, DeployFailed, Journals, Stapled, Target
from certctl.domain.errors import CertctlError, Invalid, Refused
from certctl.pki.keys import KeyAlgorithm
from certctl.pki.staple import Staple
from certctl.pki.x509 import CertificateFacts, chain_pem, ders_of_pem, facts, pem
from certctl.wire import CsrSubmission, JobReport, WorkItem

log = logging.getLogger("certctl.agent")
MAX_ERROR = 4096
T = TypeVar("T")


@dataclass(frozen=True)
class Bench:
    """What a job is done with."""

    link: Link
    keys: KeyStore
    state: State
    staples: Staples
    locks: TargetLocks


async def execute(item: WorkItem, bench: Bench) -> JobReport | None:
    """Do `item`; the report to deliver, or None when submitting the request was the report.

    Raises:
        Gone, NotAllowed, NotFound, Conflict, Unavailable: from the link only; the lease of the
            job returns it.
    """
    if item.status == "AwaitingCSR":
        return await _submit_request(item, bench)
    if item.type == "Deployment":
        chain = item.certificate_pem or await _picked_up(item, bench.link)
        return await _deployment(item, chain, bench)
    return _failed(f"this agent does not know jobs of type {item.type} in state {item.status}")


async def _picked_up(item: WorkItem, link: Link) -> str:
    return (await link.certificate(item.certificate_id)).certificate_pem


async def _submit_request(item: WorkItem, bench: Bench) -> JobReport | None:
    made = await in_thread(lambda: _attempt(item, lambda: _request(item, bench.keys)))
    if isinstance(made, JobReport):
        return made
    try:
        await bench.link.submit_csr(made)
    except (Invalid, Refused) as error:
        return _failed(error.message)
    log.info("event=csr_submitted job=%s certificate=%s", item.id, item.certificate_id)
    return None


def _request(item: WorkItem, keys: KeyStore) -> CsrSubmission:
    try:
        algorithm = KeyAlgorithm(item.key_algorithm)
    except ValueError as error:
        raise Invalid(f"this agent cannot make a {item.key_algorithm} key") from error
    key = keys.key_for(item.certificate_id, item.id, algorithm=algorithm)
    return CsrSubmission(
        csr_pem=request_pem(item, key), certificate_id=item.certificate_id, job_id=item.id
    )


@dataclass(frozen=True)
class _Prepared:
    """Everything that a deployment needs but the staple; `chain` begins with the leaf."""

    target: Target
    chain: tuple[bytes, ...]
    known: CertificateFacts
    key_path: Path


async def _deployment(item: WorkItem, certificate_pem: str, bench: Bench) -> JobReport:
    ready = await in_thread(lambda: _attempt(item, lambda: _prepare(item, certificate_pem, bench)))
    if isinstance(ready, JobReport):
        return ready
    staple = None
    if isinstance(ready.target, Stapled) and ready.target.staple_path:
        try:
            staple = await bench.staples.first(ready.target, ready.chain)
        except DeployFailed as error:
            return _failed(error.message, rolled_back=error.rolled_back)
    report = await in_thread(lambda: _attempt(item, lambda: _deploy(item, ready, staple, bench)))
    if report.status == "Completed" and item.target_id and item.target_type:
        kept = KeptStaple(
            target_id=item.target_id,
            target_type=item.target_type,
            target_config=item.target_config or {},
        )
        bench.staples.deployed(kept, ready.chain[0], staple=staple)
    return report


def _prepare(item: WorkItem, certificate_pem: str, bench: Bench) -> _Prepared:
    chain = tuple(ders_of_pem(certificate_pem))
    known = facts(chain[0])
    if item.fingerprint_sha256 not in (None, known.fingerprint_sha256):
        raise Refused(
            f"the certificate sent has SHA-256 {known.fingerprint_sha256}, "
            f"the job names {item.fingerprint_sha256}"
        )
    key_path = _key_of(known, item.certificate_id, keys=bench.keys)
    if item.target_type is None:
        raise Invalid("the job names no target")
    target = open_target(item.target_type, item.target_config or {})
    return _Prepared(target, chain, known, key_path)


def _deploy(item: WorkItem, ready: _Prepared, staple: Staple | None, bench: Bench) -> JobReport:
    if isinstance(ready.target, Journals):
        bench.state.remember_journals(ready.target.journals)
    leaf, *chain = ready.chain
    deployed = ready.target.deploy(
        Bundle(
            leaf_pem=pem(leaf),
            chain_pem=chain_pem(chain),
            key_pem=ready.key_path.read_bytes(),
            fingerprint_sha256=ready.known.fingerprint_sha256,
            names=ready.known.names,
            staple=staple.der if staple else None,
        )
    )
    bench.keys.promote(item.certificate_id, ready.key_path)
    log.info("event=deployed job=%s target=%s: %s", item.id, item.target_id, deployed.detail)
    return JobReport(
        status="Completed",
        fingerprint_sha256=deployed.fingerprint_sha256,
        unchanged=deployed.unchanged,
    )


def _key_of(known: CertificateFacts, certificate_id: str, *, keys: KeyStore) -> Path:
    path = keys.find(certificate_id, known.spki_sha256)
    if path is None:
        raise Refused(
            f"this agent holds no key for certificate {certificate_id} with serial "
            f"{known.serial}: it was issued for a key of another host; renew it"
        )
    return path


def _attempt(item: WorkItem, work: Callable[[], T]) -> T | JobReport:
    """The result of `work`, or the report of its failure: the server hears of every outcome."""
    try:
        return work()
    except DeployFailed as error:
        return _failed(error.message, rolled_back=error.rolled_back)
    except CertctlError as error:
        return _failed(error.message)
    except Exception as error:
        log.exception("event=job_crashed job=%s", item.id)
        return _failed(f"the agent failed unexpectedly ({type(error).__name__}); see its log")


def _failed(reason: str, *, rolled_back: bool = False) -> JobReport:
    return JobReport(status="Failed", error=reason[:MAX_ERROR], rolled_back=rolled_back)
