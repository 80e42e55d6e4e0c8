"""The web server of the demonstration: what it is called with, and how an agent deploys to it."""

from __future__ import annotations

import sys
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

from certctl.cli.demo.place import LOOPBACK, UNQUOTABLE, Place
from certctl.domain.errors import Unsafe

NAME: Final = "demo.certctl.test"
NAMES: Final = (NAME, "localhost")


@dataclass(frozen=True)
class Web:
    """A web server that reads a pair of files, tests its configuration, and reloads.

    `start`, `validate` and `reload` are argument lists; `folder` holds the pair.
    """

    kind: str
    folder: Path
    port: int
    start: tuple[str, ...]
    validate: tuple[str, ...]
    reload: tuple[str, ...]

    @property
    def cert(self) -> Path:
        return self.folder / "demo.pem"

    @property
    def key(self) -> Path:
        return self.folder / "demo.key"

    def target_config(self) -> dict[str, Any]:
        """The settings of an NGINX target for this server.

        Raises:
            Unsafe: when a path cannot stand in a command that runs without a shell.
        """
        return {
            "cert_path": str(self.cert),
            "key_path": str(self.key),
            "validate_command": _line(self.validate),
            "reload_command": _line(self.reload),
            "host": LOOPBACK,
            "port": self.port,
            "server_name": NAME,
        }


def small(place: Place) -> Web:
    """The TLS server that is shipped with the demonstration."""
    folder = place.web
    base = (
        *(sys.executable, "-m", "certctl.cli.demo.tls_server"),
        *("--cert", str(folder / "demo.pem"), "--key", str(folder / "demo.key")),
        *("--pid-file", str(folder / "tls.pid")),
    )
    return Web(
        "the small TLS server of the demonstration",
        folder,
        place.tls_port,
        (*base, "--port", str(place.tls_port)),
        (*base, "--check"),
        (*base, "--reload"),
    )


def put_throwaway_pair(web: Web) -> None:
    """A self-signed certificate, so that the first deployment replaces something."""
    from cryptography import x509
    from cryptography.hazmat.primitives import hashes, serialization
    from cryptography.hazmat.primitives.asymmetric import ec
    from cryptography.x509.oid import NameOID

    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "not yet deployed")])
    now = datetime.now(UTC)
    leaf = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(minutes=5))
        .not_valid_after(now + timedelta(days=1))
        .sign(key, hashes.SHA256())
    )
    web.key.unlink(missing_ok=True)
    web.key.touch(mode=0o600)
    web.key.write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
    )
    web.cert.write_bytes(leaf.public_bytes(serialization.Encoding.PEM))


def _line(argv: tuple[str, ...]) -> str:
    for word in argv:
        if UNQUOTABLE & set(word):
            raise Unsafe(f"the path {word} cannot stand in a deployment command; use a plain one")
    return " ".join(argv)
