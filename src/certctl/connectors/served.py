"""What a TLS endpoint really serves, seen from outside: only the leaf's fingerprint counts.

The agent looks at the server it deploys to, most often on its own loopback. So no address is
refused here, in contrast to the control plane's calls (`connectors/http.py`).
"""

from __future__ import annotations

import hashlib
import ipaddress
import socket
import ssl
import time
from dataclasses import dataclass

from certctl.domain.errors import CertctlError, Invalid, Refused, Unavailable


@dataclass(frozen=True)
class Endpoint:
    """Where to connect, and the name to ask for (SNI, RFC 6066 §3); an IP address sends none."""

    host: str
    port: int
    server_name: str | None = None

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.port}"


@dataclass(frozen=True)
class Patience:
    """How long to insist: a graceful reload may serve the old certificate a moment longer.

    `timeout` bounds each attempt, `backoff` is the first pause, doubled up to `max_backoff`; all
    in seconds.
    """

    attempts: int = 3
    timeout: float = 10.0
    backoff: float = 1.0
    max_backoff: float = 16.0


def parse_endpoint(text: str, *, field: str = "endpoint") -> tuple[str, int]:
    """Host and port of `host:port` or `[v6]:port`.

    Raises:
        Invalid: naming `field`.
    """
    host, _, port = text.rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    number = int(port) if port.isascii() and port.isdigit() and len(port) < 6 else 0
    bracketed = host != bare
    if not bare or not 1 <= number <= 65535 or (":" in bare) != bracketed:
        raise Invalid(f"{field} must be host:port or [IPv6]:port, not {text!r}", field=field)
    return bare, number


def served_fingerprint(host: str, port: int, *, server_name: str | None, timeout: float) -> str:
    """Lower hex SHA-256 of the leaf's DER that `host` serves for `server_name`.

    The chain is not verified: the caller compares the leaf with the one it knows.

    Raises:
        Unavailable: when there is no TLS answer within `timeout` seconds.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    try:
        with (
            socket.create_connection((host, port), timeout) as plain,
            context.wrap_socket(plain, server_hostname=_sni(server_name)) as secure,
        ):
            leaf = secure.getpeercert(binary_form=True)
    except (OSError, ValueError) as error:
        raise Unavailable(f"no TLS answer from {Endpoint(host, port)}: {error}") from error
    if not leaf:
        raise Unavailable(f"{Endpoint(host, port)} presents no certificate")
    return hashlib.sha256(leaf).hexdigest()


def verify_served(endpoint: Endpoint, expected: str, *, patience: Patience) -> None:
    """Return once `endpoint` serves the leaf with the fingerprint `expected`.

    Raises:
        Refused: when the last attempt saw another leaf.
        Unavailable: when the last attempt saw no TLS answer.
    """
    pause = patience.backoff
    for left in range(patience.attempts - 1, -1, -1):
        try:
            _compare(endpoint, expected, timeout=patience.timeout)
            return
        except CertctlError:
            if left == 0:
                raise
        time.sleep(min(pause, patience.max_backoff))
        pause *= 2


def _compare(endpoint: Endpoint, expected: str, *, timeout: float) -> None:
    seen = served_fingerprint(
        endpoint.host, endpoint.port, server_name=endpoint.server_name, timeout=timeout
    )
    if seen != expected:
        raise Refused(
            f"{endpoint} serves the certificate with SHA-256 {seen}, not the new one ({expected})"
        )


def _sni(name: str | None) -> str | None:
    if not name:
        return None
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return name
    return None
