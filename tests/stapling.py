"""OCSP from outside: leaves that ask for a staple, responses of any kind, and two responders."""

from __future__ import annotations

import subprocess
import threading
from collections.abc import Iterable
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509 import ocsp
from cryptography.x509.oid import AuthorityInformationAccessOID, ExtendedKeyUsageOID

from certctl.connectors.target import Bundle
from certctl.domain.names import parse_name
from tests.connectors.kit import Authority, fingerprint, free_port, key_pem
from tests.tools import need

HOUR = timedelta(hours=1)
Pair = tuple[x509.Certificate, ec.EllipticCurvePrivateKey]
GOOD, REVOKED, UNKNOWN = ocsp.OCSPCertStatus


def der(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(Encoding.DER)


def a_leaf(ca: Authority, *urls: str, name: str = "localhost", must_staple: bool = False) -> Pair:
    """A leaf that names these responders, and its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    more = asks_for_staple(*urls, must_staple=must_staple)
    return ca.issue(key.public_key(), name, more=more), key


def asks_for_staple(*urls: str, must_staple: bool = False) -> tuple[x509.ExtensionType, ...]:
    """The extensions of a leaf whose responders are at `urls`."""
    more: list[x509.ExtensionType] = []
    if urls:
        method = AuthorityInformationAccessOID.OCSP
        more.append(
            x509.AuthorityInformationAccess(
                x509.AccessDescription(method, x509.UniformResourceIdentifier(url)) for url in urls
            )
        )
    if must_staple:
        more.append(x509.TLSFeature([x509.TLSFeatureType.status_request]))
    return tuple(more)


def a_stapled_bundle(ca: Authority, pair: Pair, *, staple: bytes | None = None) -> Bundle:
    leaf, key = pair
    return Bundle(
        leaf_pem=leaf.public_bytes(Encoding.PEM).decode(),
        chain_pem=ca.pem,
        key_pem=key_pem(key),
        fingerprint_sha256=fingerprint(leaf),
        names=(parse_name("localhost"),),
        staple=staple,
    )


def a_responder(ca: Authority, *, may_sign: bool = True, life: timedelta = HOUR) -> Pair:
    """A delegated responder's certificate and key; without `may_sign` it is a server's."""
    key = ec.generate_private_key(ec.SECP256R1())
    oid = ExtendedKeyUsageOID.OCSP_SIGNING if may_sign else ExtendedKeyUsageOID.SERVER_AUTH
    usage = x509.ExtendedKeyUsage([oid])
    return ca.issue(key.public_key(), "responder", life=life, more=[usage]), key


def a_response(
    leaf: x509.Certificate,
    ca: Authority,
    *,
    by: Pair | None = None,
    status: ocsp.OCSPCertStatus = GOOD,
    since: datetime | None = None,
    life: timedelta | None = HOUR,
    digest: hashes.HashAlgorithm | None = None,
    carried: Iterable[x509.Certificate] | None = None,
) -> bytes:
    """A response about `leaf`, by a responder or by the CA itself."""
    signer, key = by or (ca.certificate, ca.key)
    since = since or datetime.now(UTC) - timedelta(minutes=1)
    revoked = status is REVOKED
    builder = (
        ocsp.OCSPResponseBuilder()
        .add_response(
            leaf,
            ca.certificate,
            hashes.SHA1(),
            status,
            since,
            None if life is None else since + life,
            since if revoked else None,
            x509.ReasonFlags.key_compromise if revoked else None,
        )
        .responder_id(ocsp.OCSPResponderEncoding.HASH, signer)
    )
    certificates = [signer] if carried is None else list(carried)
    if by and certificates:
        builder = builder.certificates(certificates)
    return builder.sign(key, digest or hashes.SHA256()).public_bytes(Encoding.DER)


class OpensslResponder:
    """`openssl ocsp` as a responder of one CA, with a delegated certificate, over plain http."""

    def __init__(self, folder: Path, ca: Authority) -> None:
        self.folder, self.ca = folder, ca
        folder.mkdir()
        self.port = free_port()
        self.url = f"http://127.0.0.1:{self.port}/"
        certificate, key = a_responder(ca)
        (folder / "ca.pem").write_text(ca.pem)
        (folder / "responder.pem").write_bytes(certificate.public_bytes(Encoding.PEM))
        (folder / "responder.key").write_bytes(key_pem(key))
        self._lines: dict[int, str] = {}
        self._process: subprocess.Popen[bytes] | None = None

    def __enter__(self) -> OpensslResponder:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    def knows(self, leaf: x509.Certificate, *, revoked: bool = False) -> None:
        """Answer good, or revoked, for `leaf` from now on."""
        serial = f"{leaf.serial_number:X}".zfill(2)
        serial = serial.zfill(len(serial) + len(serial) % 2)
        state, when = ("R", "260101000000Z") if revoked else ("V", "")
        self._lines[leaf.serial_number] = f"{state}\t391231235959Z\t{when}\t{serial}\tunknown\t/\n"
        (self.folder / "index.txt").write_text("".join(self._lines.values()))
        self.stop()
        self.start()

    def start(self) -> None:
        f = self.folder
        self._process = subprocess.Popen(
            [need("openssl"), "ocsp", "-index", f / "index.txt", "-CA", f / "ca.pem",
             "-rsigner", f / "responder.pem", "-rkey", f / "responder.key", "-port",
             str(self.port), "-ndays", "1", "-ignore_err"],
            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, stdin=subprocess.DEVNULL,
        )  # fmt: skip
        # A connection that asks nothing would hold it up: it says itself when it listens.
        assert self._process.stdout is not None
        assert b"ACCEPT" in self._process.stdout.readline()

    def stop(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate(timeout=10)
            self._process = None


class Scripted:
    """An http server that answers everything with `status` and `body`, and counts."""

    def __init__(self) -> None:
        self.status, self.body, self.headers = 200, b"", {}
        self.seen: list[tuple[str, str]] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                outer.seen.append((self.command, self.path))
                self.rfile.read(int(self.headers.get("Content-Length", 0)))
                self.send_response(outer.status)
                for name, value in outer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(outer.body)))
                self.end_headers()
                with suppress(OSError):
                    self.wfile.write(outer.body)

            do_POST = do_GET

            def log_message(self, *_: object) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_port}/"

    def __enter__(self) -> Scripted:
        threading.Thread(target=self._server.serve_forever, args=(0.01,), daemon=True).start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def shown_staple(port: int, name: str = "localhost") -> str:
    """What `openssl s_client -status` sees of a server: good, revoked, none, or its words."""
    done = subprocess.run(
        [need("openssl"), "s_client", "-connect", f"127.0.0.1:{port}", "-servername", name,
         "-status"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=20,
    )  # fmt: skip
    said = done.stdout
    if "OCSP response: no response sent" in said:
        return "none"
    if "OCSP Response Status: successful" not in said or "Cert Status: " not in said:
        return said + done.stderr
    return said.split("Cert Status: ")[1].split()[0]
