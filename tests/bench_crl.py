"""CRLs at size: a million entries complete and in shards, one more, and a hundred thousand at once.

As a program it builds lists in a process of its own, whose memory is then known.
"""

from __future__ import annotations

import asyncio
import json
import os
import random
import resource
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import httpx
import uvloop
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID
from psycopg.conninfo import make_conninfo

from certctl import settings
from certctl.boot import platform
from certctl.domain.access import actor_with_roles
from certctl.domain.revocation import Reason
from certctl.pki import ocsp
from certctl.services import authority, bulk, certificates, crls, plain, revoke
from certctl.services.platform import Platform
from certctl.store import crls as stored
from certctl.store.embedded import recorded_conninfo
from tests.flows.system import System, end, until

ENTRIES, SHARDS, AT_ONCE = 1_000_000, 128, 100_000
BESIDE = 10_000  # entries that a library's builder is given
TIMES = 7  # of one more
ASKED = 200  # serials, to see that OCSP has heard of all
ADMIN = actor_with_roles("bench", ("r-admin",))
PKI = "/.well-known/pki"
Report = Callable[[str, str, str, float], None]


async def revocation_lists(on: Platform, system: System, report: Report) -> None:
    """Everything about CRLs, with a worker beside the server."""
    ca = await authority.signing_authority_id(on, "iss-local")
    base = f"http://127.0.0.1:{system.http}"
    with _worker(system):
        await _at_once(on, ca, base, report=report)
    await _grow(on, ca)
    for what in ("complete", "shards"):
        await _built(on, ca, system, report=report, what=what)
    with _worker(system):
        await _one_more(on, ca, base, report=report)


@contextmanager
def _worker(system: System) -> Iterator[None]:
    process = subprocess.Popen(
        [sys.executable, "-m", "certctl", "work"],
        env=system.environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        yield
    finally:
        end(process)


async def _sql(on: Platform, statement: str, **values: Any) -> list[dict[str, Any]]:
    async with on.db.read() as session:
        await session.run("SET statement_timeout = 0")
        if not statement.lstrip().startswith("SELECT"):
            await session.run(statement, **values)
            return []
        return await session.all(statement, **values)


async def _inventory(on: Platform, ca: str) -> None:
    """So many certificates as an own CA would have issued them, in shards."""
    await _sql(
        on,
        """INSERT INTO managed_certificates (id, name, common_name, sans, environment, owner_id,
               team_id, issuer_id, renewal_policy_id, certificate_profile_id, status, expires_at)
           SELECT 'mc-b' || n, 'gone-' || n, n || '.example.test', ARRAY[n || '.example.test'],
               'bench-crl', 'o-default', 't-default', 'iss-local', 'rp-default', 'prof-default',
               'Active', now() + interval '60 days' FROM generate_series(1, %(number)s) n""",
        number=AT_ONCE,
    )
    await _sql(
        on,
        """INSERT INTO certificate_versions (id, certificate_id, issuer_id, authority_id,
               serial_number, not_before, not_after, fingerprint_sha256, spki_sha256, sans,
               pem_chain, key_algorithm, key_size)
           SELECT 'cv-b' || n, 'mc-b' || n, 'iss-local', %(ca)s,
               '5' || left(md5(n::text) || md5('x' || n), 39), now(), now() + interval '60 days',
               'fb' || n, md5(n::text) || md5('k' || n), ARRAY[n || '.example.test'], 'none',
               'ECDSA', 256 FROM generate_series(1, %(number)s) n""",
        ca=ca,
        number=AT_ONCE,
    )
    await _sql(
        on,
        """INSERT INTO issuances (authority_id, serial_number, purpose, job_id, tbs_der, not_after,
               state, settled_at, crl_shard)
           SELECT %(ca)s, serial_number, 'leaf', id, '', not_after, 'issued', now(),
               1 + (hashtext(id) & %(mask)s)
           FROM certificate_versions WHERE id LIKE 'cv-b%%'""",
        ca=ca,
        mask=SHARDS - 1,
    )
    for table in ("managed_certificates", "certificate_versions", "issuances"):
        await _sql(on, f"VACUUM (ANALYZE) {table}")
    await _shards(on, ca)


async def _shards(on: Platform, ca: str) -> None:
    async with on.db.transaction() as tx:
        for shard in range(1, SHARDS + 1):
            url = f"{on.terms.public_url}{PKI}/crl/{ca}/{shard}"
            await stored.open_shard(tx, ca, shard, url=url)


async def _at_once(on: Platform, ca: str, base: str, *, report: Report) -> None:
    """From the request until the plane tells of all, in OCSP and in the complete CRL."""
    await _inventory(on, ca)
    issuer = await authority.certificate(on, ca)
    serials = await _sql(
        on,
        """SELECT serial_number FROM certificate_versions WHERE id LIKE 'cv-b%%'
           ORDER BY random() LIMIT %(most)s""",
        most=ASKED,
    )
    cert_ids = [ocsp.cert_id(issuer, int(row["serial_number"], 16)) for row in serials]
    began = time.perf_counter()
    operation = await bulk.start(
        on, ADMIN, "revoke", filters={"environment": "bench-crl"},
        parameters={"reason": str(Reason.CESSATION_OF_OPERATION)}, dry_run=False,
    )  # fmt: skip
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        while (await bulk.result(on, ADMIN, operation["id"]))["state"] != "completed":
            await asyncio.sleep(0.5)
        revoked = time.perf_counter() - began
        while not all([await _is_revoked(http, ca, each) for each in cert_ids]):
            await asyncio.sleep(0.2)
        told = time.perf_counter() - began
        while await _length(http, f"{PKI}/crl/{ca}") < AT_ONCE:
            await asyncio.sleep(0.5)
        listed = time.perf_counter() - began
        shards = [f"{PKI}/crl/{ca}/{shard}" for shard in range(1, SHARDS + 1)]
        while sum([await _length(http, each) for each in shards]) < AT_ONCE:
            await asyncio.sleep(0.5)
    whole = time.perf_counter() - began
    report(
        f"{AT_ONCE:,} revoked, in OCSP and CRLs", f"{whole:.1f} s, aim 60 s",
        f"revoked {revoked:.1f} s, OCSP {told:.1f} s, complete {listed:.1f} s", whole / 60,
    )  # fmt: skip


async def _is_revoked(http: httpx.AsyncClient, ca: str, cert_id: ocsp.CertId) -> bool:
    answer = await http.post(
        f"{PKI}/ocsp/{ca}",
        content=ocsp.request_for(cert_id),
        headers={"Content-Type": "application/ocsp-request"},
    )
    response = x509.ocsp.load_der_ocsp_response(answer.content)
    return response.certificate_status is x509.ocsp.OCSPCertStatus.REVOKED


async def _length(http: httpx.AsyncClient, path: str) -> int:
    answer = await http.get(path, headers={"Accept-Encoding": "identity"})
    assert answer.status_code == 200, f"{path}: {answer.text}"
    return len(x509.load_der_x509_crl(answer.content))


async def _grow(on: Platform, ca: str) -> None:
    """A million revocations of that CA, all in shards, as the service would have left them."""
    await _sql(on, "DELETE FROM certificate_revocations")
    await _sql(
        on,
        """INSERT INTO certificate_revocations (id, issuer_id, authority_id, serial_number, reason,
               revoked_by, revoked_at, not_after, crl_shard, entry_der)
           SELECT 'rev-b' || n, 'iss-local', %(ca)s, serial, 'keyCompromise', 'bench', at,
               now() + interval '60 days', 1 + n %% %(shards)s,
               '\\x30330214'::bytea || decode(serial, 'hex') || '\\x170d'::bytea
                   || convert_to(to_char(at, 'YYMMDDHH24MISS') || 'Z', 'SQL_ASCII')
                   || '\\x300c300a0603551d1504030a0101'::bytea
           FROM generate_series(1, %(number)s) n,
               LATERAL (SELECT '4' || left(md5(n::text) || md5('y' || n), 39) AS serial,
                   now() - n * interval '3 seconds' AS at) made""",
        ca=ca,
        shards=SHARDS,
        number=ENTRIES,
    )
    await _sql(on, "VACUUM (ANALYZE) certificate_revocations")


async def _built(on: Platform, ca: str, system: System, *, report: Report, what: str) -> None:
    """In a fresh process, beside the bare query, and beside a library's builder."""
    lists = [(ca, 0)] if what == "complete" else [(ca, n) for n in range(1, SHARDS + 1)]
    async with on.db.transaction() as tx:
        await stored.mark_stale(tx, lists)
    began = time.perf_counter()
    for _, shard in lists:
        async with on.db.read() as session:
            await stored.entries(session, ca, shard, datetime.now(UTC))
    bare = time.perf_counter() - began
    told = await asyncio.to_thread(
        subprocess.run,
        [sys.executable, "-m", "tests.bench_crl", str(system.data), ca, what],
        env={**system.environment, "PYTHONPATH": ":".join(filter(None, sys.path))},
        stdout=subprocess.PIPE, check=True, timeout=300,
    )  # fmt: skip
    seen = json.loads(told.stdout)
    report(
        f"{ENTRIES:,} entries, {what}", f"{seen['seconds']:.1f} s, {seen['mb']:.0f} MB",
        f"bare SQL {bare:.1f} s; {seen['started']:.0f} MB before", seen["seconds"] / bare,
    )  # fmt: skip
    if what == "complete":
        each, theirs = seen["seconds"] / ENTRIES, _builder_seconds() / BESIDE
        report(
            "an entry of it", f"{each * 1e6:.1f} us",
            f"cryptography's builder {theirs * 1e6:.1f} us", each / theirs,
        )  # fmt: skip


def _builder_seconds() -> float:
    """The same for fewer entries with pyca/cryptography."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC)
    began = time.perf_counter()
    builder = x509.CertificateRevocationListBuilder().issuer_name(x509.Name([]))
    builder = builder.last_update(now).next_update(now + timedelta(days=1))
    for _ in range(BESIDE):
        entry = x509.RevokedCertificateBuilder().serial_number(random.getrandbits(158))
        entry = entry.revocation_date(now)
        reason = x509.CRLReason(x509.ReasonFlags.key_compromise)
        entry = entry.add_extension(reason, critical=False)
        # What `add_revoked_certificate` does, which copies the list each time.
        builder._revoked_certificates.append(entry.build())
    builder.sign(key, hashes.SHA256()).public_bytes(Encoding.DER)
    return time.perf_counter() - began


async def _one_more(on: Platform, ca: str, base: str, *, report: Report) -> None:
    """From the commit of one revocation until the plane serves its shard with it: the median, once
    the worker has done one."""
    profile = await plain.create(
        on, ADMIN, plain.PROFILES, values={"name": "bench-shards", "crl_shards": SHARDS}
    )
    times = []
    async with httpx.AsyncClient(base_url=base, timeout=30) as http:
        for n in range(TIMES + 1):
            certificate = await _an_order(on, f"one-more-{n}.test", profile["id"])
            times.append(await _published(on, ca, http, certificate))
    took = statistics.median(times[1:])
    report(
        f"one more of {ENTRIES:,}, published", f"{took * 1000:.0f} ms, aim 1 s",
        f"at most {max(times[1:]) * 1000:.0f} ms; a shard of {ENTRIES // SHARDS:,}", took,
    )  # fmt: skip


async def _published(on: Platform, ca: str, http: httpx.AsyncClient, certificate: str) -> float:
    row = await _issued(on, certificate)
    path, serial = f"{PKI}/crl/{ca}/{row['crl_shard']}", int(row["serial_number"], 16)
    await revoke.one(on, ADMIN, certificate, reason=Reason.SUPERSEDED)
    began = time.perf_counter()
    while True:
        crl = x509.load_der_x509_crl((await http.get(path)).content)
        if crl.get_revoked_certificate_by_serial_number(serial) is not None:
            return time.perf_counter() - began
        await asyncio.sleep(0.01)


async def _issued(on: Platform, certificate: str) -> dict[str, Any]:
    """Its serial and shard, once the worker has issued it."""
    while True:
        rows = await _sql(
            on,
            """SELECT i.serial_number, i.crl_shard FROM certificate_versions v
               JOIN issuances i USING (authority_id, serial_number)
               WHERE v.certificate_id = %(id)s""",
            id=certificate,
        )
        if rows:
            return rows[0]
        await asyncio.sleep(0.05)


async def _an_order(on: Platform, name: str, profile_id: str) -> str:
    """Of a certificate of a profile with shards."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    csr = x509.CertificateSigningRequestBuilder().subject_name(subject).sign(key, hashes.SHA256())
    order = {
        "name": name,
        "common_name": name,
        "owner_id": "o-default",
        "team_id": "t-default",
        "issuer_id": "iss-local",
        "renewal_policy_id": "rp-default",
        "certificate_profile_id": profile_id,
        "csr_pem": csr.public_bytes(Encoding.PEM).decode(),
    }
    return str((await certificates.create(on, ADMIN, order=order))["id"])


async def build(data: Path, ca: str, what: str) -> None:
    """Build what is asked for, and say what that took."""
    conninfo = make_conninfo(recorded_conninfo(data))
    async with platform.build(settings.load(os.environ), conninfo) as built:
        started, began = peak_mb(), time.perf_counter()
        if what == "complete":
            await crls.refresh(built.platform, ca)
        else:
            count = await crls.refresh_stale(built.platform, ca)
            assert count == SHARDS, count
        told = {
            "seconds": time.perf_counter() - began, "mb": peak_mb(), "started": started
        }  # fmt: skip
    print(json.dumps(told))


def peak_mb() -> float:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024


async def alone() -> None:
    """These figures without the others of `make bench`."""
    folder = Path(tempfile.mkdtemp(prefix="certctl-bench-"))
    system = System(folder)

    def report(what: str, figure: str, beside: str, ratio: float) -> None:
        print(f"{what:<46} {figure:<22} {beside:<52} {ratio:6.2f}x", flush=True)

    try:
        await asyncio.to_thread(start, system)
        conninfo = make_conninfo(recorded_conninfo(system.data))
        async with platform.build(settings.load(system.environment), conninfo) as built:
            await revocation_lists(built.platform, system, report)
    finally:
        system.stop()
        system.remove()
        shutil.rmtree(folder, ignore_errors=True)


def start(system: System) -> None:
    system.start_server("certctl", "serve", "--no-work", ready=False)
    until("the server to listen", system.answers)


if __name__ == "__main__":
    if sys.argv[1:]:
        uvloop.run(build(Path(sys.argv[1]), *sys.argv[2:]))
    else:
        uvloop.run(alone())
