"""`make bench`: certificates issued and stored by the path of the workers, many at a time."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack

import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from certctl import settings
from certctl.boot.platform import build
from certctl.services import issue
from certctl.services.platform import Platform
from certctl.store.embedded import recorded_conninfo

DUE = 12_000
PROCESSES = 2
NEXT = """SELECT id FROM jobs WHERE status = 'Pending' AND type = 'Issuance'
          ORDER BY scheduled_at DESC LIMIT 1"""
Report = Callable[[str, str, str, float], None]


def a_csr(key: ec.EllipticCurvePrivateKey, name: str) -> str:
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    built = x509.CertificateSigningRequestBuilder().subject_name(subject)
    return built.sign(key, hashes.SHA256()).public_bytes(Encoding.PEM).decode()


async def together(on: Platform, environment: Mapping[str, str], report: Report) -> None:
    """From CSRs that wait to versions, in two worker processes; beside it one process alone."""
    rates = {}
    for count in (1, PROCESSES):
        await _make_due(on, f"batch{count}")
        rates[count] = await asyncio.to_thread(_carried_out, dict(environment), count)
    async with on.db.read() as session:
        done = await session.value("SELECT count(*) FROM certificate_versions WHERE live")
    assert done >= 2 * DUE
    report(
        f"{DUE:,} due, issued and stored by {PROCESSES}",
        f"{rates[PROCESSES]:,.0f}/s",
        f"by one process {rates[1]:,.0f}/s",
        rates[PROCESSES] / rates[1],
    )


async def _make_due(on: Platform, tag: str) -> None:
    """Certificates whose CSRs are there, as agents or a bulk order leave them."""
    key = ec.generate_private_key(ec.SECP256R1())
    certificates, jobs = [], []
    for n in range(DUE):
        name = f"{tag}-{n}.test"
        certificates.append(
            {"id": f"mc-{tag}-{n:06}", "name": name, "common_name": name, "sans": [name],
             "owner_id": "o-default", "team_id": "t-default", "issuer_id": "iss-local",
             "renewal_policy_id": "rp-default", "certificate_profile_id": "prof-default",
             "status": "RenewalInProgress"}
        )  # fmt: skip
        jobs.append(
            {"id": f"job-{tag}-{n:06}", "type": "Issuance", "status": "Pending",
             "certificate_id": f"mc-{tag}-{n:06}", "csr_pem": a_csr(key, name),
             "reason": "bench", "requested_by": "bench", "max_attempts": 4}
        )  # fmt: skip
    async with on.db.transaction() as tx:
        await tx.copy("managed_certificates", certificates)
        await tx.copy("jobs", jobs)
    async with on.db.read() as session:
        await session.run("ANALYZE managed_certificates")
        await session.run("ANALYZE jobs")


def _carried_out(environment: Mapping[str, str], count: int) -> float:
    """Certificates a second, from the word to go until nothing is due."""
    command = [sys.executable, "-m", "tests.bench_issue"]
    with ExitStack() as stack:
        workers = [
            stack.enter_context(
                subprocess.Popen(
                    command, env={**os.environ, **environment}, text=True,
                    stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                )
            )
            for _ in range(count)
        ]  # fmt: skip
        for worker in workers:
            assert worker.stdout is not None
            assert worker.stdout.readline() == "ready\n"
        began = time.perf_counter()
        for worker in workers:
            assert worker.stdin is not None
            worker.stdin.write("go\n")
            worker.stdin.flush()
        for worker in workers:
            assert worker.wait(600) == 0
        return (DUE - count * issue.MOST) / (time.perf_counter() - began)


async def _work() -> None:
    loaded = settings.load(os.environ)
    conninfo = make_conninfo(recorded_conninfo(loaded.data_dir))
    async with build(loaded, conninfo) as built:
        await _one_run(built.platform)  # which loads the linter
        print("ready", flush=True)
        await asyncio.to_thread(sys.stdin.readline)
        while await _one_run(built.platform):
            pass


async def _one_run(on: Platform) -> bool:
    """Whether something was due."""
    async with on.db.read() as session:
        job_id = await session.value(NEXT)
    if job_id is not None:
        await issue.run(on, job_id)
    return job_id is not None


if __name__ == "__main__":
    uvloop.run(_work())
