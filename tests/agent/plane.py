"""A small control plane over real TLS: what an agent sees of the server, scripted by the test."""

from __future__ import annotations

import json
import socket
import ssl
import threading
from collections import defaultdict
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

from tests.connectors.kit import Authority, fingerprint, free_port, key_pem

AGENT, CREDENTIAL, TOKEN = "ag-1", "credential-of-ag-1", "one-time-token"


@dataclass(frozen=True)
class Seen:
    method: str
    path: str
    body: dict[str, Any]
    bearer: str | None
    certificate: bytes | None = None


@dataclass
class Plane:
    """`refusals` holds statuses to answer with, by the last part of the path, used up one by one;
    the status 0 stands for a request that is taken and never answered."""

    folder: Path
    ca: Authority = field(default_factory=Authority)

    def __post_init__(self) -> None:
        self.port = free_port()
        self.url = f"https://127.0.0.1:{self.port}"
        self.seen: list[Seen] = []
        self.work: list[dict[str, Any]] = []
        self.refusals: defaultdict[str, list[int]] = defaultdict(list)
        self.shown_ca = self.clients_pem = self.ca.pem
        self.certificates: dict[str, str] = {}
        self.deploy_to: dict[str, Any] | None = None
        self.pollers = 0
        self.credentials = [CREDENTIAL]
        self.finds_it_old = False
        self.client_certificates: list[bytes] = []
        self.client_life = timedelta(days=30)
        self.leaf_extensions: tuple[x509.ExtensionType, ...] = ()
        self._changed = threading.Condition()
        self._server: ThreadingHTTPServer | None = None
        self._write_pair()

    @property
    def token(self) -> str:
        return f"{TOKEN}.{self.ca.fingerprint}"

    def __enter__(self) -> Plane:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def start(self) -> None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.load_cert_chain(self.folder / "plane.pem", self.folder / "plane.key")
        context.load_verify_locations(cadata=self.clients_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
        self._server = _Server(("127.0.0.1", self.port), self, context)
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()

    def stop(self) -> None:
        """Away: nothing listens, nothing that is connected stays so."""
        server, self._server = self._server, None
        if server is not None:
            with self._changed:
                self._changed.notify_all()
            server.shutdown()
            server.server_close()

    def serve_by(self, ca: Authority) -> None:
        """From now on the server's certificate is by another CA; clients' of before are taken."""
        self.stop()
        self.seen.clear()
        self.clients_pem += ca.pem
        self.ca = ca
        self._write_pair()
        self.start()

    def offer(self, **job: Any) -> None:
        """Hand out one work item to the next poll."""
        with self._changed:
            self.work.append(job)
            self._changed.notify_all()

    def calls(self, ending: str) -> list[Seen]:
        return [seen for seen in list(self.seen) if seen.path.split("?")[0].endswith(ending)]

    def reports(self, job: str) -> list[dict[str, Any]]:
        return [seen.body for seen in self.calls(f"/jobs/{job}/status")]

    def issue(self, certificate_id: str, csr: x509.CertificateSigningRequest) -> str:
        names = csr.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        wanted = names.get_values_for_type(x509.DNSName)
        leaf = self.ca.issue(csr.public_key(), *wanted, more=self.leaf_extensions)
        pem = leaf.public_bytes(Encoding.PEM).decode() + self.ca.pem
        self.certificates[certificate_id] = pem
        return pem

    def answer(self, seen: Seen) -> tuple[int, dict[str, Any] | str]:
        if seen.path == "/api/v1/ca":
            return 200, self.shown_ca
        if seen.path == "/api/v1/agents/enrol":
            if seen.body["token"] != TOKEN:
                return 401, {"message": "this token is not valid"}
            enrolled = {"agent_id": AGENT, "credential": CREDENTIAL, "ca_pem": self.ca.pem}
            return 200, enrolled
        held = [f"Bearer {each}" for each in self.credentials]
        if seen.bearer in held:
            # What was before a credential ends when that is first used.
            self.credentials = self.credentials[held.index(seen.bearer) :]
        elif seen.bearer or seen.certificate not in self.client_certificates:
            return 401, {"message": "sign in first"}
        what = seen.path.removeprefix(f"/api/v1/agents/{AGENT}/").split("?")[0]
        if what == "work":
            jobs = self._wait_for_work()
            return 200, {"jobs": jobs, "count": len(jobs)}
        if what == "heartbeat":
            return 200, {"status": "heartbeat_recorded", "renew_credential": self.finds_it_old}
        if what == "credential":
            self.finds_it_old = False
            self.credentials.append(f"{CREDENTIAL}-{len(self.calls('/credential'))}")
            return 201, {"credential": self.credentials[-1]}
        if what == "client-certificate":
            return 201, self._client_certificate(seen.body)
        if what == "csr":
            self._signed(seen.body)
            return 202, {"status": "csr_accepted"}
        if what.startswith("certificates/"):
            pem = self.certificates[what.removeprefix("certificates/")]
            known = fingerprint(x509.load_pem_x509_certificate(pem.encode()))
            return 200, {"certificate_pem": pem, "fingerprint_sha256": known}
        return 200, {"status": "updated"}

    def _wait_for_work(self) -> list[dict[str, Any]]:
        with self._changed:
            self.pollers += 1
            self._changed.wait_for(lambda: self.work or self._server is None, 0.3)
            self.pollers -= 1
            jobs, self.work = self.work, []
        return jobs

    def _signed(self, body: dict[str, Any]) -> None:
        csr = x509.load_pem_x509_csr(body["csr_pem"].encode())
        assert csr.is_signature_valid
        pem = self.issue(body["certificate_id"], csr)
        if self.deploy_to is not None:
            job = f"deploy-of-{body['job_id']}"
            self.offer(**deployment(body["certificate_id"], pem, self.deploy_to, job))

    def _client_certificate(self, body: dict[str, Any]) -> dict[str, str]:
        csr = x509.load_pem_x509_csr(body["csr_pem"].encode())
        leaf = self.ca.issue(csr.public_key(), AGENT, life=self.client_life)
        self.client_certificates.append(leaf.public_bytes(Encoding.DER))
        return {
            "certificate_pem": leaf.public_bytes(Encoding.PEM).decode() + self.ca.pem,
            "not_after": leaf.not_valid_after_utc.isoformat(),
        }

    def _write_pair(self) -> None:
        key = ec.generate_private_key(ec.SECP256R1())
        leaf = self.ca.issue(key.public_key(), "127.0.0.1")
        (self.folder / "plane.pem").write_bytes(leaf.public_bytes(Encoding.PEM))
        (self.folder / "plane.key").write_bytes(key_pem(key))


def csr_job(job: str, certificate_id: str = "mc-1", **changes: Any) -> dict[str, Any]:
    return {
        "id": job,
        "type": "Issuance",
        "status": "AwaitingCSR",
        "certificate_id": certificate_id,
        "common_name": "site.example.test",
        "sans": ["site.example.test"],
        **changes,
    }


def deployment(
    certificate_id: str, pem: str, config: dict[str, Any], job: str = "deploy-of-job-1"
) -> dict[str, Any]:
    return {
        "id": job,
        "type": "Deployment",
        "status": "Running",
        "certificate_id": certificate_id,
        "target_id": "t-1",
        "target_type": "NGINX",
        "target_config": config,
        "certificate_pem": pem,
        "fingerprint_sha256": fingerprint(x509.load_pem_x509_certificate(pem.encode())),
    }


class _Server(ThreadingHTTPServer):
    daemon_threads = False
    allow_reuse_address = True

    def __init__(self, address: tuple[str, int], plane: Plane, context: ssl.SSLContext) -> None:
        super().__init__(address, _Handler)
        self.plane = plane
        self.context = context
        self.open: set[ssl.SSLSocket] = set()
        self.closing = False

    def finish_request(self, request, client_address) -> None:
        with suppress(OSError):
            request.settimeout(10)
            secure = self.context.wrap_socket(request, server_side=True)
            self.open.add(secure)
            with secure:
                super().finish_request(secure, client_address)
            self.open.discard(secure)

    def server_close(self) -> None:
        self.closing = True
        for secure in list(self.open):
            with suppress(OSError):
                # SSLSocket.shutdown would drop the TLS layer under a handler that still reads.
                socket.socket.shutdown(secure, socket.SHUT_RDWR)
        super().server_close()

    def handle_error(self, request, client_address) -> None:
        raise


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    server: _Server

    def do_GET(self) -> None:
        self._handle()

    def do_POST(self) -> None:
        self._handle()

    def _handle(self) -> None:
        plane = self.server.plane
        length = int(self.headers.get("Content-Length", 0))
        content = self.rfile.read(length)
        if len(content) < length:
            self.close_connection = True
            return
        body = json.loads(content) if length else {}
        shown = self.connection.getpeercert(binary_form=True)
        seen = Seen(self.command, self.path, body, self.headers.get("Authorization"), shown)
        plane.seen.append(seen)
        refusals = plane.refusals[self.path.split("?")[0].rsplit("/", 1)[1]]
        if refusals:
            status, answer = refusals.pop(0), {"message": "scripted"}
        else:
            status, answer = plane.answer(seen)
        if status == 0 or self.server.closing:
            self.close_connection = True
            return
        content = (answer if isinstance(answer, str) else json.dumps(answer)).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *_: object) -> None:
        pass
