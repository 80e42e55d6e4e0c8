"""Certificates, and a TLS server that, like the real ones, serves what it last loaded."""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
)
from cryptography.x509.oid import NameOID

from certctl.connectors.reach import Reach
from certctl.connectors.target import Bundle
from certctl.domain.names import parse_name

LOOPBACK = Reach((ipaddress.ip_network("127.0.0.1"),))  # where the receivers of tests are


@dataclass
class Authority:
    """A throw-away CA."""

    key: ec.EllipticCurvePrivateKey = field(
        default_factory=lambda: ec.generate_private_key(ec.SECP256R1())
    )
    name: str = "test CA"

    def __post_init__(self) -> None:
        self.certificate = self._build(
            self.name, self.key.public_key(), x509.BasicConstraints(ca=True, path_length=None), ()
        )

    @property
    def pem(self) -> str:
        return self.certificate.public_bytes(Encoding.PEM).decode()

    @property
    def fingerprint(self) -> str:
        return fingerprint(self.certificate)

    def issue(
        self,
        public_key: ec.EllipticCurvePublicKey,
        *names: str,
        life: timedelta = timedelta(days=30),
        more: Iterable[x509.ExtensionType] = (),
    ) -> x509.Certificate:
        basic = x509.BasicConstraints(ca=False, path_length=None)
        return self._build(names[0], public_key, basic, names, life, more)

    def _build(
        self, subject, public_key, basic, names, life=timedelta(days=30), more=()
    ) -> x509.Certificate:
        now = datetime.now(UTC)
        builder = (
            x509.CertificateBuilder()
            .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, subject)]))
            .issuer_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, self.name)]))
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - timedelta(minutes=5))
            .not_valid_after(now + life)
            .add_extension(basic, critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
            .add_extension(
                x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()),
                critical=False,
            )
        )
        if basic.ca:
            usage = dict.fromkeys(
                (
                    "digital_signature",
                    "content_commitment",
                    "key_encipherment",
                    "data_encipherment",
                    "key_agreement",
                    "encipher_only",
                    "decipher_only",
                ),
                False,
            )
            builder = builder.add_extension(
                x509.KeyUsage(**usage, key_cert_sign=True, crl_sign=True), critical=True
            )
        if names:
            alternatives = x509.SubjectAlternativeName([_general(name) for name in names])
            builder = builder.add_extension(alternatives, critical=False)
        for extension in more:
            builder = builder.add_extension(extension, critical=False)
        return builder.sign(self.key, hashes.SHA256())


def fingerprint(certificate: x509.Certificate) -> str:
    return hashlib.sha256(certificate.public_bytes(Encoding.DER)).hexdigest()


def spki(public_key) -> str:
    der = public_key.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return hashlib.sha256(der).hexdigest()


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())


def a_bundle(ca: Authority, *names: str) -> Bundle:
    """A fresh key and certificate for `names`."""
    key = ec.generate_private_key(ec.SECP256R1())
    leaf = ca.issue(key.public_key(), *names)
    return Bundle(
        leaf_pem=leaf.public_bytes(Encoding.PEM).decode(),
        chain_pem=ca.pem,
        key_pem=key_pem(key),
        fingerprint_sha256=fingerprint(leaf),
        names=tuple(parse_name(name) for name in names),
    )


def install(bundle: Bundle, cert: Path, key: Path) -> None:
    cert.write_text(bundle.leaf_pem + bundle.chain_pem)
    key.write_bytes(bundle.key_pem)
    key.chmod(0o600)


def until(claim: Callable[[], object], seconds: float = 15.0) -> None:
    """Return as soon as `claim` holds; fail when it does not in time."""
    deadline = time.monotonic() + seconds
    while not claim():
        assert time.monotonic() < deadline, "waited in vain"
        time.sleep(0.01)


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


class TlsServer:
    """Serves the pair in two files; `fresh` reads them for every connection, as if it were
    reloaded each time, otherwise only `load` does."""

    def __init__(self, cert: Path, key: Path, *, fresh: bool = False) -> None:
        self.cert, self.key, self.fresh = cert, key, fresh
        self.asked: list[str | None] = []
        self.context = self._context()
        self._socket = socket.create_server(("127.0.0.1", 0))
        self.port = self._socket.getsockname()[1]
        self._thread = threading.Thread(target=self._serve, daemon=True)

    def __enter__(self) -> TlsServer:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._socket.shutdown(socket.SHUT_RDWR)
        self._socket.close()
        self._thread.join(10)

    def load(self) -> None:
        self.context = self._context()

    def _context(self) -> ssl.SSLContext:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(self.cert, self.key)
        context.sni_callback = lambda _socket, name, _context: self.asked.append(name)
        return context

    def _serve(self) -> None:
        while True:
            try:
                connection, _ = self._socket.accept()
            except OSError:
                return
            with connection, suppress(OSError):
                connection.settimeout(5)
                context = self._context() if self.fresh else self.context
                with context.wrap_socket(connection, server_side=True) as secure:
                    secure.recv(1)


def _general(name: str) -> x509.GeneralName:
    parsed = parse_name(name)
    if parsed.kind == "ip":
        return x509.IPAddress(ipaddress.ip_address(name))
    return x509.DNSName(name)
