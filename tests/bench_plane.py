"""The revocation plane with a million certificates: what it answers, and what that costs."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import os
import random
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from urllib.parse import quote

import httpx
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from certctl.pki import der, ocsp
from certctl.pki.keys import KeySigner
from certctl.services import authority
from certctl.services.platform import Platform
from certctl.store.db import Session
from tests import bench_wrk
from tests.flows.system import end, free_port, until
from tests.tools import need

SERIALS = 1_000_000
POPULAR = 10_000  # certificates that are asked for again and again
SELDOM = 100_000  # certificates, one after the other
THEIRS = 1_000
PAUSE = 4  # milliseconds between two requests of a connection at half load
TICKS = os.sysconf("SC_CLK_TCK")
Report = Callable[[str, str, str, float], None]

BARE = """
import asyncio, sys, uvloop
SIZE = int(sys.argv[2])
REPLY = b"HTTP/1.1 200 OK\\r\\nContent-Length: %d\\r\\n\\r\\n" % SIZE + b"x" * SIZE
class Constant(asyncio.Protocol):
    def connection_made(self, transport): self.transport = transport
    def data_received(self, data): self.transport.write(REPLY)
async def main():
    server = await asyncio.get_running_loop().create_server(Constant, "127.0.0.1", int(sys.argv[1]))
    await server.serve_forever()
uvloop.run(main())
"""


async def grow(session: Session, authority_id: str, number: int) -> None:
    """So many serials, as an issuing CA would have left them."""
    await session.run("SET statement_timeout = 0")
    await session.run(
        """INSERT INTO issuances (authority_id, serial_number, purpose, job_id, tbs_der,
               not_after, state, settled_at)
           SELECT %(ca)s, '1' || md5(n::text), 'leaf', 'bench-' || n, '',
               now() + interval '90 days', 'issued', now()
           FROM generate_series(1, %(number)s) n""",
        ca=authority_id,
        number=number,
    )
    await session.run("ANALYZE issuances")


@contextmanager
def serving(command: list[str], environment: Mapping[str, str]) -> Iterator[int]:
    """A process for a while; its id."""
    with subprocess.Popen(command, env=dict(environment), stdout=subprocess.DEVNULL) as process:
        try:
            yield process.pid
        finally:
            end(process)


def cpu_seconds(pid: int) -> float:
    fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def resident_mb(pid: int) -> float:
    status = Path(f"/proc/{pid}/status").read_text()
    return int(status.split("VmRSS:")[1].split()[0]) / 1024


@dataclass(frozen=True)
class Load:
    """What a server took under wrk: requests a second, microseconds of its CPU time for each, and
    the 99th percentile in milliseconds."""

    rate: float
    cpu: float
    p99: float


def load(port: int, pid: int, script: str, *, connections: int = bench_wrk.CONNECTIONS) -> Load:
    before = cpu_seconds(pid)
    seen = bench_wrk.seen(script, f"http://127.0.0.1:{port}", connections)
    return Load(seen.rate, (cpu_seconds(pid) - before) / seen.requests * 1e6, seen.p99)


@dataclass(frozen=True)
class Questions:
    """Whole HTTP requests about serials of one CA, in an order of chance, as scripts for wrk."""

    path: str
    cert_ids: list[ocsp.CertId]
    folder: Path

    def get(self, pause: int = 0) -> str:
        return self._script(
            "get", [self._get(ocsp.request_for(each)) for each in self.cert_ids], pause
        )

    def post(self) -> str:
        return self._script("post", [self._post(ocsp.request_for(e)) for e in self.cert_ids])

    def nonces(self) -> str:
        return self._script("nonces", [self._post(with_nonce(each)) for each in self.cert_ids])

    def _get(self, request: bytes) -> bytes:
        segment = quote(base64.b64encode(request).decode(), safe="")
        return f"GET {self.path}/{segment} HTTP/1.1\r\nHost: bench\r\n\r\n".encode()

    def _post(self, request: bytes) -> bytes:
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: bench\r\n"
            f"Content-Type: application/ocsp-request\r\nContent-Length: {len(request)}\r\n\r\n"
        )
        return head.encode() + request

    def _script(self, name: str, requests: list[bytes], pause: int = 0) -> str:
        file = self.folder / name
        file.write_text("\n".join(each.hex() for each in requests))
        return bench_wrk.replaying(file, pause=pause)


def with_nonce(cert_id: ocsp.CertId) -> bytes:
    """As `openssl ocsp -nonce` asks, with 32 octets (RFC 9654 §2.1)."""
    nonce = der.extension(ocsp.NONCE, der.octets(random.randbytes(32)))
    listed = der.sequence(der.sequence(cert_id.raw))
    return der.sequence(der.sequence(listed, der.explicit(2, der.sequence(nonce))))


async def revocation_plane(
    on: Platform, environment: Mapping[str, str], report: Report, *, folder: Path
) -> None:
    """Everything about OCSP, on a plane of its own beside the server's."""
    authority_id = await authority.signing_authority_id(on, "iss-local")
    async with on.db.read() as session:
        await grow(session, authority_id, SERIALS)
        rows = await session.all(
            "SELECT serial_number FROM issuances WHERE job_id LIKE 'bench-%%' LIMIT %(most)s",
            most=SELDOM,
        )
    issuer = await authority.certificate(on, authority_id)
    cert_ids = [ocsp.cert_id(issuer, int(row["serial_number"], 16)) for row in rows]
    random.shuffle(cert_ids)
    port = free_port()
    mine = {**environment, "CERTCTL_PKI_HTTP_PORT": str(port), "CERTCTL_OCSP_LIVE_RATE": "1000000"}
    asked = Questions(f"/.well-known/pki/ocsp/{authority_id}", cert_ids, folder)
    await asyncio.to_thread(_measured, report, asked, mine, port=port)


def _measured(
    report: Report, asked: Questions, environment: Mapping[str, str], *, port: int
) -> None:
    began = time.perf_counter()
    with serving([sys.executable, "-m", "certctl", "plane"], environment) as pid:
        until("the plane to answer", lambda: health(port) is not None)
        first, empty = time.perf_counter() - began, resident_mb(pid)
        until("a million serials", lambda: counted(port, "serials") >= SERIALS)
        known, unsigned = time.perf_counter() - began, resident_mb(pid)
        report(
            f"{SERIALS:,} serials known after the start", f"{known:.1f} s",
            f"first answer after {first:.1f} s", known / first,
        )  # fmt: skip
        until("all to be signed", lambda: counted(port, "signed") >= SERIALS, seconds=900)
        signed, whole = time.perf_counter() - began, resident_mb(pid)
        bytes_each = (whole - empty) * 1024 * 1024 / SERIALS
        report(
            "memory, all signed ahead", f"{whole:,.0f} MB, {bytes_each:.0f} B each",
            f"{unsigned:,.0f} MB unsigned; signed after {signed:.0f} s", whole / empty,
        )  # fmt: skip
        _loads(report, asked, port, pid=pid)


def _loads(report: Report, asked: Questions, port: int, *, pid: int) -> None:
    popular = replace(asked, cert_ids=asked.cert_ids[:POPULAR])
    for script in (popular.get(), popular.post()):
        load(port, pid, script)  # so that they are popular
    get, post = load(port, pid, popular.get()), load(port, pid, popular.post())
    seldom, nonces = load(port, pid, asked.get()), load(port, pid, popular.nonces())
    half = load(port, pid, popular.get(pause=PAUSE), connections=int(get.rate / 2 * PAUSE / 1000))
    with _bare(len(answer_of(port, asked))) as (bare_port, bare_pid):
        bare = load(bare_port, bare_pid, popular.get())
    beside = f"bare uvloop {bare.rate:,.0f}/s, {bare.cpu:.1f} us"
    for what, seen in (
        (f"OCSP by GET, {POPULAR:,} of {SERIALS:,} asked", get),
        ("OCSP by POST, the same", post),
        (f"OCSP by GET, {SELDOM:,} asked", seldom),
    ):
        report(what, f"{seen.rate:,.0f}/s, {seen.cpu:.1f} us", beside, seen.cpu / bare.cpu)
    report(
        "p99 at half of the first, of 5 ms",
        f"{half.p99:.2f} ms",
        f"{half.rate:,.0f}/s",
        half.p99 / 5,
    )
    bound = signatures_a_second()
    report(
        "OCSP with a nonce, signed live", f"{nonces.rate:,.0f}/s, {nonces.cpu:.1f} us",
        f"bare signatures {bound:,.0f}/s", nonces.rate / bound,
    )  # fmt: skip
    theirs = _cfssl(asked)
    report(
        "OCSP by POST, a second of CPU time", f"{1e6 / post.cpu:,.0f}",
        f"cfssl ocspserve {1e6 / theirs.cpu:,.0f} ({theirs.rate:,.0f}/s)", theirs.cpu / post.cpu,
    )  # fmt: skip


def health(port: int) -> str | None:
    try:
        return httpx.get(f"http://127.0.0.1:{port}/health", timeout=5).text
    except httpx.HTTPError:
        return None


def counted(port: int, word: str) -> int:
    return int((health(port) or f"{word}: 0").split(f"{word}: ")[1].split()[0])


def answer_of(port: int, asked: Questions) -> bytes:
    request = ocsp.request_for(asked.cert_ids[0])
    url = f"http://127.0.0.1:{port}{asked.path}"
    kind = {"Content-Type": "application/ocsp-request"}
    return httpx.post(url, content=request, headers=kind, timeout=5).content


@contextmanager
def _bare(size: int) -> Iterator[tuple[int, int]]:
    """A uvloop protocol that looks at nothing and answers with as many bytes."""
    port = free_port()
    with serving([sys.executable, "-c", BARE, str(port), str(size)], os.environ) as pid:
        until("the bare server", lambda: health(port) is not None)
        yield port, pid


def signatures_a_second() -> float:
    """P-256 and nothing else, on one core."""
    key, began, number = ec.generate_private_key(ec.SECP256R1()), time.perf_counter(), 5000
    for _ in range(number):
        key.sign(b"x" * 150, ec.ECDSA(hashes.SHA256()))
    return number / (time.perf_counter() - began)


def _cfssl(asked: Questions) -> Load:
    """cfssl serves what it is given signed: answers of a responder of the bench."""
    key, now = ec.generate_private_key(ec.SECP256R1()), datetime.now(UTC).replace(microsecond=0)
    responder = _self_signed(key, now)
    stored = asked.folder / "responses"
    some = asked.cert_ids[:THEIRS]
    with stored.open("wb") as file:
        for each in some:
            response = ocsp.build(
                [ocsp.SingleStatus(each, "good", None, None, now, now + timedelta(hours=1))],
                responder,
                signer=KeySigner(key),
                produced_at=now,
                nonce=None,
                shape="bench",
            )
            file.write(base64.b64encode(response) + b"\n")
    port = free_port()
    command = [need("cfssl"), "ocspserve", "-port", str(port), "-responses", str(stored)]
    with serving([*command, "-loglevel", "5"], os.environ) as pid:
        until("cfssl", lambda: listens(port))
        return load(port, pid, Questions("/", some, asked.folder).post())


def listens(port: int) -> bool:
    with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", port), 1):
        return True
    return False


def _self_signed(key: ec.EllipticCurvePrivateKey, now: datetime) -> bytes:
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "bench responder")])
    builder = x509.CertificateBuilder().subject_name(name).issuer_name(name).serial_number(1)
    builder = builder.public_key(key.public_key()).not_valid_before(now - timedelta(hours=1))
    made = builder.not_valid_after(now + timedelta(days=1)).sign(key, hashes.SHA256())
    return made.public_bytes(Encoding.DER)
