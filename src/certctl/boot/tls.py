"""The management listener's TLS: 1.3 only, and a certificate that can be swapped while serving."""

from __future__ import annotations

import ssl
import tempfile
from pathlib import Path

from certctl.domain.errors import Unsafe


def client_chain(connection: ssl.SSLObject | None) -> list[str]:
    """The client's certificate, PEM, that the handshake has verified: as the ASGI TLS extension
    names it, `client_cert_chain`. Empty without one."""
    der = connection.getpeercert(binary_form=True) if connection is not None else None
    return [ssl.DER_cert_to_PEM_cert(der)] if der else []


class SwappableContext:
    """A server context whose certificate is the newest one that was put in.

    A context cannot drop the key it was given, so that a new certificate means a new context;
    the callback hands it to each connection, also to those without SNI.
    """

    def __init__(self, chain_pem: str, key_pem: str, *, clients_pem: str | None = None) -> None:
        """Clients may present certificates of the CAs in `clients_pem`."""
        self._clients_pem = clients_pem
        self._current = _context(chain_pem, key_pem, clients_pem)
        self.listening = _context(chain_pem, key_pem, clients_pem)
        self.listening.sni_callback = self._choose

    def put(self, chain_pem: str, key_pem: str, *, clients_pem: str | None = None) -> None:
        """Serve this certificate to every connection from now on, and take clients' certificates of
        these CAs, or of those before."""
        clients_pem = clients_pem or self._clients_pem
        self._current = _context(chain_pem, key_pem, clients_pem)
        self._clients_pem = clients_pem

    def _choose(
        self, connection: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext
    ) -> None:
        connection.context = self._current


def _context(chain_pem: str, key_pem: str, clients_pem: str | None = None) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.set_alpn_protocols(["http/1.1"])
    if clients_pem is not None:
        context.load_verify_locations(cadata=clients_pem)
        context.verify_mode = ssl.CERT_OPTIONAL
    # Python loads a key from a file only; this one is private and gone before the call returns.
    with tempfile.TemporaryDirectory(prefix="certctl-") as folder:
        pair = Path(folder) / "pair.pem"
        pair.touch(mode=0o600)
        pair.write_text(key_pem + chain_pem)
        context.load_cert_chain(pair)
    return context


def read_pair(cert_path: Path, key_path: Path) -> tuple[str, str]:
    """The operator's own chain and key.

    Raises:
        Unsafe: when a file cannot be read or the two do not fit together.
    """
    try:
        chain, key = cert_path.read_text(), key_path.read_text()
    except OSError as error:
        raise Unsafe(
            f"CERTCTL_SERVER_TLS_CERT_PATH / _KEY_PATH: {error.filename}: {error.strerror}"
        ) from None
    try:
        _context(chain, key)
    except ssl.SSLError as error:
        raise Unsafe(
            "CERTCTL_SERVER_TLS_CERT_PATH / _KEY_PATH: the certificate and the key do not fit "
            f"together ({error.reason})"
        ) from None
    return chain, key
